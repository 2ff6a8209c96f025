# SPDX-License-Identifier: MIT
"""Packed rings in C: what split rings do not have."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from guestdriver import INDIRECT, NEXT, DeviceQueue, PackedDriver
from places import DATA, RING, TABLE

from vdesktop_core._native import lib

if TYPE_CHECKING:
    from vdesktop_core.memory import GuestMemory


@pytest.fixture(params=[8, 5])
def driver(request: pytest.FixtureRequest, memory: GuestMemory) -> PackedDriver:
    return PackedDriver(memory, RING, request.param)


def assert_breaks(queue: DeviceQueue, error: int) -> None:
    assert queue.pop()[0] == error
    assert queue.pop()[0] == error


def one(queue: DeviceQueue, driver: PackedDriver, descs: int = 1) -> None:
    driver.add(*[(DATA, 1, False)] * descs)
    queue.push(queue.pop()[1][0])


def test_pop_takes_any_buffer_id(queue: DeviceQueue, driver: PackedDriver) -> None:
    queue.start(driver)
    for id_ in (0xFFFF, 0, 0x8000):
        driver.add((DATA, 1, True), id_=id_)
        chain = queue.pop()[1][0]
        queue.push(chain, 1)
        queue.publish()
        assert driver.used() == [(id_, 1)]


def test_pop_of_a_buffer_id_in_flight_breaks_the_queue(queue: DeviceQueue, driver: PackedDriver) -> None:
    queue.start(driver)
    driver.add((DATA, 1, True), id_=3)
    driver.add((DATA, 1, True), id_=3)
    assert queue.pop()[0] == 1
    assert_breaks(queue, lib.VD_RING_HEAD_IN_FLIGHT)


def test_pop_over_descriptors_in_flight_breaks_the_queue(queue: DeviceQueue, driver: PackedDriver) -> None:
    queue.start(driver)
    for _ in range(driver.size):
        driver.add((DATA, 1, True))
        assert queue.pop()[0] == 1
    driver.add((DATA, 1, True))
    assert_breaks(queue, lib.VD_RING_AVAIL_OVERRUN)


def test_pop_of_a_list_longer_than_the_queue_breaks_the_queue(
    queue: DeviceQueue, driver: PackedDriver
) -> None:
    queue.start(driver)
    for _ in range(driver.size):
        driver._put(DATA, 1, 0, NEXT)
    assert_breaks(queue, lib.VD_RING_CHAIN_TOO_LONG)


def test_pop_of_an_indirect_descriptor_in_a_list_breaks_the_queue(
    queue: DeviceQueue, driver: PackedDriver
) -> None:
    queue.start(driver)
    driver._put(DATA, 1, 0, NEXT)
    driver._put(TABLE, 16, 0, INDIRECT)
    assert_breaks(queue, lib.VD_RING_BAD_INDIRECT)


def test_pop_ignores_reserved_flags_in_an_indirect_table(queue: DeviceQueue, driver: PackedDriver) -> None:
    queue.start(driver)
    entries = [(DATA, 1, 7, NEXT), (DATA + 1, 2, 9, INDIRECT), (DATA + 2, 3, 0, 0)]
    driver.memory.write(TABLE, b"".join(struct.pack("<QIHH", *entry) for entry in entries))
    driver._put(TABLE, 48, 4, INDIRECT)
    _, (chain, segments) = queue.pop()
    assert segments == [(entry[0], entry[1], False) for entry in entries]
    assert chain.id == 4


@pytest.mark.parametrize("descs", [1, 2, 3])
def test_publish_interrupts_exactly_when_the_event_descriptor_is_passed(
    queue: DeviceQueue, driver: PackedDriver, descs: int
) -> None:
    queue.start(driver)
    position = 0
    for event in range(4 * driver.size):
        # Descriptor number `event` since the start, as offset and wrap counter.
        driver.set_used_event(event % driver.size, event // driver.size % 2 == 0)
        while position <= event:
            one(queue, driver, descs)
            position += descs
            assert queue.publish() == (position > event), (event, position)
            driver.used()


def test_publish_with_interrupts_off_or_on_obeys(queue: DeviceQueue, driver: PackedDriver) -> None:
    queue.start(driver)
    for flags, wanted in ((0, True), (1, False), (3, True)):
        driver.memory.write(driver.driver, struct.pack("<HH", 0, flags))
        one(queue, driver)
        assert queue.publish() == wanted


def test_notify_enable_asks_for_the_next_descriptor(queue: DeviceQueue, driver: PackedDriver) -> None:
    queue.start(driver)
    for i in range(1, 3 * driver.size):
        one(queue, driver)
        queue.publish()
        driver.used()
        assert not lib.vd_queue_notify_enable(queue.queue)
        wrap = i // driver.size % 2 == 0
        expected = struct.pack("<HH", i % driver.size | wrap << 15, 2)
        assert driver.memory.read(driver.device, 4) == expected
    driver.add((DATA, 1, False))
    assert lib.vd_queue_notify_enable(queue.queue)
    assert driver.memory.read(driver.device, 4) == struct.pack("<HH", 0, 1)


def test_seek_to_a_saved_position_goes_on_there(queue: DeviceQueue, driver: PackedDriver) -> None:
    queue.start(driver)
    for _ in range(driver.size + 2):
        one(queue, driver)
        queue.publish()
        driver.used()
    position = lib.vd_queue_position(queue.queue)
    assert position == (2 | 2 << 16)
    assert queue.start(driver) == lib.VD_RING_OK
    assert lib.vd_queue_seek(queue.queue, position) == lib.VD_RING_OK
    id_ = driver.add((DATA, 1, True))
    queue.push(queue.pop()[1][0], 1)
    assert queue.publish()
    assert driver.used() == [(id_, 1)]
    assert lib.vd_queue_seek(queue.queue, driver.size) != lib.VD_RING_OK
