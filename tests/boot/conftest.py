# SPDX-License-Identifier: MIT
"""Stock Debian kernels on the whole machine. Guests are built once, into .cache/guests, by ``make guest``."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from guest import Equipped, Image, find_image, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = (
    ("x86_64", "trixie"),
    ("aarch64", "trixie"),
    ("riscv64", "trixie"),
    ("x86_64", "bookworm"),
    ("aarch64", "bookworm"),
)
DISK_BYTES = 16 << 20


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.boot)
    if config.getoption("--backend") == "tcg":
        return
    # Others run guests of the host's architecture, and tests of the software CPU alone do not name an image.
    others = [item for item in mine if (platform.machine(), IMAGES[0][1]) not in _parameters(item)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def _parameters(item: pytest.Item) -> list[object]:
    return (
        list(item.callspec.params.values())
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else []
    )


@pytest.fixture(params=IMAGES, ids="-".join, scope="module")
def image(request: pytest.FixtureRequest) -> Image:
    """Every guest in turn."""
    return find_image(*request.param, request.config.getoption("--backend"))


@pytest.fixture(params=IMAGES[:3], ids="-".join, scope="module")
def arch_image(request: pytest.FixtureRequest) -> Image:
    """One guest of each architecture, for what does not depend on the suite."""
    return find_image(*request.param, request.config.getoption("--backend"))


@pytest.fixture(scope="module")
def equipped(
    request: pytest.FixtureRequest, image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Equipped]:
    """One guest for all tests of a module that leave it as they found it.

    ``vda`` is empty, ``vdb`` read-only with known content; guest port 5000 is ``port`` of the host.
    """
    folder = tmp_path_factory.mktemp(image.name)
    disk, readonly, port = folder / "disk.img", folder / "readonly.img", free_port()
    disk.write_bytes(bytes(DISK_BYTES))
    readonly.write_bytes(bytes(range(256)) * 4096)
    options = (
        "--cpus",
        str(request.config.getoption("--cpus") or 1),
        "--disk",
        str(disk),
        "--disk",
        f"{readonly},ro",
        "--net",
        f"user,hostfwd=tcp:127.0.0.1:{port}-:5000",
    )
    with running(image, folder, *options) as guest:
        yield Equipped(guest, disk, readonly, port)
