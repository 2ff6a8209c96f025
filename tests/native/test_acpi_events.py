# SPDX-License-Identifier: MIT
"""The registers that an ACPI guest reads events from."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from vdesktop_core._native import ffi
from vdesktop_core.acpi_events import EVENT_POWER_BUTTON, EVENT_SLOTS, PENDING, SIZE, SLOTS, AcpiEvents
from vdesktop_core.interrupt import IrqLine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.host import Host


class Registers:
    """The events, a line that remembers, and the guest's accesses."""

    def __init__(self, host: Host) -> None:
        self.levels: list[bool] = []
        self._set = ffi.callback("void(void *, bool)", lambda _, level: self.levels.append(bool(level)))
        self._irq = ffi.new("struct vd_irq *", {"set": self._set})
        self.events = AcpiEvents(host.native, IrqLine(9, int(ffi.cast("uintptr_t", self._irq))))
        self._io: Any = ffi.cast("struct vd_io *", self.events.io)

    def read(self, offset: int, width: int = 4) -> int:
        return int(self._io.read(self._io.opaque, offset, width))

    def write(self, offset: int, value: int, width: int = 4) -> None:
        self._io.write(self._io.opaque, offset, width, value)


@pytest.fixture
def registers(host: Host) -> Iterator[Registers]:
    made = Registers(host)
    yield made
    made.events.close()
    made.events.close()


def test_event_raises_the_line_until_the_guest_takes_it(registers: Registers) -> None:
    registers.events.show_slots({0, 3, 31})
    assert registers.levels == [True]
    assert registers.read(SLOTS) == 1 | 1 << 3 | 1 << 31
    assert registers.read(PENDING) == EVENT_SLOTS
    registers.events.press_power_button()
    assert registers.levels == [True]
    registers.write(PENDING, EVENT_SLOTS)
    assert registers.levels == [True]
    assert registers.read(PENDING) == EVENT_POWER_BUTTON
    registers.write(PENDING, EVENT_POWER_BUTTON)
    assert registers.levels == [True, False]


def test_slots_may_change_without_telling(registers: Registers) -> None:
    registers.events.show_slots({1}, tell=False)
    assert (registers.read(SLOTS), registers.read(PENDING), registers.levels) == (2, 0, [])


def test_reset_drops_events_and_keeps_the_slots(registers: Registers) -> None:
    registers.events.show_slots({2})
    registers.events.reset()
    assert (registers.read(SLOTS), registers.read(PENDING), registers.levels) == (4, 0, [True, False])
    registers.events.reset()
    assert registers.levels == [True, False]


def test_accesses_that_mean_nothing_do_nothing(registers: Registers) -> None:
    registers.events.show_slots({2})
    for width in (1, 2, 8):
        assert registers.read(PENDING, width) == registers.read(SLOTS, width) == 0
        registers.write(PENDING, 0xFFFF_FFFF, width)
    for offset in (1, 2, 5, SIZE, 0xFFC, 1 << 40):
        assert registers.read(offset) == 0
        registers.write(offset, 0xFFFF_FFFF)
    registers.write(SLOTS, 0)
    assert (registers.read(SLOTS), registers.read(PENDING)) == (4, EVENT_SLOTS)


def test_no_event_is_lost_between_threads(registers: Registers) -> None:
    """Whoever takes an event sees the slots that were shown before it was raised."""
    stop = threading.Event()
    seen: list[int] = []

    def guest() -> None:
        while not stop.is_set() or registers.read(PENDING):
            if pending := registers.read(PENDING):
                registers.write(PENDING, pending)
                seen.append(registers.read(SLOTS))

    thread = threading.Thread(target=guest)
    thread.start()
    for number in range(2000):
        registers.events.show_slots({number % 31 + 1})
    stop.set()
    thread.join()
    assert seen[-1] == 1 << 1999 % 31 + 1
    assert registers.levels[-1] is False
