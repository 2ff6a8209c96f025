# SPDX-License-Identifier: MIT
"""Guest memory for the seeds of harness.h's targets: chains in the rings of several queues."""

from __future__ import annotations

import struct

from vdesktop_core.testing.layout import PACKED_DESC, SPLIT_DESC, DescFlag

GPA, QUEUE, DRIVER, DEVICE, SIZE = 0x1000, 0x200, 0x100, 0x140, 16
PACKED, EVENT_IDX, INDIRECT, PLAIN, RAW_GEOMETRY = 1, 2, 4, 8, 16
READABLE, WRITABLE = False, True
#: What a driver takes of what is offered, in the inputs of some devices.
ALL_FEATURES = (2**64 - 1).to_bytes(8, "little")

Part = tuple[int, int, bool]  #: address, length, for the device to write


class Guest:
    """Guest memory in the making: chains in the rings of several queues."""

    def __init__(self, *, packed: bool) -> None:
        self.packed = packed
        self.memory = bytearray(0x4000)
        self.descs: dict[int, int] = {}
        self.chains: dict[int, int] = {}

    def put(self, address: int, data: bytes) -> None:
        """Write bytes at a guest-physical address."""
        self.memory[address - GPA : address - GPA + len(data)] = data

    def chain(self, queue: int, parts: list[Part], *, indirect: int = 0) -> None:
        """Make a chain available; ``indirect``: where its table lies."""
        base, first = GPA + QUEUE * queue, self.descs.get(queue, 0)
        marks = DescFlag.AVAIL if self.packed else 0
        if indirect:
            self.put(indirect, self._table(parts, 0, 0))
            whole = (indirect, 16 * len(parts))
            last = DescFlag.INDIRECT | marks
            raw = PACKED_DESC.pack(*whole, 0, last) if self.packed else SPLIT_DESC.pack(*whole, last, 0)
        else:
            raw = self._table(parts, first, marks)
        self.put(base + 16 * first, raw)
        number = self.chains.get(queue, 0)
        if not self.packed:
            self.put(base + DRIVER + 4 + 2 * number, struct.pack("<H", first))
            self.put(base + DRIVER, struct.pack("<HH", 0, number + 1))
        self.chains[queue] = number + 1
        self.descs[queue] = first + len(raw) // 16

    def _table(self, parts: list[Part], first: int, marks: int) -> bytes:
        raw = b""
        for i, (address, length, write) in enumerate(parts):
            flags = (DescFlag.WRITE if write else 0) | (DescFlag.NEXT if i + 1 < len(parts) else 0)
            if self.packed:
                raw += PACKED_DESC.pack(address, length, first, flags | marks)
            else:
                raw += SPLIT_DESC.pack(address, length, flags, first + i + 1)
        return raw

    def input(self, options: int, ops: bytes) -> bytes:
        """Return the input as a target reads it."""
        options |= PACKED if self.packed else 0
        return (struct.pack("<BH", options, len(ops)) + ops + self.memory).rstrip(b"\0")
