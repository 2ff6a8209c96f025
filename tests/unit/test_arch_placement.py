# SPDX-License-Identifier: MIT
"""Where kernel, initrd and boot data go."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from arch_support import KERNELS, FakeMemory, make_layout, make_platform
from hypothesis import given
from hypothesis import strategies as st

from vdesktop_core.arch.boot import Boot, BootSource
from vdesktop_core.arch.command_line import command_line
from vdesktop_core.arch.memory_map import MIB, Window
from vdesktop_core.arch.placement import Floating, place
from vdesktop_core.errors import BootError
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from pathlib import Path

_BANK = Window(0x4000_0000, 64 * MIB)
_items = st.lists(
    st.builds(
        Floating,
        st.uuids().map(str),
        st.integers(1, 40 * MIB),
        st.sampled_from([1, 4096, 2 * MIB]),
        st.integers(_BANK.base, _BANK.end + MIB),
    ),
    max_size=5,
)


@given(st.integers(0, 63), st.integers(1, 64), _items)
def test_place_anything_is_inside_aligned_and_apart(start: int, size: int, items: list[Floating]) -> None:
    kernel = Window(_BANK.base + start * MIB, min(size, 64 - start) * MIB)
    try:
        places = place(_BANK, {"kernel": kernel}, items, 64 * MIB)
    except BootError:
        return
    for a, b in itertools.combinations(places.values(), 2):
        assert not a.overlaps(b)
    for item in items:
        window = places[item.name]
        assert _BANK.contains(window)
        assert window.base % item.align == 0
        assert window.end <= item.limit


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([4096, 2 * MIB]))
def test_place_too_little_memory_names_an_amount_that_is_enough(kernel: int, initrd: int, align: int) -> None:
    fixed = {"kernel": Window(_BANK.base, kernel * MIB + 7)}
    items = [Floating("initrd", initrd * MIB - 3), Floating("device tree", 2 * MIB, align)]
    try:
        place(_BANK, fixed, items, _BANK.size)
    except BootError as error:
        needed = int(str(error).partition("--memory ")[2].partition("M")[0])
        assert needed > 64
        place(Window(_BANK.base, needed * MIB), fixed, items, needed * MIB)


def test_place_floating_goes_as_high_as_it_may() -> None:
    places = place(_BANK, {}, [Floating("a", 4096), Floating("b", 4096), Floating("c", 1, 2 * MIB)], 64 * MIB)
    assert [places[n].base - _BANK.end for n in "abc"] == [-4096, -8192, -2 * MIB]


def test_place_small_low_memory_says_so() -> None:
    with pytest.raises(BootError, match="no place in the 64M of low memory"):
        place(_BANK, {}, [Floating("initrd", 100 * MIB)], 4096 * MIB)


@pytest.mark.parametrize("arch", Arch)
@pytest.mark.parametrize("size", [1, 4095, 5 * MIB + 1])
def test_load_initrd_and_boot_data_never_overlap(tmp_path: Path, arch: Arch, size: int) -> None:
    (tmp_path / "k").write_bytes(KERNELS[arch]())
    initrd = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "i").write_bytes(initrd[:size])
    layout = make_layout(arch)
    memory = FakeMemory(layout.ram)  # refuses to take a byte twice
    boot = Boot(BootSource(tmp_path / "k", tmp_path / "i"), arch)
    boot.load(layout, make_platform(arch), memory)
    boot.close()
    base = next(gpa for gpa, data in memory.writes if data.startswith(initrd[: min(size, 251)]))
    assert base % 4096 == 0
    assert base + size <= 0x8000_0000 if arch is Arch.X86_64 else base + size <= 1 << 32
    assert memory.read(base, size) == initrd[:size]


@pytest.mark.parametrize("arch", Arch)
def test_load_too_little_memory_says_how_much(tmp_path: Path, arch: Arch) -> None:
    (tmp_path / "k").write_bytes(KERNELS[arch]())
    with (tmp_path / "i").open("wb") as file:
        file.truncate(300 * MIB)
    layout = make_layout(arch, 128 * MIB)
    boot = Boot(BootSource(tmp_path / "k", tmp_path / "i"), arch)
    with pytest.raises(BootError, match=r"does not fit into 128M of memory: use --memory 3\d\dM or more"):
        boot.load(layout, make_platform(arch), FakeMemory(layout.ram))
    boot.close()


@pytest.mark.parametrize("arch", Arch)
def test_load_again_after_a_reset_gives_the_same_machine(tmp_path: Path, arch: Arch) -> None:
    (tmp_path / "k").write_bytes(KERNELS[arch]())
    (tmp_path / "i").write_bytes(b"initrd" * 1000)
    layout, platform = make_layout(arch), make_platform(arch)
    boot = Boot(BootSource(tmp_path / "k", tmp_path / "i", "quiet"), arch)
    memories = [FakeMemory(layout.ram) for _ in range(2)]
    entries = [boot.load(layout, platform, memory) for memory in memories]
    boot.close()
    boot.close()
    assert entries[0] == entries[1]
    assert [(gpa, len(data)) for gpa, data in memories[0].writes] == [
        (gpa, len(data)) for gpa, data in memories[1].writes
    ]


@pytest.mark.parametrize("which", ["k", "i"])
def test_load_file_that_became_shorter_is_an_error(tmp_path: Path, which: str) -> None:
    (tmp_path / "k").write_bytes(KERNELS[Arch.AARCH64]())
    (tmp_path / "i").write_bytes(b"initrd" * 1000)
    layout = make_layout(Arch.AARCH64)
    boot = Boot(BootSource(tmp_path / "k", tmp_path / "i"), Arch.AARCH64)
    with (tmp_path / which).open("r+b") as file:
        file.truncate(100)
    with pytest.raises(BootError, match="became shorter"):
        boot.load(layout, make_platform(Arch.AARCH64), FakeMemory(layout.ram))
    boot.close()


def test_load_absent_initrd_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(KERNELS[Arch.RISCV64]())
    with pytest.raises(BootError, match=r"initrd .*/nope: cannot open it: No such file"):
        Boot(BootSource(tmp_path / "k", tmp_path / "nope"), Arch.RISCV64)


def test_command_line_backend_words_come_first() -> None:
    assert command_line(" console=hvc0 ", ("a=1", "b"), 100) == b"a=1 b console=hvc0"
    assert command_line("", (), 100) == b""


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "a\rb"])
def test_command_line_control_character_is_refused(text: str) -> None:
    with pytest.raises(BootError, match="NUL or a line break"):
        command_line(text, (), 100)


def test_command_line_too_long_is_refused() -> None:
    assert len(command_line("x" * 100, (), 100)) == 100
    with pytest.raises(BootError, match="has 101 bytes, this kernel takes 100"):
        command_line("x" * 101, (), 100)
