# SPDX-License-Identifier: MIT
"""The virtio-mmio register file, seen from a driver: queues, notifications, interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from guestdriver import Slot, SplitDriver
from mmio_rig import PACKED, RING_RESET, VERSION_1, Line, Recorder, interrupt, running
from places import RING

from vdesktop_core._native import lib
from vdesktop_core.transport.mmio import Access, MmioSlot, Status, registers

if TYPE_CHECKING:
    from vdesktop_core.host import Host
    from vdesktop_core.memory import GuestMemory


# Queues


def test_queue_size_max_of_a_queue_that_does_not_exist_is_0(guest: Slot) -> None:
    sizes = []
    for queue in (0, 1, 2, 63, 64, 0xFFFF, 0xFFFFFFFF):
        guest.write("QueueSel", queue)
        sizes.append(guest.read("QueueSizeMax"))
        guest.write("QueueReady", 1)
        assert guest.read("QueueReady") == 0
    assert sizes == [16, 16, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("features", [VERSION_1, VERSION_1 | PACKED])
def test_queue_ready_copies_geometry_and_fixes_the_registers(
    guest: Slot, device: Recorder, memory: GuestMemory, slot: MmioSlot, features: int
) -> None:
    running(guest, memory, features)
    assert guest.read("QueueReady") == 1
    for register in registers():
        if register.name.startswith(("QueueD", "QueueSize")) and register.access == Access.W:
            guest.write(register.name, 0xFFFFFFFF)
    assert lib.vd_queue_live(device.dev.queue[0])
    assert slot.counters()["out_of_turn"] == 7


def test_queue_ready_before_features_ok_is_refused(guest: Slot, memory: GuestMemory, slot: MmioSlot) -> None:
    guest.write("Status", 3)
    guest.enable(0, SplitDriver(memory, RING, 8))
    assert guest.read("QueueReady") == 0
    assert slot.counters()["out_of_turn"] == 1


@pytest.mark.parametrize(
    ("size", "base"), [(0, RING), (32, RING), (6, RING), (8, 0), (0x10008, RING), (8, RING + 4)]
)
def test_queue_ready_with_bad_geometry_needs_reset(
    guest: Slot, memory: GuestMemory, device: Recorder, size: int, base: int
) -> None:
    guest.negotiate(VERSION_1)
    ring = SplitDriver(memory, RING, 8)
    ring.size, ring.desc = size, base
    guest.enable(0, ring)
    assert guest.read("QueueReady") == 0
    assert guest.read("Status") & Status.NEEDS_RESET
    assert device.dev.n_protocol_errors == 1


def test_queue_ready_0_stops_the_queue(guest: Slot, device: Recorder, memory: GuestMemory) -> None:
    running(guest, memory)
    guest.write("QueueReady", 0)
    assert guest.read("QueueReady") == 0
    assert device.calls[-1] == ("queue_reset", 0)
    assert not lib.vd_queue_live(device.dev.queue[0])


def test_queue_reset_stops_the_queue_which_can_start_again(
    guest: Slot, device: Recorder, memory: GuestMemory
) -> None:
    ring = running(guest, memory, VERSION_1 | RING_RESET)
    guest.write("QueueReset", 1)
    assert guest.read("QueueReset") == guest.read("QueueReady") == 0
    assert device.calls[-1] == ("queue_reset", 0)
    guest.write("QueueNotify", 0)
    assert ("notify", 0) not in device.calls
    guest.enable(0, ring)
    assert guest.read("QueueReady") == 1
    guest.write("QueueNotify", 0)
    assert device.calls[-2:] == [("queue_ready", 0), ("notify", 0)]


def test_queue_reset_not_negotiated_is_ignored(guest: Slot, device: Recorder, memory: GuestMemory) -> None:
    running(guest, memory)
    guest.write("QueueReset", 1)
    assert guest.read("QueueReady") == 1
    assert ("queue_reset", 0) not in device.calls


# Notifications


def test_notify_reaches_the_device(guest: Slot, device: Recorder, memory: GuestMemory) -> None:
    running(guest, memory)
    guest.write("QueueNotify", 0)
    assert device.calls[-1] == ("notify", 0)
    assert device.dev.n_kicks == 1


@pytest.mark.parametrize("queue", [2, 64, 0xFFFF, 0x10000, 0xFFFFFFFF])
def test_notify_of_a_queue_that_does_not_exist_needs_reset(
    guest: Slot, device: Recorder, memory: GuestMemory, line: Line, queue: int
) -> None:
    running(guest, memory)
    guest.write("QueueNotify", queue)
    assert guest.read("Status") & Status.NEEDS_RESET
    assert guest.read("InterruptStatus") == 2
    assert line.edges == [True]
    assert device.dev.n_protocol_errors == 1
    assert device.calls[-1] == ("driver_ok",)


def test_notify_of_a_queue_not_ready_is_dropped_and_counted(
    guest: Slot, device: Recorder, memory: GuestMemory, slot: MmioSlot
) -> None:
    running(guest, memory)
    guest.write("QueueNotify", 1)
    assert ("notify", 1) not in device.calls
    assert slot.counters()["early_kicks"] == 1


def test_notify_before_driver_ok_is_delivered_after_it(
    guest: Slot, device: Recorder, memory: GuestMemory
) -> None:
    guest.negotiate(VERSION_1)
    guest.enable(0, SplitDriver(memory, RING, 8))
    guest.write("QueueNotify", 0)
    guest.write("QueueNotify", 1)
    assert ("notify", 0) not in device.calls
    guest.driver_ok()
    assert device.calls[-2:] == [("driver_ok",), ("notify", 0)]


# Interrupts


def test_interrupt_line_is_high_until_every_bit_is_acknowledged(
    guest: Slot, device: Recorder, memory: GuestMemory, line: Line
) -> None:
    running(guest, memory)
    interrupt(device)
    interrupt(device)
    lib.vd_device_config_set(device.dev, 0, b"\x55", 1)
    assert guest.read("InterruptStatus") == 3
    assert line.edges == [True]
    guest.write("InterruptACK", 1)  # the rest is said once more: the controller may count edges
    assert line.edges == [True, True]
    guest.write("InterruptACK", 2)
    assert line.edges == [True, True, False]
    interrupt(device)
    assert line.edges == [True, True, False, True]
    assert guest.read("InterruptStatus") == 1


def test_interrupt_before_driver_ok_is_not_raised(guest: Slot, device: Recorder, line: Line) -> None:
    guest.negotiate(VERSION_1)
    interrupt(device)
    lib.vd_device_config_set(device.dev, 0, b"\x55", 1)
    assert guest.read("InterruptStatus") == 0
    assert line.edges == []


def test_protocol_error_is_logged_once_a_reset(
    guest: Slot, device: Recorder, memory: GuestMemory, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        running(guest, memory)
        for _ in range(3):
            lib.vd_device_protocol_error(device.dev, b"something (virtio 1.4 \xc2\xa70)")
    assert host.drain_log() == 2
    assert caplog.messages == ["something (virtio 1.4 §0)"] * 2
    assert device.dev.n_protocol_errors == 6
