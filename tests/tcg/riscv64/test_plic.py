# SPDX-License-Identifier: GPL-2.0-only
"""The PLIC model against the PLIC specification 1.0.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Models

CONTEXTS = 3
SOURCES = 96
PENDING = 0x1000
SIZE = 0x4000000


def priority(source: int) -> int:
    return 4 * source


def enable(context: int, source: int = 0) -> int:
    return 0x2000 + 0x80 * context + 4 * (source // 32)


def threshold(context: int) -> int:
    return 0x200000 + 0x1000 * context


def claim(context: int) -> int:
    return threshold(context) + 4


class Plic:
    def __init__(self, models: Models) -> None:
        self.lib, ffi = models.lib, models.ffi
        self.outputs = [False] * CONTEXTS

        def output(_opaque: object, context: int, level: bool) -> None:
            assert self.outputs[context] != level, "an output is told only when it changes"
            self.outputs[context] = level

        self._callback = ffi.callback("void(void *, unsigned, bool)", output)
        self._output = ffi.new("struct tcg_plic_output *", {"set": self._callback})
        self._plic = self.lib.tcg_plic_new(CONTEXTS, self._output)

    def read(self, offset: int, width: int = 4) -> int:
        return int(self.lib.tcg_plic_read(self._plic, offset, width))

    def write(self, offset: int, value: int, width: int = 4) -> None:
        self.lib.tcg_plic_write(self._plic, offset, width, value)

    def set(self, source: int, level: bool) -> bool:
        return bool(self.lib.tcg_plic_set(self._plic, source, level))

    def reset(self) -> None:
        self.lib.tcg_plic_reset(self._plic)

    def claims(self) -> int:
        return int(self.lib.tcg_plic_claims(self._plic))

    def route(self, source: int, context: int, level: int = 1) -> None:
        self.write(priority(source), level)
        self.write(enable(context, source), self.read(enable(context, source)) | 1 << source % 32)

    def close(self) -> None:
        self.lib.tcg_plic_free(self._plic)


@pytest.fixture
def plic(models: Models) -> Iterator[Plic]:
    plic = Plic(models)
    yield plic
    plic.close()


def test_plic_line_raised_enabled_raises_output_of_its_context_only(plic: Plic) -> None:
    plic.route(33, 1)
    plic.set(33, True)
    assert plic.outputs == [False, True, False]
    assert plic.read(PENDING + 4) == 1 << 1


def test_plic_line_raised_not_enabled_is_pending_and_silent(plic: Plic) -> None:
    plic.write(priority(40), 7)
    plic.set(40, True)
    assert plic.outputs == [False] * CONTEXTS
    assert plic.read(claim(0)) == 0
    plic.route(40, 2)
    assert plic.outputs == [False, False, True]


def test_plic_priority_zero_never_interrupts(plic: Plic) -> None:
    plic.route(5, 0, level=0)
    plic.set(5, True)
    assert not plic.outputs[0]
    plic.write(priority(5), 1)
    assert plic.outputs[0]


def test_plic_threshold_masks_priorities_up_to_it(plic: Plic) -> None:
    plic.route(5, 0, level=3)
    plic.set(5, True)
    plic.write(threshold(0), 3)
    assert not plic.outputs[0]
    plic.write(threshold(0), 2)
    assert plic.outputs[0]


def test_plic_claim_takes_highest_priority_then_lowest_number(plic: Plic) -> None:
    for source, level in ((40, 2), (7, 2), (63, 5), (9, 1)):
        plic.route(source, 0, level)
        plic.set(source, True)
    assert [plic.read(claim(0)) for _ in range(5)] == [63, 7, 40, 9, 0]
    assert not plic.outputs[0]
    assert plic.claims() == 4


def test_plic_level_still_high_at_completion_interrupts_again(plic: Plic) -> None:
    plic.route(34, 0)
    plic.set(34, True)
    assert plic.read(claim(0)) == 34
    assert not plic.outputs[0]
    plic.write(claim(0), 34)
    assert plic.outputs[0]
    assert plic.read(claim(0)) == 34


def test_plic_level_low_at_completion_stays_silent(plic: Plic) -> None:
    plic.route(34, 0)
    plic.set(34, True)
    plic.read(claim(0))
    plic.set(34, False)
    plic.write(claim(0), 34)
    assert not plic.outputs[0]
    assert plic.read(claim(0)) == 0


def test_plic_level_toggles_while_claimed_is_one_request_after_completion(plic: Plic) -> None:
    plic.route(34, 0)
    plic.set(34, True)
    plic.read(claim(0))
    plic.set(34, False)
    plic.set(34, True)
    assert not plic.outputs[0]
    plic.write(claim(0), 34)
    assert plic.outputs[0]


def test_plic_request_forwarded_is_not_taken_back(plic: Plic) -> None:
    plic.route(34, 0)
    plic.set(34, True)
    plic.set(34, False)
    assert plic.read(claim(0)) == 34


def test_plic_two_contexts_enabled_only_one_claims(plic: Plic) -> None:
    plic.route(34, 0)
    plic.route(34, 1)
    plic.set(34, True)
    assert plic.outputs == [True, True, False]
    assert plic.read(claim(1)) == 34
    assert plic.outputs == [False] * CONTEXTS
    assert plic.read(claim(0)) == 0


def test_plic_completion_not_enabled_for_context_is_ignored(plic: Plic) -> None:
    plic.route(34, 0)
    plic.set(34, True)
    plic.read(claim(0))
    plic.write(claim(1), 34)
    assert not plic.outputs[0]
    plic.write(claim(0), 34)
    assert plic.outputs[0]


@pytest.mark.parametrize("value", [0, 35, 95, 96, 1023, 0xFFFFFFFF])
def test_plic_completion_of_unclaimed_source_changes_nothing(plic: Plic, value: int) -> None:
    plic.write(enable(0, 32), 0xFFFFFFFF)
    plic.route(34, 0)
    plic.set(34, True)
    plic.read(claim(0))
    plic.write(claim(0), value)
    assert not plic.outputs[0]


@pytest.mark.parametrize("source", [0, 96, 97, 255, 1 << 31])
def test_plic_line_that_does_not_exist_is_refused(plic: Plic, source: int) -> None:
    assert not plic.set(source, True)
    assert plic.read(PENDING) == 0


def test_plic_source_zero_is_hardwired(plic: Plic) -> None:
    plic.write(priority(0), 7)
    plic.write(enable(0), 0xFFFFFFFF)
    assert plic.read(priority(0)) == 0
    assert plic.read(enable(0)) == 0xFFFFFFFE


@pytest.mark.parametrize("width", [1, 2, 8])
def test_plic_access_of_other_width_reads_zero_and_writes_nothing(plic: Plic, width: int) -> None:
    plic.write(priority(5), 3, width)
    assert plic.read(priority(5)) == 0
    plic.write(priority(5), 3)
    assert plic.read(priority(5), width) == 0


def test_plic_reset_forgets_routing_and_keeps_levels(plic: Plic) -> None:
    plic.route(34, 0)
    plic.set(34, True)
    plic.read(claim(0))
    plic.reset()
    assert plic.outputs == [False] * CONTEXTS
    assert plic.read(priority(34)) == plic.read(enable(0, 34)) == 0
    plic.route(34, 0)
    assert plic.outputs[0]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["read", "write", "set"]),
            st.one_of(
                st.integers(0, SIZE + 64),
                st.sampled_from(
                    [*range(0, 4 * SOURCES + 8, 4), PENDING, PENDING + 4, PENDING + 8, PENDING + 12]
                )
                | st.sampled_from([f(c) for c in range(CONTEXTS + 1) for f in (enable, threshold, claim)]),
            ),
            st.integers(0, 0xFFFFFFFFFFFFFFFF),
            st.sampled_from([1, 2, 4, 4, 4, 8]),
        )
    )
)
def test_plic_any_access_sequence_keeps_its_invariants(
    models: Models, operations: list[tuple[str, int, int, int]]
) -> None:
    plic = Plic(models)
    for kind, offset, value, width in operations:
        if kind == "read":
            plic.read(offset, width)
        elif kind == "write":
            plic.write(offset, value, width)
        else:
            plic.set(offset % (SOURCES + 2), bool(value & 1))
    for context in range(CONTEXTS):
        # The output says whether a claim would find something.
        assert plic.outputs[context] == (plic.read(claim(context)) != 0)
    plic.close()
