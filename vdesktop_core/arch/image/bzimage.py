# SPDX-License-Identifier: MIT
"""x86 bzImage: the setup header, and the vmlinux inside.

``Documentation/arch/x86/boot.rst`` of Linux. The vmlinux is unpacked here rather than by
the kernel's own stub: the stub would run on the guest's CPU.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.arch.image.elf import Executable, parse_executable
from vdesktop_core.arch.image.kernel import unpack
from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from vdesktop_core.arch.image.files import ImageFile

#: Where the setup header begins, in the file and in the zero page.
SETUP_HEADER = 0x1F1
#: The zero page has room for a header up to here (``struct boot_params``).
SETUP_HEADER_LIMIT = 0x290
_SECTOR = 512
#: 2.12 (Linux 3.8) brought xloadflags, and with them 64-bit entry.
_VERSION_MINIMUM = 0x020C
_LOADED_HIGH = 1  # loadflags
_KERNEL_64 = 1  # xloadflags


class SetupHeader(msgspec.Struct, frozen=True):
    """A checked setup header. ``raw`` is what the zero page gets, from offset 0x1F1 on."""

    raw: bytes
    command_line_limit: int
    initrd_limit: int


def default_setup_header() -> SetupHeader:
    """Return a header for a plain vmlinux: what matters once the kernel is entered."""
    # 0x1FE boot_flag, 0x202 magic, 0x206 version, 0x211 loadflags, 0x230 kernel_alignment
    raw = bytearray(0x268 - SETUP_HEADER)
    struct.pack_into("<H", raw, 0x1FE - SETUP_HEADER, 0xAA55)
    struct.pack_into("<4sH", raw, 0x202 - SETUP_HEADER, b"HdrS", _VERSION_MINIMUM)
    raw[0x211 - SETUP_HEADER] = _LOADED_HIGH
    struct.pack_into("<I", raw, 0x230 - SETUP_HEADER, 2 << 20)
    return SetupHeader(bytes(raw), command_line_limit=2047, initrd_limit=0x8000_0000)


def parse_bzimage(file: ImageFile) -> tuple[SetupHeader, Executable]:
    """Check a bzImage whose magic was found, and unpack its vmlinux.

    The caller closes ``file`` and the executable's file.

    Raises:
        BootError: it is too old, 32-bit, truncated or corrupt.
    """
    head = file.head(0x280)
    if len(head) < 0x280:
        raise BootError(f"{file.name}: truncated: its setup header is incomplete")
    (version,) = struct.unpack_from("<H", head, 0x206)
    if version < _VERSION_MINIMUM:
        protocol = f"{version >> 8}.{version & 0xFF:02}"
        raise BootError(f"{file.name}: boot protocol {protocol} is too old: use Linux 3.8 or later")
    (xloadflags,) = struct.unpack_from("<H", head, 0x236)
    if not head[0x211] & _LOADED_HIGH or not xloadflags & _KERNEL_64:
        raise BootError(f"{file.name}: a 32-bit x86 kernel: use a 64-bit one")
    end = 0x202 + head[0x201]
    if not 0x268 <= end <= min(SETUP_HEADER_LIMIT, len(head)):
        raise BootError(f"{file.name}: its setup header is corrupt (it ends at {end:#x})")
    initrd_limit, command_line_limit = struct.unpack_from("<I8xI", head, 0x22C)
    payload_offset, payload_length = struct.unpack_from("<II", head, 0x248)
    start = ((head[SETUP_HEADER] or 4) + 1) * _SECTOR + payload_offset
    if payload_length < 8 or start + payload_length > file.size:
        end = start + payload_length
        raise BootError(f"{file.name}: truncated: it ends at byte {file.size}, its payload at {end}")
    vmlinux = unpack(file, start, payload_length, size_word=True)
    try:
        executable = parse_executable(vmlinux)
    except BaseException:
        vmlinux.close()
        raise
    header = SetupHeader(head[SETUP_HEADER:end], command_line_limit, initrd_limit + 1)
    return header, executable
