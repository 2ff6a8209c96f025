# SPDX-License-Identifier: MIT
"""What shows a machine's screens to people: the contract of display front-ends.

A front-end is named in ``--display NAME[:ARGUMENT]`` and registered by the
hook ``vdesktop_displays``. It runs on the control loop; work on pixels belongs
on a thread of its own, in native code where it has to be fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vdesktop_core.display.clipboard import Clipboard
    from vdesktop_core.display.files import FileDrop
    from vdesktop_core.display.input import InputSink
    from vdesktop_core.display.screen import Screen


class Desktop(msgspec.Struct, frozen=True):
    """What a machine has for people.

    Attributes:
        machine: its name.
        screens: display devices, in the order of the configuration.
        inputs: input devices, in the same order.
        clipboards: guests' clipboards; none where the guest's agent has no device to speak through.
        file_drops: takers of files, in the same way.
    """

    machine: str
    screens: Sequence[Screen]
    inputs: Sequence[InputSink]
    clipboards: Sequence[Clipboard] = ()
    file_drops: Sequence[FileDrop] = ()


class Display(Protocol):
    """A front-end at work."""

    def close(self) -> None:
        """Let go of the desktop, before its devices go. Idempotent."""
        ...


class DisplayFrontend(Protocol):
    """A way to show a desktop."""

    name: str

    def open(self, argument: str, desktop: Desktop) -> Display:
        """Show it. ``argument`` is what follows the name and a colon, or empty; ``NAME,…`` is ``NAME:,…``.

        Called on the running control loop, before the guest's first instruction.

        Raises:
            ConfigError: the argument makes no sense.
            DeviceError: the host refuses.
        """
        ...


def open_display(spec: str, frontends: Mapping[str, DisplayFrontend], desktop: Desktop) -> Display | None:
    """Open the front-end that ``--display SPEC`` names; None for ``none``.

    Raises:
        ConfigError: it is unknown, its argument makes no sense, or the machine has no screen.
        DeviceError: the host refuses.
    """
    at = min((spec.index(mark) for mark in ":," if mark in spec), default=len(spec))
    name, argument = spec[:at], spec[at:].removeprefix(":")
    if name == "none":
        return None
    frontend = frontends.get(name)
    if frontend is None:
        known = ", ".join(["none", *frontends])
        raise ConfigError(f"no display front-end {name!r} is installed: installed are {known}")
    if not desktop.screens:
        raise ConfigError(f'display {name!r}: the machine has no screen: add a [[device]] type = "gpu"')
    return frontend.open(argument, desktop)
