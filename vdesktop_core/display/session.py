# SPDX-License-Identifier: MIT
"""One viewer's hands: finds the device for each event, and lets go of everything when the viewer leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.display.input import (
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

    from vdesktop_core.display.input import Button, InputEvent, InputSink

_POINTER = (PointerButton, Wheel)


class InputSession:
    """Routes one viewer's events to a machine's input devices.

    A key, button or finger that this viewer holds comes up with :meth:`close`.
    What a viewer lets go without having held it is dropped.

    Args:
        sinks: the machine's input devices.
    """

    def __init__(self, sinks: Sequence[InputSink]) -> None:
        self._sinks = tuple(sinks)
        self._keys: set[int] = set()
        self._buttons: dict[Button, InputSink] = {}
        self._touches: set[int] = set()
        self._pointer: InputSink | None = None

    def send(self, *events: InputEvent) -> None:
        """Send events that happen at once. Those that the machine has no device for are dropped."""
        frames: dict[int, tuple[InputSink, list[InputEvent]]] = {}
        for event in events:
            sink = self._sink(event)
            if sink is not None and self._note(event, sink):
                frames.setdefault(id(sink), (sink, []))[1].append(event)
        for sink, frame in frames.values():
            sink.send(frame)

    def close(self) -> None:
        """Lift every key, button and finger. Idempotent."""
        self.send(
            *[Key(code, down=False) for code in sorted(self._keys)],
            *[PointerButton(button, down=False) for button in sorted(self._buttons)],
            *[Touch(TouchPhase.END, slot) for slot in sorted(self._touches)],
        )

    def _sink(self, event: InputEvent) -> InputSink | None:
        # Buttons and wheel are of the device that pointed last: a guest gives every pointer the same cursor.
        if isinstance(event, PointerButton) and event.button in self._buttons:
            return self._buttons[event.button]
        if isinstance(event, _POINTER) and self._pointer is not None:
            return self._pointer
        sink = next((sink for sink in self._sinks if type(event) in sink.accepts), None)
        if isinstance(event, PointerMotion | PointerAbsolute):
            self._pointer = sink
        return sink

    def _note(self, event: InputEvent, sink: InputSink) -> bool:
        """Remember what is held; False: the event changes nothing."""
        match event:
            case Key(code, down):
                return _held(self._keys, code, down)
            case PointerButton(button, down):
                held = button in self._buttons
                if down:
                    self._buttons[button] = sink
                else:
                    self._buttons.pop(button, None)
                return held != down
            case Touch(TouchPhase.UPDATE, slot):
                return slot in self._touches
            case Touch(phase, slot):
                return _held(self._touches, slot, phase is TouchPhase.BEGIN)
            case Wheel() | PointerMotion() | PointerAbsolute():
                return True


def _held(held: set[int], what: int, down: bool) -> bool:
    before = what in held
    if down:
        held.add(what)
    else:
        held.discard(what)
    return before != down
