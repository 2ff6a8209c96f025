# SPDX-License-Identifier: MIT
"""The twin's virtio-mmio register file (virtio 1.4 §4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vdesktop_core.testing.registers import CONFIG, MAGIC, VERSION, Feature, Interrupt, Reg, Status
from vdesktop_core.testing.twin.factory import make_queue
from vdesktop_core.testing.twin.ring import Geometry, RingBroken

if TYPE_CHECKING:
    from vdesktop_core.testing.twin.memory import TwinMemory
    from vdesktop_core.testing.twin.ring import TwinQueue

#: "VDSK", this core's vendor id.
VENDOR = 0x4B534456
_WORD = 0xFFFF_FFFF
_READABLE = {
    Reg.MAGIC_VALUE,
    Reg.VERSION,
    Reg.DEVICE_ID,
    Reg.VENDOR_ID,
    Reg.DEVICE_FEATURES,
    Reg.QUEUE_SIZE_MAX,
    Reg.QUEUE_READY,
    Reg.INTERRUPT_STATUS,
    Reg.STATUS,
    Reg.SHM_LEN_LOW,
    Reg.SHM_LEN_HIGH,
    Reg.SHM_BASE_LOW,
    Reg.SHM_BASE_HIGH,
    Reg.QUEUE_RESET,
    Reg.CONFIG_GENERATION,
}
#: Low and high halves of a queue's addresses -> (attribute, shift).
_ADDRESS = {
    Reg.QUEUE_DESC_LOW: ("desc", 0),
    Reg.QUEUE_DESC_HIGH: ("desc", 32),
    Reg.QUEUE_DRIVER_LOW: ("driver", 0),
    Reg.QUEUE_DRIVER_HIGH: ("driver", 32),
    Reg.QUEUE_DEVICE_LOW: ("device", 0),
    Reg.QUEUE_DEVICE_HIGH: ("device", 32),
}


@dataclass
class TwinDevice:
    """What the register file has to know of a device."""

    virtio_id: int
    offered: int
    queue_sizes: list[int]
    config: bytearray = field(default_factory=bytearray)
    writable: bytes = b""
    shm: dict[int, tuple[int, int]] = field(default_factory=dict)  #: shmid -> (base, length)


@dataclass
class _Queue:
    size: int = 0
    desc: int = 0
    driver: int = 0
    device: int = 0
    live: TwinQueue | None = None


class TwinMmio:
    """One slot. ``calls`` records what the device was told, in order."""

    def __init__(self, memory: TwinMemory) -> None:
        self.memory = memory
        self.device: TwinDevice | None = None
        self.calls: list[tuple[str, int]] = []
        self.protocol_errors = 0
        self.isr = 0
        self.generation = 0
        self._forget()

    def _forget(self) -> None:
        self.status = 0
        self.device_sel = self.driver_sel = self.queue_sel = self.shm_sel = 0
        self.driver_features = 0
        self.beyond = False
        self.accepted = 0
        self.kicked: set[int] = set()
        self.isr = 0
        count = len(self.device.queue_sizes) if self.device else 0
        self.queues = [_Queue() for _ in range(count)]

    def attach(self, device: TwinDevice) -> None:
        """Fill the slot."""
        device.offered |= 1 << Feature.VERSION_1
        self.device = device
        self.generation += 1
        self._forget()

    def detach(self) -> None:
        """Reset the device and empty the slot."""
        if self.device:
            self.calls.append(("reset", 0))
        self.device = None
        self._forget()

    def interrupt(self) -> None:
        """The device used buffers."""
        if self.status & Status.DRIVER_OK:
            self.isr |= Interrupt.USED

    def protocol_error(self) -> None:
        """The driver broke a rule: NEEDS_RESET, and a config interrupt after DRIVER_OK (§2.1.2)."""
        self.protocol_errors += 1
        if not self.status & Status.NEEDS_RESET:
            self.status |= Status.NEEDS_RESET
            if self.status & Status.DRIVER_OK:
                self.isr |= Interrupt.CONFIG

    def read(self, offset: int, width: int) -> int:
        """Answer a guest's read; what is not allowed reads as 0."""
        if offset >= CONFIG:
            return self._config_read(offset - CONFIG, width)
        if width != 4 or offset not in _READABLE:
            return 0
        constant = {Reg.MAGIC_VALUE: MAGIC, Reg.VERSION: VERSION, Reg.VENDOR_ID: VENDOR}
        if offset in constant:
            return constant[Reg(offset)]
        if offset == Reg.CONFIG_GENERATION:
            return self.generation
        if offset == Reg.STATUS:
            return self.status
        if offset == Reg.INTERRUPT_STATUS:
            return self.isr
        return self._device_read(self.device, Reg(offset)) if self.device else 0

    def _device_read(self, device: TwinDevice, reg: Reg) -> int:
        if reg == Reg.DEVICE_ID:
            return device.virtio_id
        if reg == Reg.DEVICE_FEATURES:
            return device.offered >> 32 * self.device_sel & _WORD if self.device_sel < 2 else 0
        if reg == Reg.QUEUE_SIZE_MAX:
            sizes = device.queue_sizes
            return sizes[self.queue_sel] if self.queue_sel < len(sizes) else 0
        if reg == Reg.QUEUE_READY:
            return int(self.queue_sel < len(self.queues) and self.queues[self.queue_sel].live is not None)
        if reg == Reg.QUEUE_RESET:
            return 0
        base, length = device.shm.get(self.shm_sel, (-1, -1))  # §4.2.2: absent reads as -1
        value = length if reg in (Reg.SHM_LEN_LOW, Reg.SHM_LEN_HIGH) else base
        return value >> (32 if reg in (Reg.SHM_LEN_HIGH, Reg.SHM_BASE_HIGH) else 0) & _WORD

    def _config_read(self, offset: int, width: int) -> int:
        config = self.device.config if self.device else b""
        return int.from_bytes(bytes(config[offset : offset + width]).ljust(width, b"\0"), "little")

    def write(self, offset: int, width: int, value: int) -> None:
        """Take a guest's write; what is not allowed is ignored."""
        value &= (1 << 8 * width) - 1
        if offset >= CONFIG:
            self._config_write(offset - CONFIG, width, value)
        elif width == 4 and offset in set(Reg) and self.device:
            self._control_write(self.device, Reg(offset), value)

    def _config_write(self, offset: int, width: int, value: int) -> None:
        device, stored = self.device, False
        if device is None:
            return
        for at, byte in enumerate(value.to_bytes(width, "little"), offset):
            if at < len(device.config) and at < len(device.writable) and device.writable[at]:
                device.config[at] = byte
                stored = True
        if stored:
            self.calls.append(("config_written", offset))

    def _control_write(self, device: TwinDevice, reg: Reg, value: int) -> None:
        if reg == Reg.DEVICE_FEATURES_SEL:
            self.device_sel = value
        elif reg == Reg.DRIVER_FEATURES_SEL:
            self.driver_sel = value
        elif reg == Reg.QUEUE_SEL:
            self.queue_sel = value
        elif reg == Reg.SHM_SEL:
            self.shm_sel = value
        elif reg == Reg.DRIVER_FEATURES:
            self._features_write(value)
        elif reg == Reg.INTERRUPT_ACK:
            self.isr &= ~value
        elif reg == Reg.QUEUE_NOTIFY:
            self._notify(value)
        elif reg == Reg.STATUS:
            self._status_write(device, value)
        elif self.queue_sel < len(self.queues):
            self._queue_write(device, reg, value)

    def _features_write(self, value: int) -> None:
        if self.status & Status.FEATURES_OK:
            return
        if self.driver_sel < 2:
            shift = 32 * self.driver_sel
            self.driver_features = self.driver_features & ~(_WORD << shift) | value << shift
        elif value:
            self.beyond = True

    def _status_write(self, device: TwinDevice, value: int) -> None:
        if value == 0:
            self.calls.append(("reset", 0))
            self._forget()
            return
        added = value & ~self.status
        self.status |= added & (Status.ACKNOWLEDGE | Status.DRIVER | Status.FAILED)
        acceptable = (
            not self.beyond
            and not self.driver_features & ~device.offered
            and self.driver_features >> Feature.VERSION_1 & 1
        )
        if added & Status.FEATURES_OK and acceptable:
            self.accepted = self.driver_features
            self.status |= Status.FEATURES_OK
        blocked = self.status & Status.NEEDS_RESET
        if added & Status.DRIVER_OK and self.status & Status.FEATURES_OK and not blocked:
            self.status |= Status.DRIVER_OK
            self.calls.append(("driver_ok", 0))
            self.calls += [("notify", q) for q in sorted(self.kicked) if self._is_live(q)]
            self.kicked.clear()

    def _is_live(self, index: int) -> bool:
        return self.queues[index].live is not None

    def _notify(self, value: int) -> None:
        index = value & 0xFFFF if self.accepted >> Feature.NOTIFICATION_DATA & 1 else value
        if index >= len(self.queues):
            self.protocol_error()
        elif not self.status & Status.DRIVER_OK:
            self.kicked.add(index)
        elif self._is_live(index):
            self.calls.append(("notify", index))

    def _queue_write(self, device: TwinDevice, reg: Reg, value: int) -> None:
        queue = self.queues[self.queue_sel]
        if reg == Reg.QUEUE_RESET:
            negotiated = self.driver_features >> Feature.RING_RESET & 1
            if value == 1 and negotiated and self.status & Status.DRIVER_OK:
                if queue.live:
                    self.calls.append(("queue_reset", self.queue_sel))
                self.queues[self.queue_sel] = _Queue()
        elif reg == Reg.QUEUE_READY and value == 0:
            if queue.live:
                self.calls.append(("queue_reset", self.queue_sel))
                queue.live = None
        elif queue.live:
            return  # the geometry was copied when the queue became ready
        elif reg in _ADDRESS:
            name, shift = _ADDRESS[reg]
            setattr(queue, name, getattr(queue, name) & ~(_WORD << shift) | value << shift)
        elif reg == Reg.QUEUE_SIZE:
            queue.size = value
        elif reg == Reg.QUEUE_READY and value == 1 and self.status & Status.FEATURES_OK:
            self._queue_start(device, queue)

    def _queue_start(self, device: TwinDevice, queue: _Queue) -> None:
        if queue.size > device.queue_sizes[self.queue_sel]:
            self.protocol_error()
            return
        bits = self.accepted
        geometry = Geometry(
            queue.size,
            queue.desc,
            queue.driver,
            queue.device,
            packed=bool(bits >> Feature.RING_PACKED & 1),
            indirect=bool(bits >> Feature.INDIRECT_DESC & 1),
            event_idx=bool(bits >> Feature.EVENT_IDX & 1),
        )
        try:
            queue.live = make_queue(self.memory, geometry)
        except RingBroken:
            self.protocol_error()
        else:
            self.calls.append(("queue_ready", self.queue_sel))
