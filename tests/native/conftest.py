# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from guestdriver import DeviceQueue, PackedDriver, SplitDriver

from vdesktop_core.host import Host
from vdesktop_core.memory import GuestMemory, MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guestdriver import Driver

RAM = 0x4000_0000
RAM_SIZE = 0x20_0000
ROM = 0x1000_0000
RING = RAM
TABLE = RAM + 0x1_0000
DATA = RAM + 0x10_0000


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as host:
        yield host


@pytest.fixture
def memory(host: Host) -> Iterator[GuestMemory]:
    """2 MiB of RAM in two regions that touch, and a page that the device must not write."""
    with GuestMemory(host.native) as memory:
        memory.add(RAM, MemoryRegion("low", RAM_SIZE // 2 + 0x1000))
        memory.add(RAM + RAM_SIZE // 2 + 0x1000, MemoryRegion("high", RAM_SIZE // 2 - 0x1000))
        memory.add(ROM, MemoryRegion("rom", 0x1000), readonly=True)
        yield memory


@pytest.fixture(params=["split", "packed"])
def driver(request: pytest.FixtureRequest, memory: GuestMemory) -> Driver:
    kind = SplitDriver if request.param == "split" else PackedDriver
    return kind(memory, RING, 8)


@pytest.fixture
def queue(host: Host, memory: GuestMemory) -> Iterator[DeviceQueue]:
    queue = DeviceQueue(host.native, memory)
    yield queue
    queue.close()
