# SPDX-License-Identifier: MIT
"""The entry point. Imports nothing heavy: it is loaded at every start of ``vdesktop``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.display.frontend import Desktop, Display, DisplayFrontend


class Vnc:
    """``--display vnc``; see :mod:`vdesktop_rfb.vnc`."""

    name = "vnc"

    def open(self, argument: str, desktop: Desktop) -> Display:
        """Listen for VNC clients."""
        from vdesktop_rfb.vnc import VncDisplay, parse_options

        return VncDisplay(parse_options(argument), desktop)


@hookimpl
def vdesktop_displays() -> Sequence[DisplayFrontend]:
    """One: vnc."""
    return [Vnc()]
