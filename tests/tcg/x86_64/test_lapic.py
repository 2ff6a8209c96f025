# SPDX-License-Identifier: GPL-2.0-only
"""The local APIC model against the Intel SDM, vol. 3, "Advanced Programmable Interrupt Controller"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Apics

TPR, PPR, LDR, DFR, SVR, ESR = 0x80, 0xA0, 0xD0, 0xE0, 0xF0, 0x280
ISR, TMR, IRR = 0x100, 0x180, 0x200
LVT_TIMER, LVT_ERROR = 0x320, 0x370
INITIAL, CURRENT, DIVIDE = 0x380, 0x390, 0x3E0
SELF, ALL, OTHERS = 1 << 18, 2 << 18, 3 << 18
LOGICAL = 1 << 11
PERIODIC, DEADLINE, MASKED = 1 << 17, 2 << 17, 1 << 16
BY_1 = 0xB


def test_identity_each_cpu_has_its_own(apics: Apics) -> None:
    assert [apics.read(cpu, 0x20) >> 24 for cpu in range(4)] == [0, 1, 2, 3]
    assert apics.read(0, 0x30) == 0x0005_0014


def test_fixed_ipi_is_pending_then_in_service_then_ended(apics: Apics) -> None:
    apics.ipi(0, 0x40, destination=2)
    assert apics.intr == [False, False, True, False]
    assert apics.bits(2, IRR) == {0x40}
    assert apics.acknowledge(2) == 0x40
    assert (apics.bits(2, IRR), apics.bits(2, ISR), apics.intr[2]) == (set(), {0x40}, False)
    apics.eoi(2)
    assert apics.bits(2, ISR) == set()
    assert apics.calls == [("prefer", 2)]


def test_higher_class_preempts_and_same_class_waits(apics: Apics) -> None:
    apics.ipi(0, 0x45 | SELF)
    assert apics.acknowledge(0) == 0x45
    apics.ipi(0, 0x4F | SELF)
    assert not apics.intr[0]
    apics.ipi(0, 0x51 | SELF)
    assert apics.intr[0]
    assert apics.acknowledge(0) == 0x51
    apics.eoi(0)
    assert not apics.intr[0]
    apics.eoi(0)
    assert apics.acknowledge(0) == 0x4F


def test_task_priority_holds_back_its_class_and_below(apics: Apics) -> None:
    apics.write(0, TPR, 0x50)
    apics.ipi(0, 0x5F | SELF)
    assert not apics.intr[0]
    assert apics.read(0, PPR) == 0x50
    apics.write(0, TPR, 0x4F)
    assert apics.intr[0]
    apics.lib.lapic_set_task_priority(apics.bus, 0, 6)
    assert (apics.intr[0], apics.read(0, TPR)) == (False, 0x60)


def test_acknowledge_with_nothing_pending_is_spurious(apics: Apics) -> None:
    assert apics.acknowledge(1) == 0xFF
    assert apics.bits(1, ISR) == set()


@pytest.mark.parametrize(("shorthand", "expected"), [(SELF, {1}), (ALL, {0, 1, 2, 3}), (OTHERS, {0, 2, 3})])
def test_shorthands_reach_whom_they_name(apics: Apics, shorthand: int, expected: set[int]) -> None:
    apics.ipi(1, 0x80 | shorthand, destination=3)
    assert {cpu for cpu in range(4) if apics.intr[cpu]} == expected


def test_logical_flat_destination_is_a_mask(apics: Apics) -> None:
    for cpu in range(4):
        apics.write(cpu, LDR, 1 << cpu << 24)
    apics.ipi(0, 0x80 | LOGICAL, destination=0b1010)
    assert apics.intr == [False, True, False, True]


def test_logical_cluster_destination_names_cluster_and_members(apics: Apics) -> None:
    for cpu, logical in enumerate((0x11, 0x12, 0x21, 0x22)):
        apics.write(cpu, DFR, 0x0FFFFFFF)
        apics.write(cpu, LDR, logical << 24)
    apics.ipi(0, 0x80 | LOGICAL, destination=0x23)
    assert apics.intr == [False, False, True, True]
    apics.ipi(0, 0x90 | LOGICAL, destination=0xF1)
    assert 0x90 in apics.bits(0, IRR)
    assert 0x90 in apics.bits(2, IRR)
    assert 0x90 not in apics.bits(3, IRR)


def test_physical_broadcast_reaches_all(apics: Apics) -> None:
    apics.ipi(2, 0x80, destination=0xFF)
    assert apics.intr == [True] * 4


def test_lowest_priority_goes_to_one_that_is_least_busy(apics: Apics) -> None:
    for cpu in range(4):
        apics.write(cpu, LDR, 1 << cpu << 24)
        apics.write(cpu, TPR, 0x10 if cpu == 2 else 0x20)
    apics.ipi(0, 0x80 | 1 << 8 | LOGICAL, destination=0xF)
    assert apics.intr == [False, False, True, False]


def test_lowest_priority_takes_turns_when_equal(apics: Apics) -> None:
    for cpu in range(4):
        apics.write(cpu, LDR, 1 << cpu << 24)
    for vector in range(0x80, 0x84):
        apics.ipi(0, vector | 1 << 8 | LOGICAL, destination=0xF)
    assert [len(apics.bits(cpu, IRR)) for cpu in range(4)] == [1, 1, 1, 1]


def test_init_sipi_nmi_reach_the_cpu(apics: Apics) -> None:
    apics.ipi(0, 0xC500, destination=1)
    apics.ipi(0, 0x8500, destination=1)  # level de-assert: nothing
    apics.ipi(0, 0x069A, destination=1)
    apics.ipi(0, 0x0400, destination=3)
    assert [call for call in apics.calls if call[0] != "prefer"] == [
        ("init", 1),
        ("sipi", 1, 0x9A),
        ("nmi", 3),
    ]


def test_icr_reads_back_never_busy(apics: Apics) -> None:
    apics.ipi(0, 0xFFFFFFFF & ~(3 << 18) | SELF, destination=3)
    assert apics.read(0, 0x300) & 1 << 12 == 0
    assert apics.read(0, 0x310) == 3 << 24


def test_software_disabled_apic_refuses_and_masks_its_table(apics: Apics) -> None:
    apics.write(1, LVT_TIMER, 0x40)
    apics.write(1, SVR, 0xFF)
    assert apics.read(1, LVT_TIMER) & MASKED
    apics.write(1, LVT_TIMER, 0x40)
    assert apics.read(1, LVT_TIMER) & MASKED
    apics.ipi(0, 0x80, destination=1)
    assert apics.bits(1, IRR) == set()
    apics.ipi(0, 0x0400, destination=1)
    assert ("nmi", 1) in apics.calls


def test_globally_disabled_apic_loses_its_state(apics: Apics) -> None:
    apics.ipi(0, 0x80, destination=1)
    apics.lib.lapic_enable(apics.bus, 1, False)
    assert not apics.intr[1]
    assert apics.acknowledge(1) == -1
    apics.lib.lapic_enable(apics.bus, 1, True)
    assert (apics.read(1, SVR), apics.bits(1, IRR)) == (0xFF, set())


def test_illegal_vector_is_an_error_of_sender_or_receiver(apics: Apics) -> None:
    apics.write(0, LVT_ERROR, 0xFE)
    apics.ipi(0, 0x05, destination=1)
    assert apics.bits(0, IRR) == {0xFE}
    assert apics.read(0, ESR) == 0
    apics.write(0, ESR, 0)
    assert apics.read(0, ESR) == 1 << 5
    apics.write(0, ESR, 0)
    assert apics.read(0, ESR) == 0


def test_reserved_register_is_an_error(apics: Apics) -> None:
    assert apics.read(0, 0x3F0) == 0
    apics.write(0, ESR, 0)
    assert apics.read(0, ESR) == 1 << 7


def test_error_vector_that_is_illegal_does_not_recurse(apics: Apics) -> None:
    apics.write(0, LVT_ERROR, 0x00)
    apics.ipi(0, 0x05, destination=1)
    assert apics.bits(0, IRR) == set()


def test_timer_one_shot_fires_once_when_due(apics: Apics) -> None:
    apics.write(0, DIVIDE, BY_1)
    apics.write(0, LVT_TIMER, 0xEC)
    apics.write(0, INITIAL, 5000)
    assert apics.deadlines[0] == apics.clock + 5000
    apics.clock += 2000
    assert apics.read(0, CURRENT) == 3000
    assert apics.timer(0) == apics.clock + 3000
    apics.clock += 3000
    assert apics.timer(0) == apics.NEVER
    assert apics.acknowledge(0) == 0xEC
    assert apics.read(0, CURRENT) == 0


@pytest.mark.parametrize(
    ("code", "divisor"), [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)]
)
def test_timer_divisor_slows_the_count(apics: Apics, code: int, divisor: int) -> None:
    apics.write(0, DIVIDE, code)
    apics.write(0, LVT_TIMER, 0xEC)
    apics.write(0, INITIAL, 1000)
    assert apics.deadlines[0] - apics.clock == 1000 * divisor


def test_timer_periodic_keeps_its_phase_and_loses_missed_periods(apics: Apics) -> None:
    apics.write(0, DIVIDE, BY_1)
    apics.write(0, LVT_TIMER, 0xEC | PERIODIC)
    apics.write(0, INITIAL, 1_000_000)
    start = apics.clock
    apics.clock = start + 3_300_000
    assert apics.timer(0) == start + 4_000_000
    assert apics.bits(0, IRR) == {0xEC}


def test_timer_periodic_has_a_floor(apics: Apics) -> None:
    apics.write(0, DIVIDE, BY_1)
    apics.write(0, LVT_TIMER, 0xEC | PERIODIC)
    apics.write(0, INITIAL, 1)
    apics.clock += 10**12
    assert apics.timer(0) - apics.clock <= 20_000


def test_timer_masked_counts_but_does_not_interrupt(apics: Apics) -> None:
    apics.write(0, LVT_TIMER, 0xEC | MASKED)
    apics.write(0, INITIAL, 10)
    apics.clock += 1000
    apics.timer(0)
    assert apics.bits(0, IRR) == set()


def test_tsc_deadline_fires_at_the_value_and_clears(apics: Apics) -> None:
    apics.write(0, LVT_TIMER, 0xEC | DEADLINE)
    apics.lib.lapic_set_tsc_deadline(apics.bus, 0, apics.clock + 700)
    apics.write(0, INITIAL, 5)  # ignored in this mode
    assert apics.lib.lapic_tsc_deadline(apics.bus, 0) == apics.clock + 700
    apics.clock += 699
    apics.timer(0)
    assert not apics.intr[0]
    apics.clock += 1
    apics.timer(0)
    assert apics.acknowledge(0) == 0xEC
    assert apics.lib.lapic_tsc_deadline(apics.bus, 0) == 0


def test_tsc_deadline_in_the_past_fires_at_once(apics: Apics) -> None:
    apics.write(0, LVT_TIMER, 0xEC | DEADLINE)
    apics.lib.lapic_set_tsc_deadline(apics.bus, 0, 1)
    assert apics.deadlines[0] <= apics.clock
    apics.timer(0)
    assert apics.intr[0]


def test_tsc_deadline_zero_disarms(apics: Apics) -> None:
    apics.write(0, LVT_TIMER, 0xEC | DEADLINE)
    apics.lib.lapic_set_tsc_deadline(apics.bus, 0, apics.clock + 5)
    apics.lib.lapic_set_tsc_deadline(apics.bus, 0, 0)
    apics.clock += 10
    assert apics.timer(0) == apics.NEVER
    assert not apics.intr[0]


def test_tsc_deadline_outside_its_mode_is_ignored(apics: Apics) -> None:
    apics.write(0, LVT_TIMER, 0xEC)
    apics.lib.lapic_set_tsc_deadline(apics.bus, 0, 1)
    assert apics.timer(0) == apics.NEVER
    assert apics.lib.lapic_tsc_deadline(apics.bus, 0) == 0


def test_leaving_tsc_deadline_mode_disarms(apics: Apics) -> None:
    apics.write(0, LVT_TIMER, 0xEC | DEADLINE)
    apics.lib.lapic_set_tsc_deadline(apics.bus, 0, apics.clock + 5)
    apics.write(0, LVT_TIMER, 0xEC)
    apics.clock += 10
    assert apics.timer(0) == apics.NEVER


@pytest.mark.parametrize(("offset", "due"), [(500, 200), (-500, 1200), (2**40, -(10**6))])
def test_tsc_offset_moves_the_deadline(apics: Apics, offset: int, due: int) -> None:
    apics.write(0, LVT_TIMER, 0xEC | DEADLINE)
    apics.lib.lapic_set_tsc_deadline(apics.bus, 0, apics.clock + 700)
    apics.lib.lapic_set_tsc_offset(apics.bus, 0, offset)
    apics.clock += max(due - 1, 0)
    apics.timer(0)
    assert apics.intr[0] == (due <= 0)
    apics.clock += 1
    apics.timer(0)
    assert apics.intr[0]


def test_tsc_deadline_at_the_end_of_time_never_fires(apics: Apics) -> None:
    apics.write(0, LVT_TIMER, 0xEC | DEADLINE)
    for offset in (0, -5, 5):
        apics.lib.lapic_set_tsc_offset(apics.bus, 0, offset)
        apics.lib.lapic_set_tsc_deadline(apics.bus, 0, 2**64 - 1)
        apics.timer(0)
        assert not apics.intr[0]


def test_init_keeps_the_tsc_offset(apics: Apics) -> None:
    apics.lib.lapic_set_tsc_offset(apics.bus, 1, 77)
    apics.lib.lapic_reset(apics.bus, 1)
    assert apics.lib.lapic_tsc_offset(apics.bus, 1) == 77
    assert apics.read(1, SVR) == 0xFF


@settings(max_examples=60, deadline=None)
@given(
    writes=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 0xFFF), st.integers(0, 2**32 - 1)), max_size=60
    )
)
def test_hostile_writes_leave_a_consistent_state(
    new_apics: Callable[[], Apics], writes: list[tuple[int, int, int]]
) -> None:
    apics = new_apics()
    for cpu, offset, value in writes:
        apics.write(cpu, offset, value)
        apics.read(cpu, offset)
        apics.clock += value % 1000
        assert apics.timer(cpu) > apics.clock
    for cpu in range(4):
        pending = apics.bits(cpu, IRR)
        assert not pending & set(range(16)), "an illegal vector was accepted"
        highest = max(pending, default=0)
        assert apics.intr[cpu] == (highest >> 4 > apics.read(cpu, PPR) >> 4)
