# SPDX-License-Identifier: MIT
"""The virtio-mmio register file, seen from a driver, with a device whose operations are recorded."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any

import pytest
from guestdriver import PackedDriver, Slot, SplitDriver
from places import RING

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import DeviceError
from vdesktop_core.transport.mmio import Access, Event, EventKind, MmioSlot, Status, registers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.host import Host
    from vdesktop_core.memory import GuestMemory

VERSION_1, PACKED, RING_RESET, EXTRA = 1 << 32, 1 << 34, 1 << 40, 1 << 5


class Recorder:
    """A device of two queues and ten bytes of config space that notes every operation."""

    def __init__(self, host: int, memory: GuestMemory, *, queue_reset: bool = True) -> None:
        self.calls: list[tuple[Any, ...]] = []
        note = self.calls.append
        signatures: dict[str, tuple[str, Any]] = {
            "driver_ok": ("void(struct vd_device *)", lambda _: note(("driver_ok",))),
            "reset": ("void(struct vd_device *)", lambda _: note(("reset",))),
            "queue_ready": ("void(struct vd_device *, uint16_t)", lambda _, q: note(("queue_ready", q))),
            "queue_reset": ("void(struct vd_device *, uint16_t)", lambda _, q: note(("queue_reset", q))),
            "notify": ("void(struct vd_device *, uint16_t)", lambda _, q: note(("notify", q))),
            "config_written": (
                "void(struct vd_device *, uint32_t, uint32_t)",
                lambda _, offset, size: note(("config_written", offset, size)),
            ),
        }
        if not queue_reset:
            del signatures["queue_reset"]
        self.callbacks = {name: ffi.callback(*what) for name, what in signatures.items()}
        self.ops = ffi.new("struct vd_device_ops *", self.callbacks)
        self.dev = ffi.new("struct vd_device *")
        self.dev.ops = self.ops
        self.dev.virtio_id = 42
        self.dev.offered = EXTRA | PACKED | RING_RESET
        self.dev.n_queues = 2
        self.dev.host = ffi.cast("struct vd_host *", host)
        self.dev.name = b"recorder"
        for i in range(2):
            self.dev.queue[i] = lib.vd_queue_new(self.dev.host, ffi.cast("struct vd_mem *", memory.native))
            self.dev.queue_size_max[i] = 16
        self.dev.config_len = 10
        for i in range(10):
            self.dev.config[i] = i + 1
        self.dev.config_writable[4] = self.dev.config_writable[5] = 0xFF
        self.dev.shm[1].base, self.dev.shm[1].len = 0x1_0000_2000, 0x2_0000_0000

    @property
    def native(self) -> int:
        return int(ffi.cast("uintptr_t", self.dev))

    def free(self) -> None:
        for i in range(2):
            lib.vd_queue_free(self.dev.queue[i])


class Line:
    """An interrupt line that notes its edges."""

    def __init__(self) -> None:
        self.edges: list[bool] = []
        self.callback = ffi.callback("void(void *, bool)", lambda _, level: self.edges.append(bool(level)))
        self.irq = ffi.new("struct vd_irq *", {"set": self.callback})
        self.native = int(ffi.cast("uintptr_t", self.irq))


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def slot(host: Host, line: Line) -> Iterator[MmioSlot]:
    slot = MmioSlot(host.native, 7, line.native)
    yield slot
    slot.close()


@pytest.fixture
def device(host: Host, memory: GuestMemory, slot: MmioSlot) -> Iterator[Recorder]:
    device = Recorder(host.native, memory)
    slot.attach(device.native)
    yield device
    slot.detach()
    device.free()


@pytest.fixture
def guest(slot: MmioSlot, device: Recorder) -> Slot:
    return Slot(slot.io)


def running(guest: Slot, memory: GuestMemory, features: int = VERSION_1) -> SplitDriver | PackedDriver:
    assert guest.negotiate(features)
    ring = (PackedDriver if features & PACKED else SplitDriver)(memory, RING, 8)
    guest.enable(0, ring)
    guest.driver_ok()
    return ring


def interrupt(device: Recorder) -> None:
    lib.vd_device_interrupt(device.dev, 0)


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
    guest.write("InterruptACK", 1)
    assert line.edges == [True]
    guest.write("InterruptACK", 2)
    assert line.edges == [True, False]
    interrupt(device)
    assert line.edges == [True, False, True]
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


# Events


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
