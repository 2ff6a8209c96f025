# SPDX-License-Identifier: MIT
"""A slot's other side: a device whose operations, and a line whose edges are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guestdriver import PackedDriver, Slot, SplitDriver
from places import RING

from vdesktop_core._native import ffi, lib

if TYPE_CHECKING:
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


def running(guest: Slot, memory: GuestMemory, features: int = VERSION_1) -> SplitDriver | PackedDriver:
    assert guest.negotiate(features)
    ring = (PackedDriver if features & PACKED else SplitDriver)(memory, RING, 8)
    guest.enable(0, ring)
    guest.driver_ok()
    return ring


def interrupt(device: Recorder) -> None:
    lib.vd_device_interrupt(device.dev, 0)
