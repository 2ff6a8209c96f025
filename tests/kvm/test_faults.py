# SPDX-License-Identifier: MIT
"""Guests and lives that end badly: one line that says what, and nothing left behind."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vdesktop_kvm.hypervisor import KvmHypervisor, host_arch

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch, ExitReason, VmSpec
from vdesktop_core.memory import PAGE_SIZE, MemoryRegion
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import Kind, Record, count, port_out, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator

CYCLES = 1000
ARCH = host_arch() or Arch.X86_64


def test_more_cpus_than_kvm_runs_are_refused_with_the_number() -> None:
    most = KvmHypervisor().probe().max_vcpus
    for vcpus in (most + 1, 1000):
        with pytest.raises(BackendError, match=f"kvm runs 1 to {most} CPUs here, not {vcpus}"):
            KvmHypervisor().create(VmSpec(ARCH, vcpus))


def test_memory_beyond_the_address_space_is_refused() -> None:
    with Guest(KvmHypervisor(), ARCH) as guest:
        region = MemoryRegion("far", PAGE_SIZE)
        for gpa in (1 << 62, (1 << 64) - PAGE_SIZE, 0x1234):
            with pytest.raises(BackendError, match="kvm cannot map far"):
                guest.vm.map_memory(gpa, region)
        assert guest.run([write(guest.data, 5)]).reason is ExitReason.SHUTDOWN
        region.close()


@pytest.fixture
def guest() -> Iterator[Guest]:
    with Guest(KvmHypervisor(), ARCH) as guest:
        yield guest


if ARCH is Arch.X86_64:

    def test_triple_fault_is_a_crash_with_registers_and_the_last_accesses(guest: Guest) -> None:
        slot = guest.map.slot(1).base
        guest.device(slot)
        event = guest.run([write(slot + 0x50, 1, 4), port_out(0x80, 7), Record(Kind.CRASH)])
        assert event.reason is ExitReason.CRASH
        assert event.detail.startswith("triple fault: vCPU 0 rip=0x")
        assert event.detail.endswith(f"last accesses: port w8 0x80, mmio w32 {slot + 0x50:#x}")
        assert "\n" not in event.detail

    def test_code_that_kvm_cannot_emulate_is_a_crash_with_registers(guest: Guest) -> None:
        # Instructions do not come from a device.
        guest.start([], rip=guest.map.slot(1).base)
        event = guest.ended()
        assert event.reason is ExitReason.CRASH
        assert re.match(r"KVM cannot emulate an instruction: vCPU 0 rip=0xd0001000", event.detail)

    def test_state_that_no_processor_takes_is_refused(guest: Guest) -> None:
        with pytest.raises(BackendError, match="kvm cannot set a vCPU's registers: Invalid argument"):
            guest.start([], cr4=0)  # long mode without PAE
        assert guest.run([write(guest.data, 5)]).reason is ExitReason.SHUTDOWN


def _resources(expected: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return what is open and runs: what was expected, where that is no more.

    A joined thread may be listed a little longer: now, and when the expected was counted.
    """
    deadline = time.monotonic() + 60
    while True:
        now = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))  # noqa: PTH208
        if expected is not None and now[0] <= expected[0] and now[1] <= expected[1]:
            return expected
        if expected is None or time.monotonic() > deadline:
            return now
        time.sleep(0.05)


def _resident_kib() -> int:
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def test_thousand_starts_and_stops_leak_nothing(guest: Guest) -> None:
    def cycle() -> None:
        guest.start([count(guest.data)])
        guest.vm.stop()

    for _ in range(20):
        cycle()
    before, resident = _resources(), _resident_kib()
    for _ in range(CYCLES):
        cycle()
    assert _resources(before) == before
    assert _resident_kib() - resident < 1024
    assert guest.run([write(guest.data, 5)]).reason is ExitReason.SHUTDOWN


def test_stop_and_reset_race_with_the_guests_own_end(guest: Guest) -> None:
    for turn in range(100):
        guest.start([read(guest.data, times=1 + 997 * turn), *guest.part.power_off(guest.platform)])
        if turn % 3 == 0:
            guest.vm.pause()
        guest.vm.stop()
        assert len(guest.events) <= 1, "told twice"
        guest.events.clear()
    assert guest.run([write(guest.data, 5)]).reason is ExitReason.SHUTDOWN
