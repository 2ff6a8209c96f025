# SPDX-License-Identifier: MIT
"""The display front-end of examples/vdesktop-filmstrip: a file for each change, and no more."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gpu_rig import OK, Gpu, picture

from vdesktop_core.display.frontend import Desktop, open_display
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_core.hooks import plugin_manager
from vdesktop_core.machine import installed

if TYPE_CHECKING:
    from collections.abc import Iterator

WHERE = Path(__file__).parents[2] / "examples/vdesktop-filmstrip/vdesktop_filmstrip.py"


@pytest.fixture
def frontends(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Those installed, and the example, as if it were."""
    spec = importlib.util.spec_from_file_location("vdesktop_filmstrip", WHERE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SECONDS", 0.01)
    manager = plugin_manager()
    manager.register(module)
    return installed(manager).behind["display"]


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    gpu = Gpu()
    gpu.start()
    yield gpu
    gpu.free()


async def test_filmstrip_has_a_file_for_each_picture(gpu: Gpu, frontends: Any, tmp_path: Path) -> None:
    desktop = Desktop(machine="test", screens=(gpu.gpu.screen,), inputs=())
    display = open_display(f"filmstrip:{tmp_path / 'film'}", frontends, desktop)
    assert display is not None

    async def files(count: int) -> None:
        async with asyncio.timeout(30):
            while len([*tmp_path.glob("film/*.png")]) < count:
                await asyncio.sleep(0.01)

    await asyncio.to_thread(gpu.shown, 1, 8, 8, picture(8, 8))
    await files(1)
    assert await asyncio.to_thread(gpu.flush, 1, (0, 0, 1, 1)) == OK
    await files(2)
    await asyncio.sleep(0.2)
    assert sorted(path.name for path in tmp_path.glob("film/*")) == ["00000.png", "00001.png"]
    display.close()


async def test_filmstrip_without_a_folder_is_refused(gpu: Gpu, frontends: Any, tmp_path: Path) -> None:
    desktop = Desktop(machine="test", screens=(gpu.gpu.screen,), inputs=())
    with pytest.raises(ConfigError, match="filmstrip:FOLDER"):
        open_display("filmstrip", frontends, desktop)
    with pytest.raises(DeviceError, match="cannot make"):
        open_display(f"filmstrip:{tmp_path / 'none' / 'film'}", frontends, desktop)
