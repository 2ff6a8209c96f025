# SPDX-License-Identifier: MIT
"""Changes to the hardware of a running machine, and how its guest hears of them.

A guest is told by what it listens to, in this order: its virtio-power driver,
ACPI, a power key. ``docs/hotplug.md`` says what stock guests of each
architecture do by themselves, and what a person does in them.

Loaded when the first change is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from vdesktop_core.devices.power.port import Outcome
from vdesktop_core.errors import ConfigError, DeviceError, GuestTimeoutError, VdesktopError
from vdesktop_core.hypervisor import Order
from vdesktop_core.life import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from vdesktop_core.devices.base import DeviceConfig
    from vdesktop_core.devices.power.device import PowerDevice
    from vdesktop_core.devices.power.port import Answer
    from vdesktop_core.machine import Machine
    from vdesktop_core.slots import Occupant

log = logging.getLogger(__name__)

#: Seconds that a guest has to hear of what the hypervisor's tools ask, and to end where it can only be
#: asked for that.
_ORDER_SECONDS = 60.0
#: How often a register is looked at that a guest is to change.
_LOOK_SECONDS = 0.1
#: How long whoever takes a device away waits for its driver to let go of it.
_LET_GO_SECONDS = 10.0
#: Nobody took the request: another way may do.
_UNHEARD = (Outcome.NO_DRIVER, Outcome.GONE)


class Hotplug:
    """The changes of one machine; one at a time.

    Args:
        machine: it must be running.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._restart_until = 0.0

    def wake(self) -> None:
        """Hear that some driver did something to its device, or that the machine's state changed."""
        self._news.set()
        if self._machine.state in (State.RUNNING, State.PAUSED):
            self._sweep()

    @property
    def _power(self) -> PowerDevice | None:
        power = self._machine.power
        return power.device if power is not None and power.device.driver_ready else None

    def ways(self) -> dict[str, str]:
        """Return by what this guest is asked for what: ``virtio-power``, ``acpi``, ``key`` or ``none``."""
        if self._power is not None:
            return dict.fromkeys(("shutdown", "plug", "unplug", "cpus"), "virtio-power")
        acpi = self._machine.board.acpi_events is not None
        shutdown = "acpi" if acpi else "key" if self._key() is not None else "none"
        return {"shutdown": shutdown, "plug": "acpi" if acpi else "none", "unplug": "none", "cpus": "none"}

    async def power_off(self, timeout: float) -> None:
        """Ask the guest to power off; ``timeout`` in seconds is for its answer, where it gives one.

        Raises:
            VdesktopError: there is no way to, or it refuses.
        """
        if await self._driver_powers_off(timeout):
            return
        self._press_button()
        # A guest that is still booting hears no button: its driver is asked when it comes.
        if self._machine.power is None:
            return
        came = False
        with contextlib.suppress(VdesktopError):  # it ended
            came = await self._until(lambda: self._power is not None, timeout)
        if came:
            await self._driver_powers_off(timeout)

    def _press_button(self) -> None:
        """Press the power button, or the power key.

        Raises:
            VdesktopError: there is nothing to press.
        """
        events = self._machine.board.acpi_events
        if events is not None:
            events.press_power_button()
        elif not self._press_key():
            raise VdesktopError(
                f"machine {self._machine.config.name!r}: its guest has nothing that hears a power button "
                f"(the virtio-power driver, ACPI, a keyboard): power it off inside, or force it"
            )

    async def _driver_powers_off(self, timeout: float) -> bool:
        """Ask the driver, if there is one, and return whether it will.

        Raises:
            VdesktopError: it refuses.
        """
        if self._power is None:
            return False
        answer = await self._answer(self._power.shutdown(timeout))
        if not answer.ok and answer.outcome not in _UNHEARD:
            raise VdesktopError(f"machine {self._machine.config.name!r} does not power off: {answer}")
        return answer.ok

    async def restart(self, timeout: float) -> None:
        """Ask the guest to reset itself in an orderly way; as :meth:`power_off`.

        A guest without the virtio-power driver is asked to power off: if it does so within ``timeout``
        seconds, that is a reset.

        Raises:
            VdesktopError: there is no way to, or it refuses.
        """
        if await self._driver_restarts(timeout):
            return
        self._press_button()
        self._restart_until = asyncio.get_running_loop().time() + timeout
        if self._machine.power is None:
            return
        # As in power_off; but one that has powered off meanwhile has been restarted.
        with contextlib.suppress(VdesktopError):
            await self._until(lambda: self._power is not None or not self._restart_until, timeout)
        if self._restart_until and await self._driver_restarts(timeout):
            self._restart_until = 0.0

    async def _driver_restarts(self, timeout: float) -> bool:
        """As :meth:`_driver_powers_off`, with a reset."""
        if self._power is None:
            return False
        answer = await self._answer(self._power.reboot(timeout))
        if not answer.ok and answer.outcome not in _UNHEARD:
            raise VdesktopError(f"machine {self._machine.config.name!r} does not restart: {answer}")
        return answer.ok

    @property
    def restarting(self) -> bool:
        """Whether the guest's next power-off is to be a reset; asking forgets it."""
        until, self._restart_until = self._restart_until, 0.0
        return asyncio.get_running_loop().time() < until

    async def carry_out(self, order: Order) -> None:
        """Do what the hypervisor's own tools ask for; say in the log if that cannot be."""
        log.info("machine %r is asked for: %s", self._machine.config.name, order)
        ask = self.power_off if order is Order.SHUTDOWN else self.restart
        try:
            await ask(_ORDER_SECONDS)
        except VdesktopError as error:
            log.warning("%s: %s", order, error)

    async def plug(self, device: DeviceConfig | Mapping[str, Any]) -> int:
        """See :meth:`vdesktop_core.machine.Machine.plug`."""
        async with self._lock:
            self._check_alive()
            occupant = self._machine.board.plug(device)
            self._slots_changed(occupant.slot)
            self._publish("plugged", occupant)
            return occupant.slot

    async def unplug(self, slot: int | str, *, timeout: float, force: bool) -> bool:
        """See :meth:`vdesktop_core.machine.Machine.unplug`."""
        async with self._lock:
            self._check_alive()
            slots = self._machine.board.slots
            occupant = slots.find(slot)
            self._removable(occupant)
            known_lost = occupant.slot in slots.lost
            if slots.in_use(occupant.slot) and not (force and not timeout):
                await self._release(occupant, timeout, force=force)
            self._check_alive()
            if slots.in_use(occupant.slot) and force and not known_lost and slots.lose(occupant):
                await self._tell_lost(occupant)
            elif occupant in slots.occupants:
                self._empty(occupant)
            return occupant not in slots.occupants

    async def set_cpus(self, count: int, *, timeout: float) -> None:
        """See :meth:`vdesktop_core.machine.Machine.set_cpus`."""
        config = self._machine.config
        if not 1 <= count <= config.vcpus:
            raise ConfigError(
                f"machine {config.name!r} has 1 to {config.vcpus} CPUs, not {count}: "
                f"start it with another --max-cpus"
            )
        async with self._lock:
            self._check_alive()
            deadline = asyncio.get_running_loop().time() + timeout
            for cpu in range(config.vcpus):
                await self._set_cpu(cpu, deadline, online=cpu < count)
            self._machine.publish("cpus", count=count)

    async def _set_cpu(self, cpu: int, deadline: float, *, online: bool) -> None:
        power = self._machine.power
        if power is None or self._power is None:
            raise VdesktopError(
                f"machine {self._machine.config.name!r}: nothing in its guest hears of this: write 0 or "
                f"1 to /sys/devices/system/cpu/cpuN/online inside"
            )
        if power.is_online(cpu) == online:
            return
        remaining = max(deadline - asyncio.get_running_loop().time(), 0.0)
        answer = await self._answer(self._power.set_cpu(cpu, remaining, online=online))
        if not answer.ok:
            kind = GuestTimeoutError if answer.outcome is Outcome.TIMEOUT else VdesktopError
            raise kind(f"CPU {cpu} of machine {self._machine.config.name!r}: {answer}")

    def _removable(self, occupant: Occupant) -> None:
        if occupant.slot == 0:
            raise DeviceError(f"slot 0 has {occupant.name!r}, a part of the machine: it is not unplugged")
        device = occupant.device
        if self._machine.config.display != "none" and (device.screen or device.input_sink):
            raise DeviceError(
                f"{occupant.name!r} is on the display {self._machine.config.display!r}: it stays"
            )

    async def _release(self, occupant: Occupant, timeout: float, *, force: bool) -> None:
        """Have the guest let go of a device.

        Raises:
            DeviceError: it refuses.
            GuestTimeoutError: it has not in time.
        """
        if self._power is not None and occupant.slot not in self._machine.board.slots.lost:
            answer = await self._answer(self._power.eject(occupant.slot, timeout))
            if answer.ok or force:
                return
            if answer.outcome not in _UNHEARD:
                kind = GuestTimeoutError if answer.outcome is Outcome.TIMEOUT else DeviceError
                raise kind(f"{occupant.name!r} (slot {occupant.slot}) stays: {answer}")
        # A driver that lets go of its device resets it.
        if await self._until(lambda: not self._machine.board.slots.in_use(occupant.slot), timeout) or force:
            return
        raise GuestTimeoutError(
            f"{occupant.name!r} (slot {occupant.slot}) stays: the guest has not let go of it within "
            f"{timeout:g} s; nothing in it hears of this: unbind the device inside, or force it"
        )

    async def _tell_lost(self, occupant: Occupant) -> None:
        """Tell the guest that nothing is behind a device any more, and give its driver time to go."""
        self._publish("lost", occupant)
        if self._power is not None:
            self._power.slot_lost(occupant.slot)
            running = self._machine.state is State.RUNNING
            await self._until(lambda: not self._keeps(occupant), _LET_GO_SECONDS if running else 0)

    def _keeps(self, occupant: Occupant) -> bool:
        self._sweep()
        return occupant in self._machine.board.slots.occupants

    def _sweep(self) -> None:
        """Empty slots whose device was lost and whose driver has let go since."""
        slots = self._machine.board.slots
        for occupant in [each for each in slots.occupants if each.slot in slots.lost]:
            if not slots.in_use(occupant.slot):
                self._empty(occupant)

    def _empty(self, occupant: Occupant) -> None:
        self._machine.board.slots.take(occupant)
        self._slots_changed(occupant.slot)
        self._publish("unplugged", occupant)

    def _slots_changed(self, slot: int) -> None:
        """Tell the guest that a slot was filled or emptied: once, as two that attach it would collide."""
        events, power = self._machine.board.acpi_events, self._machine.power
        if power is not None:
            power.device.slot_changed(slot)
        if events is not None:
            events.show_slots(self._machine.board.slots.filled, tell=self._power is None)

    def _key(self) -> Occupant | None:
        """Return a keyboard with a driver."""
        slots = self._machine.board.slots
        return next((o for o in slots.occupants if _types(o) and slots.in_use(o.slot)), None)

    def _press_key(self) -> bool:
        """Press the power key of a keyboard."""
        from vdesktop_core.display.input import Key

        occupant = self._key()
        if occupant is None or (sink := occupant.device.input_sink) is None:
            return False
        return sink.send([Key(_KEY_POWER, down=True)]) and sink.send([Key(_KEY_POWER, down=False)])

    async def _answer(self, asking: Awaitable[Answer]) -> Answer:
        """Wait for the guest's answer, or for the machine's end."""
        task = asyncio.ensure_future(asking)
        try:
            while not task.done():
                self._check_alive()
                self._news.clear()
                news = asyncio.ensure_future(self._news.wait())
                try:
                    await asyncio.wait({task, news}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
            return task.result()
        finally:
            task.cancel()

    async def _until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait for something that drivers decide."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self._check_alive()
                    self._news.clear()
                    # Not every change of a status register is news.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_SECONDS):
                            await self._news.wait()
        except TimeoutError:
            return condition()
        return True

    def _check_alive(self) -> None:
        if self._machine.state not in (State.RUNNING, State.PAUSED):
            raise VdesktopError(f"machine {self._machine.config.name!r} has ended")

    def _publish(self, event: str, occupant: Occupant) -> None:
        self._machine.publish(event, slot=occupant.slot, name=occupant.name, type=occupant.type.name)


#: ``KEY_POWER`` of <linux/input-event-codes.h>.
_KEY_POWER = 116


def _types(occupant: Occupant) -> bool:
    """Whether a device is something to type with."""
    sink = occupant.device.input_sink
    return sink is not None and any(kind.__name__ == "Key" for kind in sink.accepts)
