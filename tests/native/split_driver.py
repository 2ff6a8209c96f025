# SPDX-License-Identifier: MIT
"""A small driver of split queues over virtio-mmio, for tests that need odd chains on a real slot."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import Any

from vdesktop_core._native import ffi, lib
from vdesktop_core.host import Host
from vdesktop_core.iothread import IoThread
from vdesktop_core.memory import GuestMemory, MemoryRegion

RAM = 0x4000_0000
RAM_SIZE = 64 << 20
#: From here on memory is the tests' own.
FREE = RAM + (1 << 20)
PATIENCE = 60.0

DESC_NEXT, DESC_WRITE = 1, 2
ACK, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET = 1, 2, 4, 8, 64
VERSION_1 = 1 << 32


@dataclass
class Queue:
    desc: int
    avail: int
    used: int
    size: int
    next_desc: int = 0
    next_avail: int = 0
    next_used: int = 0


class Rig:
    """Host, memory, I/O thread and one mmio slot."""

    def __init__(self) -> None:
        self.host = Host()
        self.memory = GuestMemory(self.host.native)
        self.ram = MemoryRegion("ram", RAM_SIZE)
        self.memory.add(RAM, self.ram)
        self.thread = IoThread(self.host.native, "test-io")
        self.levels: list[bool] = []
        self._set = ffi.callback("void(void *, bool)", lambda _, level: self.levels.append(bool(level)))
        irq = ffi.new("struct vd_irq *", {"set": self._set})
        self.mmio = lib.vd_mmio_new(ffi.cast("struct vd_host *", self.host.native), 1, irq, -1)
        self.io = lib.vd_mmio_io(self.mmio)
        self.device: Any = None
        self.queues: list[Queue] = []

    # Registers

    def read(self, offset: int, width: int = 4) -> int:
        return int(self.io.read(self.io.opaque, offset, width))

    def write(self, offset: int, value: int, width: int = 4) -> None:
        self.io.write(self.io.opaque, offset, width, value)

    @property
    def status(self) -> int:
        return self.read(0x70)

    def offered(self) -> int:
        bits = 0
        for word in (0, 1):
            self.write(0x14, word)
            bits |= self.read(0x10) << 32 * word
        return bits

    def config(self, offset: int, width: int) -> int:
        return sum(self.read(0x100 + offset + i, 1) << 8 * i for i in range(width))

    # Life cycle

    def attach(self, native: int) -> None:
        self.device = ffi.cast("struct vd_device *", native)
        assert lib.vd_mmio_attach(self.mmio, self.device) == 0

    def negotiate(self, features: int | None = None, *, n_queues: int = 1, size: int = 128) -> None:
        """Bring the device to DRIVER_OK with all it offers (but packed rings), or with `features`."""
        self.write(0x70, 0)
        self.write(0x70, ACK | DRIVER)
        if features is None:
            features = self.offered() & ~(1 << 34) & ~(1 << 29)
        features |= VERSION_1
        for word in (0, 1):
            self.write(0x24, word)
            self.write(0x20, features >> 32 * word & 0xFFFF_FFFF)
        self.write(0x70, ACK | DRIVER | FEATURES_OK)
        assert self.status & FEATURES_OK, "the device refused the features"
        self.queues = [self.queue(i, size) for i in range(n_queues)]
        self.write(0x70, ACK | DRIVER | FEATURES_OK | DRIVER_OK)

    def queue(self, index: int, size: int) -> Queue:
        base = RAM + index * 0x10000
        queue = Queue(base, base + 0x4000, base + 0x8000, size)
        self.memory.write(base, bytes(0x10000))
        self.write(0x30, index)
        self.write(0x38, size)
        for register, address in ((0x80, queue.desc), (0x90, queue.avail), (0xA0, queue.used)):
            self.write(register, address & 0xFFFF_FFFF)
            self.write(register + 4, address >> 32)
        self.write(0x44, 1)
        assert self.read(0x44) == 1, "the queue is not ready"
        return queue

    def close(self) -> None:
        lib.vd_mmio_detach(self.mmio)

    def free(self) -> None:
        self.close()
        lib.vd_mmio_free(self.mmio)
        self.thread.close()
        self.memory.close()
        self.host.close()

    # Requests

    def add(self, out: list[tuple[int, int]], into: list[tuple[int, int]], *, index: int = 0) -> int:
        """Put a chain of (address, length) parts into the ring, without a kick. Returns its head."""
        queue = self.queues[index]
        parts = [(a, n, 0) for a, n in out] + [(a, n, DESC_WRITE) for a, n in into]
        head = queue.next_desc
        for i, (address, length, flags) in enumerate(parts):
            last = i == len(parts) - 1
            place = (head + i) % queue.size
            following = (place + 1) % queue.size
            self.memory.write(
                queue.desc + 16 * place,
                struct.pack("<QIHH", address, length, flags | (0 if last else DESC_NEXT), following),
            )
        queue.next_desc = (head + len(parts)) % queue.size
        self.memory.write(queue.avail + 4 + 2 * (queue.next_avail % queue.size), struct.pack("<H", head))
        queue.next_avail = (queue.next_avail + 1) & 0xFFFF
        self.memory.write(queue.avail + 2, struct.pack("<H", queue.next_avail))
        return head

    def kick(self, index: int = 0) -> None:
        self.write(0x50, index)

    def used_index(self, index: int = 0) -> int:
        return int(struct.unpack("<H", self.memory.read(self.queues[index].used + 2, 2))[0])

    def poll_used(self, index: int = 0) -> tuple[int, int] | None:
        """The next (head, written), if there is one."""
        queue = self.queues[index]
        if self.used_index(index) == queue.next_used & 0xFFFF:
            return None
        at = queue.used + 4 + 8 * (queue.next_used % queue.size)
        queue.next_used = (queue.next_used + 1) & 0xFFFF
        head, written = struct.unpack("<II", self.memory.read(at, 8))
        return head, written

    def wait_used(self, index: int = 0) -> tuple[int, int]:
        found: list[tuple[int, int]] = []

        def arrived() -> bool:
            used = self.poll_used(index)
            if used:
                found.append(used)
            return bool(found)

        wait_for(arrived, "a used buffer")
        return found[0]


def wait_for(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.0005)
