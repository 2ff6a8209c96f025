# SPDX-License-Identifier: MIT
"""The kernel command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Linux: messages on the screen too; and text consoles move to the second framebuffer, virtio-gpu's, when its
#: driver has loaded. Without PCI, that driver does not take the boot framebuffer away, and ``fbcon`` stays
#: where it is unless some console (here every twelfth) is mapped to the first one and the others are not.
_SCREEN_WORDS = ("console=tty0", "fbcon=map:" + 11 * "1" + "0")


def screen_words(append: str) -> tuple[str, ...]:
    """Return what a guest with a boot framebuffer is told, before the user's own words.

    ``/dev/console`` stays what it is without a screen: the last that the user names, or the first virtio
    console.
    """
    named = any(word.startswith("console=") for word in append.split())
    return _SCREEN_WORDS if named else (*_SCREEN_WORDS, "console=hvc0")


def command_line(append: str, extra: Iterable[str], limit: int) -> bytes:
    """Join the user's words and the backend's, without the terminating NUL.

    Args:
        append: the user's.
        extra: the backend's; they come first, so that the user has the last word.
        limit: the most the kernel keeps, in bytes, without the NUL.

    Raises:
        BootError: it holds a NUL or a line break, or is too long.
    """
    text = " ".join([*extra, append.strip()]).strip()
    data = os.fsencode(text)
    if any(byte in data for byte in (b"\0", b"\n", b"\r")):
        raise BootError("the kernel command line contains a NUL or a line break: remove it from --append")
    if len(data) > limit:
        raise BootError(
            f"the kernel command line has {len(data)} bytes, this kernel takes {limit}: shorten --append"
        )
    return data
