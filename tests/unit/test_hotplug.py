# SPDX-License-Identifier: MIT
"""Devices and CPUs that come and go; how a guest is asked. The guest is the test."""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fake_machine import FakeMachine

from vdesktop_core.acpi_events import EVENT_POWER_BUTTON, EVENT_SLOTS, PENDING, SLOTS
from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.devices.power import wire
from vdesktop_core.errors import ConfigError, DeviceError, GuestTimeoutError, VdesktopError
from vdesktop_core.hypervisor import Arch, ExitReason, VmEvent
from vdesktop_core.life import Outcome, State
from vdesktop_core.testing.arena import Arena
from vdesktop_core.testing.driver import MockDriver
from vdesktop_core.testing.driver_queue import Buffer
from vdesktop_core.testing.registers import Reg

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

PATIENCE = 30
RNG = {"type": "rng"}


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


class Driver:
    """A guest's driver of one slot."""

    def __init__(self, machine: FakeMachine, slot: int, place: int = 0) -> None:
        self.machine = machine
        ram = machine.board.ram[0]
        arena = Arena(machine.board.memory, ram.base + (16 + place) * (1 << 20), 1 << 20)
        self.mock = MockDriver(machine.slot(slot), arena)

    def start(self, features: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.mock.start(features)

    def reset(self) -> None:
        self.mock.reset()


class PowerGuest(Driver):
    """A guest's driver of virtio-power: takes events, and answers as the test says."""

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(machine, 0, place=1)
        self.start(set(wire.Feature))
        self.buffers: dict[int, Buffer] = {}
        for _ in range(8):
            self._offer()
        self.mock.kick(1)

    @classmethod
    async def of(cls, machine: FakeMachine) -> PowerGuest:
        """One whose DRIVER_OK has reached the device's thread."""
        guest = cls(machine)
        await until(lambda: machine.power is not None and machine.power.device.driver_ready)
        return guest

    def _offer(self) -> None:
        buffer = Buffer(self.mock.arena.allocate(wire.EVENT.size), wire.EVENT.size, write=True)
        self.buffers[self.mock.queues[1].add([buffer])] = buffer

    async def event(self) -> dict[str, int]:
        """The next event."""
        taken: list[Any] = []

        def came() -> bool:
            taken.extend(self.mock.queues[1].take_used())
            return bool(taken)

        await until(came)
        (used,) = taken
        data = self.mock.arena.memory.read(self.buffers.pop(used.id).gpa, wire.EVENT.size)
        self._offer()
        self.mock.kick(1)
        return wire.EVENT.unpack(data)

    async def ask(self, kind: wire.RequestType, layout: Any = None, **fields: int) -> None:
        payload = b"" if layout is None else layout.pack(**fields)
        size = wire.REQUEST_HEADER.size + len(payload)
        request = wire.REQUEST_HEADER.pack(type=kind, size=size) + payload
        reply = await asyncio.to_thread(self.mock.request, 0, [request], [256])
        assert wire.REPLY_HEADER.unpack(reply)["status"] == wire.Status.OK

    def tell(self, kind: wire.RequestType) -> None:
        """Make a request whose answer may not come: the machine ends."""
        data = wire.REQUEST_HEADER.pack(type=kind, size=wire.REQUEST_HEADER.size)
        request, reply = (Buffer(self.mock.arena.allocate(64), size) for size in (len(data), 64))
        self.mock.arena.memory.write(request.gpa, data)
        self.mock.queues[0].add([request, Buffer(reply.gpa, reply.length, write=True)])
        self.mock.kick(0)

    async def answer(
        self, event: dict[str, int], verdict: wire.Verdict, reason: wire.Reason = wire.Reason.UNSPECIFIED
    ) -> None:
        await self.ask(
            wire.RequestType.ACKNOWLEDGE,
            wire.ACKNOWLEDGE,
            sequence=event["sequence"],
            verdict=verdict,
            reason=reason,
        )


@pytest.fixture(params=list(Arch), ids=str)
def arch(request: pytest.FixtureRequest) -> Arch:
    found: Arch = request.param
    return found


def rest(machine: FakeMachine) -> list[str]:
    return [occupant.name for occupant in machine.board.slots.occupants]


async def started(machine: FakeMachine) -> None:
    await machine.start()
    if machine.config.power:
        await until(lambda: machine.power is not None)


# Slots


async def test_plug_fills_the_first_free_slot_and_unplug_empties_it(tmp_path: Path, arch: Arch) -> None:
    async with FakeMachine(tmp_path, arch, devices=(RNG, RNG)) as machine:
        await started(machine)
        events: list[tuple[str, dict[str, Any]]] = []
        machine.subscribe(lambda event, detail: events.append((event, detail)))
        assert await machine.plug(RNG) == 3
        assert machine.slot(3).read(Reg.DEVICE_ID, 4) == 4
        assert rest(machine) == ["power0", "rng0", "rng1", "rng2"]
        await machine.unplug("rng1")
        assert machine.slot(2).read(Reg.DEVICE_ID, 4) == 0
        assert await machine.plug(RNG | {"name": "again"}) == 4
        about = {"slot": 3, "name": "rng2", "type": "rng"}
        assert events[0] == ("plugged", about)
        assert [name for name, _ in events] == ["plugged", "unplugged", "plugged"]


async def test_empty_slot_answers_id_0_and_ignores_everything(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        driver = Driver(machine, 1)
        driver.start()
        await machine.unplug(1, force=True, timeout=0)
        slot = machine.slot(1)
        assert slot.read(Reg.MAGIC_VALUE, 4) == 0x74726976
        assert slot.read(Reg.DEVICE_ID, 4) == slot.read(Reg.STATUS, 4) == 0
        for offset in range(0, 0x200, 4):
            slot.write(offset, 4, 0xFFFF_FFFF)
        assert all(
            slot.read(offset, 4) == 0
            for offset in range(8, 0x200, 4)
            if offset != Reg.VENDOR_ID and offset != Reg.CONFIG_GENERATION
        )


@pytest.mark.parametrize(
    ("device", "complaint"),
    [
        (RNG | {"slot": 1}, "slot 1 has 'rng0'"),
        (RNG | {"slot": 0}, "slot 0 is not in 1..31"),
        (RNG | {"slot": 32}, "slot 32 is not in 1..31"),
        (RNG | {"slot": -1}, "slot -1 is not in 1..31"),
        (RNG | {"name": "rng0"}, "two devices are named 'rng0'"),
        (RNG | {"name": "power0"}, "two devices are named 'power0'"),
        ({"type": "nonsense"}, "unknown device type"),
        ({"type": "power"}, "unknown device type"),
        ({"type": 1}, "has no type"),
        ({}, "has no type"),
        (RNG | {"colour": "red"}, "colour"),
        ({"type": "blk", "path": "/nonexistent/disk"}, "/nonexistent/disk"),
    ],
)
async def test_plug_that_makes_no_sense_is_refused_and_changes_nothing(
    tmp_path: Path, device: dict[str, Any], complaint: str
) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        before = rest(machine), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        with pytest.raises(VdesktopError, match=complaint):
            await machine.plug(device)
        assert (rest(machine), len(os.listdir("/proc/self/fd"))) == before  # noqa: PTH208


@pytest.mark.parametrize(
    ("slot", "complaint"),
    [
        (0, "a part of the machine"),
        ("power0", "a part of the machine"),
        (2, "slot 2 is empty"),
        (31, "slot 31 is empty"),
        (32, "slot 32 does not exist"),
        (10**9, "does not exist"),
        ("nobody", "no device is named"),
    ],
)
async def test_unplug_that_makes_no_sense_is_refused(tmp_path: Path, slot: int | str, complaint: str) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        for force in (False, True):
            with pytest.raises(VdesktopError, match=complaint):
                await machine.unplug(slot, force=force)
        assert rest(machine) == ["power0", "rng0"]


async def test_slot_that_was_filled_is_taken_when_no_new_one_is_left(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,) * 29) as machine:
        await started(machine)
        taken = []
        for _ in range(5):
            taken.append(await machine.plug(RNG))
            await machine.unplug(taken[-1])
        assert taken == [30, 31, 30, 31, 30]
        machine.reset()
        assert await machine.plug(RNG) == 30


async def test_slots_run_out(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,) * 31) as machine:
        await started(machine)
        with pytest.raises(ConfigError, match="all slots are occupied"):
            await machine.plug(RNG)


async def test_hundred_rounds_leave_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    devices = [RNG, {"type": "blk", "path": str(disk)}, {"type": "net", "backend": "none"}]
    devices += [{"type": "input", "kind": "keyboard"}, {"type": "console", "ports": [{"backend": "none"}]}]
    async with FakeMachine(tmp_path) as machine:
        await started(machine)

        async def cycle(device: dict[str, Any]) -> None:
            slot = await machine.plug(device)
            Driver(machine, slot).start()
            await machine.unplug(slot, force=True, timeout=0)

        def held() -> tuple[int, int]:
            return len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208

        for device in devices:
            await cycle(device)
        before = held()
        for number in range(100):
            await cycle(devices[number % len(devices)])
        assert held() == before


async def test_unplugged_disk_keeps_what_it_acknowledged_and_fails_the_rest(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    async with FakeMachine(tmp_path) as machine:
        await started(machine)
        for turn in range(20):
            slot = await machine.plug({"type": "blk", "path": str(disk)})
            driver = Driver(machine, slot)
            driver.start()
            queue, arena = driver.mock.queues[0], driver.mock.arena
            heads: dict[int, int] = {}
            for sector in range(60):
                header = Buffer(arena.allocate(16), 16)
                data = Buffer(arena.allocate(512), 512)
                status = Buffer(arena.allocate(1), 1, write=True)
                arena.memory.write(header.gpa, struct.pack("<IIQ", 1, 0, sector))
                arena.memory.write(data.gpa, bytes([turn + 1]) * 512)
                heads[queue.add([header, data, status])] = sector
                driver.mock.kick(0)
            acknowledged = [heads[used.id] for used in queue.take_used()]
            await machine.unplug(slot, force=True, timeout=0)
            acknowledged += [heads[used.id] for used in queue.take_used()]
            written = disk.read_bytes()
            for sector in acknowledged:
                assert written[sector * 512 : sector * 512 + 512] == bytes([turn + 1]) * 512


# Consent without virtio-power


async def test_device_in_use_stays_until_its_driver_lets_go(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        driver = Driver(machine, 1)
        driver.start()
        with pytest.raises(GuestTimeoutError, match="unbind the device inside, or force it"):
            await machine.unplug(1, timeout=0.05)
        assert rest(machine) == ["power0", "rng0"]
        removal = asyncio.ensure_future(machine.unplug(1, timeout=PATIENCE))
        await asyncio.sleep(0.05)
        assert not removal.done()
        driver.reset()
        await removal
        assert rest(machine) == ["power0"]


async def test_device_that_a_guest_found_and_does_not_drive_is_removed_at_once(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        machine.slot(1).write(Reg.STATUS, 4, 1)  # as Linux leaves it: ACKNOWLEDGE
        await machine.unplug(1, timeout=PATIENCE)
        assert rest(machine) == ["power0"]


async def test_driver_that_goes_without_a_word_is_noticed(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        driver = Driver(machine, 1)
        driver.start()
        removal = asyncio.ensure_future(machine.unplug(1, timeout=PATIENCE))
        await asyncio.sleep(0.02)
        asyncio.get_running_loop().remove_reader(machine.board.slots.event_fd)
        driver.reset()
        await removal
        assert rest(machine) == ["power0"]


async def test_force_removes_after_the_timeout(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        Driver(machine, 1).start()
        await machine.unplug(1, timeout=0.05, force=True)
        assert rest(machine) == ["power0"]


async def test_changes_wait_for_each_other(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        driver = Driver(machine, 1)
        driver.start()
        first = asyncio.ensure_future(machine.unplug(1, timeout=PATIENCE))
        second = asyncio.ensure_future(machine.unplug(1, timeout=PATIENCE))
        third = asyncio.ensure_future(machine.plug(RNG))
        await asyncio.sleep(0.05)
        driver.reset()
        await first
        with pytest.raises(ConfigError, match="is empty"):
            await second
        assert await third == 2


async def test_machine_that_ends_ends_the_waits(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        Driver(machine, 1).start()
        removal = asyncio.ensure_future(machine.unplug(1, timeout=PATIENCE))
        await asyncio.sleep(0.02)
        machine.stop()
        with pytest.raises(VdesktopError, match="has ended"):
            await asyncio.wait_for(removal, PATIENCE)
        with pytest.raises(VdesktopError, match="is ended"):
            await machine.plug(RNG)


async def test_machine_reset_keeps_what_was_plugged(tmp_path: Path, arch: Arch) -> None:
    async with FakeMachine(tmp_path, arch) as machine:
        await started(machine)
        slot = await machine.plug(RNG)
        driver = Driver(machine, slot)
        driver.start()
        removal = asyncio.ensure_future(machine.unplug(slot, timeout=PATIENCE))
        await asyncio.sleep(0.02)
        machine.vm.log.clear()
        machine.reset()
        assert machine.vm.log == ["stop", "reset", "entry", "start"]
        # The reset took the driver away, which is what the request waited for.
        await removal
        assert rest(machine) == ["power0"]
        assert await machine.plug(RNG) == slot + 1
        slot += 1
        machine.reset()
        assert rest(machine) == ["power0", "rng0"]
        assert machine.slot(slot).read(Reg.STATUS, 4) == 0


async def test_device_reset_leaves_the_others_alone(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG, RNG)) as machine:
        await started(machine)
        for slot in (1, 2):
            Driver(machine, slot, place=slot).start()
        machine.reset_device("rng1")
        assert machine.slot(1).read(Reg.STATUS, 4) == 15
        assert machine.slot(2).read(Reg.STATUS, 4) == 0
        with pytest.raises(ConfigError, match="is empty"):
            machine.reset_device(7)


async def test_pause_is_no_obstacle(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path) as machine:
        await started(machine)
        machine.pause()
        await machine.unplug(await machine.plug(RNG))
        with pytest.raises(VdesktopError, match="is paused"):
            await machine.shutdown()
        with pytest.raises(VdesktopError, match="is paused"):
            await machine.set_cpus(1)


# ACPI


def acpi(machine: FakeMachine, register: int) -> int:
    events = memory_map(Arch.X86_64).events
    assert events is not None
    return machine.vm.read(events.window.base + register)


def acpi_take(machine: FakeMachine) -> int:
    """What a guest's event handler does."""
    events = memory_map(Arch.X86_64).events
    assert events is not None
    pending = machine.vm.read(events.window.base + PENDING)
    machine.vm.write(events.window.base + PENDING, 4, pending)
    return pending


async def test_acpi_guest_is_shown_the_slots(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, Arch.X86_64, devices=(RNG,)) as machine:
        await started(machine)
        assert acpi(machine, SLOTS) == 0b11
        assert acpi(machine, PENDING) == 0
        await machine.plug(RNG | {"slot": 31})
        assert machine.vm.levels[9] is True
        assert acpi_take(machine) == EVENT_SLOTS
        assert machine.vm.levels[9] is False
        assert acpi(machine, SLOTS) == 0b11 | 1 << 31
        await machine.unplug(31)
        assert (acpi_take(machine), acpi(machine, SLOTS)) == (EVENT_SLOTS, 0b11)


async def test_acpi_power_button_is_pressed_and_a_reset_forgets_it(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, Arch.X86_64) as machine:
        await started(machine)
        with pytest.raises(GuestTimeoutError, match="has not powered off within"):
            await machine.shutdown(timeout=0.05)
        assert acpi(machine, PENDING) == EVENT_POWER_BUTTON
        machine.reset()
        assert acpi(machine, PENDING) == 0
        assert machine.vm.levels[9] is False


async def test_shutdown_waits_for_the_guests_end(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, Arch.X86_64) as machine:
        await started(machine)
        ending = asyncio.ensure_future(machine.shutdown(timeout=PATIENCE))
        await until(lambda: acpi(machine, PENDING) == EVENT_POWER_BUTTON)
        assert machine.vm.on_event is not None
        machine.vm.on_event(VmEvent(ExitReason.SHUTDOWN))
        assert (await ending).outcome is Outcome.SHUTDOWN
        assert (await machine.shutdown()).outcome is Outcome.SHUTDOWN


# A key


async def test_power_key_is_pressed_where_there_is_a_keyboard_in_use(tmp_path: Path) -> None:
    devices = ({"type": "input", "kind": "mouse"}, {"type": "input", "kind": "keyboard"})
    async with FakeMachine(tmp_path, devices=devices) as machine:
        await started(machine)
        with pytest.raises(VdesktopError, match="nothing that hears a power button"):
            await machine.shutdown()
        driver = Driver(machine, 2)
        driver.start()
        queue, arena = driver.mock.queues[0], driver.mock.arena
        buffers = {}
        for _ in range(8):
            buffer = Buffer(arena.allocate(8), 8, write=True)
            buffers[queue.add([buffer])] = buffer
        driver.mock.kick(0)
        with pytest.raises(GuestTimeoutError):
            await machine.shutdown(timeout=0.05)
        used: list[Any] = []
        await until(lambda: used.extend(queue.take_used()) or len(used) >= 4)
        seen = [struct.unpack("<HHi", arena.memory.read(buffers[one.id].gpa, 8)) for one in used]
        assert seen == [(1, 116, 1), (0, 0, 0), (1, 116, 0), (0, 0, 0)]


async def test_shutdown_by_force_needs_no_guest(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path) as machine:
        await started(machine)
        assert (await machine.shutdown(force=True)).outcome is Outcome.STOPPED
        assert machine.state is State.ENDED


# virtio-power


async def answered(
    machine: FakeMachine, doing: Coroutine[Any, Any, Any], verdict: wire.Verdict, **more: Any
) -> dict[str, int]:
    """Do something that asks the guest, and have the guest answer the first event."""
    task = asyncio.ensure_future(doing)
    guest: PowerGuest = machine.guest  # type: ignore[attr-defined]
    event = await guest.event()
    await guest.answer(event, verdict, **more)
    await task
    return event


async def test_power_driver_is_asked_for_consent(tmp_path: Path, arch: Arch) -> None:
    async with FakeMachine(tmp_path, arch) as machine:
        await started(machine)
        machine.guest = await PowerGuest.of(machine)  # type: ignore[attr-defined]
        slot = await machine.plug(RNG)
        event = await machine.guest.event()  # type: ignore[attr-defined]
        assert (event["kind"], event["index"], event["state"]) == (
            wire.EventKind.SLOT,
            1,
            wire.SlotState.FILLED,
        )
        Driver(machine, slot).start()
        with pytest.raises(DeviceError, match="the guest refused: in use"):
            await answered(machine, machine.unplug(slot), wire.Verdict.REFUSED, reason=wire.Reason.BUSY)
        assert rest(machine) == ["power0", "rng0"]
        event = await machine.guest.event()  # type: ignore[attr-defined]
        assert event["state"] == wire.SlotState.FILLED
        event = await answered(machine, machine.unplug(slot), wire.Verdict.DONE)
        assert event["state"] == wire.SlotState.EJECTING
        assert rest(machine) == ["power0"]
        if arch is Arch.X86_64:  # told once: by virtio-power
            assert (acpi(machine, PENDING), acpi(machine, SLOTS)) == (0, 0b01)


async def test_power_driver_that_refuses_is_overruled_by_force(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        machine.guest = await PowerGuest.of(machine)  # type: ignore[attr-defined]
        Driver(machine, 1).start()
        await answered(machine, machine.unplug(1, timeout=PATIENCE, force=True), wire.Verdict.REFUSED)
        assert rest(machine) == ["power0"]


async def test_power_driver_that_never_answers_is_reported(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, devices=(RNG,), cpus=1, max_cpus=2) as machine:
        await started(machine)
        await PowerGuest.of(machine)
        Driver(machine, 1).start()
        with pytest.raises(GuestTimeoutError, match="stays: the guest did not answer in time"):
            await machine.unplug(1, timeout=0.05)
        with pytest.raises(GuestTimeoutError, match="did not answer in time"):
            await machine.set_cpus(2, timeout=0.05)
        with pytest.raises(VdesktopError, match="did not answer in time"):
            await machine.shutdown(timeout=0.05)


async def test_cpus_are_brought_up_and_down_one_by_one(tmp_path: Path, arch: Arch) -> None:
    async with FakeMachine(tmp_path, arch, cpus=2, max_cpus=4) as machine:
        await started(machine)
        assert len(machine.status().cpus.ids) == 4
        assert machine.status().cpus.online is None
        guest = await PowerGuest.of(machine)
        assert machine.status().cpus.online == 2

        async def obey(count: int) -> None:
            for _ in range(count):
                event = await guest.event()
                assert event["kind"] == wire.EventKind.CPU
                await guest.ask(
                    wire.RequestType.CPU_STATE, wire.CPU_STATE, cpu=event["index"], state=event["state"]
                )
                await guest.answer(event, wire.Verdict.DONE)

        await asyncio.gather(machine.set_cpus(4, timeout=PATIENCE), obey(2))
        assert machine.status().cpus.online == 4
        await asyncio.gather(machine.set_cpus(1, timeout=PATIENCE), obey(3))
        assert machine.status().cpus.online == 1
        machine.reset()
        assert machine.power is not None
        assert [machine.power.is_online(cpu) for cpu in range(4)] == [True, True, False, False]
        for count in (0, -1, 5, 1000):
            with pytest.raises(ConfigError, match="has 1 to 4 CPUs"):
                await machine.set_cpus(count)


async def test_guest_ends_and_resets_the_machine_through_virtio_power(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path) as machine:
        await started(machine)
        guest = await PowerGuest.of(machine)
        machine.vm.log.clear()
        guest.tell(wire.RequestType.RESET)
        await until(lambda: "start" in machine.vm.log)
        assert machine.state is State.RUNNING
        guest = await PowerGuest.of(machine)
        ending = asyncio.ensure_future(machine.shutdown(timeout=PATIENCE))
        event = await guest.event()
        assert (event["kind"], event["state"]) == (wire.EventKind.MACHINE, wire.Action.SHUTDOWN)
        await guest.answer(event, wire.Verdict.ACCEPTED)
        guest.tell(wire.RequestType.SHUTDOWN)
        assert (await ending).outcome is Outcome.SHUTDOWN


async def test_slot_0_is_empty_without_virtio_power(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, power=False) as machine:
        await started(machine)
        await asyncio.sleep(0.05)
        assert machine.slot(0).read(Reg.DEVICE_ID, 4) == 0
        with pytest.raises(VdesktopError, match="nothing in its guest hears of this"):
            await machine.set_cpus(1)
        with pytest.raises(ConfigError, match="slot 0 is empty"):
            await machine.unplug(0)


# Configuration


async def test_kernel_starts_the_cpus_that_it_was_given(tmp_path: Path, arch: Arch) -> None:
    async with FakeMachine(tmp_path, arch, cpus=2, max_cpus=4) as machine:
        await started(machine)
        low = machine.board.ram[0]
        memory = machine.board.memory.read(low.base, low.size)
        assert b"maxcpus=2" in memory


def test_more_cpus_at_the_start_than_at_most_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 2 CPUs with 4 at the start"):
        FakeMachine(tmp_path, cpus=4, max_cpus=2)
