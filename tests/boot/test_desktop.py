# SPDX-License-Identifier: MIT
"""A person at the guest's screen: what fbcon draws, what is typed on its terminal, what evdev hears."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from guest import find_image

from vdesktop_core import config as configuration
from vdesktop_core.devices.console import parse_console
from vdesktop_core.display.input import Key, PointerAbsolute, PointerButton, Touch, TouchPhase
from vdesktop_core.display.keys import EVDEV_BY_CODE
from vdesktop_core.display.session import InputSession
from vdesktop_core.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Far more than it takes: no test is about time.
PATIENCE = 150
_SHIFTED = {">": "Period", "*": "Digit8", "|": "Backslash"}
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
            for key in keys:
                self.hands.send(Key(key, down=True))
            for key in reversed(keys):
                self.hands.send(Key(key, down=False))
            await asyncio.sleep(0.01)

    async def sees(self, condition: Callable[[str], Any], meanwhile: Callable[[], None] | None = None) -> Any:
        """Wait until the guest's other console has what is wanted, and return it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                text = self.console.read_text(errors="replace").replace("\r", "")
                if found := condition(text):
                    return found
                if meanwhile:
                    meanwhile()
                await asyncio.sleep(0.1)

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


@pytest.mark.parametrize("arch", ["aarch64"])
async def test_desktop_shows_fbcon_and_takes_keys_pointer_and_fingers(arch: str, tmp_path: Path) -> None:
    image = find_image(arch, "trixie")
    loaded = configuration.load(image.folder / "machine.toml")
    console, picture = tmp_path / "console", tmp_path / "screen.png"
    shell = "echo shell; exec sh -i </dev/tty1 2>/dev/tty1"
    config = msgspec.structs.replace(
        loaded,
        boot=msgspec.structs.replace(loaded.boot, append=f'console=tty0 console=hvc0 vdesktop.run="{shell}"'),
        display=f"screenshot:{picture}",
        devices=(
            parse_console(f"file:{console}"),
            {"type": "gpu"},
            *({"type": "input", "kind": kind} for kind in ("keyboard", "tablet", "touch")),
        ),
    )
    async with Machine(config) as machine:
        await machine.start()
        person = Person(machine, console)
        await person.sees(lambda text: "\nshell\n" in text)

        # The shell reads the virtual terminal and writes to hvc0.
        await person.type("echo Typed-on-tty1\n")
        await person.sees(lambda text: "\nTyped-on-tty1\n" in text)

        where = 100

        def point() -> None:
            nonlocal where
            where += 10
            person.hands.send(PointerAbsolute(where, 2 * where))

        (kind, code, x), (_, next_code, y), end = await person.reads(1, 3, point)
        assert (kind, code, next_code, y, end) == (3, 0, 1, 2 * x, (0, 0, 0))
        assert 100 < x <= where

        def pinch() -> None:
            nonlocal where  # evdev passes over what does not change
            where += 10
            for phase in (TouchPhase.BEGIN, TouchPhase.END):
                person.hands.send(*[Touch(phase, slot, where + slot, 2 * where) for slot in (0, 7)])

        touched = await person.reads(2, 24, pinch)
        assert {(3, 0x2F, 0), (3, 0x2F, 7), (1, 330, 1), (1, 330, 0), (3, 0x39, -1)} <= {*touched}
        across = {x for kind, code, x in touched if (kind, code) == (3, 0x35)}
        assert {x % 10 for x in across} == {0, 7}

        # Smaller than at first: fbcon keeps its framebuffer, and passes over modes that it is too small for.
        machine.desktop.screens[0].scanouts[0].request_size(902, 701)
        await person.type("cat /sys/class/drm/card*/card*/modes\n")
        await person.sees(lambda text: "902x701\n" in text)

        os.kill(os.getpid(), signal.SIGUSR1)
        await person.sees(lambda _: picture.exists())
        counters = machine.counters()
        assert counters["gpu0"]["errors"] == 0
        assert counters["gpu0"]["flushes"] > 0
        person.hands.send(PointerButton(0x110, down=True))
        person.hands.close()
    # Letters: far more than a blank screen compresses to.
    assert picture.stat().st_size > 8000
