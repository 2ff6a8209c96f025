# SPDX-License-Identifier: MIT
"""A guest under test: ``vdesktop run`` on a terminal, with a shell that runs one command after another."""

from __future__ import annotations

import contextlib
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
#: From the first instruction to the shell. Far more than it takes: no test is about time.
BOOT_SECONDS = 240
#: Read lines and run them, without echo and line editing, so that a command and its output cannot mix.
#: The status is kept in s: the next read has one of its own. The kernel is silent from here on:
#: a message of its own would part a line from its end.
_LOOP = 'dmesg -n 1; stty -echo; PS1=; while read -r l; do eval "$l"; s=$?; done'


def vdesktop(*arguments: str | Path) -> list[str]:
    """The command of the installation under test."""
    return [str(Path(sys.executable).with_name("vdesktop")), *map(str, arguments)]


@dataclass(frozen=True)
class Image:
    """A built guest. The folder is shared: nothing may write to it."""

    arch: str
    suite: str
    folder: Path
    backend: str = "tcg"  #: what it is to be booted on

    @property
    def name(self) -> str:
        return f"{self.arch}-{self.suite}"


def find_image(arch: str, suite: str, backend: str = "tcg") -> Image:
    """Return a guest that was built; skip the test where it was not."""
    folder = ROOT / ".cache/guests" / f"{arch}-{suite}"
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"no guest in {folder}: make guest ARCH={arch} SUITE={suite}")
    return Image(arch, suite, folder, backend)


class Guest:
    """A running guest. ``options`` are those of ``vdesktop run``, ``machine`` another file."""

    def __init__(
        self, image: Image, scratch: Path, options: Sequence[str | Path] = (), machine: Path | None = None
    ) -> None:
        self.image = image
        self._number = 0
        command = vdesktop(
            "run", machine or image.folder / "machine.toml", "--backend", image.backend, *options
        )
        #: Control sockets of its own: tests of several checkouts may run at a time.
        self.variables = {"XDG_RUNTIME_DIR": str(scratch)}
        self.terminal = Terminal(command, scratch / "stderr", variables=self.variables)

    def boot(self) -> None:
        """Wait for the init script's line, then for the shell, and make it ours."""
        # Others than the software CPU may be in a rig, on an emulated processor.
        patience = BOOT_SECONDS * (1 if self.image.backend == "tcg" else 2)
        self.terminal.expect(r"vdesktop-guest: ready uptime=[\d.]+", patience)
        self.terminal.expect(r"vdesktop:\S*# ", patience)
        self.terminal.send(_LOOP.encode() + b"\r")
        self.run("true")

    def run(self, command: str, *, timeout: float = 180, check: bool = True) -> str:
        """Run a command line in the guest and return its output, without carriage returns."""
        self._number += 1
        mark = f"{self._number:04}"
        # The quotes keep an echo of the line from looking like its result.
        line = f'echo "<<""{mark}>>"; {command}\necho "<<""{mark}:$s>>"\n'
        self.terminal.send(line.encode())
        self.terminal.expect(f"<<{mark}>>\r*\n", timeout)
        start = self.terminal.position
        end = self.terminal.expect(f"<<{mark}:(\\d+)>>\r*\n", timeout)
        output = self.terminal.transcript[start : end.start()].decode("utf-8", "replace").replace("\r", "")
        if check and end[1] != b"0":
            self.terminal.fail(f"{command!r} ended with {int(end[1])} and said: {output}")
        return output.removesuffix("\n")

    def network(self) -> None:
        """Wait until the guest has an address."""
        self.until("ip -4 addr show dev eth0 | grep -q 'inet '")

    def until(self, condition: str) -> None:
        """Wait until a command succeeds in the guest; fail after 30 s of its time."""
        self.run(
            f"n=0; until {condition}; do [ $((n+=1)) -lt 300 ] || break; usleep 100000; done; {condition}"
        )

    def power_off(self) -> int:
        """Power off as a person would, and return vdesktop's status."""
        self.terminal.send(b"poweroff\n")
        return self.terminal.wait()


@contextlib.contextmanager
def running(
    image: Image, scratch: Path, *options: str | Path, machine: Path | None = None
) -> Iterator[Guest]:
    """A guest that is booted to its shell, and ended afterwards in any case."""
    guest = Guest(image, scratch, options, machine)
    try:
        guest.boot()
        yield guest
    finally:
        guest.terminal.close()


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Equipped:
    """A booted guest with one of everything, and what the host knows of it."""

    def __init__(self, guest: Guest, disk: Path, readonly: Path, port: int) -> None:
        self.guest = guest
        self.disk = disk
        self.readonly = readonly
        self.port = port
