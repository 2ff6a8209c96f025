# SPDX-License-Identifier: MIT
"""Slots that are filled and emptied while the machine runs, with the guest's consent."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fake_machine import FakeMachine
from hotplug_guest import PATIENCE, RNG, Driver, rest, started

from vdesktop_core.errors import ConfigError, GuestTimeoutError, VdesktopError
from vdesktop_core.hypervisor import Arch
from vdesktop_core.testing.registers import Reg

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=list(Arch), ids=str)
def arch(request: pytest.FixtureRequest) -> Arch:
    found: Arch = request.param
    return found


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
        driver.reset()
        await machine.unplug(1)
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
            await machine.unplug(slot, force=True, timeout=0)  # it answers on
            await machine.unplug(slot, force=True, timeout=0)

        def held() -> tuple[int, int]:
            return len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208

        for device in devices:
            await cycle(device)
        before = held()
        for number in range(100):
            await cycle(devices[number % len(devices)])
        assert held() == before


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
        assert await machine.unplug(1, timeout=0.05, force=True) is False
        assert await machine.unplug(1, timeout=0.05, force=True) is True
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
