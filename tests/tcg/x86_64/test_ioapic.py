# SPDX-License-Identifier: GPL-2.0-only
"""The I/O APIC model against the 82093AA data sheet, and its messages to the local APICs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Apics

IRR, TMR, LDR = 0x200, 0x180, 0xD0
LEVEL, MASKED, REMOTE_IRR, LOGICAL, LOWEST = 1 << 15, 1 << 16, 1 << 14, 1 << 11, 1 << 8
ACTIVE_LOW = 1 << 13


def to(cpu: int) -> int:
    return cpu << 56


def test_reset_all_pins_are_masked(apics: Apics) -> None:
    assert [apics.entry(pin) for pin in range(48)] == [MASKED] * 48


def test_version_tells_pins_and_eoi_register(apics: Apics) -> None:
    apics.lib.ioapic_write(apics.bus, 0, 1)
    assert apics.lib.ioapic_read(apics.bus, 0x10) == 47 << 16 | 0x20


def test_edge_pin_interrupts_once_a_rise(apics: Apics) -> None:
    apics.redirect(20, 0x50 | to(1))
    apics.line(20, True)
    assert apics.acknowledge(1) == 0x50
    apics.eoi(1)
    apics.line(20, True)
    assert not apics.intr[1]
    apics.line(20, False)
    apics.line(20, True)
    assert apics.intr[1]


def test_edge_while_masked_is_lost(apics: Apics) -> None:
    apics.line(20, True)
    apics.redirect(20, 0x50)
    assert not apics.intr[0]


def test_level_pin_interrupts_again_until_lowered(apics: Apics) -> None:
    apics.redirect(17, 0x50 | LEVEL | to(2))
    apics.line(17, True)
    assert apics.entry(17) & REMOTE_IRR
    assert apics.acknowledge(2) == 0x50
    assert apics.bits(2, TMR) == {0x50}
    assert not apics.intr[2]
    apics.eoi(2)
    assert apics.intr[2], "still asserted: again after the EOI"
    assert apics.acknowledge(2) == 0x50
    apics.line(17, False)
    apics.eoi(2)
    assert not apics.intr[2]
    assert not apics.entry(17) & REMOTE_IRR


def test_level_pin_asserted_while_masked_interrupts_on_unmask(apics: Apics) -> None:
    apics.redirect(17, 0x50 | LEVEL | MASKED)
    apics.line(17, True)
    assert not apics.intr[0]
    apics.redirect(17, 0x50 | LEVEL)
    assert apics.acknowledge(0) == 0x50


def test_polarity_says_how_the_wire_works_only(apics: Apics) -> None:
    apics.redirect(17, 0x50 | LEVEL | ACTIVE_LOW)
    assert not apics.intr[0]
    apics.line(17, True)
    assert apics.intr[0]


def test_eoi_ends_only_pins_of_its_vector(apics: Apics) -> None:
    apics.redirect(17, 0x50 | LEVEL)
    apics.redirect(18, 0x60 | LEVEL)
    apics.line(17, True)
    apics.line(18, True)
    assert apics.acknowledge(0) == 0x60
    apics.line(18, False)
    apics.eoi(0)
    assert apics.entry(17) & REMOTE_IRR
    assert not apics.entry(18) & REMOTE_IRR


def test_eoi_register_ends_a_pin(apics: Apics) -> None:
    apics.redirect(17, 0x50 | LEVEL)
    apics.line(17, True)
    apics.line(17, False)
    apics.lib.ioapic_write(apics.bus, 0x40, 0x50)
    assert not apics.entry(17) & REMOTE_IRR


def test_switch_to_edge_clears_remote_irr(apics: Apics) -> None:
    apics.redirect(17, 0x50 | LEVEL)
    apics.line(17, True)
    apics.redirect(17, 0x50 | MASKED)
    assert not apics.entry(17) & REMOTE_IRR


def test_remote_irr_is_not_writable(apics: Apics) -> None:
    apics.redirect(17, 0x50 | LEVEL | REMOTE_IRR | 1 << 12)
    assert apics.entry(17) & (REMOTE_IRR | 1 << 12) == 0


def test_logical_lowest_priority_reaches_one(apics: Apics) -> None:
    for cpu in range(4):
        apics.write(cpu, LDR, 1 << cpu << 24)
    apics.redirect(30, 0x50 | LOGICAL | LOWEST | to(0b1100))
    for _ in range(2):
        apics.line(30, True)
        apics.line(30, False)
    assert apics.intr == [False, False, True, True]


def test_level_pin_nobody_accepts_is_tried_again(apics: Apics) -> None:
    apics.write(3, 0xF0, 0xFF)
    apics.redirect(17, 0x50 | LEVEL | to(3))
    apics.line(17, True)
    assert not apics.entry(17) & REMOTE_IRR, "not accepted, so not in flight"
    apics.write(3, 0xF0, 0x1FF)
    apics.redirect(17, 0x50 | LEVEL | to(3))
    assert apics.intr[3]


def test_nmi_pin_reaches_the_nmi_input(apics: Apics) -> None:
    apics.redirect(5, 4 << 8 | to(1))
    apics.line(5, True)
    assert ("nmi", 1) in apics.calls


def test_machine_reset_masks_pins(apics: Apics) -> None:
    apics.redirect(17, 0x50 | LEVEL)
    apics.lib.apic_bus_reset(apics.bus, 4)
    apics.line(17, True)
    assert apics.entry(17) == MASKED
    assert apics.bits(0, IRR) == set()


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.sampled_from([0, 0x10, 0x40, 0x123]), st.integers(0, 2**32 - 1)),
            st.tuples(st.just("line"), st.integers(0, 63), st.booleans()),
            st.tuples(st.just("serve"), st.integers(0, 3), st.booleans()),
        ),
        max_size=80,
    )
)
def test_hostile_programming_never_delivers_an_illegal_vector(
    new_apics: Callable[[], Apics], actions: list[tuple[str, int, int]]
) -> None:
    apics = new_apics()
    for action, a, b in actions:
        if action == "write":
            apics.lib.ioapic_write(apics.bus, a, b)
            apics.lib.ioapic_read(apics.bus, a)
        elif action == "line":
            apics.line(a, bool(b))
        else:
            vector = apics.acknowledge(a)
            assert vector >= 16
            if vector != 0xFF:
                apics.eoi(a)
