# SPDX-License-Identifier: MIT
"""What a client's keys, pointer and fingers do to the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vdesktop_core.display.input import (
    WHEEL_NOTCH,
    Button,
    Key,
    PointerAbsolute,
    PointerButton,
    Touch,
    TouchPhase,
    Wheel,
)
from vdesktop_core.display.session import InputSession
from vdesktop_rfb.keys import LEFT_SHIFT, RIGHT_SHIFT, SHIFTED, evdev

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.display.input import InputEvent, InputSink

# Bits of a PointerEvent's mask.
_BUTTONS: Final = {
    1 << 0: Button.LEFT,
    1 << 1: Button.MIDDLE,
    1 << 2: Button.RIGHT,
    1 << 7: Button.SIDE,
    1 << 8: Button.EXTRA,
}
_WHEEL: Final = {
    1 << 3: Wheel(0, -WHEEL_NOTCH),
    1 << 4: Wheel(0, WHEEL_NOTCH),
    1 << 5: Wheel(-WHEEL_NOTCH, 0),
    1 << 6: Wheel(WHEEL_NOTCH, 0),
}
_PHASES: Final = (TouchPhase.BEGIN, TouchPhase.UPDATE, TouchPhase.END)
#: More touches of the same moment follow (``TOUCH_MORE`` of wire.h).
_MORE: Final = 0x100


class Hands:
    """One client's. Control loop only.

    Args:
        sinks: the machine's input devices.
    """

    def __init__(self, sinks: Sequence[InputSink]) -> None:
        self._session = InputSession(sinks)
        self._mask = 0
        self._fingers: list[Touch] = []
        self._shifts: set[int] = set()
        self._lent: set[int] = set()  # keysyms that are down with a shift of ours

    def key(self, *, down: bool, keysym: int, scancode: int) -> None:
        """A key goes down or up."""
        code = evdev(scancode, keysym)
        if code is None:
            return
        if code in (LEFT_SHIFT, RIGHT_SHIFT):
            (self._shifts.add if down else self._shifts.discard)(code)
        # A client without scancodes sends the letter only; some press no shift for it.
        if not scancode and down and keysym in SHIFTED and not self._shifts:
            self._lent.add(keysym)
            self._session.send(Key(LEFT_SHIFT, down=True))
        self._session.send(Key(code, down=down))
        if not down and keysym in self._lent:
            self._lent.discard(keysym)
            if not self._lent and LEFT_SHIFT not in self._shifts:
                self._session.send(Key(LEFT_SHIFT, down=False))

    def pointer(self, mask: int, x: int, y: int) -> None:
        """The pointer is at (x, y), 0..ABSOLUTE_MAX, with these buttons held."""
        events: list[InputEvent] = [PointerAbsolute(x, y)]
        changed = mask ^ self._mask
        self._mask = mask
        events += [
            PointerButton(button, down=bool(mask & bit)) for bit, button in _BUTTONS.items() if changed & bit
        ]
        events += [turn for bit, turn in _WHEEL.items() if changed & mask & bit]
        self._session.send(*events)

    def touch(self, phase: int, slot: int, x: int, y: int) -> None:
        """A finger; those of one moment are sent as one."""
        self._fingers.append(Touch(_PHASES[phase & ~_MORE], slot, x, y))
        if not phase & _MORE:
            fingers, self._fingers = self._fingers, []
            self._session.send(*fingers)

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        self._session.close()
