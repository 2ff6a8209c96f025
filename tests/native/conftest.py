# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from console_rig import Console, pipe
from guestdriver import DeviceQueue, PackedDriver, SplitDriver
from net_rig import Card
from places import RAM, RAM_SIZE, RING, ROM

from vdesktop_core.host import Host
from vdesktop_core.memory import GuestMemory, MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guestdriver import Driver

# Programs that tests start do without the sanitizers' runtime that this process may have; test_sanitizers.py.
os.environ.pop("LD_PRELOAD", None)


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


@pytest.fixture
def consoles() -> Iterator[Callable[..., Console]]:
    """Makes consoles."""
    made: list[Console] = []

    def new(max_ports: int = 2) -> Console:
        made.append(Console(max_ports))
        return made[-1]

    yield new
    for console in made:
        console.free()


@pytest.fixture
def pipes() -> Iterator[Callable[[], tuple[int, int]]]:
    """Makes non-blocking pipes: reading and writing end."""
    opened: list[int] = []

    def new() -> tuple[int, int]:
        pair = pipe()
        opened.extend(pair)
        return pair

    yield new
    for fd in opened:
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture
def cards() -> Iterator[Callable[..., Card]]:
    """Makes network cards, each with the host's end of its cable."""
    made: list[Card] = []

    def new(**options: Any) -> Card:
        made.append(Card(**options))
        return made[-1]

    yield new
    for card in made:
        card.free()
