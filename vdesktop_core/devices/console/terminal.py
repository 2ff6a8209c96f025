# SPDX-License-Identifier: MIT
"""``--console stdio``: the terminal this process runs in, or whatever its standard streams are."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import signal
import stat
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any

from vdesktop_core.devices.console.port import ConsolePort
from vdesktop_core.errors import ConfigError
from vdesktop_core.host import wait_for_event

if TYPE_CHECKING:
    from collections.abc import Callable

STDIN, STDOUT = 0, 1

#: Puts the terminal back when this process is gone without having said "done" (killed, crashed).
_GUARD = 'trap "" TTOU INT TERM HUP QUIT; read -r word; [ "$word" = done ] || stty "$1" <&"$2"'


class RawTerminal:
    """A terminal in raw mode, every key the guest's, until :meth:`restore`.

    It is restored by :meth:`restore`, at interpreter exit, and, if this process
    is killed or crashes, by a small guardian process.
    """

    def __init__(self, fd: int) -> None:
        self._saved = termios.tcgetattr(fd)
        encoded = subprocess.run(["stty", "-g"], stdin=fd, capture_output=True, check=True).stdout
        self._fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "vdesktop-terminal-guard", encoded.decode().strip(), str(self._fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._fd],
        )
        self._restored = False
        atexit.register(self.restore)
        self.enter()

    def enter(self) -> None:
        """Set raw mode. Output processing stays on: this process's own messages are lines."""
        mode: list[Any] = termios.tcgetattr(self._fd)
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)

    def restore(self) -> None:
        """Put the terminal back as it was. Idempotent."""
        if self._restored:
            return
        self._restored = True
        atexit.unregister(self.restore)
        with contextlib.suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
        with contextlib.suppress(BrokenPipeError):
            self._guard.communicate(b"done\n")
        os.close(self._fd)


class EscapeWatch:
    """Sends this process SIGINT when a person types the escape: as Ctrl-C does, which is the guest's."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="vd-escape", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while wait_for_event(self.fd) and not self._closing:
            os.kill(os.getpid(), signal.SIGINT)

    def close(self) -> None:
        """End the thread. Idempotent."""
        if not self._closing:
            self._closing = True
            os.eventfd_write(self.fd, 1)
            self._thread.join()
            os.close(self.fd)


def open_own(fd: int, flags: int) -> tuple[int, Callable[[], None]]:
    """Return a non-blocking descriptor for what ``fd`` is, and what undoes it.

    ``O_NONBLOCK`` belongs to the open file, which other processes share (the
    shell, a pipeline): so terminals and pipes are opened anew. What cannot be is
    set non-blocking and set back at the end. Regular files never block.
    """
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3), lambda: None
    try:
        return os.open(
            f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        ), lambda: None
    except OSError:
        own = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        if not os.get_blocking(fd):
            return own, lambda: None
        os.set_blocking(fd, False)
        return own, lambda: os.set_blocking(fd, True)


def on_signal(number: int, function: Callable[[], None], stack: contextlib.ExitStack) -> None:
    """Call ``function`` on a signal until the stack is closed. Only on the main thread: others do without."""
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(number, lambda *_: function())
        stack.callback(signal.signal, number, before)


class StdioPort(ConsolePort):
    """Standard input and output; raw while open if they are a terminal."""

    def __init__(self, *, keyboard: bool) -> None:
        with contextlib.ExitStack() as stack:
            read_fd = -1
            if keyboard:
                read_fd, undo = open_own(STDIN, os.O_RDONLY)
                stack.callback(undo)
            write_fd, undo = open_own(STDOUT, os.O_WRONLY)
            stack.callback(undo)
            raw = keyboard and os.isatty(STDIN)
            super().__init__(read_fd, write_fd)
            self.has_keyboard = keyboard
            stack.callback(super().close)
            if raw:
                self.escape_fd = stack.enter_context(contextlib.closing(EscapeWatch())).fd
                terminal = RawTerminal(STDIN)
                stack.callback(terminal.restore)
                on_signal(signal.SIGCONT, terminal.enter, stack)
            self._stack = stack.pop_all()

    def size(self) -> tuple[int, int] | None:
        """Return the terminal's columns and rows, or None without a terminal."""
        try:
            size = os.get_terminal_size(STDOUT)
        except OSError:
            return None
        return (size.columns, size.lines) if size.columns and size.lines else None

    def on_resize(self, changed: Callable[[], None]) -> None:
        """Follow SIGWINCH, where this is the main thread."""
        if os.isatty(STDOUT):
            on_signal(signal.SIGWINCH, changed, self._stack)

    def close(self) -> None:
        """Restore the terminal and close. Idempotent."""
        self._stack.close()


class StdioBackend:
    """``stdio``: the first port that opens it has the keyboard, all have the screen."""

    name = "stdio"

    def __init__(self) -> None:
        self._ports: list[StdioPort] = []

    def open(self, argument: str) -> ConsolePort:
        """See ConsoleBackend. Takes no argument."""
        if argument:
            raise ConfigError(f"console stdio takes no argument, not {argument!r}")
        taken = any(port.has_keyboard and port.write_fd >= 0 for port in self._ports)
        port = StdioPort(keyboard=not taken)
        self._ports = [*(other for other in self._ports if other.write_fd >= 0), port]
        return port


def tell(line: str) -> None:
    """Tell the person at this process one line."""
    sys.stderr.write(f"vdesktop: {line}\n")
    sys.stderr.flush()
