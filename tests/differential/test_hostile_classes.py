# SPDX-License-Identifier: MIT
"""What guests have done to other implementations, on the C core and the twin; see docs/hostile-guests.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.differential.hostile import QUEUE, SIZE, Scene
from tests.differential.pair import RAM, ROM, SECOND, Pair, QueuePair
from vdesktop_core.testing import CONFIG, Buffer, Interrupt, Reg, Status
from vdesktop_core.testing.layout import LE16, PACKED_DESC, SPLIT_DESC, DescFlag
from vdesktop_core.testing.twin import Geometry, RingError
from vdesktop_core.transport.mmio import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.differential.hostile import Entry
    from vdesktop_core.host import Host

NEXT, WRITE, INDIRECT = DescFlag.NEXT, DescFlag.WRITE, DescFlag.INDIRECT
#: Where slots lie on this project's machines: no memory.
MMIO_WINDOW = 0x0A00_0000
LIMIT = 1 << 64


@pytest.fixture(params=["split", "packed"])
def scene(request: pytest.FixtureRequest, pair: Pair) -> Iterator[Scene]:
    with Scene(pair, packed=request.param == "packed") as scene:
        yield scene


@pytest.fixture
def split(pair: Pair) -> Iterator[Scene]:
    """For what packed rings do not have: heads and indices."""
    with Scene(pair, packed=False) as scene:
        yield scene


# Registers


@pytest.mark.parametrize("queue", [3, 64, 0xFFFF, 0x10000, 0x8000_0000, 0xFFFF_FFFF])
def test_notify_of_a_queue_that_does_not_exist(scene: Scene, queue: int) -> None:
    scene.driver.set_register(Reg.QUEUE_NOTIFY, queue)
    scene.broken()


@pytest.mark.parametrize("queue", [3, 64, 0xFFFF, 0xFFFF_FFFF])
def test_selection_of_a_queue_that_does_not_exist(scene: Scene, queue: int) -> None:
    scene.driver.set_register(Reg.QUEUE_SEL, queue)
    for reg in (Reg.QUEUE_SIZE, Reg.QUEUE_DESC_LOW, Reg.QUEUE_READY, Reg.QUEUE_RESET):
        scene.driver.set_register(reg, 1)
    assert scene.driver.get_register(Reg.QUEUE_SIZE_MAX) == 0
    assert scene.driver.get_register(Reg.QUEUE_READY) == 0
    scene.unharmed()


def test_registers_changed_after_driver_ok(scene: Scene) -> None:
    scene.driver.set_register(Reg.QUEUE_SEL, QUEUE)
    before = scene.victim.slot.counters()["out_of_turn"]
    changed = [Reg.QUEUE_SIZE, Reg.QUEUE_DESC_LOW, Reg.QUEUE_DESC_HIGH, Reg.QUEUE_DRIVER_LOW]
    changed += [Reg.QUEUE_DRIVER_HIGH, Reg.QUEUE_DEVICE_LOW, Reg.QUEUE_DEVICE_HIGH, Reg.DRIVER_FEATURES]
    for reg in changed:
        for value in (0, 3, 0xFFFF_FFF0):
            scene.driver.set_register(reg, value)
    assert scene.victim.slot.counters()["out_of_turn"] - before == 3 * len(changed)
    scene.unharmed()


BAD_AREAS = [
    (Reg.QUEUE_DESC_LOW, RAM + 8, "descriptors not aligned to 16"),
    (Reg.QUEUE_DESC_LOW, 0, "descriptors outside of memory"),
    (Reg.QUEUE_DESC_LOW, MMIO_WINDOW, "descriptors in a slot's registers"),
    (Reg.QUEUE_DESC_LOW, SECOND - 16, "descriptors in two regions of host memory"),
    (Reg.QUEUE_DRIVER_LOW, RAM + 1, "driver area not aligned"),
    (Reg.QUEUE_DRIVER_LOW, 0xFFFF_FFFE, "driver area outside of memory"),
    (Reg.QUEUE_DEVICE_LOW, RAM + 2, "device area not aligned"),
    (Reg.QUEUE_DEVICE_LOW, MMIO_WINDOW, "device area in a slot's registers"),
]


@pytest.mark.parametrize(
    ("reg", "value"), [(reg, value) for reg, value, _ in BAD_AREAS], ids=[why for *_, why in BAD_AREAS]
)
def test_ring_geometry_outside_of_memory_or_unaligned(scene: Scene, reg: Reg, value: int) -> None:
    restart_queue(scene, {reg: value})
    scene.broken()


@pytest.mark.parametrize("size", [0, SIZE + 1, 0x8000, 0x10008, 0xFFFF_FFFF])
def test_ring_size_zero_or_beyond_the_maximum(scene: Scene, size: int) -> None:
    restart_queue(scene, {Reg.QUEUE_SIZE: size})
    scene.broken()


@pytest.mark.parametrize("size", [3, 5, 6, 7])
def test_ring_size_not_a_power_of_two(split: Scene, size: int) -> None:
    restart_queue(split, {Reg.QUEUE_SIZE: size})
    split.broken()


def restart_queue(scene: Scene, changes: dict[Reg, int]) -> None:
    """Reset the queue (the device runs on), and make it ready again with other values."""
    queue = scene.driver.queues[QUEUE]
    scene.driver.set_register(Reg.QUEUE_SEL, QUEUE)
    scene.driver.set_register(Reg.QUEUE_RESET, 1)
    values = {
        Reg.QUEUE_SIZE: SIZE,
        Reg.QUEUE_DESC_LOW: queue.desc,
        Reg.QUEUE_DRIVER_LOW: queue.driver,
        Reg.QUEUE_DEVICE_LOW: queue.device,
    }
    for reg, value in (values | changes).items():
        scene.driver.set_register(reg, value)
    scene.driver.set_register(Reg.QUEUE_READY, 1)
    assert scene.driver.get_register(Reg.QUEUE_READY) == 0


def test_ring_geometry_bad_before_driver_ok_keeps_the_device_from_starting(scene: Scene) -> None:
    scene.driver.negotiate(scene.features)
    scene.driver.set_register(Reg.QUEUE_SEL, QUEUE)
    scene.driver.set_register(Reg.QUEUE_SIZE, SIZE)
    scene.driver.set_register(Reg.QUEUE_READY, 1)
    status = scene.driver.get_register(Reg.STATUS)
    assert status & Status.NEEDS_RESET
    scene.driver.set_register(Reg.STATUS, status | Status.DRIVER_OK)
    assert not scene.driver.get_register(Reg.STATUS) & Status.DRIVER_OK
    assert scene.driver.take_interrupt() == 0, "no interrupt before DRIVER_OK (§3.1.1)"
    scene.start()
    scene.works(scene.driver)
    scene.works(scene.other)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_config_space_past_its_end_or_in_odd_widths(scene: Scene, width: int) -> None:
    for offset in (*range(24), 0x7FF, 0xEF8, 0xEFC, 0xEFF):
        scene.victim.read(CONFIG + offset, width)
        scene.victim.write(CONFIG + offset, width, 0xA5A5_A5A5_A5A5_A5A5 >> 64 - 8 * width)
        scene.victim.read(CONFIG + offset, width)
    assert scene.victim.slot.counters()["config_bounds"] > 0
    scene.unharmed()


# Chains


def test_descriptor_loop(scene: Scene) -> None:
    # A packed list cannot point back; its kind of loop never has a last element.
    entries: list[Entry] = [(scene.buffer, 16, NEXT, (i + 1) % 2) for i in range(SIZE if scene.packed else 2)]
    scene.offer(entries)
    scene.broken(RingError.CHAIN_TOO_LONG)


def test_descriptor_loop_in_an_indirect_table(split: Scene) -> None:
    split.poke_table([(split.buffer, 16, NEXT, 1), (split.buffer, 16, NEXT, 0)])
    split.offer([(split.table, 32, INDIRECT, 0)])
    split.broken(RingError.CHAIN_TOO_LONG)


def test_descriptor_loop_in_an_indirect_table_that_claims_4_gib(split: Scene) -> None:
    """Its empty descriptors take no segment: only their number ends the walk."""
    split.poke_table([(0, 0, NEXT, 0)])
    split.offer([(split.table, 0xFFFF_FFF0, INDIRECT, 0)])
    split.broken(RingError.CHAIN_TOO_LONG)


def test_chain_longer_than_the_queue(scene: Scene) -> None:
    scene.offer([(scene.buffer, 16, NEXT, (i + 1) % SIZE) for i in range(SIZE)])
    scene.broken(RingError.CHAIN_TOO_LONG)


def test_chain_of_more_segments_than_the_core_takes(scene: Scene) -> None:
    # Each buffer lies in two regions of host memory: 513 of them are 1026 segments.
    scene.table, count = RAM + 0x3000, 513
    scene.poke_table([(SECOND - 8, 16, NEXT if i < count - 1 else 0, i + 1) for i in range(count)])
    scene.offer([(scene.table, 16 * count, INDIRECT, 0)])
    scene.broken(RingError.CHAIN_TOO_LONG)


def test_descriptor_of_length_zero_is_passed_over(scene: Scene) -> None:
    nothing = Buffer(LIMIT - 1, 0)
    scene.driver.queues[QUEUE].add([nothing, Buffer(scene.buffer, 16), nothing])
    scene.driver.queues[QUEUE].add([nothing])
    scene.kick()
    assert len(scene.driver.wait_used(QUEUE, 2)) == 2
    scene.unharmed()


@pytest.mark.parametrize("length", [0x6001, 0x8000_0000, 0xFFFF_FFFF])
def test_descriptor_of_huge_length(scene: Scene, length: int) -> None:
    scene.offer([(scene.buffer, length, WRITE, 0)])
    scene.broken(RingError.BAD_ADDRESS)


def test_indirect_descriptor_in_an_indirect_table(split: Scene) -> None:
    split.poke_table([(split.table, 32, INDIRECT, 0), (split.buffer, 16, 0, 0)])
    split.offer([(split.table, 32, INDIRECT, 0)])
    split.broken(RingError.BAD_INDIRECT)


def test_indirect_descriptor_with_a_next(scene: Scene) -> None:
    scene.poke_table([(scene.buffer, 16, 0, 0)])
    scene.offer([(scene.table, 16, INDIRECT | NEXT, 1), (scene.buffer, 16, 0, 0)])
    scene.broken(RingError.BAD_INDIRECT)


@pytest.mark.parametrize("length", [0, 8, 17, 0xFFFF_FFFF])
def test_indirect_table_of_length_zero_or_odd(scene: Scene, length: int) -> None:
    scene.offer([(scene.table, length, INDIRECT, 0)])
    scene.broken(RingError.BAD_INDIRECT)


@pytest.mark.parametrize("gpa", [0, MMIO_WINDOW, SECOND + 0x2000, LIMIT - 16])
def test_indirect_table_outside_of_memory(scene: Scene, gpa: int) -> None:
    # The last one begins in memory and goes round the end of the address space.
    if not scene.packed:
        scene.pair.poke(LIMIT - 16, SPLIT_DESC.pack(scene.buffer, 8, NEXT, 1))
    scene.offer([(gpa, 32, INDIRECT, 0)])
    scene.broken(RingError.BAD_ADDRESS)


def test_readable_descriptor_after_a_writable_one(scene: Scene) -> None:
    scene.offer([(scene.buffer, 8, WRITE | NEXT, 1), (scene.buffer, 8, 0, 0)])
    scene.broken(RingError.ORDER)


def test_next_beyond_the_table(split: Scene) -> None:
    split.offer([(split.buffer, 8, NEXT, SIZE)])
    split.broken(RingError.BAD_NEXT)


def test_next_beyond_an_indirect_table(split: Scene) -> None:
    split.poke_table([(split.buffer, 8, NEXT, 2), (split.buffer, 8, 0, 0)])
    split.offer([(split.table, 32, INDIRECT, 0)])
    split.broken(RingError.BAD_NEXT)


@pytest.mark.parametrize("head", [SIZE, 0x8000, 0xFFFF])
def test_head_beyond_the_table(split: Scene, head: int) -> None:
    split.offer([(split.buffer, 8, 0, 0)], head=head)
    split.broken(RingError.BAD_HEAD)


@pytest.mark.parametrize("index", [SIZE + 1, 0x8000, 0xFFFF])
def test_available_index_too_far_ahead(split: Scene, index: int) -> None:
    split.pair.poke(split.driver.queues[QUEUE].driver + 2, LE16.pack(index))
    split.kick()
    split.broken(RingError.AVAIL_OVERRUN)


def test_available_descriptors_over_those_in_flight(pair: Pair) -> None:
    with Scene(pair, packed=True) as packed:
        packed.victim.hold = True
        packed.offer([(packed.buffer, 8, NEXT, 0)] * 4 + [(packed.buffer, 8, 0, 0)])
        packed.offer([(packed.buffer, 8, NEXT, 0)] * 3, head=1, at=5)
        packed.broken(RingError.AVAIL_OVERRUN)


def test_same_head_in_flight_twice(scene: Scene) -> None:
    scene.victim.hold = True
    scene.offer([(scene.buffer, 8, 0, 0)])
    scene.offer([(scene.buffer, 8, 0, 0)], at=1, head=0)
    scene.broken(RingError.HEAD_IN_FLIGHT)


def test_head_leaked_after_a_malformed_chain(scene: Scene) -> None:
    """What was in flight before may still be completed, and no head is lost by a reset."""
    scene.victim.hold = True
    for head in range(3):
        scene.offer([(scene.buffer, 8, WRITE, 0)], at=head, head=head)
    scene.offer([(MMIO_WINDOW, 8, 0, 0)], at=3, head=3)
    assert len(scene.victim.queues[QUEUE].chains) == 3
    scene.victim.complete(QUEUE)
    scene.broken(RingError.BAD_ADDRESS)


# Memory


@pytest.mark.parametrize(
    "gpa", [0, RAM - 8, SECOND + 0x2000 - 8, LIMIT - 8, LIMIT - 1], ids=lambda gpa: f"{gpa:#x}"
)
def test_descriptor_outside_of_memory(scene: Scene, gpa: int) -> None:
    scene.offer([(gpa, 16, 0, 0)])
    scene.broken(RingError.BAD_ADDRESS)


@pytest.mark.parametrize("write", [0, WRITE], ids=["read", "write"])
def test_descriptor_into_a_slots_registers(scene: Scene, write: int) -> None:
    scene.offer([(MMIO_WINDOW, 8, write, 0)])
    scene.broken(RingError.BAD_ADDRESS)


def test_descriptor_to_write_read_only_memory(scene: Scene) -> None:
    scene.offer([(ROM, 16, WRITE, 0)])
    scene.broken(RingError.BAD_ADDRESS)


def test_range_not_contiguous_in_the_host(scene: Scene) -> None:
    scene.driver.queues[QUEUE].add([Buffer(SECOND - 8, 16), Buffer(SECOND - 4, 8, write=True)])
    scene.kick()
    assert scene.driver.wait_used(QUEUE)[0][1] == 1
    scene.unharmed()


@pytest.fixture
def wide(host: Host) -> Iterator[Pair]:
    """Memory with room for tables and buffers that the small one has not."""
    with Pair(host, ((RAM, WIDE, False),)) as pair:
        yield pair


WIDE = 8 << 20
TABLE = RAM + 0x1000


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize(
    ("count", "length", "error"),
    [
        (512, WIDE, RingError.BAD_LENGTH),
        (600, WIDE, RingError.BAD_LENGTH),
        (1024, 1, None),
        (1024, 0, None),
        (1025, 0, RingError.CHAIN_TOO_LONG),
        (65_536, 0, RingError.CHAIN_TOO_LONG),
    ],
)
def test_chain_without_bound_in_bytes_or_descriptors(
    wide: Pair, packed: bool, count: int, length: int, error: RingError | None
) -> None:
    """Over 2^32 bytes in all; or empty descriptors that take no room, but time."""
    pack = PACKED_DESC if packed else SPLIT_DESC
    entries = [
        pack.pack(RAM, length, 0, 0) if packed else pack.pack(RAM, length, NEXT, i + 1 & 0xFFFF)
        for i in range(count)
    ]
    if not packed:
        entries[-1] = pack.pack(RAM, length, 0, 0)
    wide.poke(TABLE, b"".join(entries))
    flags = INDIRECT | (DescFlag.AVAIL if packed else 0)
    wide.poke(RAM, pack.pack(TABLE, 16 * count, *((0, flags) if packed else (flags, 0))))
    wide.poke(RAM + 0x100, LE16.pack(0) + LE16.pack(1) + LE16.pack(0))
    with QueuePair(wide, Geometry(SIZE, RAM, RAM + 0x100, RAM + 0x200, packed=packed)) as queue:
        assert queue.pop()[1 if error else 0] == (error or "chain")


# Life cycle


def test_reset_with_requests_in_flight(scene: Scene) -> None:
    scene.victim.hold = True
    for _ in range(SIZE):
        scene.driver.queues[QUEUE].add([Buffer(scene.buffer, 8, write=True)])
    scene.kick()
    assert len(scene.victim.queues[QUEUE].chains) == SIZE
    used = scene.driver.queues[QUEUE].device
    before = scene.pair.twin.read(used, 64)
    scene.driver.reset()
    scene.victim.hold = False
    assert scene.pair.twin.read(used, 64) == before
    scene.pair.assert_same_bytes()
    scene.start()
    scene.unharmed()


def test_queue_reset_with_requests_in_flight(scene: Scene) -> None:
    scene.victim.hold = True
    scene.offer([(scene.buffer, 8, WRITE, 0)])
    scene.driver.set_register(Reg.QUEUE_SEL, QUEUE)
    scene.driver.set_register(Reg.QUEUE_RESET, 1)
    scene.victim.hold = False
    scene.driver.setup_queue(QUEUE, SIZE)
    scene.unharmed()


def test_unplug_with_requests_in_flight(scene: Scene) -> None:
    scene.victim.hold = True
    scene.offer([(scene.buffer, 8, WRITE, 0)])
    scene.victim.unplug()
    assert scene.driver.get_register(Reg.DEVICE_ID) == 0
    for reg in Reg:
        scene.driver.set_register(reg, 1)
        scene.driver.get_register(reg)
    scene.victim.read(CONFIG, 4)
    scene.victim.write(CONFIG, 4, 1)
    scene.works(scene.other)
    scene.victim.plug()
    scene.victim.hold = False
    scene.start()
    scene.unharmed()


# Without a bound


def test_events_flood_coalesces(scene: Scene) -> None:
    for _ in range(200):
        scene.start()
        for queue in range(3):
            scene.victim.write(CONFIG + 1, 2, queue)
            scene.kick()
        scene.driver.set_register(Reg.QUEUE_SEL, QUEUE)
        scene.driver.set_register(Reg.QUEUE_RESET, 1)
        scene.driver.setup_queue(QUEUE, SIZE)
    events = list(scene.victim.slot.events())
    kinds = [event.kind for event in events]
    assert len(kinds) == len(set(kinds)) == 6, kinds
    scene.unharmed()


def test_protocol_errors_flood_is_told_and_logged_once(scene: Scene) -> None:
    for _ in range(1000):
        scene.driver.set_register(Reg.QUEUE_NOTIFY, 77)
    assert scene.victim.device.n_protocol_errors == 1000
    assert scene.driver.take_interrupt() == Interrupt.CONFIG
    assert scene.driver.take_interrupt() == 0
    assert [event.kind for event in scene.victim.slot.events()].count(EventKind.NEEDS_RESET) == 1
    assert scene.pair.host.drain_log() == 1
    scene.works(scene.other)
