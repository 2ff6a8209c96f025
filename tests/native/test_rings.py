# SPDX-License-Identifier: MIT
"""Rings in C: what split and packed have in common, on good and on hostile input."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from guestdriver import INDIRECT, NEXT, WRITE, DeviceQueue, Driver, SplitDriver
from places import DATA, RAM, RAM_SIZE, ROM, TABLE

from vdesktop_core._native import ffi, lib

if TYPE_CHECKING:
    from vdesktop_core.memory import GuestMemory

BORDER = RAM + RAM_SIZE // 2 + 0x1000
SEGMENTS = [(DATA, 16, False), (DATA + 0x1000, 512, True), (DATA + 0x2000, 1, True)]


def test_pop_of_an_empty_queue_returns_nothing(queue: DeviceQueue, driver: Driver) -> None:
    assert queue.start(driver) == lib.VD_RING_OK
    assert queue.pop()[0] == 0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_pop_returns_the_segments_in_order(queue: DeviceQueue, driver: Driver, n: int) -> None:
    queue.start(driver)
    head = driver.add(*SEGMENTS[:n])
    result, (chain, segments) = queue.pop()
    assert result == 1
    assert segments == SEGMENTS[:n]
    assert chain.id == head
    assert (chain.read_len, chain.write_len) == (16, sum(s[1] for s in SEGMENTS[1:n]))


def test_pop_of_an_indirect_chain_returns_its_segments(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    driver.add_indirect(TABLE, *SEGMENTS)
    assert queue.pop()[1][1] == SEGMENTS


def test_pop_of_an_indirect_table_across_regions_returns_its_segments(
    queue: DeviceQueue, driver: Driver
) -> None:
    queue.start(driver)
    driver.add_indirect(BORDER - 24, *SEGMENTS)
    assert queue.pop()[1][1] == SEGMENTS


def test_pop_ignores_write_on_an_indirect_descriptor(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    driver.add_indirect(TABLE, *SEGMENTS, flags=INDIRECT | WRITE)
    assert queue.pop()[1][1] == SEGMENTS


def test_pop_of_a_buffer_across_regions_gives_two_segments(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    driver.add((BORDER - 16, 48, True))
    _, (chain, segments) = queue.pop()
    assert segments == [(BORDER - 16, 16, True), (BORDER, 32, True)]
    assert chain.write_len == 48


def test_pop_passes_over_zero_length_descriptors(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    driver.add((0, 0, False), (DATA, 4, False), (0, 0, True), (DATA, 8, True))
    _, (chain, segments) = queue.pop()
    assert segments == [(DATA, 4, False), (DATA, 8, True)]
    driver.add((0, 0, True))
    result, (chain, segments) = queue.pop()
    assert (result, segments, chain.write_len) == (1, [], 0)


def test_queue_goes_round_many_times_with_completions_out_of_order(
    queue: DeviceQueue, driver: Driver
) -> None:
    queue.start(driver)
    for lap in range(20):
        ids = [driver.add(SEGMENTS[0], SEGMENTS[1]) for _ in range(3)]
        chains = [queue.pop()[1][0] for _ in ids]
        assert queue.pop()[0] == 0
        order = [2, 0, 1] if lap % 2 else [1, 2, 0]
        for i in order:
            queue.push(chains[i], i)
        assert driver.used() == []
        queue.publish()
        assert driver.used() == [(ids[i], i) for i in order]


def test_unpop_gives_the_same_chain_again(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    for _ in range(11):  # every position, and both wrap counters
        driver.add(SEGMENTS[0], SEGMENTS[1])
        driver.add(SEGMENTS[0])
        first, second = queue.pop()[1][0], queue.pop()[1][0]
        position = lib.vd_queue_position(queue.queue)
        lib.vd_queue_unpop(queue.queue, second)
        again, (chain, segments) = queue.pop()
        assert (again, chain.id, segments) == (1, second.id, SEGMENTS[:1])
        assert lib.vd_queue_position(queue.queue) == position
        queue.push(first)
        queue.push(chain)
        queue.publish()
        driver.used()


def test_push_after_stop_writes_nothing(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    driver.add(SEGMENTS[1])
    chain = queue.pop()[1][0]
    lib.vd_queue_stop(queue.queue)
    queue.push(chain, 4)
    assert not queue.publish()
    assert driver.used() == []


def test_push_of_a_chain_of_an_earlier_life_writes_nothing(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    driver.add(SEGMENTS[1])
    chain = queue.pop()[1][0]
    queue.start(driver)
    queue.push(chain, 4)
    queue.publish()
    assert driver.used() == []


def test_push_announces_the_written_bytes_and_the_ring(
    queue: DeviceQueue, driver: Driver, memory: GuestMemory
) -> None:
    seen = []
    hook = ffi.callback("void(void *, uint64_t, uint64_t)", lambda _, gpa, size: seen.append((gpa, size)))
    written = ffi.new("struct vd_written *", {"fn": hook})
    queue.start(driver)
    driver.add(*SEGMENTS)
    chain = queue.pop()[1][0]
    memory.on_written(int(ffi.cast("uintptr_t", written)))
    queue.push(chain, 513)
    assert seen == [(DATA + 0x1000, 512), (DATA + 0x2000, 1)]
    queue.publish()
    memory.on_written(0)
    assert seen[2][0] == (driver.desc if driver.packed else driver.device)


def test_push_of_more_than_the_chain_holds_is_cut(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    head = driver.add(SEGMENTS[2])
    queue.push(queue.pop()[1][0], 1000)
    queue.publish()
    assert driver.used() == [(head, 1)]


def test_chain_copy_helpers_cross_segments(queue: DeviceQueue, driver: Driver, memory: GuestMemory) -> None:
    queue.start(driver)
    memory.write(DATA, bytes(range(16)))
    driver.add((DATA, 4, False), (DATA + 8, 4, False), (DATA + 0x100, 3, True), (DATA + 0x200, 9, True))
    chain = queue.pop()[1][0]
    out = ffi.new("uint8_t[]", 16)
    assert lib.vd_chain_read(chain, 2, out, 16) == 6
    assert list(out)[:6] == [2, 3, 8, 9, 10, 11]
    assert lib.vd_chain_read(chain, 8, out, 1) == 0
    assert lib.vd_chain_write(chain, 1, b"abcdefghijklmnop", 16) == 11
    assert memory.read(DATA + 0x100, 4) == b"\0ab\0"
    assert memory.read(DATA + 0x200, 10) == b"cdefghijk\0"


# Hostile drivers. The queue breaks with the error that names the clause, and stays broken.


def assert_breaks(queue: DeviceQueue, error: int) -> None:
    assert queue.pop()[0] == error
    assert queue.pop()[0] == error
    assert lib.vd_queue_error(queue.queue) == error
    assert not lib.vd_queue_notify_enable(queue.queue)


@pytest.mark.parametrize(
    "segment",
    [
        (RAM - 1, 2, False),
        (RAM + RAM_SIZE - 1, 2, True),
        (0, 1, False),
        ((1 << 64) - 8, 16, False),
        (RAM, 0xFFFF_FFFF, False),
        (ROM, 8, True),
        (ROM + 0xFFF, 2, False),
    ],
)
@pytest.mark.parametrize("indirect", [False, True])
def test_pop_of_a_bad_address_breaks_the_queue(
    queue: DeviceQueue, driver: Driver, segment: tuple[int, int, bool], indirect: bool
) -> None:
    queue.start(driver)
    driver.add_indirect(TABLE, segment) if indirect else driver.add(segment)
    assert_breaks(queue, lib.VD_RING_BAD_ADDRESS)


def test_pop_of_readable_after_writable_breaks_the_queue(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    driver.add(SEGMENTS[1], SEGMENTS[0])
    assert_breaks(queue, lib.VD_RING_ORDER)


def test_pop_of_a_chain_over_4_gib_breaks_the_queue(
    queue: DeviceQueue, driver: Driver, memory: GuestMemory
) -> None:
    memory.add(0x8000_0000, MemoryRegionAlias(memory, 0x8000_0000))
    queue.start(driver)
    driver.add(*[(0x8000_0000, 0x8000_0000, False)] * 2)
    assert_breaks(queue, lib.VD_RING_BAD_LENGTH)


def test_pop_of_an_indirect_table_not_negotiated_breaks_the_queue(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver, indirect=False)
    driver.add_indirect(TABLE, *SEGMENTS)
    assert_breaks(queue, lib.VD_RING_BAD_INDIRECT)


@pytest.mark.parametrize("length", [0, 8, 17])
def test_pop_of_an_indirect_table_of_odd_length_breaks_the_queue(
    queue: DeviceQueue, driver: Driver, length: int
) -> None:
    queue.start(driver)
    if isinstance(driver, SplitDriver):
        driver.put_desc(0, TABLE, length, INDIRECT)
        driver.offer(0)
    else:
        driver._put(TABLE, length, 0, INDIRECT)
    assert_breaks(queue, lib.VD_RING_BAD_INDIRECT)


@pytest.mark.parametrize("table", [RAM + RAM_SIZE - 16, RAM - 16, (1 << 64) - 16, (1 << 64) - 32])
def test_pop_of_an_indirect_table_outside_of_memory_breaks_the_queue(
    queue: DeviceQueue, driver: Driver, table: int
) -> None:
    queue.start(driver)
    driver.memory.write(
        RAM + RAM_SIZE - 16, struct.pack("<QIHH", DATA, 1, NEXT if not driver.packed else 0, 1)
    )
    driver.add_indirect(TABLE, *SEGMENTS)
    driver.memory.write(driver.desc, table.to_bytes(8, "little"))
    assert_breaks(queue, lib.VD_RING_BAD_ADDRESS)


def test_pop_of_an_indirect_descriptor_with_next_breaks_the_queue(queue: DeviceQueue, driver: Driver) -> None:
    queue.start(driver)
    driver.add_indirect(TABLE, *SEGMENTS, flags=INDIRECT | NEXT)
    assert_breaks(queue, lib.VD_RING_BAD_INDIRECT)


def test_pop_of_more_segments_than_a_chain_may_have_breaks_the_queue(
    queue: DeviceQueue, driver: Driver
) -> None:
    queue.start(driver)
    driver.add_indirect(TABLE, *[(DATA, 1, False)] * (lib.VD_CHAIN_SEGS_MAX + 1))
    assert_breaks(queue, lib.VD_RING_CHAIN_TOO_LONG)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"size": 2048},
        {"desc": RAM + 8},
        {"driver": RAM + 1},
        {"device": RAM + 2},
        {"desc": RAM + RAM_SIZE - 64},
        {"driver": 0},
        {"device": ROM},
        {"desc": (1 << 64) - 16},
    ],
)
def test_start_with_bad_geometry_is_refused(
    queue: DeviceQueue, driver: Driver, change: dict[str, int]
) -> None:
    assert queue.start(driver, **change) == lib.VD_RING_BAD_GEOMETRY
    assert not lib.vd_queue_live(queue.queue)
    assert queue.pop()[0] == lib.VD_RING_BAD_GEOMETRY


@pytest.mark.parametrize("error", range(-12, 1))
def test_strerror_names_the_clause_of_every_driver_error(error: int) -> None:
    text = ffi.string(lib.vd_ring_strerror(error)).decode()
    assert ("virtio 1.4 §" in text) == (-11 < error < 0)


class MemoryRegionAlias:
    """2 GiB of address space that no test touches."""

    name = "alias"

    def __init__(self, memory: GuestMemory, size: int) -> None:
        self.size = size
        self.address = memory.regions[RAM].address

    def close(self) -> None:
        pass
