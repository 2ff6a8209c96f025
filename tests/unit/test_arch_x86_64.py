# SPDX-License-Identifier: MIT
"""What an x86_64 kernel finds at its first instruction."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import pytest
from arch_support import FakeMemory, bzimage, elf_image, make_layout, make_platform, packed
from hypothesis import given
from hypothesis import strategies as st

from vdesktop_core.arch.boot import Boot, BootSource, FramebufferLayout
from vdesktop_core.arch.memory_map import GIB, MIB, Window, ram_banks
from vdesktop_core.arch.screen_info import screen_info
from vdesktop_core.arch.x86_64 import e820, identity_page_tables
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from pathlib import Path

    from vdesktop_core.hypervisor import EntryState


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _load(tmp_path: Path, kernel: bytes, memory_size: int = 256 * MIB) -> tuple[FakeMemory, EntryState]:
    (tmp_path / "k").write_bytes(kernel)
    (tmp_path / "i").write_bytes(b"initrd" * 1000)
    layout = make_layout(Arch.X86_64, memory_size, framebuffer=FramebufferLayout(0xC000_0000, 800, 600, 3200))
    memory = FakeMemory(layout.ram)
    boot = Boot(BootSource(tmp_path / "k", tmp_path / "i", "console=hvc0"), Arch.X86_64)
    entry = boot.load(layout, make_platform(Arch.X86_64, append=("clock=tsc",)), memory)
    boot.close()
    return memory, entry


def _translate(memory: FakeMemory, cr3: int, address: int) -> int:
    table = cr3
    for shift in (39, 30):
        (entry,) = struct.unpack("<Q", memory.read(table + 8 * (address >> shift & 511), 8))
        assert entry & 3 == 3
        table = entry & ~0xFFF
    (entry,) = struct.unpack("<Q", memory.read(table + 8 * (address >> 21 & 511), 8))
    assert entry & 0x83 == 0x83
    return entry & ~0x1F_FFFF | address & 0x1F_FFFF


def test_entry_state_is_that_of_the_64_bit_boot_protocol(tmp_path: Path) -> None:
    memory, entry = _load(tmp_path, bzimage(packed(elf_image(), "gzip")))
    state = entry.registers
    assert state["rip"] == 0x100_0040
    assert state["cr0"] & 0x8000_0001 == 0x8000_0001
    assert state["cr4"] & 1 << 5
    assert state["efer"] & 0x500 == 0x500
    assert not state["rflags"] & 1 << 9
    assert [state[name] for name in ("cs", "ds", "es", "ss")] == [0x10, 0x18, 0x18, 0x18]
    gdt = struct.unpack("<4Q", memory.read(state["gdt_base"], state["gdt_limit"] + 1))
    assert gdt == (0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
    for address in (0, state["rip"], state["rsi"], 3 * GIB, 0xFEE0_0123, 4 * GIB - 1):
        assert _translate(memory, state["cr3"], address) == address


def test_boot_params_tell_everything(tmp_path: Path) -> None:
    memory, entry = _load(tmp_path, bzimage(packed(elf_image(), "gzip")))
    page = memory.read(entry.registers["rsi"], 4096)
    assert page[0x202:0x206] == b"HdrS"
    assert page[0x210] == 0xFF
    initrd, size = struct.unpack_from("<II", page, 0x218)
    assert memory.read(initrd, size) == b"initrd" * 1000
    (arguments,) = struct.unpack_from("<I", page, 0x228)
    assert memory.read(arguments, 100).split(b"\0")[0] == b"reboot=acpi clock=tsc console=hvc0"
    (rsdp,) = struct.unpack_from("<Q", page, 0x70)
    assert memory.read(rsdp, 8) == b"RSD PTR "
    entries = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * n) for n in range(page[0x1E8])]
    assert entries == [
        (0, 0x9_FC00, 1),
        (0xE_0000, 0x2_0000, 3),
        (0x10_0000, 255 * MIB, 1),
    ]
    assert page[0x0F] == 0x70


def test_boot_params_of_a_plain_vmlinux_are_complete(tmp_path: Path) -> None:
    memory, entry = _load(tmp_path, elf_image())
    page = memory.read(entry.registers["rsi"], 4096)
    assert page[0x1FE:0x200] == b"\x55\xaa"
    assert page[0x202:0x206] == b"HdrS"
    initrd, size = struct.unpack_from("<II", page, 0x218)
    assert memory.read(initrd, size) == b"initrd" * 1000


@given(st.integers(16, 1 << 16))
def test_e820_any_size_is_ascending_and_within_ram(mib: int) -> None:
    ram = ram_banks(Arch.X86_64, mib * MIB)
    entries = [window for window, _ in e820(ram)]
    assert all(any(bank.contains(window) for bank in ram) for window in entries)
    assert all(a.end <= b.base for a, b in itertools.pairwise(entries))
    # All but what lies between conventional memory and the tables below 1 MiB.
    assert sum(window.size for window in entries) == mib * MIB - (0xE_0000 - 0x9_FC00)


def test_identity_page_tables_fit_their_place() -> None:
    assert len(identity_page_tables(0x1000)) == 6 * 4096


def test_screen_info_describes_the_framebuffer() -> None:
    info = screen_info(FramebufferLayout(0xC000_0000, 1920, 1080, 7680))
    assert struct.unpack_from("<HHHII", info, 0x12) == (1920, 1080, 32, 0xC000_0000, 7680 * 1080)
    assert info[0x0F] == 0x70  # VIDEO_TYPE_EFI
    assert struct.unpack_from("<H8B", info, 0x24) == (7680, 8, 16, 8, 8, 8, 0, 8, 24)


def test_load_large_memory_keeps_the_initrd_low(tmp_path: Path) -> None:
    memory, entry = _load(tmp_path, bzimage(packed(elf_image(), "gzip")), 6 * GIB)
    page = memory.read(entry.registers["rsi"], 4096)
    initrd, size = struct.unpack_from("<II", page, 0x218)
    assert Window(0, 2 * GIB).contains(Window(initrd, size))
    assert struct.unpack_from("<QQI", page, 0x2D0 + 60) == (4 * GIB, 3 * GIB, 1)
