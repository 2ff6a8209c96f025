# SPDX-License-Identifier: MIT
"""The kernel command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from collections.abc import Iterable


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
