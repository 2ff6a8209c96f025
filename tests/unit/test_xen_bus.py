# SPDX-License-Identifier: MIT
"""How the xen backend carries out a vCPU's request, without a Xen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

_xen = pytest.importorskip("vdesktop_xen._xen", reason="the extension is built for x86_64 hosts")
ffi, lib = _xen.ffi, _xen.lib

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE, RAM, RAM_SIZE = 0xD000_0000, 0x10_0000, 0x4000
PIO, COPY, INVALIDATE = 0, 1, 8
READ, IN_MEMORY, BACKWARDS = lib.VX_IOREQ_READ, lib.VX_IOREQ_DATA_IS_PTR, lib.VX_IOREQ_DF
ONES = (1 << 64) - 1

# The layout of struct vd_io (vdesktop/abi.h).
core = pytest.importorskip("vdesktop_core._native")


class Device:
    """Remembers accesses; reads give the offset and a pattern."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int | None]] = []
        self._read = core.ffi.callback("uint64_t(void *, uint64_t, unsigned)", self.read)
        self._write = core.ffi.callback("void(void *, uint64_t, unsigned, uint64_t)", self.write)
        self._io = core.ffi.new("struct vd_io *", {"read": self._read, "write": self._write})
        self.native = ffi.cast("struct vd_io *", int(core.ffi.cast("uintptr_t", self._io)))

    def read(self, _opaque: Any, offset: int, width: int) -> int:
        self.seen.append((offset, width, None))
        return 0x8877_6655_4433_2200 | offset & 0xFF

    def write(self, _opaque: Any, offset: int, width: int, value: int) -> None:
        self.seen.append((offset, width, value))


class Bus:
    def __init__(self) -> None:
        self.native = lib.vx_bus_new()
        self.ram = ffi.new("uint8_t[]", RAM_SIZE)
        self.device = Device()
        assert lib.vx_bus_add_memory(self.native, RAM, RAM_SIZE, self.ram) == 0
        assert lib.vx_bus_add_io(self.native, False, BASE, 0x1000, self.device.native) == 0
        assert lib.vx_bus_add_io(self.native, True, 0x600, 3, self.device.native) == 0

    def serve(
        self, kind: int, address: int, width: int, *, data: int = 0, count: int = 1, flags: int = 0
    ) -> int:
        request = ffi.new("struct vx_ioreq *")
        request.type, request.addr, request.size = kind, address, width
        request.data, request.count, request.flags = data, count, flags
        lib.vx_bus_serve(self.native, request)
        return int(request.data)


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus()
    yield bus
    lib.vx_bus_free(bus.native)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_mmio_of_any_width_reaches_its_device(bus: Bus, width: int) -> None:
    mask = (1 << 8 * width) - 1
    assert bus.serve(COPY, BASE + 0x10, width, flags=READ) == 0x8877_6655_4433_2210 & mask
    bus.serve(COPY, BASE + 0xFF8, width, data=ONES)
    assert bus.device.seen == [(0x10, width, None), (0xFF8, width, mask)]


@pytest.mark.parametrize(
    ("kind", "address", "width"),
    [
        (COPY, BASE - 1, 1),
        (COPY, BASE + 0xFFE, 4),
        (COPY, BASE + 0x1000, 1),
        (PIO, 0x5FF, 1),
        (PIO, 0x600, 8),
    ],
)
def test_access_that_is_not_whole_in_a_range_reads_ones(
    bus: Bus, kind: int, address: int, width: int
) -> None:
    assert bus.serve(kind, address, width, flags=READ) == (1 << 8 * width) - 1
    bus.serve(kind, address, width, data=1)
    assert bus.device.seen == []
    assert lib.vx_bus_count(bus.native, lib.VX_COUNT_UNASSIGNED) == 2


@pytest.mark.parametrize("width", [0, 3, 5, 9, 255, 1 << 31])
def test_access_of_no_regular_width_reaches_nothing(bus: Bus, width: int) -> None:
    for flags in (0, READ, IN_MEMORY, IN_MEMORY | READ):
        bus.serve(COPY, BASE, width, data=RAM, flags=flags)
    assert bus.device.seen == []


def test_string_output_takes_memory_and_keeps_the_port(bus: Bus) -> None:
    ffi.memmove(bus.ram + 0x100, b"abcd", 4)
    bus.serve(PIO, 0x600, 1, data=RAM + 0x100, count=4, flags=IN_MEMORY)
    assert bus.device.seen == [(0, 1, byte) for byte in b"abcd"]


def test_string_output_backwards_takes_memory_backwards(bus: Bus) -> None:
    ffi.memmove(bus.ram + 0x100, b"abcd", 4)
    bus.serve(PIO, 0x600, 1, data=RAM + 0x103, count=4, flags=IN_MEMORY | BACKWARDS)
    assert bytes(value for _, _, value in bus.device.seen) == b"dcba"  # type: ignore[arg-type]


def test_string_input_fills_memory(bus: Bus) -> None:
    bus.serve(PIO, 0x601, 1, data=RAM, count=3, flags=IN_MEMORY | READ)
    assert bytes(ffi.buffer(bus.ram, 4)) == b"\x01\x01\x01\0"


def test_string_move_moves_both_ends(bus: Bus) -> None:
    bus.serve(COPY, BASE + 0x20, 4, data=RAM, count=3, flags=IN_MEMORY | READ)
    assert [offset for offset, _, _ in bus.device.seen] == [0x20, 0x24, 0x28]
    assert bytes(ffi.buffer(bus.ram, 12)) == b"\x20\x22\x33\x44\x24\x22\x33\x44\x28\x22\x33\x44"


@pytest.mark.parametrize("place", [RAM - 2, RAM + RAM_SIZE - 2, 0, ONES - 1, ONES])
def test_string_whose_memory_is_none_touches_none(bus: Bus, place: int) -> None:
    for flags in (IN_MEMORY, IN_MEMORY | READ, IN_MEMORY | READ | BACKWARDS):
        bus.serve(COPY, BASE, 4, data=place, count=1, flags=flags)
    assert not any(ffi.buffer(bus.ram, RAM_SIZE)[:])


def test_invalidate_and_unknown_requests_are_answered(bus: Bus) -> None:
    bus.serve(INVALIDATE, 0, 0)
    assert bus.serve(200, 0, 4, flags=READ) == ONES
    assert lib.vx_bus_count(bus.native, lib.VX_COUNT_INVALIDATE) == 1
    assert lib.vx_bus_count(bus.native, lib.VX_COUNT_OTHER) == 1


@pytest.mark.parametrize("value", [None, 3])
def test_doorbell_rings_instead_of_the_device(bus: Bus, value: int | None) -> None:
    bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    arguments = (bus.native, BASE + 0x50, 4, value is not None, value or 0, bell)
    assert lib.vx_bus_add_doorbell(*arguments) == 0
    for data in (3, 4):
        bus.serve(COPY, BASE + 0x50, 4, data=data)
    bus.serve(COPY, BASE + 0x50, 2, data=3)
    bus.serve(COPY, BASE + 0x50, 4, flags=READ)
    assert os.eventfd_read(bell) == (2 if value is None else 1)
    missed = [] if value is None else [(0x50, 4, 4)]
    assert bus.device.seen == [*missed, (0x50, 2, 3), (0x50, 4, None)]
    assert lib.vx_bus_remove_doorbell(*arguments) == 0
    assert lib.vx_bus_remove_doorbell(*arguments) < 0
    os.close(bell)


def test_ranges_that_overlap_are_refused_and_runs_are_joined(bus: Bus) -> None:
    device, base, size = bus.device.native, ffi.new("uint64_t *"), ffi.new("uint64_t *")
    assert lib.vx_bus_add_io(bus.native, False, BASE + 0x800, 0x1000, device) < 0
    assert lib.vx_bus_add_io(bus.native, False, BASE, 0, device) < 0
    assert lib.vx_bus_add_io(bus.native, True, 0xFFFF, 2, device) < 0
    assert lib.vx_bus_add_io(bus.native, False, BASE + 0x1000, 0x1000, device) == 0
    assert lib.vx_bus_add_io(bus.native, False, BASE + 0x4000, 0x1000, device) == 0
    runs = []
    while lib.vx_bus_run(bus.native, False, len(runs), base, size):
        runs.append((base[0], size[0]))
    assert runs == [(BASE, 0x2000), (BASE + 0x4000, 0x1000)]
    assert lib.vx_bus_remove_io(bus.native, False, BASE, size) == 0
    assert bus.serve(COPY, BASE, 4, flags=READ) == 0xFFFF_FFFF
