# SPDX-License-Identifier: MIT
"""The virtio-mmio register file, seen from a driver: decoding, features, config space, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from guestdriver import Slot
from mmio_rig import EXTRA, PACKED, RING_RESET, VERSION_1, Line, Recorder, interrupt, running

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import DeviceError
from vdesktop_core.transport.mmio import Access, MmioSlot, Status, registers

if TYPE_CHECKING:
    from vdesktop_core.host import Host
    from vdesktop_core.memory import GuestMemory


# Slots and decoding


def test_empty_slot_answers_device_id_0_and_ignores_writes(slot: MmioSlot) -> None:
    guest = Slot(slot.io)
    assert guest.read("MagicValue") == 0x74726976
    assert guest.read("Version") == 2
    for register in registers():
        guest.write(register.name, 0xFFFFFFFF)
    assert guest.read("DeviceID") == guest.read("Status") == guest.read("QueueSizeMax") == 0
    assert guest.read(0x100) == 0
    assert list(slot.events()) == []


def test_attached_device_shows_its_id(guest: Slot) -> None:
    assert guest.read("DeviceID") == 42


def test_attach_to_an_occupied_slot_is_refused(slot: MmioSlot, device: Recorder) -> None:
    with pytest.raises(DeviceError, match="slot 7 is occupied"):
        slot.attach(device.native)


@pytest.mark.parametrize(("field", "value"), [("n_queues", 65), ("config_len", 3841), ("virtio_id", 0)])
def test_attach_of_a_device_too_large_is_refused(
    slot: MmioSlot, device: Recorder, field: str, value: int
) -> None:
    slot.detach()
    old = getattr(device.dev, field)
    setattr(device.dev, field, value)
    with pytest.raises(DeviceError, match="does not fit slot 7"):
        slot.attach(device.native)
    setattr(device.dev, field, old)


def test_detach_resets_the_device_and_empties_the_slot(
    slot: MmioSlot, guest: Slot, device: Recorder, memory: GuestMemory
) -> None:
    running(guest, memory)
    interrupt(device)
    assert slot.detach()
    assert device.calls[-1] == ("reset",)
    assert guest.read("DeviceID") == guest.read("Status") == guest.read("InterruptStatus") == 0
    guest.write("QueueNotify", 0)
    assert ("notify", 0) not in device.calls
    assert not slot.detach()


def test_register_table_matches_what_the_guest_sees(guest: Slot, slot: MmioSlot) -> None:
    offsets = [register.offset for register in registers()]
    assert offsets == sorted(set(offsets))
    assert len(offsets) == 29
    before = slot.counters()["no_register"]
    for register in registers():
        if Access.R not in register.access:
            assert guest.read(register.name) == 0
    writeonly = sum(Access.R not in register.access for register in registers())
    assert slot.counters()["no_register"] == before + writeonly


@pytest.mark.parametrize("width", [1, 2, 8])
def test_control_register_of_another_width_reads_0_and_ignores_writes(
    guest: Slot, slot: MmioSlot, width: int
) -> None:
    guest.write("Status", 3)
    assert guest.read("MagicValue", width) == 0
    guest.write("Status", 0, width)
    assert guest.read("Status") == 3
    assert slot.counters()["bad_width"] == 2


@pytest.mark.parametrize("offset", [0x01, 0x03, 0x72, 0xFD])
def test_control_register_unaligned_reads_0_and_ignores_writes(
    guest: Slot, slot: MmioSlot, offset: int
) -> None:
    guest.write("Status", 3)
    guest.write(offset, 0)
    assert guest.read(offset) == 0
    assert guest.read("Status") == 3
    assert slot.counters()["bad_width"] == 2


@pytest.mark.parametrize("offset", [0x18, 0x2C, 0x40, 0xC4, 0xF8])
def test_offset_without_a_register_reads_0_and_is_counted(guest: Slot, slot: MmioSlot, offset: int) -> None:
    guest.write(offset, 1)
    assert guest.read(offset) == 0
    assert slot.counters()["no_register"] == 2


# Features and status


def test_device_features_are_shown_by_word_and_0_beyond_63(guest: Slot) -> None:
    assert guest.device_features() == EXTRA | VERSION_1 | PACKED | RING_RESET
    for word in (2, 3, 4, 0xFFFFFFFF):
        guest.write("DeviceFeaturesSel", word)
        assert guest.read("DeviceFeatures") == 0


def test_ring_reset_is_not_offered_for_a_device_that_cannot(
    host: Host, memory: GuestMemory, slot: MmioSlot
) -> None:
    device = Recorder(host.native, memory, queue_reset=False)
    slot.attach(device.native)
    assert Slot(slot.io).device_features() == EXTRA | VERSION_1 | PACKED
    slot.detach()
    device.free()


@pytest.mark.parametrize("features", [0, EXTRA, VERSION_1 | 1 << 6, VERSION_1 | 1 << 63, VERSION_1 | 1 << 33])
def test_features_not_acceptable_leave_features_ok_clear(guest: Slot, features: int) -> None:
    assert not guest.negotiate(features)
    guest.driver_ok()
    assert guest.read("Status") & Status.DRIVER_OK == 0


def test_feature_bits_above_63_are_not_acceptable(guest: Slot) -> None:
    guest.write("Status", 3)
    guest.write("DriverFeaturesSel", 1)
    guest.write("DriverFeatures", VERSION_1 >> 32)
    guest.write("DriverFeaturesSel", 2)
    guest.write("DriverFeatures", 1)
    guest.write("Status", 11)
    assert guest.read("Status") == 3


def test_features_are_fixed_after_features_ok(guest: Slot, device: Recorder, slot: MmioSlot) -> None:
    assert guest.negotiate(VERSION_1)
    guest.write("DriverFeaturesSel", 0)
    guest.write("DriverFeatures", EXTRA)
    assert device.dev.driver_features == VERSION_1
    assert slot.counters()["out_of_turn"] == 1


def test_driver_ok_without_features_ok_is_refused(guest: Slot, device: Recorder, slot: MmioSlot) -> None:
    guest.write("Status", 7)
    assert guest.read("Status") == 3
    assert device.calls == []
    assert slot.counters()["out_of_turn"] == 1


def test_driver_that_failed_may_try_again_without_a_reset(guest: Slot, device: Recorder) -> None:
    """As Linux does, whose bus sets FAILED after a probe that failed, and resets only when one succeeded."""
    guest.negotiate(VERSION_1)
    guest.write("Status", 11 | 128)
    assert guest.read("Status") == 139
    guest.write("Status", 15 | 128)
    assert guest.read("Status") == 143
    assert ("driver_ok",) in device.calls


def test_driver_ok_is_told_once(guest: Slot, device: Recorder, memory: GuestMemory) -> None:
    running(guest, memory)
    guest.driver_ok()
    assert device.calls == [("reset",), ("queue_ready", 0), ("driver_ok",)]


def test_status_bits_are_not_cleared_one_by_one(guest: Slot, slot: MmioSlot) -> None:
    guest.negotiate(VERSION_1)
    guest.write("Status", 1)
    assert guest.read("Status") == 11
    assert slot.counters()["out_of_turn"] == 1


def test_status_needs_reset_cannot_be_set_by_the_driver(guest: Slot) -> None:
    guest.write("Status", 0x43)
    assert guest.read("Status") == 3


def test_reset_brings_everything_back(guest: Slot, device: Recorder, memory: GuestMemory, line: Line) -> None:
    running(guest, memory)
    interrupt(device)
    guest.write("QueueSel", 1)
    guest.write("Status", 0)
    assert device.calls[-1] == ("reset",)
    assert line.edges == [True, False]
    assert guest.read("Status") == guest.read("InterruptStatus") == guest.read("QueueReady") == 0
    assert not lib.vd_queue_live(device.dev.queue[0])
    assert device.dev.driver_features == 0
    assert device.dev.n_resets == 2


# Config space


@pytest.mark.parametrize(
    ("offset", "width", "value"),
    [
        (0, 1, 0x01),
        (0, 4, 0x04030201),
        (1, 2, 0x0302),
        (0, 8, 0x0807060504030201),
        (8, 4, 0x0A09),
        (10, 4, 0),
    ],
)
def test_config_read_of_any_width_returns_bytes_and_0_past_the_end(
    guest: Slot, offset: int, width: int, value: int
) -> None:
    assert guest.read(0x100 + offset, width) == value


@pytest.mark.parametrize("offset", [10, 0xEF8, 0xEFF])
def test_config_read_past_the_end_is_counted(guest: Slot, slot: MmioSlot, offset: int) -> None:
    assert guest.read(0x100 + offset, 8 if offset < 0xEFF else 1) == 0
    assert slot.counters()["config_bounds"] == 1


def test_config_write_stores_writable_bytes_only(guest: Slot, device: Recorder, slot: MmioSlot) -> None:
    guest.write(0x104, 0xDDCCBBAA)
    assert bytes(ffi.buffer(device.dev.config))[:10] == bytes([1, 2, 3, 4, 0xAA, 0xBB, 7, 8, 9, 10])
    assert device.calls[-1] == ("config_written", 4, 4)
    assert slot.counters()["config_bounds"] == 1


@pytest.mark.parametrize("offset", [0, 9, 10, 0xEFC])
def test_config_write_of_readonly_bytes_or_past_the_end_is_ignored(
    guest: Slot, device: Recorder, offset: int
) -> None:
    guest.write(0x100 + offset, 0xFFFFFFFF)
    assert bytes(ffi.buffer(device.dev.config))[:11] == bytes([*range(1, 11), 0])
    assert device.calls == []


def test_config_set_changes_the_generation_and_interrupts(
    guest: Slot, device: Recorder, memory: GuestMemory
) -> None:
    running(guest, memory)
    generation = guest.read("ConfigGeneration")
    lib.vd_device_config_set(device.dev, 8, b"abcd", 4)
    assert guest.read("ConfigGeneration") != generation
    assert guest.read(0x108, 2) == 0x6261
    assert guest.read("InterruptStatus") == 2


# Shared memory


def test_shared_memory_region_shows_base_and_length(guest: Slot) -> None:
    shown = []
    for region in (0, 1, 4, 0xFFFFFFFF):
        guest.write("SHMSel", region)
        shown.append(tuple(guest.read(f"SHM{name}") for name in ("BaseHigh", "BaseLow", "LenHigh", "LenLow")))
    absent = (0xFFFFFFFF,) * 4
    assert shown == [absent, (1, 0x2000, 2, 0), absent, absent]
