# SPDX-License-Identifier: MIT
"""Somebody at a guest's screen and keyboard, in the process of the machine."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from vdesktop_core.display.input import Key
from vdesktop_core.display.keys import EVDEV_BY_CODE
from vdesktop_core.display.png import png
from vdesktop_core.display.screen import read_rgb
from vdesktop_core.display.session import InputSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vdesktop_core.machine import Machine

#: What a guest runs to be at a person's hands: a shell that reads the first virtual terminal and writes to
#: the other console. The kernel is silent there: a message of its own would part a line from its end.
SHELL = "dmesg -n 1; echo shell; exec sh -i </dev/tty1 2>/dev/tty1"
#: Far more than it takes: no test is about time.
PATIENCE = 150
_SHIFTED = {">": "Period", "*": "Digit8", "|": "Backslash", "_": "Minus"}
_PLAIN = {
    " ": "Space",
    "/": "Slash",
    "-": "Minus",
    ".": "Period",
    ";": "Semicolon",
    "=": "Equal",
    "\n": "Enter",
}


def keys_of(letter: str) -> list[int]:
    """The keys that type a letter on a US keyboard, in the order they go down."""
    if letter in _SHIFTED:
        return [EVDEV_BY_CODE["ShiftLeft"], EVDEV_BY_CODE[_SHIFTED[letter]]]
    if letter.isdigit():
        return [EVDEV_BY_CODE[f"Digit{letter}"]]
    if letter in _PLAIN:
        return [EVDEV_BY_CODE[_PLAIN[letter]]]
    shift = [EVDEV_BY_CODE["ShiftLeft"]] if letter.isupper() else []
    return [*shift, EVDEV_BY_CODE[f"Key{letter.upper()}"]]


class Person:
    """Types and points at a machine whose guest has a shell on its first virtual terminal."""

    def __init__(self, machine: Machine, console: Path) -> None:
        self.console = console
        self.hands = InputSession(machine.desktop.inputs)
        self.machine = machine

    async def type(self, text: str) -> None:
        for letter in text:
            keys = keys_of(letter)
            # At once: a key that is down while a loaded host does something else is repeated by the guest.
            down, up = ([Key(key, down=down) for key in keys] for down in (True, False))
            self.hands.send(*down, *reversed(up))
            await asyncio.sleep(0.01)

    async def sees(self, condition: Callable[[str], Any], meanwhile: Callable[[], None] | None = None) -> Any:
        """Wait until the guest's other console has what is wanted, and return it."""
        text = ""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    text = self.console.read_text(errors="replace").replace("\r", "")
                    if found := condition(text):
                        return found
                    if meanwhile:
                        meanwhile()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not on the console after {PATIENCE} s, but: {text[-2000:]}") from None

    async def reads(self, device: int, count: int, meanwhile: Callable[[], None]) -> list[tuple[int, ...]]:
        """The (type, code, value) of ``count`` events of ``/dev/input/eventN`` while something happens."""
        read = f"dd if=/dev/input/event{device} bs=24 count={count}|od -An -v -td2"
        await self.type(f"echo from{device};{read};echo to{device}\n")

        def events(text: str) -> list[tuple[int, ...]]:
            _, _, after = text.partition(f"\nfrom{device}\n")
            body, ended, _ = after.partition(f"\nto{device}\n")
            words = [int(word) for word in body.split()] if ended else []
            # struct input_event of 64 bits: 16 bytes of time, type, code, value.
            return [(words[at + 8], words[at + 9], words[at + 10]) for at in range(0, len(words), 12)]

        return await self.sees(events, meanwhile)


class Picture:
    """What was on a screen at one time."""

    def __init__(self, width: int, height: int, rgb: bytes) -> None:
        self.size = (width, height)
        self.rgb = rgb

    @property
    def lit(self) -> int:
        """How many pixels are bright, as those of a console's letters are."""
        return sum(value > 0x80 for value in self.rgb[1::3])


class Eyes:
    """Looks at a machine's first screen, and remembers what it saw as PNG files.

    Args:
        machine: running.
        album: the folder for the files.
    """

    def __init__(self, machine: Machine, album: Path) -> None:
        self._viewing = machine.desktop.screens[0].scanouts[0].view()
        self._album = album
        self._last: Picture | None = None

    async def see(self, name: str, condition: Callable[[Picture], bool]) -> Picture:
        """Wait for a picture of which the condition is true; keep it as NAME.png."""
        async with asyncio.timeout(PATIENCE):
            while True:
                if (picture := self._look(name)) is not None and condition(picture):
                    return picture
                await asyncio.sleep(0.2)

    def _look(self, name: str) -> Picture | None:
        update = self._viewing.take()
        if update.surface is None:
            return None
        with contextlib.closing(update.surface) as surface:
            if update.news or self._last is None:
                self._last = Picture(surface.width, surface.height, read_rgb(surface))
                (self._album / f"{name}.png").write_bytes(png(surface))
        return self._last
