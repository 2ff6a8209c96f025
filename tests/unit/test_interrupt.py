# SPDX-License-Identifier: MIT
"""Shared interrupt lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdesktop_core._native import ffi
from vdesktop_core.errors import VdesktopError
from vdesktop_core.host import Host
from vdesktop_core.interrupt import IrqLine, SharedLine

if TYPE_CHECKING:
    from collections.abc import Iterator


class Recorder:
    """A line; what it is told is written down."""

    def __init__(self) -> None:
        self.levels: list[bool] = []
        self._set = ffi.callback("void(void *, bool)", lambda _opaque, level: self.levels.append(bool(level)))
        self._irq = ffi.new("struct vd_irq *", {"set": self._set})
        self.line = IrqLine(5, int(ffi.cast("uintptr_t", self._irq)))


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as host:
        yield host


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shared_line_any_sequence_is_the_or_of_its_inputs(host: Host, story: list[tuple[int, bool]]) -> None:
    recorder = Recorder()
    share = SharedLine(host.native, recorder.line, 4)
    inputs = [share.input(index) for index in range(4)]
    high: set[int] = set()
    expected: list[bool] = []
    for index, level in story:
        before = bool(high)
        (high.add if level else high.discard)(index)
        if bool(high) != before or level:  # where edges count, each rise does
            expected.append(bool(high))
        inputs[index].set(level=level)
        assert recorder.levels == expected
    share.close()


def test_shared_line_input_beyond_the_last_is_refused(host: Host) -> None:
    share = SharedLine(host.native, Recorder().line, 2)
    with pytest.raises(IndexError):
        share.input(2)
    share.close()


@pytest.mark.parametrize("inputs", [0, 65])
def test_shared_line_impossible_number_of_inputs_is_refused(host: Host, inputs: int) -> None:
    with pytest.raises(VdesktopError):
        SharedLine(host.native, Recorder().line, inputs)
