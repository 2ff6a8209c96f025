# SPDX-License-Identifier: MIT
"""The C register file against the Python twin, on a driver's sequences and on anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.differential.pair import RAM, RAM_SIZE
from tests.differential.slot_pair import SIZES, SlotPair
from tests.differential.test_rings import Both
from vdesktop_core.testing import CONFIG, Arena, DriverError, Feature, MockDriver, Reg, Status
from vdesktop_core.transport.mmio import Access, registers

if TYPE_CHECKING:
    from tests.differential.pair import Pair

common = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

#: Writes that lead somewhere, so that random sequences reach deep states.
useful = st.one_of(
    st.sampled_from(
        [
            (Reg.STATUS, value)
            for value in (0, 1, 3, 11, 15, 15, 15, Status.NEEDS_RESET, Status.FAILED, 0x1FF, 0x8000000F)
        ]
    ),
    st.sampled_from([(Reg.DRIVER_FEATURES_SEL, n) for n in (0, 1, 2)]),
    st.sampled_from(
        [(Reg.DRIVER_FEATURES, n) for n in (0, 1, 3, 0x30000000, 0x105, 0x101, 0x1, 4, 2**32 - 1)]
    ),
    st.sampled_from([(Reg.QUEUE_SEL, n) for n in (0, 1, 2, 3, 0xFFFF, 2**32 - 1)]),
    st.sampled_from([(Reg.QUEUE_SIZE, n) for n in (0, 1, 3, 4, 8, 16, 32, 65536 + 4)]),
    st.sampled_from(
        [
            (reg, RAM + offset)
            for reg in (Reg.QUEUE_DESC_LOW, Reg.QUEUE_DRIVER_LOW, Reg.QUEUE_DEVICE_LOW)
            for offset in (0, 0x100, 0x200, 0x201, RAM_SIZE)
        ]
    ),
    st.sampled_from([(Reg.QUEUE_DESC_HIGH, 1), (Reg.QUEUE_DESC_HIGH, 0)]),
    st.sampled_from([(Reg.QUEUE_READY, n) for n in (0, 1, 1, 2)]),
    st.sampled_from([(Reg.QUEUE_RESET, n) for n in (0, 1)]),
    st.sampled_from([(Reg.QUEUE_NOTIFY, n) for n in (0, 1, 2, 3, 0x10000, 2**32 - 1)]),
    st.sampled_from([(Reg.INTERRUPT_ACK, n) for n in (1, 2, 3, 2**32 - 1)]),
    st.sampled_from([(Reg.SHM_SEL, n) for n in (0, 1, 2, 4, 2**32 - 1)]),
).map(lambda pair: ("write", pair[0], 4, pair[1]))
wild = st.tuples(
    st.sampled_from(["read", "write"]),
    st.one_of(st.integers(0, 0x120), st.integers(0, 4095), st.sampled_from(list(Reg))),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 2**64 - 1),
)
device = st.tuples(st.just("interrupt"), st.integers(0, 2), st.just(0), st.just(0))


def play(slots: SlotPair, story: list[tuple[str, int, int, int]]) -> None:
    for what, offset, width, value in story:
        if what == "read":
            slots.read(offset, width)
        elif what == "write":
            slots.write(offset, width, value & (1 << 8 * width) - 1)
        else:
            slots.interrupt(offset)
        for reg in (Reg.STATUS, Reg.INTERRUPT_STATUS, Reg.QUEUE_READY, Reg.CONFIG_GENERATION):
            slots.read(reg, 4)


@given(st.lists(st.one_of(useful, useful, useful, wild, device), min_size=20, max_size=80))
@common
def test_registers_any_sequence_both_agree(pair: Pair, story: list[tuple[str, int, int, int]]) -> None:
    with SlotPair(pair) as slots:
        play(slots, story)


@given(
    features=st.sets(st.sampled_from([0, 1, 2, 3, *Feature])),
    sizes=st.fixed_dictionaries({i: st.sampled_from([1, 2, 3, 4, 8, 16, 0]) for i in range(len(SIZES))}),
)
@common
def test_driver_bring_up_any_choice_both_agree(pair: Pair, features: set[int], sizes: dict[int, int]) -> None:
    with SlotPair(pair) as slots:
        driver = MockDriver(slots, Arena(Both(pair), RAM, RAM_SIZE))
        try:
            driver.start(features, sizes=sizes)
        except DriverError:
            assert not (slots.read(Reg.STATUS, 4) & Status.DRIVER_OK)


running = st.sampled_from(
    [
        *[("write", Reg.QUEUE_NOTIFY, 4, n) for n in (0, 1, 2, 3)],
        *[("write", Reg.QUEUE_SEL, 4, n) for n in (0, 1, 2, 3)],
        *[("write", Reg.INTERRUPT_ACK, 4, n) for n in (1, 2, 3, 4)],
        ("write", Reg.QUEUE_RESET, 4, 1),
        ("write", Reg.QUEUE_READY, 4, 0),
        ("write", Reg.QUEUE_READY, 4, 1),
        ("write", Reg.QUEUE_SIZE, 4, 4),
        ("write", Reg.DRIVER_FEATURES, 4, 0),
        ("write", Reg.STATUS, 4, 15),
        *[("write", CONFIG + n, 4, 0x11223344) for n in (0, 2, 4, 8, 9)],
        *[("read", CONFIG + n, 4, 0) for n in (0, 2, 4, 8, 9)],
    ]
)


@given(
    features=st.sets(
        st.sampled_from([0, 1, 3, Feature.INDIRECT_DESC, Feature.EVENT_IDX, Feature.RING_PACKED])
    ),
    ring_reset=st.booleans(),
    early=st.lists(st.integers(0, 3), max_size=3),
    after=st.lists(st.one_of(running, running, running, device, useful), min_size=25, max_size=60),
)
@common
def test_running_device_then_anything_both_agree(
    pair: Pair, features: set[int], ring_reset: bool, early: list[int], after: list[Any]
) -> None:
    with SlotPair(pair) as slots:
        driver = MockDriver(slots, Arena(Both(pair), RAM, RAM_SIZE))
        driver.negotiate(features | ({Feature.RING_RESET} if ring_reset else set()))
        driver.setup_queues(dict(enumerate(SIZES)) if len(early) < 3 else {0: 8})
        for queue in early:
            slots.write(Reg.QUEUE_NOTIFY, 4, queue)
        slots.write(Reg.STATUS, 4, 15)
        play(slots, after)


def test_driver_with_offered_features_reaches_driver_ok(pair: Pair) -> None:
    with SlotPair(pair) as slots:
        driver = MockDriver(slots, Arena(Both(pair), RAM, RAM_SIZE))
        driver.start(driver.offered(), sizes=dict(enumerate(SIZES)))
        assert slots.calls == [("reset", 0), *[("queue_ready", i) for i in range(3)], ("driver_ok", 0)]
        assert driver.config(0, 12) == bytes(range(12))


def test_registers_public_enum_matches_the_c_table() -> None:
    """The driver's names and offsets against those the C core decodes with."""
    theirs = {register.name.lower(): register for register in registers()}
    ours = {reg.name.replace("_", "").lower(): reg for reg in Reg}
    assert {name: register.offset for name, register in theirs.items()} == {
        n: int(r) for n, r in ours.items()
    }


@pytest.mark.parametrize("width", [1, 2, 8])
def test_control_register_odd_width_does_nothing(pair: Pair, width: int) -> None:
    with SlotPair(pair) as slots:
        for register in registers():
            assert slots.read(register.offset, width) == 0
            slots.write(register.offset, width, 1)
        assert slots.calls == []
        assert slots.slot.counters()["bad_width"] == 2 * len(registers())


def test_config_space_past_its_end_reads_zero_and_is_counted(pair: Pair) -> None:
    with SlotPair(pair) as slots:
        assert slots.read(CONFIG + 12, 4) == 0
        assert slots.read(CONFIG + 10, 4) == 0x0B0A
        slots.write(CONFIG + 4095 - CONFIG, 1, 1)
        assert slots.slot.counters()["config_bounds"] == 3
        assert slots.calls == []


def test_read_only_register_write_is_ignored_and_counted(pair: Pair) -> None:
    with SlotPair(pair) as slots:
        readonly = [r for r in registers() if not r.access & Access.W]
        for register in readonly:
            slots.write(register.offset, 4, 0xFFFF_FFFF)
        assert slots.slot.counters()["no_register"] == len(readonly)
        assert slots.calls == []
