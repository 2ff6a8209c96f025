# SPDX-License-Identifier: MIT
"""The clock of a machine with a device tree, as its drivers use it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.rtc import Rtc
from vdesktop_core.interrupt import IrqLine
from vdesktop_core.iothread import IoThread
from vdesktop_core.testing.driver import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.host import Host

NS = 10**9


class Registers:
    """A clock, a line that remembers, and the guest's accesses."""

    def __init__(self, host: Host, model: str) -> None:
        self.model = model
        self.level = False
        self._set = ffi.callback("void(void *, bool)", self._changed)
        self._irq = ffi.new("struct vd_irq *", {"set": self._set})
        self.thread = IoThread(host.native, "vd-rtc")
        self.rtc = Rtc(
            host.native, self.thread.native, IrqLine(2, int(ffi.cast("uintptr_t", self._irq))), model
        )
        self._io: Any = ffi.cast("struct vd_io *", self.rtc.io)

    def _changed(self, _: Any, level: Any) -> None:
        self.level = bool(level)

    def read(self, offset: int, width: int = 4) -> int:
        return int(self._io.read(self._io.opaque, offset, width))

    def write(self, offset: int, value: int, width: int = 4) -> None:
        self._io.write(self._io.opaque, offset, width, value)

    def time(self) -> float:
        """The time as a driver reads it, in seconds."""
        if self.model == "pl031":
            return self.read(lib.VD_PL031_DATA)
        low = self.read(lib.VD_GOLDFISH_TIME_LOW)
        return (self.read(lib.VD_GOLDFISH_TIME_HIGH) << 32 | low) / NS

    def set_alarm(self, seconds: float) -> None:
        """Set an alarm and want its interrupt."""
        if self.model == "pl031":
            self.write(lib.VD_PL031_MATCH, int(seconds))
            self.write(lib.VD_PL031_MASK, 1)
            return
        at = int(seconds * NS)
        self.write(lib.VD_GOLDFISH_ALARM_HIGH, at >> 32)
        self.write(lib.VD_GOLDFISH_ALARM_LOW, at & 0xFFFF_FFFF)
        self.write(lib.VD_GOLDFISH_IRQ_ENABLED, 1)

    def acknowledge(self) -> None:
        self.write(lib.VD_PL031_CLEAR if self.model == "pl031" else lib.VD_GOLDFISH_CLEAR_INTERRUPT, 1)

    def close(self) -> None:
        self.rtc.close()
        self.rtc.close()
        self.thread.close()


@pytest.fixture(params=["pl031", "goldfish"])
def clock(host: Host, request: pytest.FixtureRequest) -> Iterator[Registers]:
    made = Registers(host, request.param)
    yield made
    made.close()


def test_rtc_time_is_the_hosts(clock: Registers) -> None:
    before = int(time.time())
    told = clock.time()
    assert before <= told <= time.time()


def test_rtc_time_cannot_be_set_by_the_guest(clock: Registers) -> None:
    before = int(time.time())
    for offset in range(0, 12, 4):
        clock.write(offset, 0)
    assert clock.time() >= before


def test_rtc_alarm_raises_the_line_until_it_is_cleared(clock: Registers) -> None:
    clock.set_alarm(clock.time() + 1)
    assert not clock.level
    assert wait_until(lambda: clock.level, 60)
    clock.acknowledge()
    assert not clock.level


def test_rtc_alarm_that_nobody_wants_raises_nothing_until_somebody_does(clock: Registers) -> None:
    mask = lib.VD_PL031_MASK if clock.model == "pl031" else lib.VD_GOLDFISH_IRQ_ENABLED
    clock.set_alarm(clock.time())
    assert clock.level
    clock.write(mask, 0)
    assert not clock.level
    clock.write(mask, 1)
    assert clock.level


def test_rtc_reset_forgets_the_alarm(clock: Registers) -> None:
    clock.set_alarm(clock.time())
    assert clock.level
    clock.set_alarm(clock.time() + 1000)
    clock.rtc.reset()
    assert not clock.level
    clock.write(lib.VD_PL031_MASK if clock.model == "pl031" else lib.VD_GOLDFISH_IRQ_ENABLED, 1)
    assert not clock.level


def test_rtc_goldfish_alarm_says_whether_it_is_to_come(host: Host) -> None:
    clock = Registers(host, "goldfish")
    clock.set_alarm(clock.time() + 1000)
    assert clock.read(lib.VD_GOLDFISH_ALARM_STATUS) == 1
    clock.write(lib.VD_GOLDFISH_CLEAR_ALARM, 1)
    assert clock.read(lib.VD_GOLDFISH_ALARM_STATUS) == 0
    clock.set_alarm(0)
    assert (clock.read(lib.VD_GOLDFISH_ALARM_STATUS), clock.level) == (0, True)
    clock.close()


def test_rtc_pl031_says_what_it_is_as_linux_asks(host: Host) -> None:
    clock = Registers(host, "pl031")
    raw = [clock.read(lib.VD_PL031_ID + 4 * i) for i in range(8)]
    part = sum(byte << 8 * i for i, byte in enumerate(raw[:4]))
    primecell = sum(byte << 8 * i for i, byte in enumerate(raw[4:]))
    assert (part & 0xFFFFF, primecell) == (0x41031, 0xB105F00D)  # drivers/rtc/rtc-pl031.c, amba/bus.h
    clock.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    accesses=st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(st.integers(0, 0x24), st.integers(0, lib.VD_RTC_SIZE - 1)),
            st.sampled_from([1, 2, 4, 8]),
            st.one_of(st.sampled_from([0, 1, 0xFFFF_FFFF]), st.integers(0, 2**64 - 1)),
        ),
        max_size=20,
    )
)
def test_rtc_any_accesses_leave_it_telling_the_time(clock: Registers, accesses: list[Any]) -> None:
    for write, offset, width, value in accesses:
        if write:
            clock.write(offset, value, width)
        else:
            read = clock.read(offset, width)
            assert read == 0 or (width == 4 and offset % 4 == 0)
    assert abs(clock.time() - time.time()) < 60
