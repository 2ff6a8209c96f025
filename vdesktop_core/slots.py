# SPDX-License-Identifier: MIT
"""The slots of one machine: their registers and lines on a backend's virtual machine, and who occupies them.

All slots are mapped from the start and an empty one answers DeviceID 0, so a
device can be plugged in and taken out while the guest runs, with no change to
the guest's address space.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.arch.boot import SlotLayout
from vdesktop_core.arch.memory_map import SLOT_COUNT
from vdesktop_core.doorbells import Doorbells
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_core.interrupt import IrqLine, SharedLine
from vdesktop_core.transport.mmio import MmioSlot, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdesktop_core.arch.memory_map import MemoryMap
    from vdesktop_core.devices.base import Device, DeviceConfig, DeviceType
    from vdesktop_core.hypervisor import VirtualMachine

log = logging.getLogger(__name__)
#: Slot 0 is the place of virtio-power, on every architecture.
FIRST_FREE_SLOT = 1


class Occupant(msgspec.Struct, frozen=True):
    """A device in its slot."""

    slot: int
    name: str
    type: DeviceType
    device: Device


def place_devices(
    devices: list[tuple[DeviceType, DeviceConfig]], slots: int
) -> list[tuple[int, DeviceType, DeviceConfig]]:
    """Give every device a slot: fixed ones first, the others the first free.

    Raises:
        ConfigError: a slot is asked for twice or does not exist, or there are more devices than slots.
    """
    taken: dict[int, str] = {}
    for kind, config in devices:
        if config.slot is None:
            continue
        label = config.name or kind.name
        check_slot(config.slot, label, slots)
        if config.slot in taken:
            raise ConfigError(f"slot {config.slot} is asked for by both {taken[config.slot]!r} and {label!r}")
        taken[config.slot] = label
    free = iter([slot for slot in range(FIRST_FREE_SLOT, slots) if slot not in taken])
    placed = []
    for kind, config in devices:
        slot = config.slot if config.slot is not None else next(free, None)
        if slot is None:
            raise ConfigError(
                f"{len(devices)} devices: a machine has {slots - FIRST_FREE_SLOT} slots for them"
            )
        placed.append((slot, kind, config))
    return placed


def check_slot(slot: int, label: str, slots: int = SLOT_COUNT) -> None:
    """Check that a slot is one for devices.

    Raises:
        ConfigError: it is not.
    """
    if not FIRST_FREE_SLOT <= slot < slots:
        raise ConfigError(f"device {label!r}: slot {slot} is not in {FIRST_FREE_SLOT}..{slots - 1}")


def device_names(
    devices: list[tuple[DeviceType, DeviceConfig]], taken: frozenset[str] = frozenset()
) -> list[str]:
    """Return a unique name for each device: its own, or its type and a number.

    Args:
        devices: types and configurations.
        taken: names that others have already.

    Raises:
        ConfigError: two devices were given one name.
    """
    names: list[str] = []
    given = [config.name for _, config in devices if config.name]
    for name in given:
        if given.count(name) > 1 or name in taken:
            raise ConfigError(f"two devices are named {name!r}: names are unique in a machine")
    for kind, config in devices:
        number = 0
        while not config.name and (
            (name := f"{kind.name}{number}") in names or name in given or name in taken
        ):
            number += 1
        names.append(config.name or f"{kind.name}{number}")
    return names


class Slots:
    """All slots of a machine.

    Args:
        vm: the virtual machine, whose address space they are put into.
        recommended: where they lie.
        host: address of the ``struct vd_host``.
    """

    def __init__(self, vm: VirtualMachine, recommended: MemoryMap, host: int) -> None:
        self._slots: list[MmioSlot] = []
        self._occupants: dict[int, Occupant] = {}
        self._emptied: dict[int, None] = {}  # in the order of it
        #: Slots whose device answers, but has nothing behind it any more: see :meth:`lose`.
        self.lost: set[int] = set()
        self._doorbells = Doorbells(vm)
        self.layout: list[SlotLayout] = []
        with contextlib.ExitStack() as stack:
            #: Readable when :meth:`dispatch` has something to do.
            self.event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, self.event_fd)
            available = vm.platform().interrupt_controller.lines
            for index, irq in enumerate(_slot_lines(stack, vm, host, recommended, available)):
                window = recommended.slot(index)
                slot = MmioSlot(host, index, irq.native, self.event_fd)
                stack.callback(slot.close)
                vm.add_mmio(window.base, window.size, slot.io)
                self._slots.append(slot)
                self.layout.append(SlotLayout(index, window.base, irq.line))
            stack.callback(self._empty)
            self._stack = stack.pop_all()

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def occupants(self) -> list[Occupant]:
        """Who occupies a slot, in the order of slots."""
        return [self._occupants[index] for index in sorted(self._occupants)]

    def find(self, slot: int | str) -> Occupant:
        """Return an occupant by its slot or name.

        Raises:
            ConfigError: there is no such slot or device, or the slot is empty.
        """
        if isinstance(slot, str) and not slot.isdecimal():
            for occupant in self._occupants.values():
                if occupant.name == slot:
                    return occupant
            names = ", ".join(occupant.name for occupant in self.occupants)
            raise ConfigError(f"no device is named {slot!r}: there are {names}")
        index = int(slot)
        if index >= len(self._slots):
            raise ConfigError(f"slot {index} does not exist: slots are 0 to {len(self._slots) - 1}")
        if index not in self._occupants:
            raise ConfigError(
                f"slot {index} is empty: see the table of slots with `vdesktop ctl NAME status`"
            )
        return self._occupants[index]

    @property
    def filled(self) -> frozenset[int]:
        """Slots that have a device. Slot 0 counts always: its device may come a moment after the start."""
        return frozenset({0, *self._occupants})

    @property
    def free_count(self) -> int:
        """How many slots have room for a device."""
        return sum(index not in self._occupants for index in range(FIRST_FREE_SLOT, len(self._slots)))

    def free(self) -> int:
        """Return the first slot that the guest never saw filled, or else the one that is empty longest.

        A stock guest finds a device in a new slot more easily than in one that it knows (docs/hotplug.md).

        Raises:
            ConfigError: there is none.
        """
        new = (
            i for i in range(FIRST_FREE_SLOT, len(self._slots)) if i not in self._occupants | self._emptied
        )
        index = next(new, next(iter(self._emptied), None))
        if index is None:
            raise ConfigError("all slots are occupied: unplug a device first")
        return index

    def put(self, slot: int, name: str, kind: DeviceType, make: Callable[[], Device]) -> Occupant:
        """Make a device and attach it. A running guest finds it when it looks at the slot again.

        Raises:
            VdesktopError: the slot is occupied, or the device cannot be made; nothing is left behind.
        """
        if slot in self._occupants:
            raise DeviceError(
                f"slot {slot} has {self._occupants[slot].name!r}: unplug it first, or name another slot"
            )
        device = make()
        try:
            self._slots[slot].attach(device.native)
        except BaseException:
            device.close()
            raise
        self._doorbells.add(self._slots[slot], self.layout[slot].base)
        self._emptied.pop(slot, None)
        occupant = self._occupants[slot] = Occupant(slot, name, kind, device)
        log.debug("slot %d: %s (%s)", slot, name, kind.name)
        return occupant

    def lose(self, occupant: Occupant) -> bool:
        """Take away what stands behind a device whose driver does not let go of it.

        When this returns True, every request that it took is completed or failed, its image or
        network is closed, and it fails what needs one from now on, in its slot, for as long as the driver
        keeps it: a guest that is not told, or does not care, never waits for an answer. False: this device
        can only be taken.
        """
        if occupant.slot not in self.lost and self._slots[occupant.slot].lose():
            self.lost.add(occupant.slot)
            occupant.device.lost()
            log.debug("slot %d: %s is lost", occupant.slot, occupant.name)
        return occupant.slot in self.lost

    def take(self, occupant: Occupant) -> None:
        """Detach and close a device.

        When this returns, every request that it took is completed or failed, nobody is
        inside of it, and the slot answers DeviceID 0.
        """
        self._doorbells.remove(self._slots[occupant.slot])
        self._slots[occupant.slot].detach()
        del self._occupants[occupant.slot]
        self.lost.discard(occupant.slot)
        self._emptied[occupant.slot] = None
        for _ in self._slots[occupant.slot].events():
            pass  # of a driver that has nothing to drive any more
        occupant.device.close()
        log.debug("slot %d: empty", occupant.slot)

    def status(self, slot: int) -> Status:
        """Return a slot's device status register."""
        return self._slots[slot].status

    def in_use(self, slot: int) -> bool:
        """Tell whether a driver has a slot's device.

        A guest that found a device and has no driver for it, or removed it, leaves ACKNOWLEDGE set
        (Linux ``virtio_dev_remove``); one whose driver gave up and reset it, FAILED: neither is a driver.
        """
        return bool(self._slots[slot].status & ~(Status.ACKNOWLEDGE | Status.FAILED))

    def reset(self, slot: int | None = None) -> None:
        """Bring a slot, or all, to the state at power-on.

        All of them only while the vCPUs are stopped. The driver of a single one is told
        nothing: it finds its device reset.
        """
        if slot is None:
            self._emptied.clear()
        for index in range(len(self._slots)) if slot is None else (slot,):
            self._slots[index].reset()

    def dispatch(self) -> None:
        """Hand driver decisions to their devices; called when :attr:`event_fd` is readable."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.event_fd)
        for occupant in self.occupants:
            for event in self._slots[occupant.slot].events():
                occupant.device.on_event(event.kind, event.a, event.b)

    def counters(self) -> dict[str, dict[str, int]]:
        """Return monotonic counters by device name."""
        return {
            occupant.name: self._slots[occupant.slot].counters() | dict(occupant.device.counters())
            for occupant in self.occupants
        }

    def close(self) -> None:
        """Take all devices out and free the slots. Idempotent. The vCPUs must have stopped."""
        self._stack.close()

    def _empty(self) -> None:
        with contextlib.ExitStack() as stack:  # all of them, whatever one of them raises
            for occupant in self.occupants:
                stack.callback(self.take, occupant)


def _slot_lines(
    stack: contextlib.ExitStack, vm: VirtualMachine, host: int, recommended: MemoryMap, available: range
) -> list[IrqLine]:
    """Return each slot's interrupt line: its own, or an input of a shared one where lines are few."""
    numbers = [recommended.line(index, available) for index in range(SLOT_COUNT)]
    lines = {number: IrqLine(number, vm.irq_line(number)) for number in set(numbers)}
    shares: dict[int, SharedLine] = {}
    for number, line in lines.items():
        if (sharers := numbers.count(number)) > 1:
            shares[number] = SharedLine(host, line, sharers)
            stack.callback(shares[number].close)
    return [
        shares[number].input(numbers[:index].count(number)) if number in shares else lines[number]
        for index, number in enumerate(numbers)
    ]
