# SPDX-License-Identifier: MIT
"""From the display layer's input events to evdev's, by kind of device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.devices.input import kinds
from vdesktop_core.devices.input.config import Kind
from vdesktop_core.devices.input.kinds import EV_ABS, EV_KEY, EV_REL
from vdesktop_core.display.input import (
    ABSOLUTE_MAX,
    TOUCH_SLOTS,
    WHEEL_NOTCH,
    Button,
    Key,
    PointerAbsolute,
    PointerButton,
    PointerMotion,
    Touch,
    TouchPhase,
    Wheel,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.display.input import InputEvent

#: type, code, value
Evdev = tuple[int, int, int]

_STEPS_MAX = 32767
_WHEEL_MAX = 100 * WHEEL_NOTCH

ACCEPTS: dict[Kind, frozenset[type]] = {
    Kind.KEYBOARD: frozenset({Key}),
    Kind.MOUSE: frozenset({PointerMotion, PointerButton, Wheel}),
    Kind.TABLET: frozenset({PointerAbsolute, PointerButton, Wheel}),
    Kind.TOUCH: frozenset({Touch}),
}


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _absolute(value: int) -> int:
    return _clamp(value, 0, ABSOLUTE_MAX)


class _Wheels:
    """Fine steps, and the whole notches among them that older guests know."""

    def __init__(self) -> None:
        self._rest = {kinds.REL_WHEEL: 0, kinds.REL_HWHEEL: 0}

    def turn(self, notch_axis: int, fine_axis: int, amount: int) -> list[Evdev]:
        amount = _clamp(amount, -_WHEEL_MAX, _WHEEL_MAX)
        if not amount:
            return []
        rest = self._rest[notch_axis]
        # Turning back is felt at once.
        rest = amount if rest * amount < 0 else rest + amount
        notches = int(rest / WHEEL_NOTCH)
        self._rest[notch_axis] = rest - notches * WHEEL_NOTCH
        coarse = [(EV_REL, notch_axis, notches)] if notches else []
        return [*coarse, (EV_REL, fine_axis, amount)]


class _Fingers:
    """Multi-touch protocol B: the touches of one screen."""

    def __init__(self) -> None:
        self._tracking: dict[int, int] = {}
        self._next_id = 0
        self._positions: dict[int, tuple[int, int]] = {}

    def encode(self, event: Touch) -> list[Evdev]:
        slot = _clamp(event.slot, 0, TOUCH_SLOTS - 1)
        if event.phase is TouchPhase.END:
            if self._tracking.pop(slot, None) is None:
                return []
            return [(EV_ABS, kinds.ABS_MT_SLOT, slot), (EV_ABS, kinds.ABS_MT_TRACKING_ID, -1)]
        if event.phase is TouchPhase.UPDATE and slot not in self._tracking:
            return []
        x, y = _absolute(event.x), _absolute(event.y)
        self._positions[slot] = (x, y)
        found = [(EV_ABS, kinds.ABS_MT_SLOT, slot)]
        if event.phase is TouchPhase.BEGIN and slot not in self._tracking:
            self._tracking[slot] = self._next_id
            found.append((EV_ABS, kinds.ABS_MT_TRACKING_ID, self._next_id))
            self._next_id = (self._next_id + 1) % (kinds.TRACKING_ID_MAX + 1)
        return [*found, (EV_ABS, kinds.ABS_MT_POSITION_X, x), (EV_ABS, kinds.ABS_MT_POSITION_Y, y)]

    def single(self, before: bool) -> list[Evdev]:
        """What a program that knows one finger reads: the oldest finger there is."""
        touching = bool(self._tracking)
        found = [] if touching is before else [(EV_KEY, kinds.BTN_TOUCH, int(touching))]
        if touching:
            x, y = self._positions[next(iter(self._tracking))]
            found += [(EV_ABS, kinds.ABS_X, x), (EV_ABS, kinds.ABS_Y, y)]
        return found

    @property
    def touching(self) -> bool:
        return bool(self._tracking)


class Encoder:
    """Turns frames into evdev events for one device."""

    def __init__(self, kind: Kind) -> None:
        self.accepts = ACCEPTS[kind]
        self._kind = kind
        self.reset()

    def reset(self) -> None:
        """Forget fingers and parts of notches: the guest's driver is a new one."""
        self._wheels = _Wheels()
        self._fingers = _Fingers()

    def encode(self, events: Sequence[InputEvent]) -> list[Evdev]:
        """Return a frame, without SYN_REPORT; empty: nothing changes.

        Raises:
            TypeError: an event is of a kind that this device does not take.
        """
        before = self._fingers.touching
        found = [evdev for event in events for evdev in self._one(event)]
        if found and self._kind is Kind.TOUCH:
            found += self._fingers.single(before)
        return found

    def _one(self, event: InputEvent) -> list[Evdev]:
        if type(event) not in self.accepts:
            raise TypeError(f"a {self._kind} takes no {type(event).__name__}")
        match event:
            case Key(code, down):
                known = code in kinds.SHAPES[Kind.KEYBOARD].codes[EV_KEY]
                return [(EV_KEY, code, int(down))] if known else []
            case PointerButton(button, down):
                return [(EV_KEY, Button(button), int(down))]
            case PointerMotion(dx, dy):
                steps = ((kinds.REL_X, dx), (kinds.REL_Y, dy))
                return [(EV_REL, axis, _clamp(by, -_STEPS_MAX, _STEPS_MAX)) for axis, by in steps if by]
            case PointerAbsolute(x, y):
                return [(EV_ABS, kinds.ABS_X, _absolute(x)), (EV_ABS, kinds.ABS_Y, _absolute(y))]
            case Wheel(dx, dy):
                turn = self._wheels.turn  # evdev's wheel turns up
                return [
                    *turn(kinds.REL_WHEEL, kinds.REL_WHEEL_HI_RES, -dy),
                    *turn(kinds.REL_HWHEEL, kinds.REL_HWHEEL_HI_RES, dx),
                ]
            case Touch():
                return self._fingers.encode(event)
