# SPDX-License-Identifier: MIT
"""``--display screenshot:FILE[,after=SECONDS]``: a display front-end in 50 lines, to copy from.

Takes the first screen's picture after so many seconds, and on every SIGUSR1; FILE is replaced as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.errors import ConfigError
from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.display.frontend import Desktop, DisplayFrontend


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
        from vdesktop_core.display.png import write_png  # not before somebody takes a picture

        with contextlib.closing(surface):
            write_png(surface, self._path)

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
