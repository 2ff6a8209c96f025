# SPDX-License-Identifier: MIT
"""The same slot on both sides: the C register file and the twin's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from tests.differential.pair import RAM, RAM_SIZE, Pair
from vdesktop_core._native import ffi, lib
from vdesktop_core.testing.twin import TwinDevice, TwinMmio
from vdesktop_core.transport.mmio import MmioSlot

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [8, 4, 16]
CONFIG_LENGTH = 12
WRITABLE = bytes([255] * 4 + [0] * 5 + [255] * 3)
OFFERED = lib.VD_FEATURES_COMMON | 0b1011
SHM = {0: (0x1_2345_6000, 0x2_0000_1000), 2: (RAM, 4096)}


class SlotPair:
    """Every access goes to both; every answer is compared."""

    def __init__(self, pair: Pair, index: int = 7) -> None:
        self.pair = pair
        pair.wipe()
        self.calls: list[tuple[str, int]] = []
        self._callbacks = self._make_callbacks()
        self.slot = MmioSlot(pair.host.native, index)
        self.device = ffi.new("struct vd_device *")
        self._fill_device()
        self._io = ffi.cast("struct vd_io *", self.slot.io)
        self.twin = TwinMmio(pair.twin)
        self.plug()

    def _make_callbacks(self) -> dict[str, object]:
        def record(name: str) -> Callable[..., None]:
            return lambda _device, *arguments: self.calls.append((name, arguments[0] if arguments else 0))

        device, queue = "void(struct vd_device *)", "void(struct vd_device *, uint16_t)"
        kinds = {
            "driver_ok": device,
            "reset": device,
            "queue_ready": queue,
            "queue_reset": queue,
            "notify": queue,
            "config_written": "void(struct vd_device *, uint32_t, uint32_t)",
        }
        return {name: ffi.callback(kind, record(name)) for name, kind in kinds.items()}

    def _fill_device(self) -> None:
        device, host = self.device, ffi.cast("struct vd_host *", self.pair.host.native)
        self._ops = ffi.new("struct vd_device_ops *", self._callbacks)
        device.ops, device.host = self._ops, host
        device.mem = ffi.cast("struct vd_mem *", self.pair.native.native)
        device.virtio_id, device.offered = 42, OFFERED
        device.n_queues = len(SIZES)
        for index, size in enumerate(SIZES):
            device.queue_size_max[index] = size
            device.queue[index] = lib.vd_queue_new(host, device.mem)
        device.config_len = CONFIG_LENGTH
        ffi.memmove(device.config, bytes(range(CONFIG_LENGTH)), CONFIG_LENGTH)
        ffi.memmove(device.config_writable, WRITABLE, CONFIG_LENGTH)
        for index, (base, length) in SHM.items():
            device.shm[index].base, device.shm[index].len = base, length

    def plug(self) -> None:
        """Put the device into the slot."""
        self.slot.attach(int(ffi.cast("uintptr_t", self.device)))
        self.twin.attach(
            TwinDevice(42, OFFERED, list(SIZES), bytearray(range(CONFIG_LENGTH)), WRITABLE, dict(SHM))
        )

    def unplug(self) -> None:
        """Take it out again."""
        self.slot.detach()
        self.twin.detach()
        self.compare()

    def read(self, offset: int, width: int) -> int:
        """Read on both sides."""
        ours = self._io.read(self._io.opaque, offset, width)
        theirs = self.twin.read(offset, width)
        assert ours == theirs, f"read of {width} at {offset:#x}: C {ours:#x}, twin {theirs:#x}"
        return int(ours)

    def write(self, offset: int, width: int, value: int) -> None:
        """Write on both sides."""
        self._io.write(self._io.opaque, offset, width, value)
        self.twin.write(offset, width, value)
        self.compare()

    def interrupt(self, queue: int) -> None:
        """The device used buffers."""
        lib.vd_device_interrupt(self.device, queue)
        self.twin.interrupt()
        self.compare()

    def compare(self) -> None:
        """Hold what the device was told, and what went wrong, to each other."""
        assert self.calls == self.twin.calls
        assert self.device.n_protocol_errors == self.twin.protocol_errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.slot.close()
        for index in range(len(SIZES)):
            lib.vd_queue_free(self.device.queue[index])


#: Guest memory that queues of these tests lie in.
QUEUE_AREA = (RAM, RAM_SIZE)
