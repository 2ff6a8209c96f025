# SPDX-License-Identifier: MIT
"""Kicks that a backend turns into signals of an eventfd, for the devices that can hear one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.interrupt import Doorbell
from vdesktop_core.transport.mmio import QUEUE_NOTIFY

if TYPE_CHECKING:
    from vdesktop_core.hypervisor import VirtualMachine
    from vdesktop_core.transport.mmio import MmioSlot

#: QueueNotify is 32 bits wide (virtio 1.4 §4.2.2).
_WIDTH = 4


class Doorbells:
    """The doorbells of a machine's slots.

    A doorbell is a write of a queue's index to QueueNotify. Everything else that can be written there
    (another number, another width, VIRTIO_F_NOTIFICATION_DATA) does not match, and reaches the register
    file as ever.

    Args:
        vm: the machine. A backend that refuses one doorbell is not asked for another.
    """

    def __init__(self, vm: VirtualMachine) -> None:
        self._vm = vm
        self._able = True
        self._rung: dict[int, list[Doorbell]] = {}

    def add(self, slot: MmioSlot, base: int) -> None:
        """Give the backend the doorbells of a device that was just attached to the slot at ``base``."""
        if not self._able:
            return
        taken = self._rung.setdefault(slot.index, [])
        for queue, fd in slot.doorbells():
            bell = Doorbell(base + QUEUE_NOTIFY, _WIDTH, queue, fd)
            self._able = self._vm.add_doorbell(bell.address, bell.width, bell.value, bell.fd)
            if not self._able:
                break
            taken.append(bell)

    def remove(self, slot: MmioSlot) -> None:
        """Take back a slot's doorbells, before its device is detached. Idempotent."""
        for bell in self._rung.pop(slot.index, []):
            self._vm.remove_doorbell(bell.address, bell.width, bell.value, bell.fd)
