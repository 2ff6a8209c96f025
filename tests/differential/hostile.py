# SPDX-License-Identifier: MIT
"""A guest that breaks rules, on the C core and on the twin at once, beside one that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from tests.differential.pair import RAM, QueuePair
from tests.differential.slot_pair import SlotPair
from tests.differential.test_rings import Both
from vdesktop_core._native import lib
from vdesktop_core.testing import Arena, Buffer, Feature, Interrupt, MockDriver, Reg, SplitDriverQueue, Status
from vdesktop_core.testing.layout import DESC_SIZE, PACKED_DESC, SPLIT_DESC, DescFlag
from vdesktop_core.testing.twin import RingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.differential.pair import Pair

QUEUE, SIZE = 0, 8
HALF = 0x2000

#: Address, length, flags, next (which a packed descriptor has not).
Entry = tuple[int, int, int, int]


class Server(SlotPair):
    """A device that completes every chain of a queue that is kicked, unless it is told to hold them."""

    def __init__(self, pair: Pair, index: int) -> None:
        self.hold = False
        self.errors: list[RingError] = []
        self.queues: dict[int, QueuePair] = {}
        self._seen = 0
        super().__init__(pair, index)

    def write(self, offset: int, width: int, value: int) -> None:
        """Write on both sides, then do what the device was told."""
        super().write(offset, width, value)
        while self._seen < len(self.calls):
            name, argument = self.calls[self._seen]
            self._seen += 1
            if name == "reset":
                self.queues.clear()
            elif name == "queue_reset":
                self.queues.pop(argument, None)
            elif name == "notify":
                self.serve(argument)

    def serve(self, index: int) -> None:
        """Pop until the queue is empty or broken; complete what came before."""
        if index not in self.queues:
            twin = self.twin.queues[index].live
            assert twin is not None
            self.queues[index] = QueuePair.over(self.pair, self.device.queue[index], twin)
        queue = self.queues[index]
        while (outcome := queue.pop())[0] == "chain":
            pass
        if outcome[0] == "error":
            self.errors.append(RingError(outcome[1]))
            lib.vd_device_protocol_error(self.device, lib.vd_ring_strerror(outcome[1]))
            self.twin.protocol_error()
            self.compare()
        elif not self.hold:
            self.complete(index)

    def complete(self, index: int) -> None:
        """Complete what is in flight."""
        queue = self.queues[index]
        while queue.chains:
            queue.push(0, 1)
        if queue.publish():
            self.interrupt(index)

    def unplug(self) -> None:
        """Take the device out of the slot."""
        self.queues.clear()
        super().unplug()
        self._seen = len(self.calls)


class Scene:
    """A guest that tries what it must not on one slot, and works on another."""

    def __init__(self, pair: Pair, *, packed: bool, event_idx: bool = True) -> None:
        self.pair = pair
        self.features = {Feature.INDIRECT_DESC, Feature.RING_RESET}
        self.features |= ({Feature.RING_PACKED} if packed else set()) | (
            {Feature.EVENT_IDX} if event_idx else set()
        )
        self.packed = packed
        self.victim, self.neighbour = Server(pair, 0), Server(pair, 1)
        both = Both(pair)
        self.driver = MockDriver(self.victim, Arena(both, RAM, HALF))
        self.other = MockDriver(self.neighbour, Arena(both, RAM + HALF, HALF))
        self.other.start(self.features, sizes={QUEUE: SIZE})
        self.start()
        pair.host.drain_log()
        self.buffer = self.driver.arena.allocate(256)
        self.table = self.driver.arena.allocate(256)

    def start(self) -> None:
        """Bring the device up, from reset."""
        self.driver.arena.reset()
        self.driver.start(self.features, sizes={QUEUE: SIZE})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.victim.slot.close()
        self.neighbour.slot.close()
        for slots in (self.victim, self.neighbour):
            for index in range(slots.device.n_queues):
                lib.vd_queue_free(slots.device.queue[index])
        self.pair.host.drain_log()

    def poke_table(self, entries: Sequence[Entry]) -> None:
        """Write an indirect table."""
        raw = (
            PACKED_DESC.pack(gpa, length, 0, flags)
            if self.packed
            else SPLIT_DESC.pack(gpa, length, flags, following)
            for gpa, length, flags, following in entries
        )
        self.pair.poke(self.table, b"".join(raw))

    def offer(self, entries: Sequence[Entry], *, head: int = 0, at: int = 0) -> None:
        """Make descriptors available as they are, and kick."""
        queue = self.driver.queues[QUEUE]
        for i, (gpa, length, flags, following) in enumerate(entries, at):
            if isinstance(queue, SplitDriverQueue):
                queue.write_desc(i, Buffer(gpa, length), flags, following)
            else:
                raw = PACKED_DESC.pack(gpa, length, head, flags | DescFlag.AVAIL)
                self.pair.poke(queue.desc + DESC_SIZE * i, raw)
        if isinstance(queue, SplitDriverQueue):
            queue.make_available(head)
        self.kick()

    def kick(self) -> None:
        """Notify the device, wanted or not."""
        self.driver.set_register(Reg.QUEUE_NOTIFY, QUEUE)

    def works(self, driver: MockDriver) -> None:
        """Fill the whole ring three times over; every chain comes back."""
        gpa = driver.arena.allocate(16)
        one, two = [Buffer(gpa, 8)], [Buffer(gpa, 8), Buffer(gpa + 8, 8, write=True)]
        for _ in range(3):
            for chain in (two, *[one] * (SIZE - 2)):
                driver.queues[QUEUE].add(chain)
            driver.set_register(Reg.QUEUE_NOTIFY, QUEUE)
            assert len(driver.wait_used(QUEUE, SIZE - 1)) == SIZE - 1
        self.pair.assert_same_bytes()

    def unharmed(self) -> None:
        """Hold that nothing was broken: no error, and both devices work."""
        assert self.victim.device.n_protocol_errors == 0
        assert not self.driver.get_register(Reg.STATUS) & Status.NEEDS_RESET
        self.works(self.driver)
        self.works(self.other)

    def broken(self, error: RingError | None = None) -> None:
        """Hold what every class of protocol error leads to, and that a reset heals it."""
        host, device = self.pair.host, self.victim.device
        assert self.driver.get_register(Reg.STATUS) & Status.NEEDS_RESET
        assert self.driver.take_interrupt() & Interrupt.CONFIG
        assert device.n_protocol_errors == 1
        assert self.victim.errors == ([] if error is None else [error])
        self.kick()  # a second complaint counts, but is not logged, nor told again
        assert not self.driver.take_interrupt() & Interrupt.CONFIG
        assert host.drain_log() == 1
        self.pair.assert_same_bytes()
        self.works(self.other)
        assert self.neighbour.device.n_protocol_errors == 0
        self.victim.hold = False
        self.start()
        assert not self.driver.get_register(Reg.STATUS) & Status.NEEDS_RESET
        self.works(self.driver)
