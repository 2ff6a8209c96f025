# SPDX-License-Identifier: MIT
"""How a guest without the driver of virtio-power is asked: ACPI, a power key, or not at all."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest
from fake_machine import FakeMachine
from hotplug_guest import PATIENCE, RNG, Driver, PowerGuest, acpi, acpi_take, started, until

from vdesktop_core.acpi_events import EVENT_POWER_BUTTON, EVENT_SLOTS, PENDING, SLOTS
from vdesktop_core.devices.power import wire
from vdesktop_core.errors import GuestTimeoutError, VdesktopError
from vdesktop_core.hypervisor import Arch, ExitReason, VmEvent
from vdesktop_core.life import Outcome, State
from vdesktop_core.testing.driver_queue import Buffer

if TYPE_CHECKING:
    from pathlib import Path


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


async def test_driver_that_comes_after_the_button_was_pressed_is_asked(tmp_path: Path) -> None:
    """A guest that is still booting hears no button."""
    async with FakeMachine(tmp_path, Arch.X86_64) as machine:
        await started(machine)
        ending = asyncio.ensure_future(machine.shutdown(timeout=PATIENCE))
        await until(lambda: acpi(machine, PENDING) == EVENT_POWER_BUTTON)
        guest = await PowerGuest.of(machine)
        event = await guest.event()
        assert (event["kind"], event["state"]) == (wire.EventKind.MACHINE, wire.Action.SHUTDOWN)
        await guest.answer(event, wire.Verdict.ACCEPTED)
        guest.tell(wire.RequestType.SHUTDOWN)
        assert (await ending).outcome is Outcome.SHUTDOWN
