# SPDX-License-Identifier: MIT
"""``--display screenshot:FILE[,after=SECONDS]``: a display front-end in 50 lines, to copy from.

Takes the first screen's picture after so many seconds, and on every SIGUSR1; FILE is replaced as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.errors import ConfigError
from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.display.frontend import Desktop, DisplayFrontend
    from vdesktop_core.display.screen import Surface


def png(surface: Surface) -> bytes:
    """Return a picture as a PNG file (ISO/IEC 15948): 8 bits a colour, no filters."""
    from vdesktop_core.display.screen import read_rgb  # not before somebody takes a picture

    row = surface.width * 3
    rgb = read_rgb(surface)
    rows = b"".join(b"\0" + rgb[at : at + row] for at in range(0, len(rgb), row))
    header = struct.pack(">IIBBBBB", surface.width, surface.height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


class Screenshots:
    """Takes pictures of a desktop's first screen until it is closed."""

    def __init__(self, path: Path, after: float | None, desktop: Desktop) -> None:
        self._path = path
        self._viewing = desktop.screens[0].scanouts[0].view()
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGUSR1, self.take)
        self._timer = None if after is None else self._loop.call_later(after, self.take)

    def take(self) -> None:
        """Write the file, if the guest shows anything."""
        if (surface := self._viewing.take().surface) is None:
            return
        with contextlib.closing(surface):
            part = self._path.with_name(self._path.name + ".part")
            part.write_bytes(png(surface))
            part.replace(self._path)

    def close(self) -> None:
        """Take no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_signal_handler(signal.SIGUSR1)
        self._viewing.close()


class Screenshot:
    """The front-end."""

    name = "screenshot"

    def open(self, argument: str, desktop: Desktop) -> Screenshots:
        """Take pictures; see the module."""
        path, _, option = argument.partition(",")
        key, _, seconds = option.partition("=")
        if not path or (option and not (key == "after" and seconds.replace(".", "", 1).isdecimal())):
            raise ConfigError(f"screenshot {argument!r}: write screenshot:FILE or FILE,after=SECONDS")
        after = float(seconds) if option else None
        return Screenshots(Path(path), after, desktop)


@hookimpl
def vdesktop_displays() -> Sequence[DisplayFrontend]:
    """One: screenshot."""
    return [Screenshot()]
