# SPDX-License-Identifier: MIT
"""What guest code sees: memory, devices, and nothing at all."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from vdesktop_core._native import ffi
from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Capability, ExitReason
from vdesktop_core.memory import PAGE_SIZE, MemoryRegion
from vdesktop_core.testing.conformance.base import PATTERN, Base
from vdesktop_core.testing.conformance.guest import Access
from vdesktop_core.testing.conformance.program import read, until, write

if TYPE_CHECKING:
    from vdesktop_core.hypervisor import Hypervisor
    from vdesktop_core.testing.conformance.guest import Guest

ONES = (1 << 64) - 1
WIDTHS = (1, 2, 4, 8)
#: Where a second piece of memory goes, from the first byte of RAM.
_ELSEWHERE = 64 << 20


class MemoryConformance(Base):
    """``allocate_memory``, ``map_memory``, ``unmap_memory``, ``dirty_log``."""

    @pytest.mark.parametrize("width", WIDTHS)
    def test_memory_of_any_width_is_shared_with_the_host(self, guest: Guest, width: int) -> None:
        mask = (1 << 8 * width) - 1
        guest.poke(guest.data, PATTERN)
        guest.run([read(guest.data, width), write(guest.data + 8, PATTERN, width)])
        assert guest.result(0) == PATTERN & mask
        assert guest.peek(guest.data + 8) == PATTERN & mask

    def test_memory_second_region_comes_and_goes_while_the_guest_runs(self, guest: Guest) -> None:
        there = guest.base + _ELSEWHERE
        go, gone = guest.data, guest.data + 8
        guest.start(
            [
                until(go, 1),
                read(there),
                write(there + 8, 7),
                until(gone, 1),
                read(there),
                *guest.part.power_off(guest.platform),
            ]
        )
        region = guest.vm.allocate_memory(there, "second", 16 * PAGE_SIZE)
        assert not any(region.view), "new memory is not zero"
        region.view[:8] = PATTERN.to_bytes(8, "little")
        guest.poke(go, 1)
        guest.reached(2)
        guest.vm.unmap_memory(there)
        guest.poke(gone, 1)
        assert guest.ended().reason is ExitReason.SHUTDOWN
        assert (guest.result(1), region.view[8]) == (PATTERN, 7)
        assert guest.result(4) == ONES, "unmapped memory still answers"
        region.close()

    def test_memory_that_overlaps_is_refused(self, guest: Guest) -> None:
        with pytest.raises(BackendError):
            guest.vm.allocate_memory(guest.base + PAGE_SIZE, "overlap", 4 * PAGE_SIZE)
        with pytest.raises(BackendError):
            guest.vm.unmap_memory(guest.base + _ELSEWHERE)
        assert guest.run([]).reason is ExitReason.SHUTDOWN

    def test_memory_of_the_host_is_mapped_or_refused(self, guest: Guest, backend: Hypervisor) -> None:
        there = guest.base + _ELSEWHERE
        region = MemoryRegion("host", PAGE_SIZE)
        region.view[:8] = PATTERN.to_bytes(8, "little")
        if Capability.HOST_MEMORY in backend.probe().capabilities:
            guest.vm.map_memory(there, region)
            guest.run([read(there)])
            assert guest.result(0) == PATTERN
            guest.vm.unmap_memory(there)
        else:
            with pytest.raises(BackendError):
                guest.vm.map_memory(there, region)
        region.close()

    def test_memory_read_only_is_refused_or_keeps_its_bytes(self, guest: Guest) -> None:
        there = guest.base + _ELSEWHERE
        try:
            region = guest.vm.allocate_memory(there, "rom", PAGE_SIZE, readonly=True)
        except BackendError:
            return
        region.view[:8] = PATTERN.to_bytes(8, "little")
        assert guest.run([write(there, 0), read(there)]).reason is ExitReason.SHUTDOWN
        assert guest.result(1) == PATTERN
        assert int.from_bytes(region.view[:8], "little") == PATTERN
        guest.vm.unmap_memory(there)
        region.close()

    def test_dirty_log_has_the_pages_written_since_the_last_call(
        self, guest: Guest, backend: Hypervisor
    ) -> None:
        size = guest.ram.size
        if Capability.DIRTY_LOG not in backend.probe().capabilities:
            with pytest.raises(BackendError):
                guest.vm.dirty_log(guest.base, size)
            return
        first, second = guest.data, guest.data + 8
        there = guest.data + 0x10_0000
        guest.start(
            [
                until(first, 1),
                write(there, 1),
                write(there + 5 * PAGE_SIZE, 1),
                until(second, 1),
                write(there + 9 * PAGE_SIZE, 1),
            ]
        )
        guest.vm.dirty_log(guest.base, size)  # begins the log
        guest.poke(first, 1)
        guest.reached(2)
        frame = (there - guest.base) // PAGE_SIZE
        log = set(guest.vm.dirty_log(guest.base, size))
        assert {frame, frame + 5} <= log
        assert not {frame + 4, frame + 9} & log
        guest.poke(second, 1)
        guest.reached(4)
        log = set(guest.vm.dirty_log(guest.base, size))
        assert frame + 9 in log
        assert not {frame, frame + 5} & log, "reported twice"

    def test_dirty_hook_is_there_with_the_log_and_takes_the_same_pages(
        self, guest: Guest, backend: Hypervisor
    ) -> None:
        hook = guest.vm.dirty_hook()
        assert bool(hook) == (Capability.DIRTY_LOG in backend.probe().capabilities)
        if not hook:
            return
        size = guest.ram.size
        there, done = guest.data + 0x10_0000, guest.data
        log = ffi.cast("struct vd_dirty *", hook)
        bitmap = ffi.new("uint64_t[]", size // PAGE_SIZE // 64)
        guest.start([until(done, 1), write(there, 1)])
        assert log.take(log.opaque, guest.base, size, bitmap) == 0  # begins the log
        ffi.buffer(bitmap)[:] = bytes(ffi.sizeof(bitmap))
        guest.poke(done, 1)
        guest.reached(1)
        assert log.take(log.opaque, guest.base, size, bitmap) == 0
        frame = (there - guest.base) // PAGE_SIZE
        assert bitmap[frame // 64] >> frame % 64 & 1
        assert not bitmap[(frame + 4) // 64] >> (frame + 4) % 64 & 1


class AccessConformance(Base):
    """``add_mmio``, ``remove_mmio``, ``add_doorbell``, and addresses that nobody answers."""

    @pytest.mark.parametrize("width", WIDTHS)
    def test_mmio_of_any_width_reaches_the_device_as_it_was_made(
        self, guest: Guest, slot: int, width: int
    ) -> None:
        device = guest.device(slot, value=PATTERN)
        guest.run([read(slot + 0x10, width), write(slot + 0xFF8, PATTERN, width)])
        mask = (1 << 8 * width) - 1
        assert guest.result(0) == PATTERN & mask
        assert device.joined() == [Access(0x10, width, None), Access(0xFF8, width, PATTERN & mask)]

    def test_mmio_reaches_the_range_it_lies_in(self, guest: Guest) -> None:
        slots = [guest.map.slot(index).base for index in range(32)]
        devices = [guest.device(base, value=index | index << 32) for index, base in enumerate(slots)]
        guest.run([read(base + 4 * index, 4) for index, base in enumerate(slots)])
        assert [guest.result(index) for index in range(32)] == list(range(32))
        assert [d.accesses for d in devices] == [[Access(4 * i, 4, None)] for i in range(32)]

    def test_mmio_is_added_and_removed_while_the_guest_runs(self, guest: Guest, slot: int) -> None:
        go, gone = guest.data, guest.data + 8
        guest.start([until(go, 1), read(slot, 4), until(gone, 1), read(slot, 4)])
        guest.device(slot, value=PATTERN)
        guest.poke(go, 1)
        guest.reached(1)
        guest.vm.remove_mmio(slot)
        guest.poke(gone, 1)
        guest.reached(3)
        assert (guest.result(1), guest.result(3)) == (PATTERN & 0xFFFF_FFFF, 0xFFFF_FFFF)

    def test_mmio_that_overlaps_is_refused(self, guest: Guest, slot: int) -> None:
        device = guest.device(slot)
        with pytest.raises(BackendError):
            guest.vm.add_mmio(slot + 0x800, 0x1000, device.native)
        with pytest.raises(BackendError):
            guest.vm.remove_mmio(slot + 0x1000)

    def test_access_to_nothing_reads_ones_and_the_guest_goes_on(self, guest: Guest, slot: int) -> None:
        hammer = [write(slot, 0, width, times=500, stride=width) for width in WIDTHS]
        event = guest.run([*hammer, *(read(slot, width, times=500, stride=width) for width in WIDTHS)])
        assert event.reason is ExitReason.SHUTDOWN
        assert [guest.result(4 + i) for i in range(4)] == [(1 << 8 * width) - 1 for width in WIDTHS]

    @pytest.mark.parametrize("value", [None, 3], ids=["any-value", "one-value"])
    def test_doorbell_signals_its_descriptor_or_is_left_to_the_device(
        self, guest: Guest, backend: Hypervisor, slot: int, value: int | None
    ) -> None:
        device = guest.device(slot)
        with ExitStack() as stack:
            bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, bell)
            rings = guest.vm.add_doorbell(slot + 0x50, 4, value, bell)
            assert rings or Capability.DOORBELL_FD not in backend.probe().capabilities
            knocks = [write(slot + 0x50, 3, 4), write(slot + 0x50, 4, 4), write(slot + 0x54, 3, 4)]

            def knock() -> list[int | None]:
                """Return what reached the device instead of the doorbell."""
                device.accesses.clear()
                guest.run(knocks)
                assert Access(0x54, 4, 3) in device.accesses
                return [access.value for access in device.accesses if access.offset == 0x50]

            if not rings:
                assert knock() == [3, 4]
                return
            for _ in range(2):  # doorbells outlive a stop
                assert knock() == ([] if value is None else [4])
                assert os.eventfd_read(bell) == (2 if value is None else 1)
            guest.vm.remove_doorbell(slot + 0x50, 4, value, bell)
            assert knock() == [3, 4]
            with pytest.raises(BackendError):
                guest.vm.remove_doorbell(slot + 0x50, 4, value, bell)

    def test_doorbell_is_added_and_removed_while_the_guest_runs(
        self, guest: Guest, backend: Hypervisor, slot: int
    ) -> None:
        if Capability.DOORBELL_FD not in backend.probe().capabilities:
            assert not guest.vm.add_doorbell(slot + 0x50, 4, 1, 0)
            return
        device = guest.device(slot)
        bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        go, gone = guest.data, guest.data + 8
        guest.start(
            [until(go, 1), write(slot + 0x50, 1, 4, times=100), until(gone, 1), write(slot + 0x50, 1, 4)]
        )
        assert guest.vm.add_doorbell(slot + 0x50, 4, 1, bell)
        guest.poke(go, 1)
        guest.reached(1)
        assert (os.eventfd_read(bell), device.accesses) == (100, [])
        guest.vm.remove_doorbell(slot + 0x50, 4, 1, bell)
        guest.poke(gone, 1)
        guest.reached(3)
        assert device.accesses == [Access(0x50, 4, 1)]
        os.close(bell)
