# SPDX-License-Identifier: MIT
"""The display layer by itself: sessions, keys, front-ends."""

from __future__ import annotations

import struct
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from vdesktop_screenshot.plugin import Screenshot

from vdesktop_core.display.frontend import Desktop, open_display
from vdesktop_core.display.input import (
    Button,
    Key,
    PointerAbsolute,
    PointerButton,
    PointerMotion,
    Touch,
    TouchPhase,
    Wheel,
)
from vdesktop_core.display.keys import EVDEV_BY_CODE, evdev
from vdesktop_core.display.png import png
from vdesktop_core.display.screen import PixelFormat
from vdesktop_core.display.session import InputSession
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.display.input import InputEvent


class Sink:
    def __init__(self, *accepts: type) -> None:
        self.accepts = frozenset(accepts)
        self.frames: list[list[InputEvent]] = []

    def send(self, events: Sequence[InputEvent]) -> bool:
        self.frames.append([*events])
        return True


@pytest.fixture
def sinks() -> list[Sink]:
    """Keyboard, mouse, tablet, touch."""
    return [
        Sink(Key),
        Sink(PointerMotion, PointerButton, Wheel),
        Sink(PointerAbsolute, PointerButton, Wheel),
        Sink(Touch),
    ]


def test_session_that_ends_lifts_what_it_holds_and_nothing_else(sinks: list[Sink]) -> None:
    session = InputSession(sinks)
    session.send(Key(30, down=True), Key(42, down=True))
    session.send(Key(30, down=False))
    session.send(PointerAbsolute(1, 2), PointerButton(Button.LEFT, down=True))
    session.send(Touch(TouchPhase.BEGIN, 4, 1, 1))
    for sink in sinks:
        sink.frames.clear()
    session.close()
    session.close()
    keyboard, mouse, tablet, touch = (sink.frames for sink in sinks)
    assert keyboard == [[Key(42, down=False)]]
    assert (mouse, tablet) == ([], [[PointerButton(Button.LEFT, down=False)]])
    assert touch == [[Touch(TouchPhase.END, 4)]]


def test_session_sends_buttons_to_the_device_that_pointed_last(sinks: list[Sink]) -> None:
    session = InputSession(sinks)
    _, mouse, tablet, _ = (sink.frames for sink in sinks)
    session.send(PointerAbsolute(1, 2))
    session.send(PointerButton(Button.LEFT, down=True))
    session.send(PointerMotion(1, 1), PointerButton(Button.LEFT, down=False), Wheel(0, 120))
    assert tablet[-2:] == [[PointerButton(Button.LEFT, down=True)], [PointerButton(Button.LEFT, down=False)]]
    assert mouse == [[PointerMotion(1, 1), Wheel(0, 120)]]


def test_session_drops_releases_of_what_was_not_pressed(sinks: list[Sink]) -> None:
    session = InputSession(sinks)
    session.send(Key(30, down=False), PointerButton(Button.LEFT, down=False), Touch(TouchPhase.END, 1))
    session.send(Touch(TouchPhase.UPDATE, 1, 5, 5))
    session.send(Key(30, down=True), Key(30, down=True))
    assert [sink.frames for sink in sinks] == [[[Key(30, down=True)]], [], [], []]


def test_session_without_a_fitting_device_drops_the_event() -> None:
    InputSession([]).send(Key(30, down=True), PointerMotion(1, 1), Wheel(1, 1))


def test_keys_are_places_and_no_two_names_share_one_by_mistake() -> None:
    known = {"Escape": 1, "KeyA": 30, "KeyY": 21, "Enter": 28, "AltRight": 100, "ArrowDown": 108, "F12": 88}
    known |= {
        "IntlBackslash": 86,
        "MetaLeft": 125,
        "NumpadEnter": 96,
        "F24": 194,
        "Pause": 119,
        "Delete": 111,
    }
    assert {name: evdev(name) for name in known} == known
    assert evdev("NoSuchKey") is None
    assert all(1 <= code < 256 for code in EVDEV_BY_CODE.values())
    again = len(EVDEV_BY_CODE) - len(set(EVDEV_BY_CODE.values()))
    assert again == 5  # OSLeft, OSRight and the three volume keys have two names


def test_display_unknown_or_without_a_screen_is_one_line() -> None:
    empty = Desktop("test", (), ())
    assert open_display("none", {}, empty) is None
    with pytest.raises(ConfigError, match="no display front-end 'hologram'"):
        open_display("hologram:x", {}, empty)
    with pytest.raises(ConfigError, match="no screen"):
        open_display("screenshot:x", {"screenshot": Screenshot()}, empty)


@pytest.mark.parametrize("argument", ["", ",after=1", "f,after=", "f,after=x", "f,before=1", "f,after=-1"])
def test_screenshot_argument_that_makes_no_sense_is_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match="write screenshot:FILE"):
        Screenshot().open(argument, Desktop("test", (), ()))


@pytest.mark.parametrize("format_", list(PixelFormat))
def test_png_has_the_picture_in_every_pixel_format(format_: PixelFormat) -> None:
    width, height, stride = 3, 2, 20
    wanted = [(10 * i, 10 * i + 1, 10 * i + 2) for i in range(width * height)]
    memory = bytearray(b"\xee" * stride * height)
    for i, colour in enumerate(wanted):
        for place, value in zip(format_.rgb, colour, strict=True):
            memory[i // width * stride + i % width * 4 + place] = value
    view = memoryview(memory)[: stride + width * 4]
    surface = SimpleNamespace(width=width, height=height, stride=stride, format=format_, view=view)
    file = png(surface)  # type: ignore[arg-type]
    assert file.startswith(b"\x89PNG\r\n\x1a\n")
    at = file.index(b"IDAT")
    (length,) = struct.unpack_from(">I", file, at - 4)
    rows = zlib.decompress(file[at + 4 : at + 4 + length])
    flat = bytes(value for colour in wanted for value in colour)
    assert rows == b"\0" + flat[:9] + b"\0" + flat[9:]
