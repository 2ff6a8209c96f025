# SPDX-License-Identifier: MIT
"""Input events, and what takes them."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

#: Absolute positions go from 0 at the left or upper edge of the screen to this at the other.
ABSOLUTE_MAX = 32767
#: Fingers of a touch screen.
TOUCH_SLOTS = 10
#: Units of a wheel's notch.
WHEEL_NOTCH = 120


class Button(enum.IntEnum):
    """A pointer's buttons, with their evdev codes (``<linux/input-event-codes.h>``)."""

    LEFT = 0x110
    RIGHT = 0x111
    MIDDLE = 0x112
    SIDE = 0x113  #: "back"
    EXTRA = 0x114  #: "forward"


class Led(enum.IntFlag):
    """A keyboard's lamps, ``1 << LED_*``."""

    NUM_LOCK = 1
    CAPS_LOCK = 2
    SCROLL_LOCK = 4


class TouchPhase(enum.Enum):
    """What a finger does."""

    BEGIN = "begin"
    UPDATE = "update"
    END = "end"


class Key(msgspec.Struct, frozen=True, tag=True):
    """A key goes down or up. Repeating is the guest's own business.

    Attributes:
        code: evdev code of the key's place on a US keyboard, 1..255; see :mod:`vdesktop_core.display.keys`.
        down: False: it comes up.
    """

    code: int
    down: bool


class PointerMotion(msgspec.Struct, frozen=True, tag=True):
    """The pointer moves by so many steps of a mouse, right and down."""

    dx: int
    dy: int


class PointerAbsolute(msgspec.Struct, frozen=True, tag=True):
    """The pointer is here: 0..ABSOLUTE_MAX, from the left and from the top."""

    x: int
    y: int


class PointerButton(msgspec.Struct, frozen=True, tag=True):
    """A button goes down or up."""

    button: Button
    down: bool


class Wheel(msgspec.Struct, frozen=True, tag=True):
    """The wheel turns: units of 1/WHEEL_NOTCH notch, right and down are positive."""

    dx: int
    dy: int


class Touch(msgspec.Struct, frozen=True, tag=True):
    """A finger.

    Attributes:
        phase: begins, moves, ends.
        slot: which finger, 0..TOUCH_SLOTS - 1; one that ended is free for another.
        x: 0..ABSOLUTE_MAX from the left; of no meaning at the end.
        y: the same, from the top.
    """

    phase: TouchPhase
    slot: int
    x: int = 0
    y: int = 0


InputEvent: TypeAlias = Key | PointerMotion | PointerAbsolute | PointerButton | Wheel | Touch


class InputSink(Protocol):
    """A keyboard, mouse, tablet or touch screen of the guest's, to put events into. Control loop only."""

    @property
    def accepts(self) -> Collection[type]:
        """The kinds of events it takes."""
        ...

    def send(self, events: Sequence[InputEvent]) -> bool:
        """Send events that happen at once, as one frame.

        Values out of range are brought into it.

        Returns:
            False: the guest did not take them: it has no driver, or does not keep up.

        Raises:
            TypeError: an event is of a kind that is not in ``accepts``.
        """
        ...

    def on_leds(self, changed: Callable[[Led], None]) -> Callable[[], None]:
        """Have ``changed`` called with the lit lamps, now and on changes; returns how to stop that."""
        ...
