# SPDX-License-Identifier: MIT
"""What a slot tells the control plane of its driver's acts."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from guestdriver import Slot
from mmio_rig import RING_RESET, VERSION_1, Recorder, interrupt, running

from vdesktop_core.transport.mmio import Event, EventKind, MmioSlot

if TYPE_CHECKING:
    from vdesktop_core.host import Host
    from vdesktop_core.memory import GuestMemory


def test_events_tell_what_is_true_now(host: Host, memory: GuestMemory) -> None:
    poller = select.poll()
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    poller.register(fd, select.POLLIN)
    slot = MmioSlot(host.native, 3, event_fd=fd)
    device = Recorder(host.native, memory)
    slot.attach(device.native)
    guest = Slot(slot.io)
    for _ in range(100):
        running(guest, memory)
        guest.write(0x104, 1, 1)
        guest.write(0x105, 1, 1)
    assert os.eventfd_read(fd) == 1
    assert list(slot.events()) == [
        Event(3, EventKind.RESET, 0, 0),
        Event(3, EventKind.FEATURES_OK, VERSION_1, 0),
        Event(3, EventKind.QUEUE_READY, 0, 0),
        Event(3, EventKind.DRIVER_OK, 0, 0),
        Event(3, EventKind.CONFIG_WRITTEN, 4, 2),
    ]
    assert poller.poll(0) == []
    guest.write("QueueNotify", 9)
    assert os.eventfd_read(fd) == 1
    assert list(slot.events()) == [Event(3, EventKind.NEEDS_RESET, 0, 0)]
    slot.close()
    device.free()
    os.close(fd)


def test_events_after_unheard_ones_of_another_device_wake_again(host: Host, memory: GuestMemory) -> None:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    slot = MmioSlot(host.native, 3, event_fd=fd)
    device = Recorder(host.native, memory)
    slot.reset()
    assert list(slot.events()) == []  # nobody is in the slot
    slot.attach(device.native)
    Slot(slot.io).write("Status", 0)
    slot.detach()
    assert os.eventfd_read(fd) == 1
    slot.attach(device.native)
    Slot(slot.io).write("Status", 0)
    assert os.eventfd_read(fd) == 1
    assert [event.kind for event in slot.events()] == [EventKind.RESET]
    slot.close()
    device.free()
    os.close(fd)


def test_events_of_a_queue_reset_and_restarted_tell_both_in_order(
    slot: MmioSlot, guest: Slot, memory: GuestMemory
) -> None:
    ring = running(guest, memory, VERSION_1 | RING_RESET)
    list(slot.events())
    for _ in range(10):
        guest.write("QueueReset", 1)
        guest.enable(0, ring)
    assert [event.kind for event in slot.events()] == [EventKind.QUEUE_RESET, EventKind.QUEUE_READY]


def test_machine_reset_is_a_reset_of_the_slot(
    slot: MmioSlot, guest: Slot, device: Recorder, memory: GuestMemory
) -> None:
    running(guest, memory)
    interrupt(device)
    slot.reset()
    assert guest.read("Status") == guest.read("InterruptStatus") == 0
    assert device.calls[-1] == ("reset",)
