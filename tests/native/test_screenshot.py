# SPDX-License-Identifier: MIT
"""Pictures of a running machine's screens, as the control socket's request takes them."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from gpu_rig import Gpu, picture

from vdesktop_core.control.screenshot import take
from vdesktop_core.display.frontend import Desktop
from vdesktop_core.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    gpu = Gpu(screens=2)
    gpu.start()
    yield gpu
    gpu.free()


@pytest.fixture
def desktop(gpu: Gpu) -> Desktop:
    return Desktop(machine="test", screens=(gpu.gpu.screen,), inputs=())


def pixels(data: bytes) -> tuple[int, int, bytes]:
    """Width, height and RGB of a PNG file with one IDAT and no filters."""
    width, height = struct.unpack_from(">II", data, 16)
    start = data.index(b"IDAT") + 4
    (size,) = struct.unpack_from(">I", data, start - 8)
    rows = zlib.decompress(data[start : start + size])
    line = 1 + 3 * width
    return width, height, b"".join(rows[at + 1 : at + line] for at in range(0, len(rows), line))


async def test_screenshot_is_what_the_screen_shows(gpu: Gpu, desktop: Desktop, tmp_path: Path) -> None:
    data = picture(65, 33)
    gpu.shown(1, 65, 33, data)
    assert await take(desktop, 0, str(tmp_path / "a.png")) == {"width": 65, "height": 33}
    rgb = b"".join(bytes((data[at + 2], data[at + 1], data[at])) for at in range(0, len(data), 4))
    assert pixels((tmp_path / "a.png").read_bytes()) == (65, 33, rgb)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


async def test_screenshot_of_a_blank_screen_is_refused(desktop: Desktop, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="screen 1 is blank"):
        await take(desktop, 1, str(tmp_path / "a.png"))


async def test_screenshot_of_a_screen_that_is_not_there_is_refused(desktop: Desktop, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no screen 2: it has 2"):
        await take(desktop, 2, str(tmp_path / "a.png"))
    none = Desktop(machine="test", screens=(), inputs=())
    with pytest.raises(ControlError, match="--framebuffer"):
        await take(none, 0, str(tmp_path / "a.png"))


async def test_screenshot_to_a_file_that_cannot_be_written_is_refused(
    gpu: Gpu, desktop: Desktop, tmp_path: Path
) -> None:
    gpu.shown(1, 8, 8, picture(8, 8))
    with pytest.raises(ControlError, match="cannot write"):
        await take(desktop, 0, str(tmp_path / "none" / "a.png"))
