# SPDX-License-Identifier: MIT
"""TigerVNC's viewer on an X server without a monitor, and a person's hands there."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROGRAMS = {"Xvfb": "xvfb", "xtigervncviewer": "tigervnc-viewer", "xdotool": "xdotool"}
#: <X11/XWDFile.h>: 32-bit words, big-endian, of the header that Xvfb writes before its pixels.
_XWD_HEADER_SIZE, _XWD_WIDTH, _XWD_HEIGHT, _XWD_STRIDE, _XWD_COLOURS = 0, 4, 5, 12, 19
_XWD_WORDS, _XWD_COLOUR_SIZE = 25, 12


class XScreen:
    """A screen of Xvfb: what is on it, and its mouse and keyboard."""

    def __init__(self, display: str, file: Path) -> None:
        self.variables = {**os.environ, "DISPLAY": display}
        self._file = file

    def picture(self) -> tuple[int, int, bytes]:
        """Width, height, and R, G, B."""
        data = self._file.read_bytes()
        words = struct.unpack_from(f">{_XWD_WORDS}I", data)
        width, height, stride = words[_XWD_WIDTH], words[_XWD_HEIGHT], words[_XWD_STRIDE]
        start = words[_XWD_HEADER_SIZE] + words[_XWD_COLOURS] * _XWD_COLOUR_SIZE
        assert stride == 4 * width
        pixels = data[start : start + stride * height]
        rgb = bytearray(3 * width * height)
        rgb[0::3], rgb[1::3], rgb[2::3] = pixels[2::4], pixels[1::4], pixels[0::4]
        return width, height, bytes(rgb)

    def window(self, title: str) -> tuple[str, tuple[int, int]]:
        """A window's number, and where its upper left corner is; it is waited for."""
        command = ["xdotool", "search", "--sync", "--name", title, "getwindowgeometry", "--shell"]
        said = subprocess.run(
            command, check=True, env=self.variables, timeout=60, capture_output=True, text=True
        )
        values = dict(line.split("=") for line in said.stdout.split())
        return values["WINDOW"], (int(values["X"]), int(values["Y"]))

    def do(self, *arguments: str | int) -> None:
        """Have xdotool move, click or type."""
        command = ["xdotool", *map(str, arguments)]
        subprocess.run(command, check=True, env=self.variables, timeout=60)


@contextlib.contextmanager
def x_screen(folder: Path, width: int, height: int) -> Iterator[XScreen]:
    """An X server with one screen; skips the test where something is missing."""
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: apt-get install {' '.join(missing)}")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{width}x{height}x24"]
    command += ["-fbdir", str(folder), "-nolisten", "tcp"]
    with (folder / "xvfb.log").open("wb") as log:
        server = subprocess.Popen(command, pass_fds=[writing], stdout=log, stderr=log)
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            number = told.readline().strip()
        assert number, (folder / "xvfb.log").read_text()
        yield XScreen(f":{number}", folder / "Xvfb_screen0")
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def viewer(screen: XScreen, log: Path, address: str, password: str, *options: str) -> Iterator[None]:
    """TigerVNC's viewer with ``options``; it is ended by the end, unless it has ended by itself."""
    command = ["xtigervncviewer", *options, "-RemoteResize=0", "-Log=*:stderr:30", address]
    home = {"HOME": str(log.parent), "VNC_PASSWORD": password}
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=screen.variables | home, stdout=said, stderr=said)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait()
