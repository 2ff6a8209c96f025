# SPDX-License-Identifier: MIT
"""Where control sockets lie, whose they are, and which of them are alive.

A machine *claims* its name by binding ``NAME.sock`` in a folder that only its
user can enter. A claim is a listening socket, so it ends with its process:
what a killed machine leaves behind refuses connections, and is removed by
whoever finds it. The folder is locked while that is done.

This module is all that a machine's start loads of the control socket.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".sock"
#: Connections that the kernel keeps until the control loop takes them.
BACKLOG = 16


def folder_path() -> Path:
    """Return the folder of this user's control sockets, which need not exist yet."""
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(base) / "vdesktop"
    user = os.geteuid()
    run = Path(f"/run/user/{user}")
    return run / "vdesktop" if run.is_dir() else Path(f"/tmp/vdesktop-{user}")  # noqa: S108  (checked by Folder)


def socket_path(name: str) -> Path:
    """Return where a machine of this name listens."""
    return folder_path() / f"{name}{SUFFIX}"


class NameTakenError(ControlError):
    """A machine of this name runs already."""


class Folder:
    """The open folder of this user's control sockets.

    Everything is done relative to its descriptor, so that nobody can exchange the
    folder in between, and so that its path may be of any length.

    Args:
        create: make it if it does not exist.

    Raises:
        ControlError: it cannot be made or opened, or another user could get in.
        FileNotFoundError: it does not exist, and ``create`` is False.
    """

    def __init__(self, *, create: bool) -> None:
        self.path = folder_path()
        try:
            if create:
                with contextlib.suppress(FileExistsError):
                    self.path.mkdir(mode=0o700)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                raise
            raise ControlError(
                f"cannot make {self.path}: its parent does not exist; correct XDG_RUNTIME_DIR, or "
                f"use --no-control"
            ) from None
        except OSError as error:
            raise ControlError(
                f"cannot open the folder of control sockets {self.path}: {error.strerror}; "
                f"remove it, or use --no-control"
            ) from error
        found = os.fstat(self._fd)
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid != os.geteuid() or mode & 0o077:
            os.close(self._fd)
            raise ControlError(
                f"{self.path} is not this user's alone (owner {found.st_uid}, mode {mode:o}): remove it, "
                f"or chmod 700 it"
            )

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from claiming and removing names."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def address(self, name: str) -> str:
        """Return a socket address of a name. ``sun_path`` has room for 107 bytes; this has always less."""
        return f"/proc/self/fd/{self._fd}/{name}{SUFFIX}"

    def names(self) -> list[str]:
        """Return all names that have a socket, dead ones too."""
        return sorted(
            entry.removesuffix(SUFFIX)
            for entry in os.listdir(self._fd)  # noqa: PTH208  (by descriptor)
            if entry.endswith(SUFFIX)
        )

    def connect(self, name: str, timeout: float) -> socket.socket:
        """Connect to a machine.

        Raises:
            OSError: nobody listens there (ENOENT, ECONNREFUSED), or it does not take the connection.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(self.address(name))
        except BaseException:
            connection.close()
            raise
        return connection

    def dead(self, name: str) -> bool:
        """Tell whether a name's socket has nobody who listens. Under :meth:`locked`."""
        try:
            # Not blocking: a backlog that is full is somebody's who lives.
            self.connect(name, 0).close()
        except OSError as error:
            return error.errno in {errno.ECONNREFUSED, errno.ENOENT}
        return False

    def remove(self, name: str) -> None:
        """Remove a name's socket. Under :meth:`locked`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{name}{SUFFIX}", dir_fd=self._fd)

    def identity(self, name: str) -> tuple[int, int]:
        """Return what tells a socket from its successor of the same name."""
        found = os.stat(f"{name}{SUFFIX}", dir_fd=self._fd, follow_symlinks=False)
        return found.st_dev, found.st_ino


class Claim:
    """A machine's name, and the socket that listens on it.

    Args:
        name: the machine's name, which is checked by its configuration.
        numbered: take ``NAME-2``, ``NAME-3`` … where the name is taken: for machines that nobody named.

    Raises:
        ControlError: a machine of this name runs already, or the socket cannot be made.
    """

    def __init__(self, name: str, *, numbered: bool = False) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._folder = Folder(create=True)
        except BaseException:
            self.socket.close()
            raise
        try:
            os.fchmod(self.socket.fileno(), 0o600)  # what bind() gives the file
            with self._folder.locked():
                self.name = self._bind(name, numbered=numbered)
                self._identity = self._folder.identity(self.name)
            self.socket.listen(BACKLOG)
        except BaseException as error:
            self.socket.close()
            self._folder.close()
            if isinstance(error, OSError):
                raise ControlError(
                    f"cannot make the control socket of {name!r} in {self._folder.path}: {error.strerror}; "
                    f"correct that, or use --no-control"
                ) from error
            raise

    def _bind(self, name: str, *, numbered: bool) -> str:
        number = 1
        while True:
            candidate = name if number == 1 else f"{name}-{number}"
            try:
                self.socket.bind(self._folder.address(candidate))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return candidate
            if self._folder.dead(candidate):
                self._folder.remove(candidate)
            elif numbered:
                number += 1
            else:
                raise NameTakenError(
                    f"a machine named {name!r} runs already: give this one another --name, or --no-control"
                )

    @property
    def path(self) -> Path:
        """Where clients find the socket."""
        return self._folder.path / f"{self.name}{SUFFIX}"

    def close(self) -> None:
        """Give the name back. Idempotent."""
        if self.socket.fileno() < 0:
            return
        with contextlib.suppress(OSError), self._folder.locked():
            if self._folder.identity(self.name) == self._identity:
                self._folder.remove(self.name)
        self.socket.close()
        self._folder.close()


def names() -> list[str]:
    """Return the machines of this user that run, and remove the sockets of those that were killed.

    Raises:
        ControlError: the folder is not this user's alone.
    """
    try:
        folder = Folder(create=False)
    except FileNotFoundError:
        return []
    with contextlib.closing(folder), folder.locked():
        living = []
        for name in folder.names():
            if folder.dead(name):
                folder.remove(name)
            else:
                living.append(name)
        return living
