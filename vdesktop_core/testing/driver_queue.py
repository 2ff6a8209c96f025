# SPDX-License-Identifier: MIT
"""The driver's side of virtqueues, in Python: what a guest's driver does, one step at a time."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vdesktop_core.testing.layout import (
    DESC_SIZE,
    LE16,
    PACKED_DESC,
    PACKED_EVENT,
    SPLIT_DESC,
    SPLIT_USED_ELEM,
    USED_F_NO_NOTIFY,
    DescFlag,
    EventFlag,
    need_event,
    split_sizes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.testing.arena import Arena


@dataclass(frozen=True)
class Buffer:
    """A piece of guest memory in a chain; ``write``: for the device to write."""

    gpa: int
    length: int
    write: bool = False


@dataclass(frozen=True)
class Completion:
    """A chain that came back: the id that ``add`` returned, and how many bytes the device wrote."""

    id: int
    length: int


class DriverQueue(abc.ABC):
    """A virtqueue in guest memory, with its areas allocated from an arena.

    Args:
        arena: where the areas and indirect tables go.
        size: number of descriptors.
        event_idx: VIRTIO_F_EVENT_IDX was negotiated.
    """

    desc: int
    driver: int
    device: int

    def __init__(self, arena: Arena, size: int, *, event_idx: bool = True) -> None:
        self.arena = arena
        self.memory = arena.memory
        self.size = size
        self.event_idx = event_idx

    @abc.abstractmethod
    def add(self, buffers: Sequence[Buffer], *, indirect: bool = False) -> int:
        """Make a chain available and return its id.

        Raises:
            BufferError: not enough free descriptors.
        """

    @abc.abstractmethod
    def kick_wanted(self) -> bool:
        """Tell whether the device wants a notification for what was added since the last call."""

    @abc.abstractmethod
    def take_used(self) -> list[Completion]:
        """Return what the device completed since the last call."""

    @abc.abstractmethod
    def want_interrupt(self, *, wanted: bool) -> None:
        """Ask for an interrupt at the next completion, or for none."""


class SplitDriverQueue(DriverQueue):
    """A split queue (§2.7)."""

    def __init__(self, arena: Arena, size: int, *, event_idx: bool = True) -> None:
        super().__init__(arena, size, event_idx=event_idx)
        sizes = split_sizes(size)
        self.desc = arena.allocate(sizes.desc, 16)
        self.driver = arena.allocate(sizes.avail, 2)
        self.device = arena.allocate(sizes.used, 4)
        self.free = list(range(size))
        self.chains: dict[int, list[int]] = {}
        self.next_avail = 0
        self.last_used = 0
        self._kicked = 0

    def write_desc(self, index: int, buffer: Buffer, flags: int, following: int) -> None:
        """Write one entry of the descriptor table."""
        raw = SPLIT_DESC.pack(buffer.gpa, buffer.length, flags, following)
        self.memory.write(self.desc + DESC_SIZE * index, raw)

    def make_available(self, head: int) -> None:
        """Put a head index into the available ring and move its index."""
        self.memory.write(self.driver + 4 + 2 * (self.next_avail % self.size), LE16.pack(head))
        self.next_avail = (self.next_avail + 1) & 0xFFFF
        self.memory.write(self.driver + 2, LE16.pack(self.next_avail))

    def add(self, buffers: Sequence[Buffer], *, indirect: bool = False) -> int:
        """Make a chain available."""
        needed = 1 if indirect else len(buffers)
        if not 0 < needed <= len(self.free):
            raise BufferError(f"{needed} descriptors wanted, {len(self.free)} free")
        used = [self.free.pop(0) for _ in range(needed)]
        if indirect:
            table = self.arena.allocate(DESC_SIZE * len(buffers), 16)
            self.memory.write(table, _split_table(buffers, range(len(buffers))))
            whole = Buffer(table, DESC_SIZE * len(buffers))
            self.write_desc(used[0], whole, DescFlag.INDIRECT, 0)
        else:
            for at, raw in zip(used, _entries(_split_table(buffers, used)), strict=True):
                self.memory.write(self.desc + DESC_SIZE * at, raw)
        self.chains[used[0]] = used
        self.make_available(used[0])
        return used[0]

    def kick_wanted(self) -> bool:
        """Read avail_event or the used ring's flags (§2.7.10)."""
        old, self._kicked = self._kicked, self.next_avail
        if self.event_idx:
            (event,) = LE16.unpack(self.memory.read(self.device + 4 + 8 * self.size, 2))
            return need_event(event, self.next_avail, old)
        (flags,) = LE16.unpack(self.memory.read(self.device, 2))
        return not flags & USED_F_NO_NOTIFY

    def take_used(self) -> list[Completion]:
        """Walk the used ring up to its index."""
        (index,) = LE16.unpack(self.memory.read(self.device + 2, 2))
        done: list[Completion] = []
        while self.last_used != index:
            slot = self.device + 4 + 8 * (self.last_used % self.size)
            chain, length = SPLIT_USED_ELEM.unpack(self.memory.read(slot, 8))
            self.free += self.chains.pop(chain)
            done.append(Completion(chain, length))
            self.last_used = (self.last_used + 1) & 0xFFFF
        return done

    def want_interrupt(self, *, wanted: bool) -> None:
        """Set used_event, or the available ring's flags."""
        if self.event_idx:
            event = self.last_used if wanted else (self.last_used - 1) & 0xFFFF
            self.memory.write(self.driver + 4 + 2 * self.size, LE16.pack(event))
        else:
            self.memory.write(self.driver, LE16.pack(0 if wanted else 1))


class PackedDriverQueue(DriverQueue):
    """A packed queue (§2.8). Buffer ids are numbers of free chains."""

    def __init__(self, arena: Arena, size: int, *, event_idx: bool = True) -> None:
        super().__init__(arena, size, event_idx=event_idx)
        self.desc = arena.allocate(DESC_SIZE * size, 16)
        self.driver = arena.allocate(4, 4)
        self.device = arena.allocate(4, 4)
        self.free_ids = list(range(size))
        self.free = size
        self.lengths: dict[int, int] = {}
        self.next_avail = 0
        self.wrap = True
        self.next_used = 0
        self.used_wrap = True
        self._added = 0

    def add(self, buffers: Sequence[Buffer], *, indirect: bool = False) -> int:
        """Write the descriptors of a chain, the first one's flags last (§2.8.21)."""
        if indirect:
            table = self.arena.allocate(DESC_SIZE * len(buffers), 16)
            flags = [DescFlag.WRITE if b.write else 0 for b in buffers]
            raw = (PACKED_DESC.pack(b.gpa, b.length, 0, f) for b, f in zip(buffers, flags, strict=True))
            self.memory.write(table, b"".join(raw))
            whole = Buffer(table, DESC_SIZE * len(buffers))
            return self._place([(whole, DescFlag.INDIRECT)])
        last = len(buffers) - 1
        return self._place(
            [
                (b, (DescFlag.WRITE if b.write else 0) | (DescFlag.NEXT if i < last else 0))
                for i, b in enumerate(buffers)
            ]
        )

    def _place(self, descs: Sequence[tuple[Buffer, int]]) -> int:
        if not 0 < len(descs) <= self.free:
            raise BufferError(f"{len(descs)} descriptors wanted, {self.free} free")
        buffer_id = self.free_ids.pop(0)
        writes = []
        for buffer, flags in descs:
            marks = DescFlag.AVAIL if self.wrap else DescFlag.USED
            raw = PACKED_DESC.pack(buffer.gpa, buffer.length, buffer_id, flags | marks)
            writes.append((self.desc + DESC_SIZE * self.next_avail, raw))
            self.next_avail += 1
            if self.next_avail == self.size:
                self.next_avail = 0
                self.wrap = not self.wrap
        for gpa, raw in reversed(writes):
            self.memory.write(gpa, raw)
        self.free -= len(descs)
        self._added += len(descs)
        self.lengths[buffer_id] = len(descs)
        return buffer_id

    def kick_wanted(self) -> bool:
        """Read the device's event structure (§2.8.14)."""
        added, self._added = self._added, 0
        off_wrap, flags = PACKED_EVENT.unpack(self.memory.read(self.device, 4))
        if flags & 3 != EventFlag.DESC:
            return bool(flags & 3 != EventFlag.DISABLE)
        event = off_wrap & 0x7FFF
        if bool(off_wrap >> 15) != self.wrap:
            event -= self.size
        return need_event(event, self.next_avail, self.next_avail - added)

    def take_used(self) -> list[Completion]:
        """Collect used descriptors, in ring order."""
        done: list[Completion] = []
        while True:
            raw = self.memory.read(self.desc + DESC_SIZE * self.next_used, DESC_SIZE)
            _, length, buffer_id, flags = PACKED_DESC.unpack(raw)
            avail, used = bool(flags & DescFlag.AVAIL), bool(flags & DescFlag.USED)
            if not (avail == used == self.used_wrap):
                return done
            count = self.lengths.pop(buffer_id)
            self.free += count
            self.free_ids.append(buffer_id)
            done.append(Completion(buffer_id, length if flags & DescFlag.WRITE else 0))
            self.next_used += count
            if self.next_used >= self.size:
                self.next_used -= self.size
                self.used_wrap = not self.used_wrap

    def want_interrupt(self, *, wanted: bool) -> None:
        """Write the driver's event structure."""
        if wanted and self.event_idx:
            wish = PACKED_EVENT.pack(self.next_used | self.used_wrap << 15, EventFlag.DESC)
        else:
            wish = PACKED_EVENT.pack(0, EventFlag.ENABLE if wanted else EventFlag.DISABLE)
        self.memory.write(self.driver, wish)


def _split_table(buffers: Sequence[Buffer], places: Sequence[int]) -> bytes:
    """Descriptors of a chain whose entries lie at ``places`` of their table."""
    raw = b""
    for i, buffer in enumerate(buffers):
        flags = DescFlag.WRITE if buffer.write else 0
        following = places[i + 1] if i + 1 < len(buffers) else 0
        if i + 1 < len(buffers):
            flags |= DescFlag.NEXT
        raw += SPLIT_DESC.pack(buffer.gpa, buffer.length, flags, following)
    return raw


def _entries(table: bytes) -> list[bytes]:
    return [table[at : at + DESC_SIZE] for at in range(0, len(table), DESC_SIZE)]
