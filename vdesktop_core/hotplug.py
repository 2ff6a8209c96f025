# SPDX-License-Identifier: MIT
"""Changes to the hardware of a running machine, and how its guest hears of them.

A guest is told by what it listens to, in this order: its virtio-power driver,
ACPI, a power key. ``docs/hotplug.md`` says what stock guests of each
architecture do by themselves, and what a person does in them.

Loaded when the first change is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from vdesktop_core.errors import ConfigError, DeviceError, GuestTimeoutError, VdesktopError
from vdesktop_core.life import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vdesktop_core.devices.base import DeviceConfig
    from vdesktop_core.machine import Machine
    from vdesktop_core.slots import Occupant

log = logging.getLogger(__name__)


class Messenger(Protocol):
    """A way to tell a guest of changes. Each may know some of the messages only.

    A message that it does not know, or that the guest does not listen to, is answered with False.
    """

    name: str

    def power_off(self) -> bool:
        """Ask for an orderly power-off."""
        ...

    def filled(self, slot: int) -> bool:
        """Tell that a slot has a device now."""
        ...

    def emptied(self, slot: int) -> bool:
        """Tell that a slot's device has gone."""
        ...

    def release(self, slot: int) -> bool:
        """Ask to let go of a slot's device: to remove its driver, which resets it."""
        ...

    def keep(self, slot: int) -> bool:
        """Take :meth:`release` back."""
        ...

    def cpus(self, count: int) -> bool:
        """Ask to use this many CPUs."""
        ...


class Hotplug:
    """The changes of one machine; one at a time.

    Args:
        machine: it must be running.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = asyncio.Lock()
        self._decided = asyncio.Event()
        self._messengers: list[Messenger] = []

    def ways(self) -> dict[str, str]:
        """Return by what this guest is asked for what, as far as that is known without asking it."""
        return {}

    def wake(self) -> None:
        """Hear that some driver did something to its device, or that the machine's state changed."""
        self._decided.set()

    def ask_power_off(self) -> None:
        """Ask the guest to power off.

        Raises:
            VdesktopError: there is no way to.
        """
        if not self._tell("power_off"):
            raise VdesktopError(
                f"machine {self._machine.config.name!r}: its guest has nothing that hears a power button "
                f"(the virtio-power driver, ACPI or a keyboard): power it off inside, or force it"
            )

    async def plug(self, device: DeviceConfig | Mapping[str, Any]) -> int:
        """See :meth:`vdesktop_core.machine.Machine.plug`."""
        async with self._lock:
            occupant = self._machine.board.plug(device)
            self._tell("filled", occupant.slot)
            self._publish("plugged", occupant)
            return occupant.slot

    async def unplug(self, slot: int | str, *, timeout: float, force: bool) -> None:
        """See :meth:`vdesktop_core.machine.Machine.unplug`."""
        async with self._lock:
            slots = self._machine.board.slots
            occupant = slots.find(slot)
            self._removable(occupant)
            if slots.status(occupant.slot):
                await self._release(occupant, timeout, force=force)
            slots.take(occupant)
            self._tell("emptied", occupant.slot)
            self._publish("unplugged", occupant)

    async def set_cpus(self, count: int, *, timeout: float) -> None:
        """See :meth:`vdesktop_core.machine.Machine.set_cpus`."""
        config = self._machine.config
        if not 1 <= count <= config.vcpus:
            raise ConfigError(
                f"machine {config.name!r} has 1 to {config.vcpus} CPUs, not {count}: "
                f"start it with a larger --max-cpus"
            )
        async with self._lock:
            if not self._tell("cpus", count):
                raise VdesktopError(
                    f"machine {config.name!r}: nothing in its guest hears of this: inside, write 0 or 1 to "
                    f"/sys/devices/system/cpu/cpuN/online"
                )

    def _removable(self, occupant: Occupant) -> None:
        if occupant.slot == 0:
            raise DeviceError(f"slot 0 is {occupant.name!r}, a part of the machine: it is not unplugged")
        device = occupant.device
        if self._machine.config.display != "none" and (device.screen or device.input_sink):
            raise DeviceError(
                f"{occupant.name!r} is on the display {self._machine.config.display!r}: it stays"
            )

    async def _release(self, occupant: Occupant, timeout: float, *, force: bool) -> None:
        """Wait until the guest has no driver on a device any more, which is what consent looks like."""
        asked = self._tell("release", occupant.slot)
        if await self._until(lambda: self._gone(occupant), timeout) or force:
            return
        self._tell("keep", occupant.slot)
        hint = "" if asked else ", and nothing in it hears of this: unbind the device inside, or force it"
        raise GuestTimeoutError(
            f"{occupant.name!r} (slot {occupant.slot}): the guest has not let go of it in {timeout:g} s{hint}"
        )

    def _gone(self, occupant: Occupant) -> bool:
        return not self._machine.board.slots.status(occupant.slot)

    async def _until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait for something that drivers decide."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    if self._machine.state not in (State.RUNNING, State.PAUSED):
                        raise VdesktopError(f"machine {self._machine.config.name!r} has ended")
                    self._decided.clear()
                    await self._decided.wait()
        except TimeoutError:
            return condition()
        return True

    def _tell(self, message: str, *about: int) -> bool:
        """Give a message to the first messenger that can deliver it."""
        return any(getattr(messenger, message)(*about) for messenger in self._messengers)

    def _publish(self, event: str, occupant: Occupant) -> None:
        self._machine.publish(event, slot=occupant.slot, name=occupant.name, type=occupant.type.name)
