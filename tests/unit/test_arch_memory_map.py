# SPDX-License-Identifier: MIT
"""The recommended memory maps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdesktop_core.arch.memory_map import MIB, SLOT_COUNT, SLOT_SIZE, Window, memory_map, ram_banks
from vdesktop_core.errors import ConfigError
from vdesktop_core.hypervisor import Arch


def _windows(arch: Arch) -> list[Window]:
    m = memory_map(arch)
    memory = [*m.ram, *m.interrupt_controller.values(), m.slots, m.aperture]
    return memory if m.uart.is_port else [*memory, m.uart.window]


@pytest.mark.parametrize("arch", Arch)
def test_memory_map_windows_do_not_overlap(arch: Arch) -> None:
    for a, b in itertools.combinations(_windows(arch), 2):
        assert not a.overlaps(b), (a, b)


@pytest.mark.parametrize("arch", Arch)
def test_memory_map_slots_are_pages_inside_their_window(arch: Arch) -> None:
    m = memory_map(arch)
    slots = [m.slot(i) for i in range(SLOT_COUNT)]
    assert all(m.slots.contains(slot) and slot.base % SLOT_SIZE == 0 for slot in slots)
    assert len({slot.base for slot in slots}) == SLOT_COUNT
    for index in (-1, SLOT_COUNT):
        with pytest.raises(ConfigError, match="does not exist"):
            m.slot(index)


def test_memory_map_lines_follow_the_recommendation() -> None:
    assert [memory_map(a).line(3) for a in (Arch.X86_64, Arch.AARCH64, Arch.RISCV64)] == [19, 19, 35]
    assert [memory_map(a).uart.line for a in (Arch.X86_64, Arch.AARCH64, Arch.RISCV64)] == [4, 1, 10]


def test_memory_map_line_with_few_backend_lines_is_shared() -> None:
    m = memory_map(Arch.X86_64)
    assert [m.line(i, range(24)) for i in range(10)] == [16, 17, 18, 19, 20, 21, 22, 23, 16, 17]
    with pytest.raises(ConfigError, match="but this map"):
        m.line(0, range(16))


def test_memory_map_boot_data_does_not_overlap() -> None:
    for a, b in itertools.combinations(memory_map(Arch.X86_64).boot_data.values(), 2):
        assert not a.overlaps(b)


@given(st.sampled_from(Arch), st.integers(16, 1 << 17))
def test_ram_banks_any_size_adds_up_inside_the_windows(arch: Arch, mib: int) -> None:
    m = memory_map(arch)
    if mib * MIB > m.ram_maximum:
        with pytest.raises(ConfigError, match="too large"):
            ram_banks(arch, mib * MIB)
        return
    banks = ram_banks(arch, mib * MIB)
    assert sum(bank.size for bank in banks) == mib * MIB
    assert all(any(w.contains(bank) for w in m.ram) for bank in banks)


def test_ram_banks_4_gib_on_x86_64_leaves_the_hole() -> None:
    assert ram_banks(Arch.X86_64, 4096 * MIB) == (Window(0, 3072 * MIB), Window(4096 * MIB, 1024 * MIB))


@pytest.mark.parametrize(
    ("size", "message"), [(0, "too small"), (-1, "too small"), (32 * MIB + 1, "multiple")]
)
def test_ram_banks_bad_size_is_refused(size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ram_banks(Arch.AARCH64, size)
