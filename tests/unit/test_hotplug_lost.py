# SPDX-License-Identifier: MIT
"""Devices that are taken away by force while a driver has them."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
from fake_machine import FakeMachine
from hotplug_guest import PATIENCE, RNG, Driver, PowerGuest, rest, started, until

from vdesktop_core.devices.power import wire
from vdesktop_core.errors import GuestTimeoutError
from vdesktop_core.testing.driver_queue import Buffer

OK, IOERR, WAITING = 0, 1, 0xEE


class DiskDriver(Driver):
    """A guest's driver of a disk."""

    def write(self, sector: int) -> Buffer:
        """Begin to write one sector; returns where its status will be."""
        arena = self.mock.arena
        header, data = (Buffer(arena.allocate(size), size) for size in (16, 512))
        status = Buffer(arena.allocate(1), 1, write=True)
        arena.memory.write(header.gpa, struct.pack("<IIQ", 1, 0, sector))
        arena.memory.write(data.gpa, b"w" * 512)
        arena.memory.write(status.gpa, bytes([WAITING]))
        self.mock.queues[0].add([header, data, status])
        self.mock.kick(0)
        return status

    def status(self, at: Buffer) -> int:
        return self.mock.arena.memory.read(at.gpa, 1)[0]


async def with_disk(machine: FakeMachine, path: Path) -> tuple[int, DiskDriver]:
    path.write_bytes(bytes(1 << 20))
    slot = await machine.plug({"type": "blk", "path": str(path), "name": "data"})
    driver = DiskDriver(machine, slot)
    driver.start()
    return slot, driver


def uses(path: Path) -> bool:
    """Whether this process has the file open."""
    return any(each.exists() and each.samefile(path) for each in Path("/proc/self/fd").iterdir())


async def test_lost_disk_answers_everything_until_its_driver_lets_go(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    async with FakeMachine(tmp_path) as machine:
        await started(machine)
        heard: list[str] = []
        machine.subscribe(lambda event, _detail: heard.append(event))
        slot, driver = await with_disk(machine, image)
        before = [driver.write(sector) for sector in range(40)]
        assert await machine.unplug("data", timeout=0, force=True) is False
        assert not uses(image)
        await until(lambda: all(driver.status(each) != WAITING for each in before))
        written = image.read_bytes()
        for sector, each in enumerate(before):
            if driver.status(each) == OK:
                assert written[sector * 512 : sector * 512 + 512] == b"w" * 512
        after = driver.write(99)
        await until(lambda: driver.status(after) != WAITING)
        assert driver.status(after) == IOERR
        (shown,) = (each for each in machine.status().slots if each.slot == slot)
        assert shown.lost
        assert heard == ["plugged", "lost"]
        driver.reset()
        await until(lambda: "data" not in rest(machine))
        assert heard == ["plugged", "lost", "unplugged"]
        assert image.read_bytes() == written
        assert await machine.plug(RNG) == slot + 1  # a stock guest finds a device in a new slot more easily


async def test_lost_device_stays_without_force_and_goes_with_it(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path) as machine:
        await started(machine)
        slot, _ = await with_disk(machine, tmp_path / "disk")
        assert not await machine.unplug(slot, timeout=0, force=True)
        with pytest.raises(GuestTimeoutError, match="has not let go of it"):
            await machine.unplug(slot, timeout=0.05)
        assert await machine.unplug(slot, timeout=0, force=True)
        assert "data" not in rest(machine)


async def test_lost_device_goes_with_a_machine_reset(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path) as machine:
        await started(machine)
        slot, _ = await with_disk(machine, tmp_path / "disk")
        assert not await machine.unplug(slot, timeout=0, force=True)
        machine.reset()
        await until(lambda: "data" not in rest(machine))


async def test_power_driver_is_told_of_a_lost_device_and_given_time(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path) as machine:
        await started(machine)
        guest = await PowerGuest.of(machine)
        slot, driver = await with_disk(machine, tmp_path / "disk")
        filled = await guest.event()
        removal = asyncio.ensure_future(machine.unplug(slot, timeout=0, force=True))
        event = await guest.event()
        assert (event["index"], event["state"], event["sequence"]) == (slot, wire.SlotState.LOST, 0)
        assert event["generation"] == filled["generation"], "it is the same device"
        driver.reset()
        async with asyncio.timeout(PATIENCE):
            assert await removal
        event = await guest.event()
        assert event["state"] == wire.SlotState.EMPTY
        assert event["generation"] != filled["generation"]


async def test_network_card_that_is_lost_loses_its_link_and_takes_frames_on(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path) as machine:
        await started(machine)
        slot = await machine.plug({"type": "net", "backend": "user"})
        driver = Driver(machine, slot)
        driver.start({5, 16, 17, 18})  # MAC, STATUS, CTRL_VQ, CTRL_RX
        assert await machine.unplug(slot, timeout=0, force=True) is False
        queues, arena = driver.mock.queues, driver.mock.arena
        assert machine.slot(slot).read(0x106, 2) == 0, "the link is down"
        queues[1].add([Buffer(arena.allocate(76), 76)])
        driver.mock.kick(1)
        await until(lambda: bool(list(queues[1].take_used())))
        answer = await asyncio.to_thread(driver.mock.request, 2, [b"\0\0", b"\1"], [1])
        assert answer == b"\0", "commands are answered: Linux waits for that in a loop"
        driver.reset()
        await until(lambda: "net0" not in rest(machine))


async def test_device_that_cannot_be_lost_is_removed_at_once(tmp_path: Path) -> None:
    """virtio-power's own kind: a device in Python is served or detached."""
    async with FakeMachine(tmp_path, devices=(RNG,)) as machine:
        await started(machine)
        Driver(machine, 1).start()
        slots = machine.board.slots
        assert slots.lose(slots.find(1))
        assert not slots.lose(slots.find(0))
