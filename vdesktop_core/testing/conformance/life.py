# SPDX-License-Identifier: MIT
"""Life cycle, interrupts, and more than one CPU."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import CONTRACT_VERSION, Capability, EntryState, ExitReason
from vdesktop_core.testing.conformance.base import PATTERN, Base
from vdesktop_core.testing.conformance.guest import PATIENCE, Guest
from vdesktop_core.testing.conformance.program import count, read, until, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.hypervisor import Hypervisor


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - iterdir would hold one of them open


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208


def _settled(expected: tuple[int, int]) -> tuple[int, int]:
    """Return what was expected where no more is open and runs, else what is.

    A joined thread may be listed a little longer: now, and when the expected was counted.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        now = _open_files(), _threads()
        if now[0] <= expected[0] and now[1] <= expected[1]:
            return expected
        if time.monotonic() > deadline:
            return now
        time.sleep(0.01)


class InterruptConformance(Base):
    """``irq_line``: a level from any thread, which the guest takes as such, or by its rises."""

    def test_line_is_the_same_each_time_and_another_number_is_refused(self, guest: Guest) -> None:
        lines = guest.platform.interrupt_controller.lines
        assert guest.line in lines
        assert guest.vm.irq_line(guest.line) == guest.vm.irq_line(guest.line)
        for line in (-1, lines.stop):
            with pytest.raises(BackendError):
                guest.vm.irq_line(line)

    def test_level_line_interrupts_until_the_device_lowers_it(self, guest: Guest, slot: int) -> None:
        part, platform, line = guest.part, guest.platform, guest.line
        guest.device(slot, on_write=lambda _offset, _value: guest.set_line(line, level=False))
        wait, look = part.take(platform, wait=True), part.take(platform, wait=False)
        setup = [*part.interrupts_on(platform), *part.line_on(platform, line), look]
        end = part.end(platform, line)
        guest.start([*setup, wait, *end, wait, write(slot, 1, 4), *end, look, *part.power_off(platform)])
        guest.reached(len(setup) - 1)
        guest.set_line(line, level=True)
        assert guest.ended().reason is ExitReason.SHUTDOWN
        at = len(setup)
        again = at + 1 + len(end)
        after = again + 2 + len(end)
        results = [guest.result(index) for index in (at - 1, at, again, after)]
        assert results == [0, part.taken(line), part.taken(line), 0]

    def test_line_that_the_guest_takes_by_its_edges_interrupts_once_a_rise(
        self, guest: Guest, slot: int
    ) -> None:
        part, platform, line = guest.part, guest.platform, guest.line

        def written(_offset: int, again: int) -> None:
            guest.set_line(line, level=False)
            guest.set_line(line, level=bool(again))

        guest.device(slot, on_write=written)
        wait, look, end = part.take(platform, wait=True), part.take(platform, wait=False), part.end
        setup = [*part.interrupts_on(platform), *part.line_on(platform, line, edge=True), look]
        once = [wait, *end(platform, line), look]
        fall = [write(slot, 0, 4), *([] if part.edges else end(platform, line)), look]
        guest.start([*setup, *once, *fall, write(slot, 1, 4), *once, *part.power_off(platform)])
        guest.reached(len(setup) - 1)
        guest.set_line(line, level=True)
        assert guest.ended().reason is ExitReason.SHUTDOWN
        high = 0 if part.edges else part.taken(line)
        first, second = len(setup), len(setup) + len(once) + len(fall) + 1
        last = len(once) - 1
        results = [guest.result(index) for index in (first - 1, first, first + last, second - 2)]
        assert results == [0, part.taken(line), high, 0]
        assert [guest.result(second), guest.result(second + last)] == [part.taken(line), high]

    def test_line_raised_before_the_start_is_pending(self, guest: Guest) -> None:
        part, platform, line = guest.part, guest.platform, guest.line
        guest.set_line(line, level=True)
        setup = [*part.interrupts_on(platform), *part.line_on(platform, line)]
        guest.run([*setup, part.take(platform, wait=True)])
        assert guest.result(len(setup)) == part.taken(line)

    def test_masked_line_does_not_interrupt(self, guest: Guest) -> None:
        part, platform = guest.part, guest.platform
        guest.set_line(guest.line, level=True)
        setup = part.interrupts_on(platform)
        guest.run([*setup, part.take(platform, wait=False)])
        assert guest.result(len(setup)) == 0


class LifeConformance(Base):
    """Life cycle: start, pause, stop, reset, close; the guest's own end."""

    def test_probe_and_platform_describe_what_is_there(self, guest: Guest, backend: Hypervisor) -> None:
        found = backend.probe()
        assert backend.contract_version == CONTRACT_VERSION
        assert (found.available, self.arch in found.architectures) == (True, True)
        assert "\n" not in found.reason
        assert len(guest.platform.cpu_ids) == 1
        assert guest.platform.timer_hz > 0

    def test_power_off_is_one_event(self, guest: Guest) -> None:
        assert guest.run([]).reason is ExitReason.SHUTDOWN
        guest.vm.stop()
        assert len(guest.events) == 1

    def test_reset_request_is_an_event_and_the_machine_starts_again(self, guest: Guest) -> None:
        guest.start(guest.part.reset(guest.platform))
        assert guest.ended().reason is ExitReason.RESET
        guest.vm.reset()
        assert guest.run([write(guest.data, 5)]).reason is ExitReason.SHUTDOWN
        assert guest.peek(guest.data) == 5

    def test_reset_forgets_what_the_guest_set_up(self, guest: Guest) -> None:
        part, platform, line = guest.part, guest.platform, guest.line
        guest.run([*part.interrupts_on(platform), *part.line_on(platform, line)])
        guest.set_line(line, level=True)
        setup = part.interrupts_on(platform)
        guest.run([*setup, part.take(platform, wait=False)])
        assert guest.result(len(setup)) == 0, "the line is still unmasked"

    def test_pause_keeps_the_guest_where_it_is(self, guest: Guest) -> None:
        guest.start([count(guest.data)])
        for _ in range(20):
            seen = guest.peek(guest.data)
            guest.until(lambda seen=seen: guest.peek(guest.data) != seen, "the guest stands still")  # type: ignore[misc]
            guest.vm.pause()
            seen = guest.peek(guest.data)
            for _ in range(1000):
                assert guest.peek(guest.data) == seen, "paused, and still running"
            guest.vm.resume()

    def test_machine_answers_while_a_cpu_stays_in_its_guest(self, guest: Guest) -> None:
        guest.start([count(guest.data)])
        guest.until(lambda: guest.peek(guest.data) > 0, "the guest does not count")
        answers: list[object] = []
        asking = threading.Thread(
            target=lambda: answers.extend((guest.vm.platform(), guest.vm.counters())), daemon=True
        )
        asking.start()
        asking.join(PATIENCE / 3)
        in_time = not asking.is_alive()
        guest.vm.stop()
        asking.join(PATIENCE)
        assert in_time, "the control loop would have waited for the guest"
        assert answers[0] == guest.platform

    def test_stop_under_load_and_in_sleep_returns(self, guest: Guest, slot: int) -> None:
        guest.device(slot)
        hammer = read(slot, 4, times=1 << 40)
        for records in ([count(guest.data)], [], [hammer], [until(guest.data + 8, 1)]):
            for _ in range(3):
                guest.start([write(guest.data + 16, 1), *records])
                guest.reached(0)
                guest.vm.stop()
        for _ in range(20):
            guest.start([count(guest.data)])
            guest.vm.stop()
        assert not guest.events
        assert guest.run([]).reason is ExitReason.SHUTDOWN

    def test_stop_while_paused_and_twice_is_legal(self, guest: Guest) -> None:
        guest.vm.stop()
        guest.start([count(guest.data)])
        guest.vm.pause()
        guest.vm.stop()
        guest.vm.stop()
        assert guest.run([]).reason is ExitReason.SHUTDOWN

    def test_starts_and_stops_leave_no_descriptor_and_no_thread(self, guest: Guest) -> None:
        def cycle() -> None:
            guest.start([count(guest.data)])
            guest.vm.stop()

        cycle()
        before = _open_files(), _threads()
        for _ in range(25):
            cycle()
        assert _settled(before) == before

    def test_machines_leave_no_descriptor_and_no_thread(self, backend: Hypervisor) -> None:
        def cycle() -> None:
            with Guest(backend, self.arch) as guest:
                guest.start([count(guest.data)])
                guest.vm.close()

        cycle()
        before = _open_files(), _threads()
        for _ in range(5):
            cycle()
        assert _settled(before) == before

    def test_counters_are_numbers_that_grow(self, guest: Guest, slot: int) -> None:
        guest.device(slot)
        before = dict(guest.vm.counters())
        guest.run([read(slot, 4, times=10)])
        after = dict(guest.vm.counters())
        assert before.keys() <= after.keys()
        assert all(after[name] >= value >= 0 for name, value in before.items())
        assert after != before

    def test_unknown_register_in_the_entry_state_is_refused(self, guest: Guest) -> None:
        with pytest.raises(BackendError):
            guest.vm.set_entry(EntryState({"no_such_register": 1}))


class SmpConformance(Base):
    """More than one CPU; run by a backend that has the capability ``SMP``."""

    CPUS = 2

    @pytest.fixture
    def smp(self, backend: Hypervisor) -> Iterator[Guest]:
        """A machine with two CPUs."""
        if Capability.SMP not in backend.probe().capabilities:
            pytest.skip("the backend runs one CPU only")
        with Guest(backend, self.arch, self.CPUS) as guest:
            yield guest

    def test_second_cpu_waits_until_it_is_started(self, smp: Guest) -> None:
        part, platform = smp.part, smp.platform
        smp.load([read(smp.data + 8), write(smp.data, 1)], cpu=1)
        smp.poke(smp.data + 8, PATTERN)
        start = part.start_cpu(platform, 1, smp.records(1))
        smp.run([read(smp.data), *start, until(smp.data, 1)])
        assert smp.result(0) == 0
        assert smp.result(0, cpu=1) == PATTERN

    def test_cpus_under_load_pause_resume_and_stop(self, smp: Guest) -> None:
        start = smp.part.start_cpu(smp.platform, 1, smp.records(1))
        counters = (smp.data, smp.data + 64)
        for _ in range(3):
            smp.load([count(counters[1])], cpu=1)
            smp.start([*start, count(counters[0])])
            for address in counters:
                before = smp.peek(address)
                smp.until(lambda a=address, b=before: smp.peek(a) != b, "a CPU stands still")  # type: ignore[misc]
            smp.vm.pause()
            seen = [smp.peek(address) for address in counters]
            for _ in range(1000):
                assert [smp.peek(address) for address in counters] == seen, "paused, and still running"
            smp.vm.resume()
            smp.until(lambda seen=seen: smp.peek(counters[1]) != seen[1], "CPU 1 was not resumed")  # type: ignore[misc]
            smp.vm.stop()

    def test_power_off_by_any_cpu_stops_all(self, smp: Guest) -> None:
        part, platform = smp.part, smp.platform
        smp.load(part.power_off(platform), cpu=1)
        smp.start([*part.start_cpu(platform, 1, smp.records(1)), count(smp.data)])
        assert smp.ended().reason is ExitReason.SHUTDOWN
        seen = smp.peek(smp.data)
        for _ in range(1000):
            assert smp.peek(smp.data) == seen
