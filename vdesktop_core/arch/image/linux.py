# SPDX-License-Identifier: MIT
"""The ``Image`` headers of arm64 and riscv.

``Documentation/arch/arm64/booting.rst`` and ``Documentation/arch/riscv/boot-image-header.rst``
of Linux define them; both are 64 bytes long and may be a PE header at the same time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
#: No supported kernel asks for more memory.
_IMAGE_SIZE_LIMIT = 512 << 20


@dataclass(frozen=True, slots=True)
class LinuxImage:
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
    return LinuxImage(file, text_offset, max(image_size, file.size))
