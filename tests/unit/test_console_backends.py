# SPDX-License-Identifier: MIT
"""What console ports are connected to: terminal, pty, socket, file, none."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.devices.console import CONSOLE_BACKENDS, ConsoleConfig, PortConfig, parse_console
from vdesktop_core.devices.console.port import open_console, split_spec
from vdesktop_core.errors import ConfigError, DeviceError, VdesktopError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BACKENDS = {backend.name: backend for backend in CONSOLE_BACKENDS}
PATIENCE = 60.0

CHILD = """
import os, signal, sys, time
from vdesktop_core.devices.console import CONSOLE_BACKENDS
port = CONSOLE_BACKENDS[0].open("")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it, as nohup does
signal.signal(signal.SIGINT, lambda *_: (os.write(1, b"INT"), port.close(), os._exit(0)))
port.on_resize(lambda: os.write(1, repr(port.size()).encode()))
os.write(1, b"READY")
what = sys.stdin.readline() if len(sys.argv) < 2 else sys.argv[1]
if what == "close":
    port.close()
elif what == "exit":
    sys.exit(3)
elif what == "escape":
    os.eventfd_write(port.escape_fd, 1)
    while True:
        time.sleep(0.01)
elif what == "crash":
    os.abort()
else:
    while True:  # not pause(): a signal just before it would be heard only after the next one
        time.sleep(0.01)
"""


class Terminal:
    """A pseudo terminal with a process in it."""

    def __init__(self, ending: str) -> None:
        self.master, self.slave = os.openpty()
        os.set_blocking(self.master, False)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, ending],
            stdin=self.slave,
            stdout=self.slave,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.expect(b"READY")

    def expect(self, text: bytes) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            try:
                self.seen += os.read(self.master, 4096)
            except BlockingIOError:
                time.sleep(0.002)

    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def restored(self) -> bool:
        """Wait for the terminal to be as it was."""
        deadline = time.monotonic() + PATIENCE
        while termios.tcgetattr(self.slave) != self.before:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for each in made:
        each.close()


def start(terminal: list[Terminal], ending: str = "wait") -> Terminal:
    terminal.append(Terminal(ending))
    return terminal[-1]


# stdio


@pytest.mark.parametrize(("ending", "status"), [("close", 0), ("exit", 3), ("crash", -signal.SIGABRT)])
def test_terminal_after_any_end_is_restored(terminal: list[Terminal], ending: str, status: int) -> None:
    each = start(terminal, ending)
    assert each.process.wait(PATIENCE) == status
    assert each.restored()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP])
def test_terminal_after_a_deadly_signal_is_restored(terminal: list[Terminal], number: int) -> None:
    each = start(terminal)
    assert each.raw()
    each.process.send_signal(number)
    assert each.process.wait(PATIENCE) == -number
    assert each.restored()


def test_terminal_escape_interrupts_and_restores(terminal: list[Terminal]) -> None:
    each = start(terminal, "escape")
    each.expect(b"INT")
    assert each.process.wait(PATIENCE) == 0
    assert each.restored()


def test_terminal_resize_is_told(terminal: list[Terminal]) -> None:
    each = start(terminal)
    fcntl.ioctl(each.master, termios.TIOCSWINSZ, struct.pack("HHHH", 43, 132, 0, 0))
    each.process.send_signal(signal.SIGWINCH)
    each.expect(b"(132, 43)")


def test_terminal_after_stop_and_continue_is_raw_again(terminal: list[Terminal]) -> None:
    each = start(terminal)
    each.process.send_signal(signal.SIGSTOP)
    os.waitpid(each.process.pid, os.WUNTRACED)
    termios.tcsetattr(each.slave, termios.TCSANOW, each.before)  # as the shell does
    each.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + PATIENCE
    while not each.raw():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_terminal_settings_of_other_processes_stay_blocking(terminal: list[Terminal]) -> None:
    each = start(terminal)
    assert os.get_blocking(each.slave)  # the same open file as the child's standard streams


def test_stdio_without_a_terminal_is_used_as_it_is() -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            CHILD.replace("what =", "os.write(port.write_fd, os.read(port.read_fd, 9)); what =", 1),
            "close",
        ],
        input=b"from pipe",
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert run.stdout == b"READYfrom pipe"


def test_stdio_appending_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before ")
    with path.open("ab") as file:
        subprocess.run(
            [
                sys.executable,
                "-c",
                CHILD.replace("what =", "os.write(port.write_fd, b' after'); what =", 1),
                "close",
            ],
            stdin=subprocess.DEVNULL,
            stdout=file,
            check=True,
            timeout=PATIENCE,
        )
    assert path.read_bytes() == b"before READY after"


# The others


def test_pty_tells_its_path_links_it_and_carries_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "console"
    link.symlink_to("/nowhere")
    port = open_console(f"pty,link={link}", BACKENDS)
    path = link.readlink()
    assert f"console on {path}" in capsys.readouterr().err
    os.write(port.write_fd, b"early\n")
    # Not as a controlling terminal: its end would be the end of a test run that leads a session.
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    with open(descriptor, "r+b", buffering=0) as terminal:  # noqa: PTH123
        assert terminal.read(6) == b"early\n"
        terminal.write(b"typed")
        assert os.read(port.read_fd, 100) == b"typed"
    with pytest.raises(BlockingIOError):  # and nothing was echoed, nor is it hung up
        os.read(port.read_fd, 100)
    port.close()
    port.close()
    assert not link.is_symlink()


def test_socket_stale_is_replaced_and_served_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "console"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    port = open_console(f"socket:{path}", BACKENDS)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(DeviceError, match="in use"):
        open_console(f"socket:{path}", BACKENDS)
    port.close()
    assert not path.exists()


def test_socket_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("keep")
    with pytest.raises(DeviceError):
        open_console(f"socket:{path}", BACKENDS)
    assert path.read_text() == "keep"


def test_file_is_truncated_and_written(tmp_path: Path) -> None:
    path = tmp_path / "out,put"
    path.write_text("old contents")
    port = open_console(f"file:{path}", BACKENDS)
    os.write(port.write_fd, b"new")
    port.close()
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    "spec",
    ["", ":", "nosuch", "stdio:x", "none:x", "file", "file:/no/such/folder/f", "file:/", "pty:x", "pty,link=",
     "pty,link=/no/such/folder/l", "socket", "socket:/no/such/folder/s", "socket:" + "x" * 200],
)  # fmt: skip
def test_specification_wrong_is_told_in_one_line(spec: str) -> None:
    with pytest.raises(VdesktopError) as error:
        open_console(spec, BACKENDS)
    assert "\n" not in str(error.value)
    assert "console" in str(error.value)


def test_specification_splits_name_and_argument() -> None:
    assert split_spec("stdio") == ("stdio", "")
    assert split_spec("file:/a:b,c") == ("file", "/a:b,c")
    assert split_spec("pty,link=/x") == ("pty", "link=/x")
    assert parse_console("none").ports == (PortConfig(backend="none"),)


@pytest.mark.parametrize("count", [0, 32])
def test_ports_too_many_or_none_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="1 to 31"):
        ConsoleConfig(ports=(PortConfig(),) * count)


def test_max_ports_below_the_ports_is_refused() -> None:
    with pytest.raises(ConfigError):
        ConsoleConfig(ports=(PortConfig(), PortConfig()), max_ports=1)


@pytest.mark.parametrize("name", ["x" * 64, "a\nb"])
def test_port_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="port name"):
        PortConfig(name=name)
