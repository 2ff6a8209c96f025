# SPDX-License-Identifier: MIT
"""x86_64: the 64-bit boot protocol (Linux ``Documentation/arch/x86/boot.rst``), entered at vmlinux itself."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vdesktop_core.arch.acpi import tables
from vdesktop_core.arch.boot import INITRD_LIMIT
from vdesktop_core.arch.command_line import command_line
from vdesktop_core.arch.image.bzimage import SETUP_HEADER, SetupHeader, default_setup_header, parse_bzimage
from vdesktop_core.arch.image.elf import Executable, parse_executable
from vdesktop_core.arch.image.files import ImageFile
from vdesktop_core.arch.image.kernel import Kind, open_kernel
from vdesktop_core.arch.memory_map import GIB, KIB, MIB, Window, memory_map
from vdesktop_core.arch.placement import Floating, place
from vdesktop_core.arch.screen_info import SCREEN_INFO_SIZE, screen_info
from vdesktop_core.hypervisor import Arch, EntryState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.arch.boot import BootSource, MachineLayout, WritableMemory
    from vdesktop_core.hypervisor import Platform

_MAP = memory_map(Arch.X86_64)
_DATA = _MAP.boot_data
_PAGE = 4 * KIB

# Selectors and descriptors of the boot protocol: __BOOT_CS, __BOOT_DS.
CODE_SELECTOR = 0x10
DATA_SELECTOR = 0x18
_GDT = struct.pack("<4Q", 0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)

_CR0 = 0x8005_0033  # PE MP ET NE WP AM PG
_CR4 = 0x20  # PAE
_EFER = 0x500  # LME LMA
_RFLAGS = 0x2  # interrupts off

# Page table entries: present and writable; a 2 MiB page.
_TABLE = 0x3
_LARGE_PAGE = 0x83
_IDENTITY_SIZE = 4 * GIB

# e820 types
_E820_RAM, _E820_ACPI = 1, 3
#: Conventional memory ends here: the rest below 640 KiB is where PCs keep the EBDA.
_CONVENTIONAL_END = 0x9_FC00
_HIGH_START = MIB

#: On hardware-reduced ACPI, Linux resets by EFI, even where there is none (``reboot_init``): say how.
_REBOOT = "reboot=acpi"

_LOADER_UNDEFINED = 0xFF


class X86Loader:
    """Loads bzImage and vmlinux."""

    def __init__(self, source: BootSource) -> None:
        self._append = source.append
        kind, file = open_kernel(source.kernel, Arch.X86_64, frozenset({Kind.BZIMAGE, Kind.ELF}))
        self._setup: SetupHeader
        self._kernel: Executable
        self._initrd: ImageFile | None = None
        try:
            if kind is Kind.ELF:
                self._setup, self._kernel = default_setup_header(), parse_executable(file)
            else:
                self._setup, self._kernel = parse_bzimage(file)
        except BaseException:
            file.close()
            raise
        if kind is Kind.BZIMAGE:
            file.close()
        try:
            if source.initrd is not None:
                self._initrd = ImageFile.open(source.initrd, "initrd", INITRD_LIMIT)
        except BaseException:
            self.close()
            raise

    def load(self, layout: MachineLayout, platform: Platform, memory: WritableMemory) -> EntryState:
        """Implement :meth:`vdesktop_core.arch.boot.Loader.load`."""
        segments = self._kernel.segments
        kernel = Window(segments[0].base, segments[-1].end - segments[0].base)
        floating = []
        if self._initrd is not None:
            floating.append(Floating("initrd", self._initrd.size, limit=self._setup.initrd_limit))
        places = place(
            layout.ram[0], {"kernel": kernel, **_DATA}, floating, sum(bank.size for bank in layout.ram)
        )
        limit = min(self._setup.command_line_limit, _DATA["command_line"].size - 1)
        arguments = command_line(self._append, (_REBOOT, *platform.append, *layout.append), limit)
        acpi = tables.build(layout, platform, _DATA["acpi"])
        for segment in segments:
            self._kernel.file.copy_to(memory, segment.base, segment.offset, segment.file_size)
        if self._initrd is not None:
            self._initrd.copy_to(memory, places["initrd"].base)
        memory.write(_DATA["command_line"].base, arguments + b"\0")
        memory.write(_DATA["acpi"].base, acpi)
        memory.write(_DATA["boot_params"].base, self._boot_params(layout, places.get("initrd")))
        memory.write(_DATA["page_tables"].base, identity_page_tables(_DATA["page_tables"].base))
        memory.write(_DATA["gdt"].base, _GDT)
        return self._entry()

    def close(self) -> None:
        """Close files. Idempotent."""
        self._kernel.file.close()
        if self._initrd is not None:
            self._initrd.close()

    def _entry(self) -> EntryState:
        return EntryState(
            {
                "rip": self._kernel.entry,
                "rsi": _DATA["boot_params"].base,
                "rsp": _DATA["boot_params"].base,  # grows into free memory below
                "rflags": _RFLAGS,
                "cr0": _CR0,
                "cr3": _DATA["page_tables"].base,
                "cr4": _CR4,
                "efer": _EFER,
                "gdt_base": _DATA["gdt"].base,
                "gdt_limit": len(_GDT) - 1,
                "cs": CODE_SELECTOR,
                "ds": DATA_SELECTOR,
                "es": DATA_SELECTOR,
                "ss": DATA_SELECTOR,
            }
        )

    def _boot_params(self, layout: MachineLayout, initrd: Window | None) -> bytes:
        """Fill the zero page (``struct boot_params``, Linux ``arch/x86/include/uapi/asm/bootparam.h``)."""
        page = bytearray(_PAGE)
        page[SETUP_HEADER : SETUP_HEADER + len(self._setup.raw)] = self._setup.raw
        struct.pack_into("<Q", page, 0x070, _DATA["acpi"].base)  # acpi_rsdp_addr
        page[0x210] = _LOADER_UNDEFINED  # type_of_loader
        struct.pack_into("<I", page, 0x228, _DATA["command_line"].base)  # cmd_line_ptr
        if initrd is not None:
            struct.pack_into("<II", page, 0x218, initrd.base, initrd.size)  # ramdisk_image, ramdisk_size
        entries = e820(layout.ram)
        page[0x1E8] = len(entries)  # e820_entries
        for index, (window, kind) in enumerate(entries):
            struct.pack_into("<QQI", page, 0x2D0 + 20 * index, window.base, window.size, kind)
        if layout.framebuffer is not None:
            page[:SCREEN_INFO_SIZE] = screen_info(layout.framebuffer)
        return bytes(page)


def e820(ram: Sequence[Window]) -> list[tuple[Window, int]]:
    """Describe RAM to the guest: without the legacy hole below 1 MiB, and with the ACPI tables in it."""
    low, *rest = ram
    entries = [
        (Window(0, _CONVENTIONAL_END), _E820_RAM),
        (_DATA["acpi"], _E820_ACPI),
        (Window(_HIGH_START, low.end - _HIGH_START), _E820_RAM),
    ]
    return entries + [(bank, _E820_RAM) for bank in rest]


def identity_page_tables(base: int) -> bytes:
    """Map the first 4 GiB to themselves with 2 MiB pages: one PML4, one PDPT, four page directories."""
    pages = bytearray(6 * _PAGE)
    struct.pack_into("<Q", pages, 0, base + _PAGE | _TABLE)
    for index in range(_IDENTITY_SIZE // GIB):
        struct.pack_into("<Q", pages, _PAGE + 8 * index, base + (2 + index) * _PAGE | _TABLE)
    for index in range(_IDENTITY_SIZE // (2 * MIB)):
        struct.pack_into("<Q", pages, 2 * _PAGE + 8 * index, index * 2 * MIB | _LARGE_PAGE)
    return bytes(pages)
