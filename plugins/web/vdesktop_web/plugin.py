# SPDX-License-Identifier: MIT
"""``--display web``: the machine's desktop in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.display.frontend import Desktop, Display, DisplayFrontend


class Web:
    """The front-end."""

    name = "web"

    def open(self, argument: str, desktop: Desktop) -> Display:
        """Serve it, and print where; see :mod:`vdesktop_web.options`."""
        from vdesktop_web.display import WebDisplay  # not before somebody wants it

        return WebDisplay(argument, desktop)


@hookimpl
def vdesktop_displays() -> Sequence[DisplayFrontend]:
    """One: web."""
    return [Web()]
