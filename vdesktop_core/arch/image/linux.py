# SPDX-License-Identifier: MIT
"""The ``Image`` headers of arm64 and riscv.

``Documentation/arch/arm64/booting.rst`` and ``Documentation/arch/riscv/boot-image-header.rst``
of Linux define them; both are 64 bytes long and may be a PE header at the same time.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from vdesktop_core.arch.image.files import ImageFile

HEADER_SIZE = 64
#: Both architectures load a kernel at ``text_offset`` after a multiple of this.
ALIGNMENT = 2 << 20

ARM64_MAGIC = b"ARM\x64"
RISCV_MAGIC = b"RSC\x05"
#: Where either magic lies.
MAGIC_OFFSET = 56

# u32 code0, code1; u64 text_offset, image_size, flags; …
_COMMON = struct.Struct("<IIQQQ")
_FLAG_BIG_ENDIAN = 1
#: Where the offset of the PE header lies, for kernels with an EFI stub.
_PE_OFFSET = 60
# PE signature, Machine, NumberOfSections, …, SizeOfOptionalHeader (PE Format, "COFF File Header")
_COFF = struct.Struct("<4sHH12xHxx")
# Name, VirtualSize, VirtualAddress, SizeOfRawData, PointerToRawData, …
_SECTION = struct.Struct("<8sIIII16x")
#: No supported kernel asks for more memory.
_IMAGE_SIZE_LIMIT = 512 << 20


class LinuxImage(msgspec.Struct, frozen=True):
    """A checked ``Image``. ``memory_size`` covers the file and its BSS, in bytes."""

    file: ImageFile
    text_offset: int
    memory_size: int


def parse_image(file: ImageFile) -> LinuxImage:
    """Check an ``Image`` header whose magic was found.

    Raises:
        BootError: the header makes no sense.
    """
    _, _, text_offset, image_size, flags = _COMMON.unpack_from(file.read(0, HEADER_SIZE))
    if flags & _FLAG_BIG_ENDIAN:
        raise BootError(f"{file.name}: a big-endian kernel: this machine is little-endian")
    if image_size == 0:
        raise BootError(f"{file.name}: its header has no image size: use Linux 3.17 or later")
    if image_size > _IMAGE_SIZE_LIMIT:
        raise BootError(
            f"{file.name}: its header asks for {image_size:#x} bytes of memory: the file is corrupt"
        )
    if text_offset % 4096 or text_offset > ALIGNMENT:
        raise BootError(f"{file.name}: its header has the text offset {text_offset:#x}: the file is corrupt")
    _check_complete(file)
    return LinuxImage(file, text_offset, max(image_size, file.size))


def _check_complete(file: ImageFile) -> None:
    """Find out whether the file ends too early: only the PE header of the EFI stub tells the file's size."""
    (offset,) = struct.unpack_from("<I", file.read(_PE_OFFSET, 4))
    if offset < HEADER_SIZE or offset + _COFF.size > file.size:
        return
    signature, _, count, optional = _COFF.unpack(file.read(offset, _COFF.size))
    if signature != b"PE\0\0":
        return
    table = file.read(offset + _COFF.size + optional, count * _SECTION.size)
    for _, _, _, size, start in _SECTION.iter_unpack(table):
        if start + size > file.size:
            raise BootError(
                f"{file.name}: truncated: it ends at byte {file.size}, its section at {start + size}"
            )
