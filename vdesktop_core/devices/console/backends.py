# SPDX-License-Identifier: MIT
"""Console backends other than the terminal: ``file``, ``pty``, ``socket``, ``none``."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tty
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.devices.console.port import ConsolePort
from vdesktop_core.devices.console.terminal import StdioBackend, tell
from vdesktop_core.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from vdesktop_core.devices.console.port import ConsoleBackend


class FileBackend:
    """``file:PATH``: output into a file, which is truncated first."""

    name = "file"

    def open(self, argument: str) -> ConsolePort:
        """See ConsoleBackend."""
        if not argument:
            raise ConfigError("console file needs a path: file:PATH")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return ConsolePort(write_fd=os.open(argument, flags, 0o644))
        except OSError as error:
            raise DeviceError(f"cannot open the console file {argument}: {error.strerror}") from error


class PtyPort(ConsolePort):
    """A pseudo terminal. Output that nobody reads is dropped.

    The guest's side is kept open here as well, so that a program may attach,
    leave and attach again; and it is raw, so that nothing echoes before one does.
    """

    def __init__(self, link: str) -> None:
        with contextlib.ExitStack() as stack:
            master, slave = os.openpty()
            os.set_blocking(master, False)
            super().__init__(master, master, lossy=True)
            stack.callback(super().close)
            stack.callback(os.close, slave)
            tty.setraw(slave)
            self.path = os.ttyname(slave)
            if link:
                self._make_link(Path(link))
                stack.callback(Path(link).unlink, missing_ok=True)
            self._stack = stack.pop_all()

    def _make_link(self, link: Path) -> None:
        try:
            if link.is_symlink():
                link.unlink()
            link.symlink_to(self.path)
        except OSError as error:
            raise DeviceError(f"cannot link the console's pty to {link}: {error.strerror}") from error

    def close(self) -> None:
        """Take the link away and close. Idempotent."""
        self._stack.close()


class PtyBackend:
    """``pty[,link=PATH]``: prints the pseudo terminal's path, and links it to PATH."""

    name = "pty"

    def open(self, argument: str) -> ConsolePort:
        """See ConsoleBackend."""
        key, _, link = argument.partition("=")
        if argument and (key != "link" or not link):
            raise ConfigError(f"console pty: {argument!r} is not link=PATH")
        try:
            port = PtyPort(link)
        except OSError as error:
            raise DeviceError(f"cannot open a pty for the console: {error.strerror}") from error
        tell(f"console on {port.path}")
        return port


class SocketPort(ConsolePort):
    """A listening socket; its clients take turns, each until it leaves."""

    def __init__(self, listener: socket.socket, path: Path) -> None:
        super().__init__(listen_fd=listener.detach(), lossy=True)
        self._path = path

    def close(self) -> None:
        """Close and remove the socket. Idempotent."""
        if self.listen_fd >= 0:
            self._path.unlink(missing_ok=True)
        super().close()


class SocketBackend:
    """``socket:PATH``: a listening unix stream socket, for the user who runs the machine only."""

    name = "socket"

    def open(self, argument: str) -> ConsolePort:
        """See ConsoleBackend. A socket that no process serves any more is replaced."""
        if not argument:
            raise ConfigError("console socket needs a path: socket:PATH")
        path = Path(argument)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._remove_stale(path)
            mask = os.umask(0o177)
            try:
                listener.bind(argument)
            finally:
                os.umask(mask)
            listener.listen(4)
        except OSError as error:
            listener.close()
            raise DeviceError(
                f"cannot listen on the console socket {path}: {error.strerror or error}"
            ) from error
        return SocketPort(listener, path)

    def _remove_stale(self, path: Path) -> None:
        if not path.is_socket():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(str(path)) == errno.ECONNREFUSED:
                path.unlink(missing_ok=True)


class NoneBackend:
    """``none``: output is dropped, there is no input."""

    name = "none"

    def open(self, argument: str) -> ConsolePort:
        """See ConsoleBackend. Takes no argument."""
        if argument:
            raise ConfigError(f"console none takes no argument, not {argument!r}")
        return ConsolePort()


CONSOLE_BACKENDS: list[ConsoleBackend] = [
    StdioBackend(),
    FileBackend(),
    PtyBackend(),
    SocketBackend(),
    NoneBackend(),
]
