# SPDX-License-Identifier: MIT
"""Loadable segments of an ELF executable, at their physical addresses.

A reader of our own, of two structures (System V gABI, chapters 4 and 5): a full ELF
library costs more start-up time than reading the kernel.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from vdesktop_core.arch.image.files import ImageFile

# e_ident[16], e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags,
# e_ehsize, e_phentsize, e_phnum (what follows is of no interest here)
_HEADER = struct.Struct("<16sHHIQQQIHHH")
# p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_CLASS_64_LITTLE_ENDIAN = b"\x7fELF\x02\x01\x01"
_ET_EXEC = 2
_PT_LOAD = 1
#: vmlinux has five.
_PROGRAM_HEADERS_LIMIT = 64
#: A kernel lies below this, whatever the RAM.
_ADDRESS_LIMIT = 1 << 32


class Segment(msgspec.Struct, frozen=True):
    """``file_size`` bytes at ``offset`` of the file go to ``base``; ``memory_size`` are used there."""

    base: int
    offset: int
    file_size: int
    memory_size: int

    @property
    def end(self) -> int:
        """The first address after the segment."""
        return self.base + self.memory_size


class Executable(msgspec.Struct, frozen=True):
    """A checked executable. Segments are in ascending order and do not overlap."""

    file: ImageFile
    entry: int
    segments: tuple[Segment, ...]


def parse_executable(file: ImageFile) -> Executable:
    """Check an ELF executable whose magic was found.

    Raises:
        BootError: it is no 64-bit little-endian executable, or its headers make no sense.
    """
    header = file.read(0, _HEADER.size)
    ident, kind, _, _, entry, table, _, _, _, entry_size, count = _HEADER.unpack(header)
    if not ident.startswith(_CLASS_64_LITTLE_ENDIAN):
        raise BootError(f"{file.name}: not a 64-bit little-endian ELF file")
    if kind != _ET_EXEC:
        raise BootError(
            f"{file.name}: an ELF file, but not an executable (type {kind}): give vmlinux or bzImage"
        )
    if entry_size != _PROGRAM_HEADER.size or not 0 < count <= _PROGRAM_HEADERS_LIMIT:
        raise BootError(
            f"{file.name}: its ELF header is corrupt ({count} program headers of {entry_size} bytes)"
        )
    headers = file.read(table, count * entry_size)
    segments = sorted(
        (
            _segment(file, *fields)
            for kind, _, *fields in _PROGRAM_HEADER.iter_unpack(headers)
            if kind == _PT_LOAD and fields[4] > 0
        ),
        key=lambda segment: segment.base,
    )
    for lower, upper in itertools.pairwise(segments):
        if lower.end > upper.base:
            raise BootError(f"{file.name}: its segments at {lower.base:#x} and {upper.base:#x} overlap")
    if not any(segment.base <= entry < segment.base + segment.file_size for segment in segments):
        raise BootError(f"{file.name}: its entry point {entry:#x} is in no segment: is it a kernel?")
    return Executable(file, entry, tuple(segments))


def _segment(
    file: ImageFile, offset: int, _virtual: int, base: int, file_size: int, memory_size: int, _align: int
) -> Segment:
    if file_size > memory_size or base + memory_size > _ADDRESS_LIMIT:
        raise BootError(
            f"{file.name}: its segment at {base:#x} is corrupt ({file_size} of {memory_size} bytes)"
        )
    if offset + file_size > file.size:
        raise BootError(f"{file.name}: truncated: its segment at {base:#x} ends beyond the file")
    return Segment(base, offset, file_size, memory_size)
