# SPDX-License-Identifier: MIT
"""C rings against the Python twin, on valid and on hostile input."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.differential.pair import RAM, RAM_SIZE, ROM, ROM_SIZE, SECOND, SECOND_SIZE, Pair, QueuePair
from vdesktop_core.testing import Arena, Buffer, PackedDriverQueue, SplitDriverQueue
from vdesktop_core.testing.layout import LE16, PACKED_DESC, PACKED_EVENT, SPLIT_DESC, split_sizes
from vdesktop_core.testing.twin import Geometry

if TYPE_CHECKING:
    from vdesktop_core.testing import DriverQueue

common = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Both:
    """Guest memory as the driver sees it: writes reach both copies."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def read(self, gpa: int, size: int, /) -> bytes:
        return self.pair.twin.read(gpa, size)

    def write(self, gpa: int, data: bytes, /) -> None:
        self.pair.poke(gpa, data)


@dataclass
class Scene:
    """A driver, and a queue on both sides."""

    queue: QueuePair
    driver: DriverQueue
    buffers: int  #: where the driver's buffers begin
    outstanding: set[int] = field(default_factory=set)


def scene(pair: Pair, size: int, *, packed: bool, event_idx: bool) -> Scene:
    pair.wipe()
    arena = Arena(Both(pair), RAM, RAM_SIZE)
    driver = (PackedDriverQueue if packed else SplitDriverQueue)(arena, size, event_idx=event_idx)
    geometry = Geometry(
        size, driver.desc, driver.driver, driver.device, packed=packed, event_idx=event_idx, indirect=True
    )
    return Scene(QueuePair(pair, geometry), driver, arena.allocate(0))


lengths = st.integers(0, 700) | st.just(4096)
chains = st.tuples(st.lists(lengths, max_size=4), st.lists(lengths, max_size=4), st.booleans()).filter(
    lambda c: bool(c[0] or c[1])
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), chains),
        st.tuples(st.just("pop"), st.none()),
        st.tuples(st.just("push"), st.tuples(st.integers(0, 63), st.integers(0, 9000))),
        st.tuples(st.just("publish"), st.none()),
        st.tuples(st.just("unpop"), st.none()),
        st.tuples(st.just("collect"), st.none()),
        st.tuples(st.just("notify"), st.booleans()),
        st.tuples(st.just("interrupts"), st.booleans()),
        st.tuples(st.just("kick"), st.none()),
    ),
    min_size=15,
    max_size=60,
)


def play(s: Scene, name: str, argument: Any) -> None:
    if name == "add":
        readable, writable, indirect = argument
        buffers = [Buffer(SECOND - 300 + 16 * i, n) for i, n in enumerate(readable)]
        buffers += [Buffer(SECOND + 16 * i, n, write=True) for i, n in enumerate(writable)]
        with contextlib.suppress(BufferError, MemoryError):
            s.outstanding.add(s.driver.add(buffers, indirect=indirect))
    elif name == "pop":
        assert s.queue.pop()[0] != "error"
    elif name == "push" and s.queue.chains:
        s.queue.push(*argument)
    elif name == "publish":
        s.queue.publish()
    elif name == "unpop" and s.queue.chains:
        if s.queue.chains[-1] is s.queue.last_popped:
            s.queue.unpop()
    elif name == "collect":
        for completion in s.driver.take_used():
            s.outstanding.remove(completion.id)
    elif name == "notify":
        s.queue.notify(enable=argument)
    elif name == "interrupts":
        s.driver.want_interrupt(wanted=argument)
    elif name == "kick":
        s.driver.kick_wanted()


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@given(size=st.sampled_from([1, 2, 4, 8, 16]), event_idx=st.booleans(), story=steps)
@common
def test_rings_wellbehaved_driver_both_agree_on_every_byte(
    pair: Pair, packed: bool, size: int, event_idx: bool, story: list[tuple[str, Any]]
) -> None:
    s = scene(pair, size, packed=packed, event_idx=event_idx)
    with s.queue:
        for name, argument in story:
            play(s, name, argument)
            if s.queue.published:  # what is pushed but not published is nobody's business
                pair.assert_same_bytes()
        while s.queue.pop()[0] == "chain":
            pass
        while s.queue.chains:
            s.queue.push(0, 1)
        s.queue.publish()
        for completion in s.driver.take_used():
            s.outstanding.remove(completion.id)
        assert not s.outstanding, "a chain that was made available never came back"


addresses = st.one_of(
    st.integers(RAM, SECOND + SECOND_SIZE),
    st.sampled_from([0, RAM - 1, SECOND - 8, SECOND + SECOND_SIZE - 4, ROM, ROM + ROM_SIZE - 16, 2**63]),
    st.integers(0, 2**64 - 1),
)
sizes = st.one_of(st.integers(0, 64), st.sampled_from([16, 32, 48, 4096, 2**31, 2**32 - 1, 2**32 - 16]))
small = st.integers(0, 9)
flags = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 0x80, 0x81, 0x82, 0x83, 0x84, 0x8080, 0x8000, 0xFFFF])


@given(
    table=st.lists(st.tuples(addresses, sizes, flags, small), min_size=8, max_size=8),
    indirect=st.lists(st.tuples(addresses, sizes, flags, small), min_size=4, max_size=4),
    ring=st.lists(small, min_size=8, max_size=8),
    index=st.integers(0, 8) | st.integers(0, 0xFFFF),
    completions=st.lists(st.integers(0, 1000), max_size=8),
    features=st.tuples(st.booleans(), st.booleans()),
)
@common
def test_split_hostile_tables_both_agree(
    pair: Pair, table: Any, indirect: Any, ring: Any, index: int, completions: Any, features: Any
) -> None:
    pair.wipe()
    where = split_sizes(8)
    desc, avail = RAM, RAM + where.desc
    used = avail + 32
    pair.poke(SECOND, b"".join(SPLIT_DESC.pack(*d) for d in indirect))
    table = [(SECOND, n, f, x) if f & 4 and n % 16 == 0 else (a, n, f, x) for a, n, f, x in table]
    pair.poke(desc, b"".join(SPLIT_DESC.pack(*d) for d in table))
    pair.poke(avail, LE16.pack(0) + LE16.pack(index) + b"".join(LE16.pack(h) for h in ring))
    with QueuePair(
        pair, Geometry(8, desc, avail, used, indirect=features[0], event_idx=features[1])
    ) as queue:
        drain(queue, completions)
        pair.assert_same_bytes()


@given(
    table=st.lists(st.tuples(addresses, sizes, small, flags), min_size=6, max_size=6),
    indirect=st.lists(st.tuples(addresses, sizes, small, flags), min_size=4, max_size=4),
    event=st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    completions=st.lists(st.integers(0, 1000), max_size=8),
    features=st.tuples(st.booleans(), st.booleans()),
)
@common
def test_packed_hostile_tables_both_agree(
    pair: Pair, table: Any, indirect: Any, event: Any, completions: Any, features: Any
) -> None:
    pair.wipe()
    desc, driver, device = RAM, RAM + 96, RAM + 100
    pair.poke(SECOND, b"".join(PACKED_DESC.pack(*d) for d in indirect))
    table = [(SECOND, n, i, f) if f & 4 and n % 16 == 0 else (a, n, i, f) for a, n, i, f in table]
    pair.poke(desc, b"".join(PACKED_DESC.pack(*d) for d in table))
    pair.poke(driver, PACKED_EVENT.pack(*event))
    geometry = Geometry(6, desc, driver, device, packed=True, indirect=features[0], event_idx=features[1])
    with QueuePair(pair, geometry) as queue:
        drain(queue, completions)
        pair.assert_same_bytes()


def drain(queue: QueuePair, completions: list[int]) -> None:
    """Pop until empty or broken, then complete what was popped, in some order."""
    for _ in range(20):
        if queue.pop()[0] != "chain":
            break
    queue.pop()  # an error is sticky
    for which in completions:
        if not queue.chains:
            break
        queue.push(which, which * 7)
    queue.publish()
    queue.notify(enable=True)


@given(
    size=st.integers(0, 40) | st.sampled_from([1024, 1025, 32768, 65535]),
    areas=st.tuples(*[st.one_of(addresses, st.integers(0, 0x600).map(lambda n: RAM + 16 * n))] * 3),
    packed=st.booleans(),
    event_idx=st.booleans(),
)
@common
def test_start_any_geometry_both_agree(
    pair: Pair, size: int, areas: tuple[int, int, int], packed: bool, event_idx: bool
) -> None:
    pair.wipe()
    with QueuePair(pair, Geometry(size, *areas, packed=packed, event_idx=event_idx)):
        pair.assert_same_bytes()
