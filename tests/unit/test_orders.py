# SPDX-License-Identifier: MIT
"""What the hypervisor's own tools ask a guest for: who takes it, and by which way the guest hears of it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from fake_machine import FakeMachine
from hotplug_guest import PowerGuest, acpi, started, until

from vdesktop_core.acpi_events import EVENT_POWER_BUTTON, PENDING
from vdesktop_core.devices.power import wire
from vdesktop_core.hypervisor import Arch, ExitReason, Order, VmEvent
from vdesktop_core.life import Outcome, State

if TYPE_CHECKING:
    from pathlib import Path


def order(machine: FakeMachine, what: Order, *, last: bool) -> bool:
    """As a backend's thread does it."""
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(machine.vm.take_order(what, last)))
    thread.start()
    thread.join()
    return taken[0]


@pytest.mark.parametrize(
    ("what", "action"), [(Order.SHUTDOWN, wire.Action.SHUTDOWN), (Order.RESET, wire.Action.RESET)]
)
async def test_order_goes_to_the_power_driver_first(tmp_path: Path, what: Order, action: int) -> None:
    async with FakeMachine(tmp_path, Arch.X86_64) as machine:
        await started(machine)
        guest = await PowerGuest.of(machine)
        assert order(machine, what, last=False) is True
        event = await guest.event()
        assert (event["kind"], event["state"]) == (wire.EventKind.MACHINE, action)
        assert acpi(machine, PENDING) == 0


async def test_order_without_a_driver_is_left_to_others_until_nobody_else_takes_it(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, Arch.X86_64) as machine:
        await started(machine)
        assert order(machine, Order.SHUTDOWN, last=False) is False
        await asyncio.sleep(0)
        assert acpi(machine, PENDING) == 0
        assert order(machine, Order.SHUTDOWN, last=True) is True
        await until(lambda: acpi(machine, PENDING) == EVENT_POWER_BUTTON)
        machine.guest_event(VmEvent(ExitReason.SHUTDOWN))
        assert (await machine.wait()).outcome is Outcome.SHUTDOWN


async def test_order_to_reset_without_a_driver_is_a_power_off_and_a_start(tmp_path: Path) -> None:
    async with FakeMachine(tmp_path, Arch.X86_64) as machine:
        await started(machine)
        assert order(machine, Order.RESET, last=True) is True
        await until(lambda: acpi(machine, PENDING) == EVENT_POWER_BUTTON)
        machine.guest_event(VmEvent(ExitReason.SHUTDOWN))
        assert machine.state is State.RUNNING
        assert machine.vm.log[-3:] == ["reset", "entry", "start"]
        machine.guest_event(VmEvent(ExitReason.SHUTDOWN))  # the next one is what it says
        assert (await machine.wait()).outcome is Outcome.SHUTDOWN


async def test_order_that_nothing_hears_is_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeMachine(tmp_path, Arch.AARCH64) as machine:
        await started(machine)
        assert order(machine, Order.SHUTDOWN, last=True) is True
        await until(lambda: "nothing that hears a power button" in caplog.text)
        assert machine.state is State.RUNNING
        machine.stop()
        assert order(machine, Order.SHUTDOWN, last=True) is True  # it has ended: nobody is asked
        await asyncio.sleep(0)
        assert len(caplog.records) == 1
