# SPDX-License-Identifier: MIT
"""A person at the guest's screen: what fbcon draws, what is typed on its terminal, what evdev hears."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import msgspec
import pytest
from guest import find_image
from person import SHELL, Person

from vdesktop_core import config as configuration
from vdesktop_core.devices.console import parse_console
from vdesktop_core.display.input import PointerAbsolute, PointerButton, Touch, TouchPhase
from vdesktop_core.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "riscv64"])
async def test_desktop_shows_fbcon_and_takes_keys_pointer_and_fingers(arch: str, tmp_path: Path) -> None:
    image = find_image(arch, "trixie")
    loaded = configuration.load(image.folder / "machine.toml")
    console, picture = tmp_path / "console", tmp_path / "screen.png"
    config = msgspec.structs.replace(
        loaded,
        boot=msgspec.structs.replace(loaded.boot, append=f'console=tty0 console=hvc0 vdesktop.run="{SHELL}"'),
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
        # The driver asks what has changed in a worker of its own.
        await person.type("until cat /sys/class/drm/card*/card*/modes|grep 902x701;do usleep 99999;done\n")
        await person.sees(lambda text: "\n902x701\n" in text)

        os.kill(os.getpid(), signal.SIGUSR1)
        await person.sees(lambda _: picture.exists())
        counters = machine.counters()
        assert counters["gpu0"]["errors"] == 0
        assert counters["gpu0"]["flushes"] > 0
        person.hands.send(PointerButton(0x110, down=True))
        person.hands.close()
    # Letters: far more than a blank screen compresses to.
    assert picture.stat().st_size > 8000
