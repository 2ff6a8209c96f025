# SPDX-License-Identifier: MIT
"""virtio-power and guests that mean it no good."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from power_rig import ALL_FEATURES, CPUS, EVENTS, REQUESTS, SLOTS, Rig

from vdesktop_core.devices.power import wire
from vdesktop_core.devices.power.wire import CpuState, RequestType, Status, Verdict
from vdesktop_core.testing import CONFIG, Buffer, Reg
from vdesktop_core.testing import Status as DeviceStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

EMERGENCY = CONFIG + 12


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    rig = Rig()
    rig.start()
    yield rig
    rig.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def usable(rig: Rig) -> None:
    """A driver that starts anew finds everything in order."""
    rig.start()
    assert len(rig.entries(RequestType.SLOTS)) == SLOTS


def needs_reset(rig: Rig) -> None:
    rig.sync()
    assert rig.driver.get_register(Reg.STATUS) & DeviceStatus.NEEDS_RESET
    assert rig.device.counters()["protocol_errors"] == 1
    usable(rig)


def test_power_request_of_wrong_size_is_invalid(rig: Rig) -> None:
    rig.start()
    payload = bytes(wire.RANGE.size)
    for size in (0, 7, 15, 17, 4097, 1 << 31, (1 << 32) - 1):
        assert rig.status(RequestType.SLOTS, payload, size=size) is Status.INVALID
    assert rig.status(RequestType.SLOTS) is Status.INVALID
    assert rig.status(RequestType.SLOTS, payload) is Status.OK


def test_power_request_of_a_huge_length_is_read_as_far_as_it_may_be(rig: Rig) -> None:
    rig.start()
    assert rig.status(RequestType.MACHINE, bytes(1 << 20)) is Status.INVALID
    assert rig.status(RequestType.MACHINE, bytes(1 << 20), size=8) is Status.OK


def test_power_unknown_type_is_unsupported(rig: Rig) -> None:
    rig.start()
    for kind in (0, 5, 0x13, 0x7FFF, 0xFFFF):
        assert rig.status(kind, bytes(64)) is Status.UNSUPPORTED


def test_power_type_of_a_feature_not_negotiated_is_unsupported(rig: Rig) -> None:
    rig.start(features=())
    assert rig.status(RequestType.RESET_SLOT, bytes(8)) is Status.UNSUPPORTED
    assert rig.status(RequestType.CPU_STATE, bytes(8)) is Status.UNSUPPORTED
    assert rig.machine.told == []


def test_power_reply_that_does_not_fit_says_so(rig: Rig) -> None:
    rig.start()
    header = wire.REPLY_HEADER.size
    assert rig.status(RequestType.MACHINE, room=header + wire.MACHINE.size - 1) is Status.NO_SPACE
    payload = wire.RANGE.pack(count=1)
    room = header + wire.LIST.size + wire.SLOT.size - 1
    assert rig.status(RequestType.SLOTS, payload, room=room) is Status.NO_SPACE
    assert rig.status(RequestType.SLOTS, payload, room=header) is Status.NO_SPACE


def test_power_slot_0_an_empty_slot_and_none_are_not_reset(rig: Rig) -> None:
    rig.start()
    for slot, status in (
        (0, Status.INVALID),
        (3, Status.ABSENT),
        (SLOTS, Status.ABSENT),
        (2**32 - 1, Status.ABSENT),
    ):
        assert rig.status(RequestType.RESET_SLOT, wire.RESET_SLOT.pack(slot=slot)) is status
    assert rig.status(RequestType.RESET_SLOT, wire.RESET_SLOT.pack(slot=1, generation=9)) is Status.ABSENT
    assert rig.machine.told == []


def test_power_cpu_out_of_range_or_in_an_odd_state_is_refused(rig: Rig) -> None:
    rig.start()
    for cpu in (3, CPUS, 2**32 - 1):  # 3 is absent
        payload = wire.CPU_STATE.pack(cpu=cpu, state=CpuState.ONLINE)
        assert rig.status(RequestType.CPU_STATE, payload) is Status.ABSENT
    for state in (0, 3, 2**32 - 1):
        assert rig.status(RequestType.CPU_STATE, wire.CPU_STATE.pack(cpu=0, state=state)) is Status.INVALID
    assert rig.machine.told == []


def test_power_answer_that_nobody_asked_for_is_refused(rig: Rig) -> None:
    rig.start()
    for sequence in (0, 1, 2**32 - 1):
        payload = wire.ACKNOWLEDGE.pack(sequence=sequence, verdict=Verdict.DONE)
        assert rig.status(RequestType.ACKNOWLEDGE, payload) is Status.ABSENT
    for verdict in (0, 4, 2**32 - 1):
        payload = wire.ACKNOWLEDGE.pack(sequence=1, verdict=verdict)
        assert rig.status(RequestType.ACKNOWLEDGE, payload) is Status.INVALID


def test_power_crash_text_longer_than_the_request_is_invalid(rig: Rig) -> None:
    rig.start()
    for size in (5, 2**31, 2**32 - 1):
        payload = wire.CRASH.pack(text_size=size) + b"text"
        assert rig.status(RequestType.CRASH, payload) is Status.INVALID
    long = b"x" * 3000
    assert rig.status(RequestType.CRASH, wire.CRASH.pack(text_size=len(long)) + long) is Status.OK
    assert rig.machine.told == [("crash", "x" * wire.CRASH_TEXT_MAX)]


def test_power_request_without_headers_needs_reset(rig: Rig) -> None:
    for readable, writable in ((7, 16), (8, 15), (8, 0), (0, 64)):
        fresh = Rig()
        try:
            fresh.start()
            buffers = [Buffer(fresh.arena.allocate(readable), readable)] if readable else []
            if writable:
                buffers.append(Buffer(fresh.arena.allocate(writable), writable, write=True))
            fresh.driver.queues[REQUESTS].add(buffers)
            fresh.driver.kick(REQUESTS)
            needs_reset(fresh)
        finally:
            fresh.close()


@pytest.mark.parametrize(("size", "write"), [(wire.EVENT.size - 1, True), (wire.EVENT.size, False)])
def test_power_event_buffer_of_the_wrong_kind_needs_reset(rig: Rig, size: int, write: bool) -> None:
    rig.start(events=0)
    rig.driver.queues[EVENTS].add([Buffer(rig.arena.allocate(size), size, write=write)])
    rig.driver.kick(EVENTS)
    needs_reset(rig)


def test_power_emergency_of_odd_values_and_widths_does_nothing(rig: Rig) -> None:
    rig.start()
    for value in (0, 4, 0xFF, 0xFFFF_FFFF):
        rig.registers.write(EMERGENCY, 4, value)
        rig.sync()
    rig.registers.write(CONFIG, 4, 0xFFFF_FFFF)  # read-only
    rig.sync()
    assert rig.machine.told == []
    usable(rig)


def test_power_news_of_a_flood_are_told_once_at_a_time() -> None:
    waiting: list[object] = []
    rig = Rig(waiting.append)
    try:
        rig.start()
        for i in range(200):
            rig.status(RequestType.SHUTDOWN if i % 2 else RequestType.RESET)
            rig.status(RequestType.CPU_STATE, wire.CPU_STATE.pack(cpu=i % 3, state=1 + i % 2))
            rig.status(RequestType.CRASH, wire.CRASH.pack())
            rig.registers.write(EMERGENCY, 4, 1)
        rig.sync()
        assert len(waiting) == 1
        waiting[0]()  # type: ignore[operator]
        told = [news if isinstance(news, str) else news[0] for news in rig.machine.told]
        assert sorted(told) == ["cpu", "cpu", "cpu", "crash", "shutdown"]
    finally:
        rig.close()


def test_power_event_queue_reset_under_way_loses_no_event(rig: Rig) -> None:
    ring_reset = 40
    rig.start(features=ALL_FEATURES | {ring_reset}, events=4)
    rig.driver.set_register(Reg.QUEUE_SEL, EVENTS)
    rig.driver.set_register(Reg.QUEUE_RESET, 1)
    rig.machine.devices[5] = (4, "rng")
    rig.device.slot_changed(5)
    rig.sync()
    rig.driver.setup_queue(EVENTS, 16)
    rig._buffers.clear()
    rig.give_events(2)
    assert [event.index for event in rig.events(1)] == [5]


def test_power_reset_at_any_moment_leaves_the_device_usable(rig: Rig) -> None:
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.wait(0.0005):  # it is the device that is raced, not the interpreter's lock
            number += 1
            rig.machine.devices[5 + number % 3] = (4, f"rng{number}")
            rig.device.slot_changed(5 + number % 3)

    machine = threading.Thread(target=change)
    machine.start()
    try:
        for _ in range(400):
            rig.start(events=2)
            rig.events(2)
            rig.driver.reset()
    finally:
        stop.set()
        machine.join()
    assert rig.device.counters()["protocol_errors"] == 0
    usable(rig)


requests = st.one_of(
    st.binary(min_size=8, max_size=64),
    st.tuples(
        st.sampled_from([*RequestType, 0, 0x99]),
        st.one_of(st.integers(0, 80), st.integers(0, 2**32 - 1)),
        st.binary(max_size=72),
    ).map(lambda parts: wire.REQUEST_HEADER.pack(type=parts[0], size=parts[1]) + parts[2]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=requests, room=st.integers(16, 4096), split=st.integers(1, 8))
def test_power_any_request_gets_a_whole_reply(shared: Rig, data: bytes, room: int, split: int) -> None:
    if shared.arena.end - shared.arena._next < 1 << 16:
        shared.start()
    step = -(-len(data) // split)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    reply = shared.driver.request(REQUESTS, pieces, [room - room // 2, room // 2])
    fields = wire.REPLY_HEADER.unpack(reply)
    assert Status(fields["status"]) in Status
    assert fields["size"] == len(reply) <= room
    assert shared.device.counters()["protocol_errors"] == 0
