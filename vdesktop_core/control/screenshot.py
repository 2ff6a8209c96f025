# SPDX-License-Identifier: MIT
"""A picture of a running machine's screen."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.display.png import write_png
from vdesktop_core.errors import ControlError

if TYPE_CHECKING:
    from vdesktop_core.display.frontend import Desktop


async def take(desktop: Desktop, screen: int, path: str) -> dict[str, int]:
    """Write a PNG file, not on the control loop, and return its width and height in pixels.

    Args:
        desktop: the machine's.
        screen: the number of an output, counted over all display devices.
        path: of the file; it is replaced as a whole.

    Raises:
        ControlError: there is no such screen, nothing is shown on it, or the file cannot be written.
    """
    scanouts = [scanout for device in desktop.screens for scanout in device.scanouts]
    if screen >= len(scanouts):
        have = f"it has {len(scanouts)}, counted from 0" if scanouts else "give it --display or --framebuffer"
        raise ControlError(f"the machine has no screen {screen}: {have}")
    viewing = scanouts[screen].view()
    surface = viewing.take().surface
    viewing.close()
    if surface is None:
        raise ControlError(f"screen {screen} is blank: the guest shows nothing on it")
    with contextlib.closing(surface):
        try:
            await asyncio.to_thread(write_png, surface, Path(path))
        except OSError as error:
            raise ControlError(f"cannot write {path}: {error.strerror}") from error
        return {"width": surface.width, "height": surface.height}
