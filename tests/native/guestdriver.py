# SPDX-License-Identifier: MIT
"""A small driver for these tests: rings in guest memory, and the registers of a slot."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from vdesktop_core._native import ffi, lib

if TYPE_CHECKING:
    from vdesktop_core.memory import GuestMemory

NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED = 1 << 7, 1 << 15

#: (guest-physical address, length, device writes it)
Buffer = tuple[int, int, bool]


class SplitDriver:
    """The driver's half of a split ring that lies at ``base``."""

    packed = False

    def __init__(self, memory: GuestMemory, base: int, size: int) -> None:
        self.memory, self.size = memory, size
        self.desc, self.driver = base, base + 16 * size
        self.device = (self.driver + 6 + 2 * size + 3) & ~3
        memory.write(base, bytes(self.device + 6 + 8 * size - base))
        self.avail_idx = self.used_idx = 0
        self.next_desc = 0

    def put_desc(self, i: int, addr: int, length: int, flags: int = 0, next_: int = 0) -> None:
        self.memory.write(self.desc + 16 * i, struct.pack("<QIHH", addr, length, flags, next_))

    def offer(self, head: int) -> None:
        self.memory.write(self.driver + 4 + 2 * (self.avail_idx % self.size), struct.pack("<H", head))
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF
        self.memory.write(self.driver + 2, struct.pack("<H", self.avail_idx))

    def add(self, *buffers: Buffer) -> int:
        """Offer one chain in the next descriptors of the table; returns its head."""
        slots = [(self.next_desc + i) % self.size for i in range(len(buffers))]
        for i, (addr, length, write) in enumerate(buffers):
            last = i == len(buffers) - 1
            flags = (WRITE if write else 0) | (0 if last else NEXT)
            self.put_desc(slots[i], addr, length, flags, 0 if last else slots[i + 1])
        self.next_desc = (self.next_desc + len(buffers)) % self.size
        self.offer(slots[0])
        return slots[0]

    def add_indirect(self, table: int, *buffers: Buffer, flags: int = INDIRECT) -> int:
        for i, (addr, length, write) in enumerate(buffers):
            more = NEXT if i < len(buffers) - 1 else 0
            entry = struct.pack("<QIHH", addr, length, (WRITE if write else 0) | more, i + 1 if more else 0)
            self.memory.write(table + 16 * i, entry)
        head = self.next_desc
        self.put_desc(head, table, 16 * len(buffers), flags)
        self.next_desc = (head + 1) % self.size
        self.offer(head)
        return head

    def set_used_event(self, index: int) -> None:
        self.memory.write(self.driver + 4 + 2 * self.size, struct.pack("<H", index & 0xFFFF))

    def avail_event(self) -> int:
        return int.from_bytes(self.memory.read(self.device + 4 + 8 * self.size, 2), "little")

    def used(self) -> list[tuple[int, int]]:
        """Take the used elements: (id, length)."""
        found = []
        while self.used_idx != int.from_bytes(self.memory.read(self.device + 2, 2), "little"):
            at = self.device + 4 + 8 * (self.used_idx % self.size)
            found.append(struct.unpack("<II", self.memory.read(at, 8)))
            self.used_idx = (self.used_idx + 1) & 0xFFFF
        return found


class PackedDriver:
    """The driver's half of a packed ring that lies at ``base``."""

    packed = True

    def __init__(self, memory: GuestMemory, base: int, size: int) -> None:
        self.memory, self.size = memory, size
        self.desc, self.driver, self.device = base, base + 16 * size, base + 16 * size + 4
        memory.write(base, bytes(16 * size + 8))
        self.next_avail = self.next_used = 0
        self.avail_wrap = self.used_wrap = True
        self.next_id = 0
        self.lengths: dict[int, int] = {}

    def _put(self, addr: int, length: int, id_: int, flags: int) -> None:
        self._put_list([(addr, length, id_, flags)])

    def _put_list(self, descs: list[tuple[int, int, int, int]]) -> None:
        """Make a list available: its first descriptor last (§2.8.21)."""
        written = []
        for addr, length, id_, flags in descs:
            flags |= AVAIL if self.avail_wrap else USED
            raw = struct.pack("<QIHH", addr, length, id_, flags)
            written.append((self.desc + 16 * self.next_avail, raw))
            self.next_avail += 1
            if self.next_avail == self.size:
                self.next_avail, self.avail_wrap = 0, not self.avail_wrap
        for at, raw in written[1:]:
            self.memory.write(at, raw)
        at, raw = written[0]
        self.memory.write(at, raw[:14])
        self.memory.write(at + 14, raw[14:])

    def add(self, *buffers: Buffer, id_: int | None = None) -> int:
        if id_ is None:
            id_, self.next_id = self.next_id, (self.next_id + 1) & 0xFFFF
        self.lengths[id_] = len(buffers)
        last = len(buffers) - 1
        self._put_list(
            [
                (addr, length, id_, (WRITE if write else 0) | (NEXT if i < last else 0))
                for i, (addr, length, write) in enumerate(buffers)
            ]
        )
        return id_

    def add_indirect(self, table: int, *buffers: Buffer, flags: int = INDIRECT) -> int:
        for i, (addr, length, write) in enumerate(buffers):
            entry = struct.pack("<QIHH", addr, length, 0, WRITE if write else 0)
            self.memory.write(table + 16 * i, entry)
        id_, self.next_id = self.next_id, (self.next_id + 1) & 0xFFFF
        self.lengths[id_] = 1
        self._put(table, 16 * len(buffers), id_, flags)
        return id_

    def set_used_event(self, index: int, wrap: bool) -> None:
        self.memory.write(self.driver, struct.pack("<HH", index | wrap << 15, 2))

    def used(self) -> list[tuple[int, int]]:
        found = []
        while True:
            raw = self.memory.read(self.desc + 16 * self.next_used, 16)
            _, length, id_, flags = struct.unpack("<QIHH", raw)
            if not bool(flags & AVAIL) == bool(flags & USED) == self.used_wrap:
                return found
            found.append((id_, length))
            self.next_used += self.lengths.pop(id_)
            if self.next_used >= self.size:
                self.next_used, self.used_wrap = self.next_used - self.size, not self.used_wrap


Driver = SplitDriver | PackedDriver


class DeviceQueue:
    """The C core's half: a ``struct vd_queue`` with room for a chain."""

    def __init__(self, host: int, memory: GuestMemory) -> None:
        self.queue = lib.vd_queue_new(
            ffi.cast("struct vd_host *", host), ffi.cast("struct vd_mem *", memory.native)
        )

    def start(self, ring: Driver, /, **options: Any) -> int:
        config = {
            "size": ring.size,
            "desc": ring.desc,
            "driver": ring.driver,
            "device": ring.device,
            "packed": ring.packed,
            "indirect": True,
            "event_idx": True,
        }
        return int(lib.vd_queue_start(self.queue, ffi.new("struct vd_queue_config *", config | options)))

    def pop(self) -> tuple[int, Any]:
        chain = ffi.new("struct vd_chain *")
        iov = ffi.new("struct vd_iov[]", lib.VD_CHAIN_SEGS_MAX)
        gpa = ffi.new("uint64_t[]", lib.VD_CHAIN_SEGS_MAX)
        chain.iov, chain.gpa = iov, gpa
        result = int(lib.vd_queue_pop(self.queue, chain))
        self.keep = (iov, gpa)
        segments = [(gpa[i], iov[i].len, i >= chain.n_read) for i in range(chain.n_read + chain.n_write)]
        return result, (chain, segments)

    def push(self, chain: Any, written: int = 0) -> None:
        lib.vd_queue_push(self.queue, chain, written)

    def publish(self) -> bool:
        return bool(lib.vd_queue_publish(self.queue))

    def close(self) -> None:
        lib.vd_queue_free(self.queue)


class Slot:
    """A driver's view of a slot's registers, by their names."""

    def __init__(self, io: int) -> None:
        from vdesktop_core.transport.mmio import registers

        self.io = ffi.cast("struct vd_io *", io)
        self.at = {register.name: register.offset for register in registers()}

    def read(self, register: str | int, width: int = 4) -> int:
        offset = self.at[register] if isinstance(register, str) else register
        return int(self.io.read(self.io.opaque, offset, width))

    def write(self, register: str | int, value: int, width: int = 4) -> None:
        offset = self.at[register] if isinstance(register, str) else register
        self.io.write(self.io.opaque, offset, width, value)

    def device_features(self) -> int:
        low, high = (self.write("DeviceFeaturesSel", i) or self.read("DeviceFeatures") for i in range(2))
        return low | high << 32

    def negotiate(self, features: int) -> bool:
        """Go to FEATURES_OK; False: the device did not accept."""
        self.write("Status", 0)
        self.write("Status", 3)
        for i in range(2):
            self.write("DriverFeaturesSel", i)
            self.write("DriverFeatures", features >> 32 * i & 0xFFFFFFFF)
        self.write("Status", 11)
        return bool(self.read("Status") & 8)

    def enable(self, index: int, driver: Driver) -> None:
        self.write("QueueSel", index)
        self.write("QueueSize", driver.size)
        for name, address in (("Desc", driver.desc), ("Driver", driver.driver), ("Device", driver.device)):
            self.write(f"Queue{name}Low", address & 0xFFFFFFFF)
            self.write(f"Queue{name}High", address >> 32)
        self.write("QueueReady", 1)

    def driver_ok(self) -> None:
        self.write("Status", 15)
