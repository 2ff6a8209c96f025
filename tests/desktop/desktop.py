# SPDX-License-Identifier: MIT
"""A booted desktop under test: the machine in this process, a root shell in it, and what a viewer has.

The machine runs on an event loop and a thread of its own, so tests may be of any kind: plain functions, or
coroutines on another loop, or those of a browser's driver.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import secrets
import select
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pytest
from guest import free_port

from vdesktop_core import config as configuration
from vdesktop_core.devices.console import parse_console
from vdesktop_core.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from vdesktop_core.display.clipboard import Clipboard
    from vdesktop_core.display.files import FileDrop

ROOT = Path(__file__).parents[2]
#: From the first instruction to the desktop. Far more than it takes: no test is about time.
BOOT_SECONDS = 900
PATIENCE = 120
_SHOWN = 4000
#: A shell of the desktop's user, with its screen.
_USER = (
    "runuser -u user -- env HOME=/home/user DISPLAY=:0 XAUTHORITY=/home/user/.Xauthority "
    "XDG_RUNTIME_DIR=/run/user/1000 sh -c "
)
#: Read lines and run them, without echo and line editing, so that a command and its output cannot mix.
_LOOP = 'stty -echo; PS1=; while read -r l; do eval "$l"; s=$?; done'
_DEVICES = ("gpu", "agent", *({"kind": kind} for kind in ("keyboard", "tablet", "touch")))
T = TypeVar("T")


def find_desktop(arch: str) -> Path:
    """Return the folder of a desktop that was built; skip the test where it was not."""
    folder = ROOT / ".cache/guests" / f"{arch}-trixie-desktop"
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"no desktop in {folder}: make guest ARCH={arch} FLAVOUR=desktop")
    return folder


class Shell:
    """A root shell at the guest's first virtio console, one command after another."""

    def __init__(self, path: Path) -> None:
        self.transcript = bytearray()
        self._number = 0
        self._from = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))

    def boot(self) -> None:
        """Wait for the login and make the shell ours."""
        self.expect(r"root@\S+# ", BOOT_SECONDS)
        self._socket.sendall(_LOOP.encode() + b"\r")
        self.run("true")

    def run(self, command: str, *, timeout: float = PATIENCE, check: bool = True) -> str:
        """Run a command line and return its output."""
        self._number += 1
        mark = f"{self._number:04}"
        line = f'echo "<<""{mark}>>"; {command}\necho "<<""{mark}:$s>>"\n'
        self._socket.sendall(line.encode())
        self.expect(f"<<{mark}>>\r*\n", timeout)
        start = self._from
        end = self.expect(f"<<{mark}:(\\d+)>>\r*\n", timeout)
        output = self.transcript[start : end.start()].decode("utf-8", "replace").replace("\r", "")
        if check and end[1] != b"0":
            self.fail(f"{command!r} ended with {int(end[1])} and said: {output}")
        return output.removesuffix("\n")

    def expect(self, pattern: str, timeout: float) -> re.Match[bytes]:
        """Read until a pattern comes; what comes after it is for the next call."""
        wanted = re.compile(pattern.encode())
        end = time.monotonic() + timeout
        while not (match := wanted.search(self.transcript, self._from)):
            if time.monotonic() > end:
                self.fail(f"{pattern!r} did not come within {timeout} s")
            if select.select([self._socket], [], [], 1)[0]:
                data = self._socket.recv(65536)
                if not data:
                    self.fail(f"the console closed before {pattern!r} came")
                self.transcript += data
        self._from = match.end()
        return match

    def close(self) -> None:
        self._socket.close()

    def fail(self, reason: str) -> None:
        """Fail the test, with what was seen."""
        text = self.transcript[-_SHOWN:].decode("utf-8", "backslashreplace").replace("\r", "")
        raise AssertionError(f"{reason}\n--- end of the transcript ---\n{text}")


class BootedDesktop:
    """A machine with a Debian desktop on it, until the context ends.

    Args:
        arch: whose.
        folder: scratch; gets a copy of the disk.

    Attributes:
        address: where a browser sees it.
    """

    def __init__(self, arch: str, folder: Path) -> None:
        self.arch = arch
        token, port = secrets.token_urlsafe(), free_port()
        (folder / "token").write_text(token)
        self.address = f"http://127.0.0.1:{port}/{token}/"
        source = find_desktop(arch)
        disk, console = folder / "disk.img", folder / "console"
        subprocess.run(["cp", "--sparse=always", source / "disk.img", disk], check=True)
        loaded = configuration.load(source / "machine.toml")
        self.config = msgspec.structs.replace(
            loaded,
            display=f"web:{port},token-file={folder / 'token'}",
            devices=(
                parse_console(f"socket:{console}"),
                {"type": "blk", "path": str(disk)},
                *({"type": d} if isinstance(d, str) else {"type": "input", **d} for d in _DEVICES),
                {"type": "rng"},
            ),
        )
        self.machine = Machine(self.config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="machine", daemon=True)
        self._thread.start()
        try:
            self.call(self.machine.start())
            self.shell = Shell(console)
        except BaseException:
            self.close()
            raise

    def call(self, work: Coroutine[Any, Any, T], timeout: float = PATIENCE) -> T:
        """Run a coroutine on the machine's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def do(self, function: Callable[[], T]) -> T:
        """Run a function on the machine's loop: displays, clipboards and inputs belong to it."""

        async def call() -> T:
            return function()

        return self.call(call())

    def boot(self) -> None:
        """Wait for the agent, which comes last, then for the shell and the window manager."""
        # Looked at from here: what a guest is asked meanwhile would take its time.
        self.wait(lambda: self.file_drop.ready, "the guest's agent", BOOT_SECONDS)
        self.shell.boot()
        self.until(f"{self.as_user('xprop -root _NET_SUPPORTING_WM_CHECK')} | grep -q 0x", BOOT_SECONDS)

    @property
    def clipboard(self) -> Clipboard:
        return self.machine.desktop.clipboards[0]

    @property
    def file_drop(self) -> FileDrop:
        return self.machine.desktop.file_drops[0]

    def run(self, command: str, **options: Any) -> str:
        """Run a command line as root."""
        return self.shell.run(command, **options)

    def as_user(self, command: str) -> str:
        """The command line that runs another one as the desktop's user, with its screen."""
        return _USER + shlex.quote(command)

    def until(self, condition: str, seconds: float = PATIENCE) -> None:
        """Wait until a command succeeds in the guest; fail after so many seconds of its time."""
        now = "cut -d. -f1 /proc/uptime"
        # Bounded by the guest's clock, tried once at least; the host's time-out is for a guest that hangs.
        loop = (
            f"end=$(($({now}) + {int(seconds)})); "
            f"until {condition} 2>/dev/null; do [ $({now}) -lt $end ] || break; sleep 0.3; done"
        )
        self.run(f"{loop}; {condition}", timeout=4 * seconds + PATIENCE)

    def wait(self, condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
        """Wait until a function of the machine's loop returns something."""
        end = time.monotonic() + seconds
        while not (found := self.do(condition)):
            if time.monotonic() > end:
                self.shell.fail(f"{what} did not come within {seconds} s")
            time.sleep(0.1)
        return found

    def put(self, path: str, content: bytes) -> None:
        """Make a file in the guest, through the shell: small ones only."""
        text = base64.b64encode(content).decode()
        self.run(f": >{path}.b64")
        for at in range(0, len(text), 2000):
            self.run(f"echo {text[at : at + 2000]} >>{path}.b64")
        self.run(f"base64 -d {path}.b64 >{path} && chmod 644 {path}")

    def sha256(self, command: str) -> str:
        """The checksum of what a command of the desktop's user writes."""
        return self.run(f"{self.as_user(command)} | sha256sum").split()[0]

    def picture(self) -> tuple[int, int, bytes]:
        """Width, height and RGB rows of the screen."""
        from vdesktop_core.display.screen import read_rgb

        def take() -> tuple[int, int, bytes] | None:
            with contextlib.closing(self.machine.desktop.screens[0].scanouts[0].view()) as viewing:
                surface = viewing.take().surface
                if surface is None:
                    return None
                with contextlib.closing(surface):
                    return surface.width, surface.height, read_rgb(surface)

        return self.wait(take, "a picture")

    def close(self) -> None:
        """End the machine and its thread."""
        if hasattr(self, "shell"):
            self.shell.close()
        self.call(self.machine.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def booted(arch: str) -> Iterator[BootedDesktop]:
    """A desktop that is booted to its window manager and agent, and ended afterwards in any case."""
    folder = Path(tempfile.mkdtemp(prefix=f"desktop-{arch}-"))
    try:
        with contextlib.closing(BootedDesktop(arch, folder)) as desktop:
            desktop.boot()
            yield desktop
    finally:
        shutil.rmtree(folder)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
