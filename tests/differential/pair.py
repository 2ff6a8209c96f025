# SPDX-License-Identifier: MIT
"""Two copies of one guest's memory and queue: the C core's and the twin's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from vdesktop_core._native import ffi, lib
from vdesktop_core.memory import GuestMemory, MemoryRegion
from vdesktop_core.testing.twin import Chain, Geometry, RingBroken, Segment, TwinMemory, TwinQueue, make_queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.host import Host

#: Two regions that touch (a buffer may lie in both), a hole, a read-only one at the very end.
RAM = 0x10000
RAM_SIZE = 0x4000
SECOND = RAM + RAM_SIZE
SECOND_SIZE = 0x2000
ROM = 2**64 - 0x1000
ROM_SIZE = 0x1000
LAYOUT = ((RAM, RAM_SIZE, False), (SECOND, SECOND_SIZE, False), (ROM, ROM_SIZE, True))

Outcome = tuple[str, Any]


class Pair:
    """Memory with the same bytes for both sides."""

    def __init__(self, host: Host, layout: Sequence[tuple[int, int, bool]] = LAYOUT) -> None:
        self.host = host
        self.layout = layout
        self.native = GuestMemory(host.native)
        self.twin = TwinMemory()
        self.arrays: list[bytearray] = []
        self.regions: list[MemoryRegion] = []
        for base, size, readonly in layout:
            region = MemoryRegion(f"pair-{base:x}", size)
            self.native.add(base, region, readonly=readonly)
            array = bytearray(size)
            self.twin.add(base, array, readonly=readonly)
            self.arrays.append(array)
            self.regions.append(region)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.native.close()

    def wipe(self) -> None:
        """Zero everything."""
        for array, region in zip(self.arrays, self.regions, strict=True):
            array[:] = bytes(len(array))
            region.view[:] = bytes(len(array))
        self.twin.writes.clear()

    def poke(self, gpa: int, data: bytes) -> None:
        """Write the same bytes to both, as the guest can, also to what is read-only for devices."""
        for (base, size, _), array, region in zip(self.layout, self.arrays, self.regions, strict=True):
            start, end = max(gpa, base), min(gpa + len(data), base + size)
            if start < end:
                array[start - base : end - base] = data[start - gpa : end - gpa]
                region.view[start - base : end - base] = data[start - gpa : end - gpa]

    def assert_same_bytes(self) -> None:
        """Hold the two memories to each other."""
        for (base, _, _), array, region in zip(self.layout, self.arrays, self.regions, strict=True):
            if bytes(region.view) != bytes(array):
                at = next(i for i, (a, b) in enumerate(zip(region.view, array, strict=True)) if a != b)
                raise AssertionError(
                    f"memory differs at {base + at:#x}: C {region.view[at]:#x}, twin {array[at]:#x}"
                )


class QueuePair:
    """The same queue on both sides; every operation compares what they say."""

    def __init__(self, pair: Pair, geometry: Geometry) -> None:
        self.pair = pair
        self.twin: TwinQueue | None = None
        self.chains: list[tuple[Chain, Any]] = []
        self.last_popped: tuple[Chain, Any] | None = None
        self.published = True
        self._owned = True
        self._queue = lib.vd_queue_new(
            ffi.cast("struct vd_host *", pair.host.native), ffi.cast("struct vd_mem *", pair.native.native)
        )
        config = ffi.new(
            "struct vd_queue_config *",
            {
                "size": geometry.size,
                "desc": geometry.desc,
                "driver": geometry.driver,
                "device": geometry.device,
                "packed": geometry.packed,
                "indirect": geometry.indirect,
                "event_idx": geometry.event_idx,
            },
        )
        expected = 0
        try:
            self.twin = make_queue(pair.twin, geometry)
        except RingBroken as broken:
            expected = int(broken.error)
        assert lib.vd_queue_start(self._queue, config) == expected

    @classmethod
    def over(cls, pair: Pair, native: Any, twin: TwinQueue) -> QueuePair:
        """Use queues that a slot has started on both sides."""
        self = cls.__new__(cls)
        self.pair, self._queue, self.twin, self._owned = pair, native, twin, False
        self.chains, self.last_popped, self.published = [], None, True
        return self

    def close(self) -> None:
        """Free the C side, unless it belongs to a device."""
        if self._owned:
            lib.vd_queue_free(self._queue)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _native_pop(self) -> tuple[Outcome, Any]:
        count = lib.VD_CHAIN_SEGS_MAX
        chain = ffi.new("struct vd_chain *")
        room = (ffi.new("struct vd_iov[]", count), ffi.new("uint64_t[]", count))
        chain.iov, chain.gpa = room
        got = lib.vd_queue_pop(self._queue, chain)
        if got <= 0:
            return ("error" if got else "empty", got), None
        segments = [Segment(chain.gpa[i], chain.iov[i].len) for i in range(chain.n_read + chain.n_write)]
        for segment, i in zip(segments, range(len(segments)), strict=True):
            write = i >= chain.n_read
            where = lib.vd_mem_ptr(
                ffi.cast("struct vd_mem *", self.pair.native.native), segment.gpa, segment.length, write
            )
            assert where == chain.iov[i].base, "a segment's host address is not that of its guest address"
        read, write_ = segments[: chain.n_read], segments[chain.n_read :]
        assert chain.read_len == sum(s.length for s in read)
        assert chain.write_len == sum(s.length for s in write_)
        return ("chain", (chain.id, chain.descs, read, write_)), (chain, room)

    def _twin_pop(self) -> tuple[Outcome, Chain | None]:
        assert self.twin is not None
        try:
            chain = self.twin.pop()
        except RingBroken as broken:
            return ("error", int(broken.error)), None
        if chain is None:
            return ("empty", 0), None
        return ("chain", (chain.id, chain.descs, chain.readable, chain.writable)), chain

    def pop(self) -> Outcome:
        """Pop on both sides and compare the chains, or the errors."""
        ours, native = self._native_pop()
        theirs, twin = self._twin_pop()
        assert ours == theirs
        if twin is not None:
            self.last_popped = (twin, native)
            self.chains.append(self.last_popped)
        return ours

    def push(self, which: int, written: int) -> None:
        """Complete one of the chains in flight."""
        twin, (native, _room) = self.chains.pop(which % len(self.chains))
        assert self.twin is not None
        self.published = False
        self.twin.push(twin, written)
        lib.vd_queue_push(self._queue, native, written)

    def unpop(self) -> None:
        """Give the last popped chain back."""
        twin, (native, _room) = self.chains.pop()
        self.last_popped = None
        assert self.twin is not None
        self.twin.unpop(twin)
        lib.vd_queue_unpop(self._queue, native)

    def publish(self) -> bool:
        """Publish; both decide the same about the interrupt."""
        assert self.twin is not None
        self.published = True
        ours, theirs = lib.vd_queue_publish(self._queue), self.twin.publish()
        assert ours == theirs
        return bool(ours)

    def notify(self, *, enable: bool) -> None:
        """Switch kicks on or off."""
        assert self.twin is not None
        if self.twin.error is not None:
            return
        if enable:
            assert lib.vd_queue_notify_enable(self._queue) == self.twin.notify_enable()
        else:
            lib.vd_queue_notify_disable(self._queue)
            self.twin.notify_disable()
