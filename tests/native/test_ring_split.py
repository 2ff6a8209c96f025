# SPDX-License-Identifier: MIT
"""Split rings in C: what packed rings do not have."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from guestdriver import INDIRECT, NEXT, WRITE, DeviceQueue, SplitDriver
from places import DATA, RING, TABLE

from vdesktop_core._native import lib

if TYPE_CHECKING:
    from vdesktop_core.memory import GuestMemory


@pytest.fixture
def driver(memory: GuestMemory) -> SplitDriver:
    return SplitDriver(memory, RING, 8)


def assert_breaks(queue: DeviceQueue, error: int) -> None:
    assert queue.pop()[0] == error
    assert queue.pop()[0] == error


def one(queue: DeviceQueue, driver: SplitDriver) -> None:
    """One request, there and back, without a decision about the interrupt."""
    driver.add((DATA, 1, False))
    queue.push(queue.pop()[1][0])


def test_start_with_a_size_that_is_no_power_of_two_is_refused(
    queue: DeviceQueue, driver: SplitDriver
) -> None:
    assert queue.start(driver, size=6) == lib.VD_RING_BAD_GEOMETRY


def test_pop_of_direct_descriptors_then_an_indirect_one_joins_them(
    queue: DeviceQueue, driver: SplitDriver
) -> None:
    queue.start(driver)
    driver.memory.write(TABLE, struct.pack("<QIHH", DATA + 64, 4, WRITE, 0))
    driver.put_desc(0, DATA, 2, NEXT, 5)
    driver.put_desc(5, TABLE, 16, INDIRECT)
    driver.offer(0)
    assert queue.pop()[1][1] == [(DATA, 2, False), (DATA + 64, 4, True)]


def test_pop_of_an_indirect_table_in_a_table_breaks_the_queue(
    queue: DeviceQueue, driver: SplitDriver
) -> None:
    queue.start(driver)
    driver.memory.write(TABLE, struct.pack("<QIHH", TABLE, 16, INDIRECT, 0))
    driver.put_desc(0, TABLE, 16, INDIRECT)
    driver.offer(0)
    assert_breaks(queue, lib.VD_RING_BAD_INDIRECT)


@pytest.mark.parametrize("indirect", [False, True])
def test_pop_of_a_loop_breaks_the_queue(queue: DeviceQueue, driver: SplitDriver, indirect: bool) -> None:
    queue.start(driver)
    loop = [(DATA, 1, NEXT, 1), (DATA, 1, NEXT, 0)]
    if indirect:
        driver.memory.write(TABLE, b"".join(struct.pack("<QIHH", *entry) for entry in loop))
        driver.put_desc(0, TABLE, 32, INDIRECT)
    else:
        for i, entry in enumerate(loop):
            driver.put_desc(i, *entry)
    driver.offer(0)
    assert_breaks(queue, lib.VD_RING_CHAIN_TOO_LONG)


def test_pop_of_a_chain_as_long_as_the_queue_is_legal(queue: DeviceQueue, driver: SplitDriver) -> None:
    queue.start(driver)
    driver.add(*[(DATA, 1, False)] * 8)
    assert queue.pop()[0] == 1


@pytest.mark.parametrize("indirect", [False, True])
def test_pop_of_a_next_beyond_the_table_breaks_the_queue(
    queue: DeviceQueue, driver: SplitDriver, indirect: bool
) -> None:
    queue.start(driver)
    if indirect:
        driver.memory.write(TABLE, struct.pack("<QIHH", DATA, 1, NEXT, 1))
        driver.put_desc(0, TABLE, 16, INDIRECT)
    else:
        driver.put_desc(0, DATA, 1, NEXT, 8)
    driver.offer(0)
    assert_breaks(queue, lib.VD_RING_BAD_NEXT)


def test_pop_of_a_head_beyond_the_table_breaks_the_queue(queue: DeviceQueue, driver: SplitDriver) -> None:
    queue.start(driver)
    driver.offer(8)
    assert_breaks(queue, lib.VD_RING_BAD_HEAD)


def test_pop_of_a_head_in_flight_breaks_the_queue(queue: DeviceQueue, driver: SplitDriver) -> None:
    queue.start(driver)
    head = driver.add((DATA, 1, False))
    driver.offer(head)
    assert queue.pop()[0] == 1
    assert_breaks(queue, lib.VD_RING_HEAD_IN_FLIGHT)


@pytest.mark.parametrize("ahead", [9, 0x7FFF, 0xFFFF])
def test_pop_of_an_index_too_far_ahead_breaks_the_queue(
    queue: DeviceQueue, driver: SplitDriver, ahead: int
) -> None:
    queue.start(driver)
    driver.memory.write(driver.driver + 2, struct.pack("<H", ahead))
    assert_breaks(queue, lib.VD_RING_AVAIL_OVERRUN)


def test_start_makes_a_broken_queue_whole(queue: DeviceQueue, driver: SplitDriver) -> None:
    queue.start(driver)
    driver.offer(8)
    assert_breaks(queue, lib.VD_RING_BAD_HEAD)
    fresh = SplitDriver(driver.memory, RING, 8)
    assert queue.start(fresh) == lib.VD_RING_OK
    fresh.add((DATA, 1, False))
    assert queue.pop()[0] == 1


@pytest.mark.parametrize("start", [0, 65530])
def test_publish_interrupts_exactly_when_the_event_index_is_passed(
    queue: DeviceQueue, driver: SplitDriver, start: int
) -> None:
    queue.start(driver)
    driver.avail_idx = driver.used_idx = start
    for area in (driver.driver, driver.device):
        driver.memory.write(area + 2, struct.pack("<H", start))
    assert lib.vd_queue_seek(queue.queue, start) == lib.VD_RING_OK
    one(queue, driver)
    assert queue.publish()  # after a seek nobody knows what was signalled
    for round_ in range(12):
        # The driver has seen everything and wants to hear of the third next one.
        driver.used()
        driver.set_used_event(driver.used_idx + 2)
        decisions = []
        for _ in range(3):
            one(queue, driver)
            decisions.append(queue.publish())
        assert decisions == [False, False, True], round_
        one(queue, driver)
        one(queue, driver)
        assert not queue.publish()


def test_publish_of_a_batch_over_the_event_index_interrupts_once(
    queue: DeviceQueue, driver: SplitDriver
) -> None:
    queue.start(driver)
    driver.set_used_event(2)
    for _ in range(5):
        one(queue, driver)
    assert queue.publish()
    assert not queue.publish()


def test_publish_without_event_idx_obeys_the_no_interrupt_flag(
    queue: DeviceQueue, driver: SplitDriver
) -> None:
    queue.start(driver, event_idx=False)
    one(queue, driver)
    assert queue.publish()
    driver.memory.write(driver.driver, b"\1\0")
    one(queue, driver)
    assert not queue.publish()


def test_notify_enable_asks_for_the_next_chain_by_event_index(
    queue: DeviceQueue, driver: SplitDriver
) -> None:
    queue.start(driver)
    one(queue, driver)
    assert not lib.vd_queue_notify_enable(queue.queue)
    assert driver.avail_event() == 1
    driver.add((DATA, 1, False))
    assert lib.vd_queue_notify_enable(queue.queue)


def test_notify_without_event_idx_uses_the_flag(queue: DeviceQueue, driver: SplitDriver) -> None:
    queue.start(driver, event_idx=False)
    lib.vd_queue_notify_disable(queue.queue)
    assert driver.memory.read(driver.device, 2) == b"\1\0"
    assert not lib.vd_queue_notify_enable(queue.queue)
    assert driver.memory.read(driver.device, 2) == b"\0\0"
    driver.add((DATA, 1, False))
    assert lib.vd_queue_notify_enable(queue.queue)
    assert driver.memory.read(driver.device, 2) == b"\1\0"


def test_seek_beyond_what_the_ring_allows_is_refused(queue: DeviceQueue, driver: SplitDriver) -> None:
    queue.start(driver)
    assert lib.vd_queue_seek(queue.queue, 9) != lib.VD_RING_OK
    assert lib.vd_queue_seek(queue.queue, 0x10000) != lib.VD_RING_OK
    assert lib.vd_queue_seek(queue.queue, 8) == lib.VD_RING_OK
