# SPDX-License-Identifier: MIT
"""An ordinary client, TigerVNC's viewer, at the vnc display of a booted guest."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest
from browser import until
from guest import Guest, find_image, running, vdesktop
from listener import Listener
from viewer import XScreen, viewer, x_screen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "sesame12"  # noqa: S105 - of these tests
#: How the server is opened, the viewer's options, and what it agrees on.
WAYS = {
    "password": ("vnc:0,password={0}/password", ("-SecurityTypes=VncAuth",), "VncAuth"),
    "tls": (
        "vnc:0,password={0}/password,tls={0}/certificate:{0}/key",
        ("-SecurityTypes=X509Vnc", "-X509CA={0}/certificate"),
        "X509Vnc",
    ),
}
#: A place on the X screen without a window.
AWAY = (1270, 890)
EV_KEY, BTN_LEFT = 1, 0x110
EV_ABS, ABS_X, ABS_Y, ABSOLUTE_MAX = 3, 0, 1, 32767


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XScreen]:
    with x_screen(tmp_path_factory.mktemp("x"), 1280, 900) as found:
        yield found


def make_secrets(folder: Path) -> None:
    (folder / "password").write_text(PASSWORD + "\n")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(command, check=True, capture_output=True)


def screenshot(guest: Guest, folder: Path) -> tuple[int, int, bytes]:
    """Width, height, R, G, B of what the machine shows, without a viewer."""
    file = folder / "truth.png"
    command = vdesktop("screenshot", "viewed", "-o", file)
    subprocess.run(command, check=True, env=os.environ | guest.variables, capture_output=True, timeout=60)
    data = file.read_bytes()
    width, height = struct.unpack_from(">II", data, 16)
    at, rows = 8, b""
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        rows += data[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    pixels, stride = zlib.decompress(rows), 3 * width + 1
    return width, height, b"".join(pixels[y * stride + 1 : (y + 1) * stride] for y in range(height))


def same(screen: XScreen, corner: tuple[int, int], truth: tuple[int, int, bytes]) -> bool:
    """Whether it is what a window shows."""
    across, _, rgb = screen.picture()
    (left, top), (width, height, wanted) = corner, truth
    starts = (3 * (across * (top + y) + left) for y in range(height))
    return b"".join(rgb[start : start + 3 * width] for start in starts) == wanted


#: Written to an input device, an event of EV_REP sets its delay, REP_DELAY, here to a minute: a key that is
#: down while a loaded host is busy would be repeated. In an input_event, 16 bytes of time are first.
_EVENT = 16 * r"\0" + r"\24\0\0\0\140\352\0\0"
NO_REPEAT = f"for e in /dev/input/event*; do printf '{_EVENT}' >$e; done"


def absolute(at: int, size: int) -> int:
    """Where a pixel is on the tablet."""
    return round(at * ABSOLUTE_MAX / (size - 1))


@pytest.mark.parametrize("way", WAYS)
def test_viewer_shows_the_picture_types_and_points(screen: XScreen, way: str, tmp_path: Path) -> None:
    display, options, security = WAYS[way]
    make_secrets(tmp_path)
    words = ("--net", "none", "--name", "viewed", "--append", "console=tty0 console=hvc0 vt.handoff=1")
    image, log = find_image("aarch64", "trixie"), tmp_path / "viewer.log"
    with running(image, tmp_path, "--display", display.format(tmp_path), *words) as guest:
        told = until("the port", lambda: re.search(r"VNC: 127\.0\.0\.1:(\d+)", guest.terminal.error_text()))
        screen.do("mousemove", *AWAY)  # its cursor is part of the picture
        chosen = [option.format(tmp_path) for option in options]
        with viewer(screen, log, f"localhost::{told[1]}", PASSWORD, *chosen):
            # No cursor that blinks.
            guest.run("printf '\\033[?25l' >/dev/tty1; (echo Seen-by-a-viewer; ls /bin) >/dev/tty1")
            width, height, truth = screenshot(guest, tmp_path)
            assert sum(value > 0x80 for value in truth) > 9000  # there are letters
            window, corner = screen.window("viewed - TigerVNC")
            until("the same picture", lambda: same(screen, corner, screenshot(guest, tmp_path)))
            assert security in log.read_text()

            guest.run(f"{NO_REPEAT}; head -n 1 </dev/tty1 >/tmp/typed &")
            screen.do("windowfocus", "--sync", window)  # there is no window manager
            screen.do("type", "--delay", 50, "Typed-here")
            screen.do("key", "Return")
            until("the line", lambda: guest.run("cat /tmp/typed") == "Typed-here")

            tablet = Listener(guest, "tablet")
            screen.do("mousemove", corner[0] + 700, corner[1] + 300, "click", 1)
            here = [
                (EV_KEY, BTN_LEFT, 1),
                (EV_ABS, ABS_X, absolute(700, width)),
                (EV_ABS, ABS_Y, absolute(300, height)),
            ]
            until("the pointer", lambda: {*here} <= {*tablet.events()})
