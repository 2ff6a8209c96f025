# SPDX-License-Identifier: MIT
"""Devices and CPUs that come and go, asked for by virtio-power."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from fake_machine import FakeMachine
from hotplug_guest import PATIENCE, RNG, Driver, PowerGuest, acpi, answered, rest, started, until

from vdesktop_core.acpi_events import PENDING, SLOTS
from vdesktop_core.devices.power import wire
from vdesktop_core.errors import ConfigError, DeviceError, GuestTimeoutError, VdesktopError
from vdesktop_core.hypervisor import Arch
from vdesktop_core.life import Outcome, State
from vdesktop_core.testing.registers import Reg

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=list(Arch), ids=str)
def arch(request: pytest.FixtureRequest) -> Arch:
    found: Arch = request.param
    return found


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
        guest = await PowerGuest.of(machine)
        driver = Driver(machine, 1)
        driver.start()
        removal = asyncio.ensure_future(machine.unplug(1, timeout=PATIENCE, force=True))
        await guest.answer(await guest.event(), wire.Verdict.REFUSED)
        while (await guest.event())["state"] != wire.SlotState.LOST:
            pass
        driver.reset()
        assert await removal
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
