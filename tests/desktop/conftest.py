# SPDX-License-Identifier: MIT
"""Booted Debian desktops, one of each architecture for all tests; built once, into .cache/guests.

``--desktops`` says of which architectures: all of them take their time to build.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from desktop import BootedDesktop, booted

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHES = ("x86_64", "aarch64", "riscv64")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.desktop)
            item.add_marker(pytest.mark.timeout(2400))  # the first of them boots
            # pytest-xdist: who has booted a desktop runs all of its tests.
            for arch in ARCHES:
                if f"[{arch}]" in item.name:
                    item.add_marker(pytest.mark.xdist_group(f"desktop-{arch}"), append=False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "desktop" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("desktops").split(",")
        if unknown := {*chosen} - {*ARCHES}:
            raise pytest.UsageError(f"--desktops: {', '.join(unknown)}: choose from {', '.join(ARCHES)}")
        metafunc.parametrize("desktop", chosen, indirect=True, scope="session")


@pytest.fixture(scope="session")
def desktop(request: pytest.FixtureRequest) -> Iterator[BootedDesktop]:
    """A desktop for all tests, which leave it as they found it but for clipboards and files."""
    with booted(request.param) as found:
        yield found
