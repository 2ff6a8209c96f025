# SPDX-License-Identifier: MIT
"""Pictures as PNG files (ISO/IEC 15948)."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from vdesktop_core.display.screen import read_rgb

if TYPE_CHECKING:
    from pathlib import Path

    from vdesktop_core.display.screen import Surface


def png(surface: Surface) -> bytes:
    """Return a picture as a PNG file: 8 bits a colour, no filters."""
    row = surface.width * 3
    rgb = read_rgb(surface)
    rows = b"".join(b"\0" + rgb[at : at + row] for at in range(0, len(rgb), row))
    header = struct.pack(">IIBBBBB", surface.width, surface.height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def write_png(surface: Surface, path: Path) -> None:
    """Write a picture to a file, which is replaced as a whole.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(png(surface))
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
