# SPDX-License-Identifier: MIT
"""The twin's split virtqueue (virtio 1.4 §2.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.testing.layout import (
    AVAIL_F_NO_INTERRUPT,
    DESC_SIZE,
    LE16,
    SPLIT_DESC,
    SPLIT_USED_ELEM,
    USED_F_NO_NOTIFY,
    DescFlag,
    need_event,
)
from vdesktop_core.testing.twin.ring import Chain, Geometry, RingBroken, RingError, TwinQueue

if TYPE_CHECKING:
    from vdesktop_core.testing.twin.memory import TwinMemory


class SplitTwin(TwinQueue):
    """A split queue: descriptor table, available ring, used ring."""

    def __init__(self, memory: TwinMemory, geometry: Geometry) -> None:
        super().__init__(memory, geometry)
        size, event = geometry.size, 2 if geometry.event_idx else 0
        if size & (size - 1):
            raise RingBroken(RingError.BAD_GEOMETRY)
        self._area(geometry.desc, 16 * size, 16, write=False)
        self._area(geometry.driver, 4 + 2 * size + event, 2, write=False)
        self._area(geometry.device, 4 + 8 * size + event, 4, write=True)
        self.next_avail = 0  # free running, modulo 2^16
        self.known_avail = 0  # the driver's index as last read
        self.next_used = 0
        self.published_used = 0

    def _load16(self, gpa: int) -> int:
        return int(LE16.unpack(self.memory.read(gpa, 2))[0])

    def _pop(self) -> Chain | None:
        g = self.geometry
        if self.next_avail == self.known_avail:
            idx = self._load16(g.driver + 2)
            if (idx - self.next_avail) & 0xFFFF > g.size:
                raise RingBroken(RingError.AVAIL_OVERRUN)
            self.known_avail = idx
            if idx == self.next_avail:
                return None
        head = self._load16(g.driver + 4 + 2 * (self.next_avail % g.size))
        if head >= g.size:
            raise RingBroken(RingError.BAD_HEAD)
        if head in self.in_flight:
            raise RingBroken(RingError.HEAD_IN_FLIGHT)
        chain = Chain(head, 1)
        self._walk(chain, head)
        self._check_length(chain)
        self.in_flight[head] = 1
        self.next_avail = (self.next_avail + 1) & 0xFFFF
        return chain

    def _walk(self, chain: Chain, at: int) -> None:
        g = self.geometry
        for _ in range(g.size):
            address, length, flags, following = SPLIT_DESC.unpack(
                self.memory.read(g.desc + DESC_SIZE * at, DESC_SIZE)
            )
            if flags & DescFlag.INDIRECT:
                if not g.indirect or flags & DescFlag.NEXT:
                    raise RingBroken(RingError.BAD_INDIRECT)
                self._add_indirect(chain, address, length, linked=True)
                return
            self._add(chain, address, length, write=bool(flags & DescFlag.WRITE))
            if not flags & DescFlag.NEXT:
                return
            if following >= g.size:
                raise RingBroken(RingError.BAD_NEXT)
            at = following
        raise RingBroken(RingError.CHAIN_TOO_LONG)

    def unpop(self, chain: Chain) -> None:
        """Step back by one chain."""
        if self.in_flight.pop(chain.id, None) is not None:
            self.next_avail = (self.next_avail - 1) & 0xFFFF

    def _push(self, chain: Chain, written: int) -> None:
        g = self.geometry
        slot = g.device + 4 + 8 * (self.next_used % g.size)
        self.memory.write(slot, SPLIT_USED_ELEM.pack(chain.id, written))
        self.next_used = (self.next_used + 1) & 0xFFFF

    def publish(self) -> bool:
        """Store the used index, then read the driver's wish."""
        g = self.geometry
        old, self.published_used = self.published_used, self.next_used
        if old == self.next_used:
            return False
        self.memory.write(g.device + 2, LE16.pack(self.next_used))
        if g.event_idx:
            return need_event(self._load16(g.driver + 4 + 2 * g.size), self.next_used, old)
        return not self._load16(g.driver) & AVAIL_F_NO_INTERRUPT

    def notify_enable(self) -> bool:
        """Ask for a kick at the next chain."""
        g = self.geometry
        if g.event_idx:
            self.memory.write(g.device + 4 + 8 * g.size, LE16.pack(self.next_avail))
        else:
            self.memory.write(g.device, LE16.pack(0))
        waiting = self._load16(g.driver + 2) != self.next_avail
        if waiting:
            self.notify_disable()
        return waiting

    def notify_disable(self) -> None:
        """Without event indices, set NO_NOTIFY; with them, a stale avail_event is as good."""
        if not self.geometry.event_idx:
            self.memory.write(self.geometry.device, LE16.pack(USED_F_NO_NOTIFY))
