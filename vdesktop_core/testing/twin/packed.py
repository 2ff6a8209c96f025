# SPDX-License-Identifier: MIT
"""The twin's packed virtqueue (virtio 1.4 §2.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.testing.layout import DESC_SIZE, PACKED_DESC, PACKED_EVENT, DescFlag, EventFlag
from vdesktop_core.testing.twin.ring import Chain, Geometry, RingBroken, RingError, TwinQueue

if TYPE_CHECKING:
    from vdesktop_core.testing.twin.memory import TwinMemory


class PackedTwin(TwinQueue):
    """A packed queue: one ring of descriptors that both sides write, two event structures."""

    def __init__(self, memory: TwinMemory, geometry: Geometry) -> None:
        super().__init__(memory, geometry)
        self._area(geometry.desc, DESC_SIZE * geometry.size, 16, write=True)
        self._area(geometry.driver, 4, 4, write=False)
        self._area(geometry.device, 4, 4, write=True)
        self.next_avail = 0
        self.avail_wrap = True
        self.next_used = 0
        self.used_wrap = True
        self._held: list[tuple[int, bytes]] = []  # used descriptors that wait for publish
        self._added = 0

    def _desc(self, at: int) -> tuple[int, int, int, int]:
        raw = self.memory.read(self.geometry.desc + DESC_SIZE * at, DESC_SIZE)
        address, length, buffer_id, flags = PACKED_DESC.unpack(raw)
        return address, length, buffer_id, flags

    def _is_available(self, flags: int) -> bool:
        avail, used = bool(flags & DescFlag.AVAIL), bool(flags & DescFlag.USED)
        return avail == self.avail_wrap and used != self.avail_wrap

    def _pop(self) -> Chain | None:
        g = self.geometry
        address, length, buffer_id, flags = self._desc(self.next_avail)
        if not self._is_available(flags):
            return None
        room = g.size - sum(self.in_flight.values())
        chain = Chain(0, 0)
        while True:
            chain.descs += 1
            if chain.descs > g.size:
                raise RingBroken(RingError.CHAIN_TOO_LONG)
            if chain.descs > room:
                raise RingBroken(RingError.AVAIL_OVERRUN)
            if flags & DescFlag.INDIRECT:
                if not g.indirect or chain.descs > 1 or flags & DescFlag.NEXT:
                    raise RingBroken(RingError.BAD_INDIRECT)
                self._add_indirect(chain, address, length, linked=False)
            else:
                self._add(chain, address, length, write=bool(flags & DescFlag.WRITE))
            if not flags & DescFlag.NEXT:
                break
            address, length, buffer_id, flags = self._desc((self.next_avail + chain.descs) % g.size)
        if buffer_id in self.in_flight:
            raise RingBroken(RingError.HEAD_IN_FLIGHT)
        self._check_length(chain)
        chain.id = buffer_id
        self.in_flight[buffer_id] = chain.descs
        self._advance_avail(chain.descs)
        return chain

    def _advance_avail(self, descs: int) -> None:
        self.next_avail += descs
        if self.next_avail >= self.geometry.size:
            self.next_avail -= self.geometry.size
            self.avail_wrap = not self.avail_wrap

    def unpop(self, chain: Chain) -> None:
        """Step back by one chain."""
        if self.in_flight.pop(chain.id, None) is None:
            return
        self.next_avail -= chain.descs
        if self.next_avail < 0:
            self.next_avail += self.geometry.size
            self.avail_wrap = not self.avail_wrap

    def _push(self, chain: Chain, written: int) -> None:
        flags = DescFlag.AVAIL | DescFlag.USED if self.used_wrap else DescFlag(0)
        if written:
            flags |= DescFlag.WRITE  # §2.8.5: the length is meaningful only with it
        used = PACKED_DESC.pack(0, written, chain.id, flags)[8:]
        self._held.append((self.geometry.desc + DESC_SIZE * self.next_used + 8, used))
        self._added += chain.descs
        self.next_used += chain.descs
        if self.next_used >= self.geometry.size:
            self.next_used -= self.geometry.size
            self.used_wrap = not self.used_wrap

    def publish(self) -> bool:
        """Write the used descriptors, the first one last, then read the driver's wish."""
        if not self._held:
            return False
        for gpa, used in reversed(self._held):
            self.memory.write(gpa, used)
        self._held.clear()
        added, self._added = self._added, 0
        off_wrap, flags = PACKED_EVENT.unpack(self.memory.read(self.geometry.driver, 4))
        mode = flags & 3
        if mode != EventFlag.DESC or not self.geometry.event_idx:
            return bool(mode != EventFlag.DISABLE)
        # How far the used index has gone past the wished-for descriptor, one lap of the ring
        # earlier where the wish has the other wrap counter.
        offset = off_wrap & 0x7FFF
        if bool(off_wrap >> 15) != self.used_wrap:
            offset -= self.geometry.size
        return bool((self.next_used - offset - 1) & 0xFFFF < added)

    def notify_enable(self) -> bool:
        """Ask for a kick at the next descriptor."""
        if self.geometry.event_idx:
            wish = PACKED_EVENT.pack(self.next_avail | self.avail_wrap << 15, EventFlag.DESC)
        else:
            wish = PACKED_EVENT.pack(0, EventFlag.ENABLE)
        self.memory.write(self.geometry.device, wish)
        waiting = self._is_available(self._desc(self.next_avail)[3])
        if waiting:
            self.notify_disable()
        return waiting

    def notify_disable(self) -> None:
        """Ask for no kicks."""
        self.memory.write(self.geometry.device, PACKED_EVENT.pack(0, EventFlag.DISABLE))
