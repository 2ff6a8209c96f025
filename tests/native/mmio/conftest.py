# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from guestdriver import Slot
from mmio_rig import Line, Recorder

from vdesktop_core.transport.mmio import MmioSlot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.host import Host
    from vdesktop_core.memory import GuestMemory


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def slot(host: Host, line: Line) -> Iterator[MmioSlot]:
    slot = MmioSlot(host.native, 7, line.native)
    yield slot
    slot.close()


@pytest.fixture
def device(host: Host, memory: GuestMemory, slot: MmioSlot) -> Iterator[Recorder]:
    device = Recorder(host.native, memory)
    slot.attach(device.native)
    yield device
    slot.detach()
    device.free()


@pytest.fixture
def guest(slot: MmioSlot, device: Recorder) -> Slot:
    return Slot(slot.io)
