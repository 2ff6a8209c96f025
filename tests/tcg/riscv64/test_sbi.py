# SPDX-License-Identifier: GPL-2.0-only
"""The SBI model against the SBI specification 2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from conftest import Models

HARTS = 4
RAM, RAM_SIZE = 0x8000_0000, 0x10000
ALL = 2**64 - 1

BASE, TIME, IPI, RFENCE = 0x10, 0x54494D45, 0x735049, 0x52464E43
HSM, SRST, DBCN, PMU = 0x48534D, 0x53525354, 0x4442434E, 0x504D55
SUCCESS, FAILED, NOT_SUPPORTED, INVALID_PARAM = 0, -1, -2, -3
INVALID_ADDRESS, ALREADY_AVAILABLE = -5, -6
STARTED, STOPPED, SUSPENDED = 0, 1, 4


class Machine:
    """Records what the SBI asks for."""

    def __init__(self, models: Models, *, console: bool = True) -> None:
        ffi, self.lib = models.ffi, models.lib
        self.ffi = ffi
        self.log: list[tuple[Any, ...]] = []
        self.console = b""
        self.console_takes = ALL
        self.asleep: set[int] = set()
        self.ram = ffi.new("uint8_t[]", RAM_SIZE)

        def ram(_: object, gpa: int, size: int) -> Any:
            inside = size and gpa >= RAM and gpa - RAM + size <= RAM_SIZE
            return self.ram + (gpa - RAM) if inside else ffi.NULL

        def write(_: object, data: Any, size: int) -> int:
            taken = min(size, self.console_takes)
            self.console += ffi.buffer(data, taken)[:]
            return taken

        def record(name: str) -> Any:
            return lambda _opaque, *args: self.log.append((name, *args))

        def suspend(_: object, hart: int) -> None:
            self.asleep.add(hart)

        signatures = {
            "set_timer": ("void(void *, unsigned, uint64_t)", record("timer")),
            "send_ipi": ("void(void *, unsigned)", record("ipi")),
            "fence": ("void(void *, unsigned, enum tcg_sbi_fence)", record("fence")),
            "start": ("void(void *, unsigned, uint64_t, uint64_t)", record("start")),
            "stop": ("void(void *, unsigned)", record("stop")),
            "suspend": ("void(void *, unsigned)", suspend),
            "asleep": ("bool(void *, unsigned)", lambda _, hart: hart in self.asleep),
            "shutdown": ("void(void *, bool)", record("shutdown")),
            "reboot": ("void(void *)", record("reboot")),
            "ram": ("void *(void *, uint64_t, uint64_t)", ram),
            "console": ("uint64_t(void *, void *, uint64_t)", write),
        }
        if not console:
            del signatures["console"]
        self._callbacks = {name: ffi.callback(c, f) for name, (c, f) in signatures.items()}
        self.sbi = ffi.new("struct tcg_sbi *")
        for name, callback in self._callbacks.items():
            setattr(self.sbi.host, name, callback)
        self.sbi.host.harts = HARTS
        self.lib.tcg_sbi_reset(self.sbi, 0)

    def call(self, extension: int, function: int, *args: int, hart: int = 0) -> tuple[int, int] | None:
        """(error, value), or None where the call does not return."""
        request = self.ffi.new("struct tcg_sbi_args *")
        for i, arg in enumerate(args):
            request.a[i] = arg
        request.function, request.extension = function, extension
        ret = self.lib.tcg_sbi_call(self.sbi, hart, request)
        return (ret.error, ret.value) if ret.returns else None

    def started(self, *harts: int) -> Machine:
        for hart in harts:
            assert self.call(HSM, 0, hart, RAM, 0) == (SUCCESS, 0)
        self.log.clear()
        return self


@pytest.fixture
def machine(models: Models) -> Machine:
    return Machine(models)


def test_sbi_base_tells_version_two(machine: Machine) -> None:
    assert machine.call(BASE, 0) == (SUCCESS, 2 << 24)


@pytest.mark.parametrize("extension", [BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN])
def test_sbi_probe_supported_extension_is_nonzero(machine: Machine, extension: int) -> None:
    error, value = machine.call(BASE, 3, extension) or (None, None)
    assert error == SUCCESS
    assert value


@pytest.mark.parametrize("extension", [0, 1, 8, PMU, 0x0A000000, 2**32 + TIME, ALL])
def test_sbi_unknown_extension_is_not_supported(machine: Machine, extension: int) -> None:
    assert machine.call(BASE, 3, extension) == (SUCCESS, 0)
    assert machine.call(extension, 0) == (NOT_SUPPORTED, 0)


@pytest.mark.parametrize("extension", [BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN])
def test_sbi_unknown_function_is_not_supported(machine: Machine, extension: int) -> None:
    assert machine.call(extension, 77) == (NOT_SUPPORTED, 0)
    assert machine.log == []


def test_sbi_debug_console_without_sink_is_absent(models: Models) -> None:
    machine = Machine(models, console=False)
    assert machine.call(BASE, 3, DBCN) == (SUCCESS, 0)
    assert machine.call(DBCN, 2, ord("x")) == (NOT_SUPPORTED, 0)


def test_sbi_set_timer_reaches_the_calling_hart(machine: Machine) -> None:
    assert machine.call(TIME, 0, 12345, hart=2) == (SUCCESS, 0)
    assert machine.log == [("timer", 2, 12345)]


@pytest.mark.parametrize(
    ("mask", "base", "targets"),
    [(0b101, 0, [0, 2]), (0b11, 2, [2, 3]), (0, ALL, [0, 1, 2, 3]), (0, 0, [])],
)
def test_sbi_ipi_reaches_exactly_the_harts_of_the_mask(
    machine: Machine, mask: int, base: int, targets: list[int]
) -> None:
    machine.started(1, 2, 3)
    assert machine.call(IPI, 0, mask, base) == (SUCCESS, 0)
    assert machine.log == [("ipi", hart) for hart in targets]


@pytest.mark.parametrize(("mask", "base"), [(1 << HARTS, 0), (0b100, 2), (1, HARTS), (1, 2**63), (ALL, 0)])
@pytest.mark.parametrize(("extension", "function"), [(IPI, 0), (RFENCE, 0), (RFENCE, 1), (RFENCE, 2)])
def test_sbi_hart_mask_beyond_last_hart_is_invalid_and_reaches_nobody(
    machine: Machine, extension: int, function: int, mask: int, base: int
) -> None:
    machine.started(1, 2, 3)
    assert machine.call(extension, function, mask, base) == (INVALID_PARAM, 0)
    assert machine.log == []


@pytest.mark.parametrize(("function", "kind"), [(0, 0), (1, 1), (2, 1)])
def test_sbi_remote_fence_reaches_started_harts_of_the_mask(
    machine: Machine, function: int, kind: int
) -> None:
    machine.started(1)
    assert machine.call(RFENCE, function, 0b111, 0, 0x1000, 0x2000, 5) == (SUCCESS, 0)
    assert machine.log == [("fence", 0, kind), ("fence", 1, kind)]


def test_sbi_remote_fence_whole_address_space_is_taken(machine: Machine) -> None:
    assert machine.call(RFENCE, 1, 0, ALL, 0x1000, ALL) == (SUCCESS, 0)
    assert machine.log == [("fence", 0, 1)]


def test_sbi_remote_fence_range_that_wraps_is_refused(machine: Machine) -> None:
    assert machine.call(RFENCE, 1, 1, 0, 2**64 - 4096, 8192) == (INVALID_ADDRESS, 0)
    assert machine.log == []


@pytest.mark.parametrize("function", [3, 4, 5, 6])
def test_sbi_hypervisor_fences_are_not_supported(machine: Machine, function: int) -> None:
    assert machine.call(RFENCE, function, 1, 0) == (NOT_SUPPORTED, 0)


def test_sbi_hart_life_cycle_start_stop_start(machine: Machine) -> None:
    assert machine.call(HSM, 2, 3) == (SUCCESS, STOPPED)
    assert machine.call(HSM, 0, 3, RAM + 0x100, 0xABC) == (SUCCESS, 0)
    assert machine.log == [("start", 3, RAM + 0x100, 0xABC)]
    assert machine.call(HSM, 2, 3) == (SUCCESS, STARTED)
    assert machine.call(HSM, 0, 3, RAM, 0) == (ALREADY_AVAILABLE, 0)
    assert machine.call(HSM, 1, hart=3) is None
    assert machine.log[-1] == ("stop", 3)
    assert machine.call(HSM, 2, 3) == (SUCCESS, STOPPED)
    assert machine.call(HSM, 0, 3, RAM, 0) == (SUCCESS, 0)


@pytest.mark.parametrize("hart", [HARTS, 64, 2**32, ALL])
def test_sbi_hart_that_does_not_exist_is_invalid(machine: Machine, hart: int) -> None:
    assert machine.call(HSM, 0, hart, RAM, 0) == (INVALID_PARAM, 0)
    assert machine.call(HSM, 2, hart) == (INVALID_PARAM, 0)


@pytest.mark.parametrize("pc", [0, RAM - 2, RAM + RAM_SIZE, RAM + 1, ALL])
def test_sbi_hart_start_outside_ram_is_invalid_address(machine: Machine, pc: int) -> None:
    assert machine.call(HSM, 0, 1, pc, 0) == (INVALID_ADDRESS, 0)
    assert machine.call(HSM, 2, 1) == (SUCCESS, STOPPED)


def test_sbi_stopped_hart_gets_neither_ipi_nor_fence(machine: Machine) -> None:
    machine.call(IPI, 0, 0, ALL)
    machine.call(RFENCE, 1, 0, ALL, 0, ALL)
    assert machine.log == [("ipi", 0), ("fence", 0, 1)]


def test_sbi_suspend_retentive_is_seen_until_it_wakes(machine: Machine) -> None:
    machine.started(1)
    assert machine.call(HSM, 3, 0, hart=1) == (SUCCESS, 0)
    assert machine.call(HSM, 2, 1) == (SUCCESS, SUSPENDED)
    machine.asleep.clear()
    assert machine.call(HSM, 2, 1) == (SUCCESS, STARTED)
    machine.asleep.add(1)  # by WFI, which is no HSM state
    assert machine.call(HSM, 2, 1) == (SUCCESS, STARTED)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (0x80000000, NOT_SUPPORTED),
        (0x10000000, NOT_SUPPORTED),
        (0xFFFFFFFF, NOT_SUPPORTED),
        (0x00000001, INVALID_PARAM),
        (0x0FFFFFFF, INVALID_PARAM),
        (0x80000001, INVALID_PARAM),
    ],
)
def test_sbi_suspend_of_another_type_is_refused(machine: Machine, kind: int, error: int) -> None:
    assert machine.call(HSM, 3, kind) == (error, 0)
    assert not machine.asleep


@pytest.mark.parametrize(
    ("kind", "reason", "asked"),
    [(0, 0, ("shutdown", False)), (0, 1, ("shutdown", True)), (1, 0, ("reboot",)), (2, 1, ("reboot",))],
)
def test_sbi_system_reset_asks_for_it_and_does_not_return(
    machine: Machine, kind: int, reason: int, asked: tuple[Any, ...]
) -> None:
    assert machine.call(SRST, 0, kind, reason) is None
    assert machine.log == [asked]


@pytest.mark.parametrize(
    ("kind", "reason", "error"),
    [
        (3, 0, INVALID_PARAM),
        (0, 2, INVALID_PARAM),
        (0xF0000000, 0, NOT_SUPPORTED),
        (0, 0xE0000000, NOT_SUPPORTED),
    ],
)
def test_sbi_system_reset_of_reserved_type_is_refused(
    machine: Machine, kind: int, reason: int, error: int
) -> None:
    assert machine.call(SRST, 0, kind, reason) == (error, 0)
    assert machine.log == []


def test_sbi_debug_console_write_takes_guest_memory(machine: Machine) -> None:
    machine.ram[0:5] = b"hello"
    assert machine.call(DBCN, 0, 5, RAM, 0) == (SUCCESS, 5)
    assert machine.call(DBCN, 2, 0x121) == (SUCCESS, 0)
    assert machine.console == b"hello!"


def test_sbi_debug_console_short_write_tells_how_much(machine: Machine) -> None:
    machine.console_takes = 3
    assert machine.call(DBCN, 0, 5, RAM, 0) == (SUCCESS, 3)
    machine.console_takes = 0
    assert machine.call(DBCN, 2, 65) == (FAILED, 0)


@pytest.mark.parametrize("function", [0, 1])
@pytest.mark.parametrize(
    ("size", "low", "high"),
    [(1, 0, 0), (1, RAM - 1, 0), (2, RAM + RAM_SIZE - 1, 0), (1, RAM, 1), (ALL, RAM, 0), (16, ALL - 7, 0)],
)
def test_sbi_debug_console_outside_ram_is_invalid(
    machine: Machine, function: int, size: int, low: int, high: int
) -> None:
    assert machine.call(DBCN, function, size, low, high) == (INVALID_PARAM, 0)
    assert machine.console == b""


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN]),
            st.integers(0, 7),
            st.lists(st.integers(0, 8) | st.integers(0, ALL) | st.just(RAM), max_size=6),
            st.integers(0, HARTS - 1),
        )
    )
)
def test_sbi_any_call_sequence_touches_only_harts_that_exist(
    models: Models, calls: list[tuple[int, int, list[int], int]]
) -> None:
    machine = Machine(models)
    for extension, function, args, hart in calls:
        machine.call(extension, function, *args, hart=hart)
    per_hart = {"timer", "ipi", "fence", "start", "stop"}
    assert all(entry[1] < HARTS for entry in machine.log if entry[0] in per_hart)
