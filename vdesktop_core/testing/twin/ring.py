# SPDX-License-Identifier: MIT
"""What the twin's split and packed queues share: geometry, chains, the walk over indirect tables."""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vdesktop_core.testing.layout import DESC_SIZE, PACKED_DESC, SPLIT_DESC, DescFlag
from vdesktop_core.testing.twin.memory import OutsideMemory

if TYPE_CHECKING:
    from vdesktop_core.testing.twin.memory import TwinMemory

#: The largest queue this core takes; the specification allows 32768 (§2.7, §2.8.10.1).
QUEUE_SIZE_MAX = 1024
#: Segments of one chain, and descriptors of an indirect table, at most: bounds the work of one request.
CHAIN_SEGMENTS_MAX = 1024
LENGTH_MAX = 0xFFFF_FFFF


class RingError(enum.IntEnum):
    """Why a queue broke: the values of ``enum vd_ring_error``."""

    BAD_GEOMETRY = -1
    BAD_ADDRESS = -2
    AVAIL_OVERRUN = -3
    BAD_HEAD = -4
    HEAD_IN_FLIGHT = -5
    CHAIN_TOO_LONG = -6
    BAD_INDIRECT = -7
    ORDER = -8
    BAD_LENGTH = -9
    BAD_NEXT = -10


class RingBroken(Exception):  # noqa: N818  (a state, as the specification has it)
    """The driver broke a rule; the queue is of no use until it is started again."""

    def __init__(self, error: RingError) -> None:
        super().__init__(error.name)
        self.error = error


@dataclass(frozen=True)
class Geometry:
    """What the driver wrote to the queue registers. Addresses are guest-physical."""

    size: int
    desc: int
    driver: int
    device: int
    packed: bool = False
    indirect: bool = True
    event_idx: bool = True


@dataclass(frozen=True)
class Segment:
    """A contiguous piece of a buffer."""

    gpa: int
    length: int


@dataclass
class Chain:
    """A request, as the device sees it."""

    id: int
    descs: int
    readable: list[Segment] = field(default_factory=list)
    writable: list[Segment] = field(default_factory=list)

    @property
    def read_length(self) -> int:
        """Bytes the device may read."""
        return sum(segment.length for segment in self.readable)

    @property
    def write_length(self) -> int:
        """Bytes the device may write."""
        return sum(segment.length for segment in self.writable)


class TwinQueue(abc.ABC):
    """The device's side of one virtqueue."""

    def __init__(self, memory: TwinMemory, geometry: Geometry) -> None:
        self.memory = memory
        self.geometry = geometry
        self.error: RingError | None = None
        self.in_flight: dict[int, int] = {}  #: buffer id -> descriptors
        if not 0 < geometry.size <= QUEUE_SIZE_MAX:
            raise RingBroken(RingError.BAD_GEOMETRY)

    def pop(self) -> Chain | None:
        """Return the next chain, or None where nothing is available.

        Raises:
            RingBroken: now, or since an earlier call.
        """
        if self.error is not None:
            raise RingBroken(self.error)
        try:
            return self._pop()
        except RingBroken as broken:
            self.error = broken.error
            raise
        except OutsideMemory as outside:
            self.error = RingError.BAD_ADDRESS
            raise RingBroken(self.error) from outside

    def push(self, chain: Chain, written: int) -> None:
        """Complete a chain; ``written`` is cut to its writable length. Not in flight: nothing happens."""
        if chain.id not in self.in_flight:
            return
        written = min(written, chain.write_length)
        left = written
        for segment in chain.writable:
            if left:
                self.memory.written(segment.gpa, min(left, segment.length))
                left -= min(left, segment.length)
        del self.in_flight[chain.id]
        self._push(chain, written)

    @abc.abstractmethod
    def _pop(self) -> Chain | None: ...

    @abc.abstractmethod
    def _push(self, chain: Chain, written: int) -> None: ...

    @abc.abstractmethod
    def unpop(self, chain: Chain) -> None:
        """Give the last popped chain back, as if it had never been popped."""

    @abc.abstractmethod
    def publish(self) -> bool:
        """Show the driver what was pushed; True where it wants an interrupt for it."""

    @abc.abstractmethod
    def notify_enable(self) -> bool:
        """Ask for kicks; True where chains are waiting already (then none are asked for)."""

    @abc.abstractmethod
    def notify_disable(self) -> None:
        """Ask for no kicks."""

    def _area(self, gpa: int, size: int, align: int, *, write: bool) -> None:
        if gpa % align or not self.memory.is_contiguous(gpa, size, write=write):
            raise RingBroken(RingError.BAD_GEOMETRY)

    def _add(self, chain: Chain, gpa: int, length: int, *, write: bool) -> None:
        """Add one descriptor's buffer; an empty one only has to keep the order."""
        if not write and chain.writable:
            raise RingBroken(RingError.ORDER)  # §2.7.4.2
        side = chain.writable if write else chain.readable
        while length:
            part = self.memory.span(gpa, length, write=write)
            if not part:
                raise RingBroken(RingError.BAD_ADDRESS)
            if len(chain.readable) + len(chain.writable) == CHAIN_SEGMENTS_MAX:
                raise RingBroken(RingError.CHAIN_TOO_LONG)
            side.append(Segment(gpa, part))
            gpa += part
            length -= part

    def _add_indirect(self, chain: Chain, gpa: int, length: int, *, linked: bool) -> None:
        """Walk an indirect table: by ``next`` (split, §2.7.5.3), else in order (packed, §2.8.7).

        In a packed table all flags but WRITE are reserved and ignored.
        """
        if not length or length % DESC_SIZE:
            raise RingBroken(RingError.BAD_INDIRECT)
        entries = length // DESC_SIZE
        at = 0
        for _ in range(min(entries, CHAIN_SEGMENTS_MAX)):
            raw = self.memory.read(gpa + at * DESC_SIZE, DESC_SIZE)
            if linked:
                address, size, flags, following = SPLIT_DESC.unpack(raw)
            else:
                address, size, _id, flags = PACKED_DESC.unpack(raw)
                following = at + 1
            if linked and flags & DescFlag.INDIRECT:
                raise RingBroken(RingError.BAD_INDIRECT)
            self._add(chain, address, size, write=bool(flags & DescFlag.WRITE))
            if linked and not flags & DescFlag.NEXT:
                return
            if linked and following >= entries:
                raise RingBroken(RingError.BAD_NEXT)
            at = following
        if linked or at < entries:
            raise RingBroken(RingError.CHAIN_TOO_LONG)

    def _check_length(self, chain: Chain) -> None:
        if chain.read_length + chain.write_length > LENGTH_MAX:
            raise RingBroken(RingError.BAD_LENGTH)
