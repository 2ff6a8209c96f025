# SPDX-License-Identifier: MIT
"""virtio-power, between a machine and a driver that keep to the specification."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from power_rig import ALL_FEATURES, CPUS, EVENTS, SLOTS, Event, Rig

from vdesktop_core.devices.power import wire
from vdesktop_core.devices.power.port import Outcome
from vdesktop_core.devices.power.wire import (
    Action,
    CpuState,
    Emergency,
    EventKind,
    Reason,
    RequestType,
    SlotState,
    Status,
    Verdict,
)
from vdesktop_core.errors import DeviceError
from vdesktop_core.testing import CONFIG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from vdesktop_core.devices.power.port import Answer

#: Far more than an answer takes: no test is about time.
PATIENCE = 60.0
EMERGENCY = CONFIG + 12


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
async def loop_rig() -> AsyncIterator[Rig]:
    """With a control loop, on which the machine is told."""
    rig = Rig(asyncio.get_running_loop().call_soon_threadsafe)
    await asyncio.to_thread(rig.start)
    yield rig
    rig.close()


async def answered(
    rig: Rig, request: Awaitable[Answer], verdict: int, reason: int = 0
) -> tuple[Event, Answer, Status]:
    """Ask the guest, whose driver answers."""
    asked = asyncio.ensure_future(request)
    await asyncio.sleep(0)
    (event,) = await asyncio.to_thread(rig.events, 1)
    status = await asyncio.to_thread(rig.acknowledge, event, verdict, reason)
    return event, await asked, status


def test_power_config_describes_the_machine(rig: Rig) -> None:
    rig.start()
    fields = wire.CONFIG.unpack(rig.driver.config(0, wire.CONFIG.size))
    assert fields == {"revision": 1, "n_slots": SLOTS, "n_cpus": CPUS, "generation": 0, "emergency": 0}


def test_power_offers_its_features(rig: Rig) -> None:
    assert {bit for bit in rig.driver.offered() if bit < 24} == set(ALL_FEATURES)


def test_power_machine_is_described(rig: Rig) -> None:
    rig.start()
    fields = wire.MACHINE.unpack(rig.payload(RequestType.MACHINE))
    assert fields["arch"] == wire.Machine.AARCH64
    assert fields["interrupt_controller"] == wire.InterruptController.GICV2
    assert fields["timer"] == wire.Timer.GENERIC
    assert fields["timer_hz"] == 62_500_000
    assert fields["name"].rstrip(b"\0") == b"fake"
    assert fields["n_regions"] == len(rig.entries(RequestType.REGIONS))


def test_power_lists_are_those_of_the_machine(rig: Rig) -> None:
    rig.start()
    slots = rig.entries(RequestType.SLOTS)
    assert [slot["index"] for slot in slots] == list(range(SLOTS))
    assert [slot["device_id"] for slot in slots[:4]] == [wire.VIRTIO_ID, 2, 1, 0]
    assert [slot["state"] for slot in slots[:4]] == [1, 1, 1, 0]
    assert slots[2]["name"].rstrip(b"\0") == b"net0"
    assert slots[1]["base"] == 0xA00_1000
    cpus = rig.entries(RequestType.CPUS)
    assert [cpu["state"] for cpu in cpus] == [CpuState.ONLINE, CpuState.ONLINE, CpuState.OFFLINE, 0]
    assert [cpu["hardware_id"] for cpu in cpus] == list(range(CPUS))
    regions = rig.entries(RequestType.REGIONS)
    assert {bytes(region["name"]).rstrip(b"\0") for region in regions} >= {b"ram0", b"gicd", b"slots"}


def test_power_list_is_read_in_pieces(rig: Rig) -> None:
    rig.start()
    whole = rig.entries(RequestType.SLOTS)
    assert rig.entries(RequestType.SLOTS, 30, 10) == whole[30:]
    assert rig.entries(RequestType.SLOTS, 5, 0) == []
    assert rig.entries(RequestType.SLOTS, 1000, 1) == []
    room = wire.REPLY_HEADER.size + wire.LIST.size + 3 * wire.SLOT.size + 5
    assert rig.entries(RequestType.SLOTS, 2, 10, room=room) == whole[2:5]


@pytest.mark.parametrize(("kind", "told"), [(RequestType.SHUTDOWN, "shutdown"), (RequestType.RESET, "reset")])
def test_power_guest_ends_the_machine(rig: Rig, kind: RequestType, told: str) -> None:
    rig.start()
    assert rig.status(kind) is Status.OK
    rig.sync()
    assert rig.machine.told == [told]


@pytest.mark.parametrize(
    ("code", "told"),
    [(Emergency.SHUTDOWN, "shutdown"), (Emergency.RESET, "reset"), (Emergency.CRASH, ("crash", ""))],
)
@pytest.mark.parametrize("started", [True, False])
def test_power_emergency_works_in_any_state(rig: Rig, code: int, told: Any, started: bool) -> None:
    if started:
        rig.start()
    rig.registers.write(EMERGENCY, 4, code)
    rig.sync()
    assert rig.machine.told == [told]
    assert rig.registers.read(EMERGENCY, 4) == 0


def test_power_crash_report_is_one_line_and_does_not_end_the_machine(rig: Rig) -> None:
    rig.start()
    text = "Fatal exception\nin \x1b[31minterrupt é".encode()
    assert rig.status(RequestType.CRASH, wire.CRASH.pack(text_size=len(text)) + text) is Status.OK
    rig.sync()
    assert rig.machine.told == [("crash", "Fatal exception in  [31minterrupt é")]


def test_power_cpu_state_is_told_and_listed(rig: Rig) -> None:
    rig.start()
    payload = wire.CPU_STATE.pack(cpu=2, state=CpuState.ONLINE)
    before = wire.REPLY_HEADER.unpack(rig.ask(RequestType.MACHINE))["generation"]
    assert rig.status(RequestType.CPU_STATE, payload) is Status.OK
    rig.sync()
    assert rig.machine.told == [("cpu", 2, True)]
    assert rig.entries(RequestType.CPUS)[2]["state"] == CpuState.ONLINE
    assert wire.REPLY_HEADER.unpack(rig.ask(RequestType.MACHINE))["generation"] != before


def test_power_slot_is_reset_on_the_guest_s_request(rig: Rig) -> None:
    rig.start()
    assert rig.status(RequestType.RESET_SLOT, wire.RESET_SLOT.pack(slot=1, generation=0)) is Status.OK
    assert rig.machine.told == [("reset slot", 1)]


async def test_power_shutdown_request_is_accepted(loop_rig: Rig) -> None:
    event, answer, status = await answered(loop_rig, loop_rig.device.shutdown(PATIENCE), Verdict.ACCEPTED)
    assert (event.kind, event.state, event.timeout_ms) == (EventKind.MACHINE, Action.SHUTDOWN, 60_000)
    assert answer.outcome is Outcome.ACCEPTED
    assert answer.ok
    assert status is Status.OK


@pytest.mark.parametrize(("ask", "action"), [("reboot", Action.RESET), ("suspend", Action.SUSPEND)])
async def test_power_other_machine_requests_name_their_action(
    loop_rig: Rig, ask: str, action: Action
) -> None:
    request = getattr(loop_rig.device, ask)(PATIENCE)
    event, answer, _ = await answered(loop_rig, request, Verdict.REFUSED, Reason.BUSY)
    assert event.state == action
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.BUSY)
    assert str(answer) == "the guest refused: in use"


async def test_power_plug_is_told_with_a_new_generation(loop_rig: Rig) -> None:
    loop_rig.machine.devices[5] = (4, "rng0")
    loop_rig.device.slot_changed(5)
    (event,) = await asyncio.to_thread(loop_rig.events, 1)
    assert (event.kind, event.index, event.state) == (EventKind.SLOT, 5, SlotState.FILLED)
    assert (event.generation, event.sequence) == (1, 0)
    slot = (await asyncio.to_thread(loop_rig.entries, RequestType.SLOTS, 5, 1))[0]
    assert (slot["generation"], slot["device_id"], slot["state"]) == (1, 4, SlotState.FILLED)


async def test_power_eject_with_consent(loop_rig: Rig) -> None:
    device = loop_rig.device
    asked = asyncio.ensure_future(device.eject(1, PATIENCE))
    await asyncio.sleep(0)
    (event,) = await asyncio.to_thread(loop_rig.events, 1)
    assert (event.kind, event.index, event.state) == (EventKind.SLOT, 1, SlotState.EJECTING)
    slot = (await asyncio.to_thread(loop_rig.entries, RequestType.SLOTS, 1, 1))[0]
    assert slot["state"] == SlotState.EJECTING
    assert await asyncio.to_thread(loop_rig.acknowledge, event, Verdict.ACCEPTED) is Status.OK
    assert not asked.done()
    assert await asyncio.to_thread(loop_rig.acknowledge, event, Verdict.DONE) is Status.OK
    assert (await asked).outcome is Outcome.DONE
    del loop_rig.machine.devices[1]
    device.slot_changed(1)
    (event,) = await asyncio.to_thread(loop_rig.events, 1)
    assert (event.state, event.generation) == (SlotState.EMPTY, 1)


@pytest.mark.parametrize("why", ["refused", "timeout", "cancelled"])
async def test_power_eject_without_consent_is_taken_back(loop_rig: Rig, why: str) -> None:
    asked = asyncio.ensure_future(loop_rig.device.eject(2, 0.2 if why == "timeout" else PATIENCE))
    await asyncio.sleep(0)
    (event,) = await asyncio.to_thread(loop_rig.events, 1)
    if why == "refused":
        await asyncio.to_thread(loop_rig.acknowledge, event, Verdict.REFUSED, Reason.BUSY)
        assert (await asked).outcome is Outcome.REFUSED
    elif why == "timeout":
        assert (await asked).outcome is Outcome.TIMEOUT
    else:
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    (back,) = await asyncio.to_thread(loop_rig.events, 1)
    assert (back.index, back.state, back.generation) == (2, SlotState.FILLED, event.generation)
    # A consent that comes now is for nothing.
    assert await asyncio.to_thread(loop_rig.acknowledge, event, Verdict.DONE) is Status.ABSENT


async def test_power_device_that_goes_without_consent_ends_the_request(loop_rig: Rig) -> None:
    asked = asyncio.ensure_future(loop_rig.device.eject(1, PATIENCE))
    await asyncio.to_thread(loop_rig.events, 1)
    del loop_rig.machine.devices[1]
    loop_rig.device.slot_changed(1)
    assert (await asked).outcome is Outcome.GONE
    (event,) = await asyncio.to_thread(loop_rig.events, 1)
    assert event.state == SlotState.EMPTY


async def test_power_cpu_is_asked_for(loop_rig: Rig) -> None:
    request = loop_rig.device.set_cpu(2, PATIENCE, online=True)
    event, answer, _ = await answered(loop_rig, request, Verdict.DONE)
    assert (event.kind, event.index, event.state) == (EventKind.CPU, 2, CpuState.ONLINE)
    assert answer.outcome is Outcome.DONE


async def test_power_two_requests_of_a_kind_do_not_mix(loop_rig: Rig) -> None:
    first = asyncio.ensure_future(loop_rig.device.eject(1, PATIENCE))
    other = asyncio.ensure_future(loop_rig.device.eject(2, PATIENCE))
    events = {event.index: event for event in await asyncio.to_thread(loop_rig.events, 2)}
    with pytest.raises(DeviceError, match="already"):
        await loop_rig.device.eject(1, PATIENCE)
    await asyncio.to_thread(loop_rig.acknowledge, events[2], Verdict.DONE)
    assert (await other).outcome is Outcome.DONE
    assert not first.done()
    await asyncio.to_thread(loop_rig.acknowledge, events[1], Verdict.REFUSED)
    assert (await first).outcome is Outcome.REFUSED


async def test_power_reset_of_the_driver_ends_requests(loop_rig: Rig) -> None:
    asked = asyncio.ensure_future(loop_rig.device.shutdown(PATIENCE))
    await asyncio.to_thread(loop_rig.events, 1)
    await asyncio.to_thread(loop_rig.driver.reset)
    assert (await asked).outcome is Outcome.GONE


async def test_power_requests_without_a_driver_say_so(loop_rig: Rig) -> None:
    await asyncio.to_thread(loop_rig.driver.reset)
    await asyncio.to_thread(loop_rig.sync)
    device = loop_rig.device
    assert not device.driver_ready
    for request in (device.shutdown(1), device.eject(1, 1), device.set_cpu(1, 1, online=False)):
        assert (await request).outcome is Outcome.NO_DRIVER
    loop_rig.machine.devices[7] = (1, "net1")
    device.slot_changed(7)  # nobody to tell
    await asyncio.to_thread(loop_rig.start)
    await asyncio.to_thread(loop_rig.no_event)
    assert (await asyncio.to_thread(loop_rig.entries, RequestType.SLOTS, 7, 1))[0]["generation"] == 1


async def test_power_driver_without_a_feature_is_not_asked_for_it(loop_rig: Rig) -> None:
    await asyncio.to_thread(loop_rig.start, frozenset({wire.Feature.CPUS}))
    device = loop_rig.device
    assert (await device.eject(1, PATIENCE)).outcome is Outcome.NO_DRIVER
    assert (await device.suspend(PATIENCE)).outcome is Outcome.NO_DRIVER
    loop_rig.machine.devices[7] = (1, "net1")
    device.slot_changed(7)
    await asyncio.to_thread(loop_rig.no_event)


@pytest.mark.parametrize("slot", [0, 3, SLOTS, -1])
async def test_power_slot_that_cannot_be_ejected_is_refused(loop_rig: Rig, slot: int) -> None:
    with pytest.raises(DeviceError, match="cannot be unplugged"):
        await loop_rig.device.eject(slot, PATIENCE)


@pytest.mark.parametrize("cpu", [-1, CPUS])
async def test_power_cpu_that_does_not_exist_is_refused(loop_rig: Rig, cpu: int) -> None:
    with pytest.raises(DeviceError, match="does not exist"):
        await loop_rig.device.set_cpu(cpu, PATIENCE, online=True)


def test_power_events_that_nobody_reads_are_merged(rig: Rig) -> None:
    rig.start(events=0)
    for round_ in range(100):
        for slot in (5, 6):
            rig.machine.devices[slot] = (4, f"rng{round_}")
            rig.device.slot_changed(slot)
            del rig.machine.devices[slot]
            rig.device.slot_changed(slot)
    rig.sync()
    rig.give_events(8)
    events = rig.events(2)
    assert [(event.index, event.state, event.generation) for event in events] == [(5, 0, 200), (6, 0, 200)]
    rig.no_event()


def test_power_event_waits_for_a_buffer_and_is_not_lost(rig: Rig) -> None:
    rig.start(events=1)
    for slot in (5, 6, 7):
        rig.machine.devices[slot] = (4, "rng")
        rig.device.slot_changed(slot)
    assert [event.index for event in rig.events(1)] == [5]
    rig.give_events(1)
    assert [event.index for event in rig.events(1)] == [6]
    rig.give_events(1)
    assert [event.index for event in rig.events(1)] == [7]


def test_power_counts_what_it_does(rig: Rig) -> None:
    rig.start()
    rig.machine.devices[5] = (4, "rng")
    rig.device.slot_changed(5)
    rig.events(1)
    rig.status(0x999)
    counters = rig.device.counters()
    assert counters["events"] == 1
    assert counters["requests_ok"] == 1
    assert counters["requests_unsupported"] == 1


def test_power_queue_sizes(rig: Rig) -> None:
    rig.start()
    assert rig.driver.queues[EVENTS].size == 64
