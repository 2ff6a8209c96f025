# SPDX-License-Identifier: MIT
"""``struct screen_info`` (Linux ``include/uapi/linux/screen_info.h``): a screen as EFI leaves it.

Not as a VESA mode: every Debian kernel has FB_EFI, the cloud kernels no FB_VESA, and ``earlycon=efifb`` too
needs an EFI framebuffer.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vdesktop_core.arch.boot import PIXEL_FORMATS

if TYPE_CHECKING:
    from vdesktop_core.arch.boot import FramebufferLayout

SCREEN_INFO_SIZE = 0x40
_VIDEO_TYPE_EFI = 0x70

#: (size, position) of red, green, blue and the remaining bits, by format.
_CHANNELS = {
    "x8r8g8b8": ((8, 16), (8, 8), (8, 0), (8, 24)),
    "a8r8g8b8": ((8, 16), (8, 8), (8, 0), (8, 24)),
    "r5g6b5": ((5, 11), (6, 5), (5, 0), (0, 0)),
}


def screen_info(screen: FramebufferLayout) -> bytes:
    """Describe the boot framebuffer."""
    depth = PIXEL_FORMATS[screen.format]
    info = bytearray(SCREEN_INFO_SIZE)
    info[0x0F] = _VIDEO_TYPE_EFI  # orig_video_isVGA
    # lfb_width, lfb_height, lfb_depth, lfb_base, lfb_size (in bytes, for this type)
    struct.pack_into("<HHHII", info, 0x12, screen.width, screen.height, depth, screen.base, screen.size)
    struct.pack_into("<H", info, 0x24, screen.stride)
    for index, (size, position) in enumerate(_CHANNELS[screen.format]):
        struct.pack_into("<BB", info, 0x26 + 2 * index, size, position)
    struct.pack_into("<H", info, 0x32, 1)  # pages
    return bytes(info)
