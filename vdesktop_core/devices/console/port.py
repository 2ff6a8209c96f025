# SPDX-License-Identifier: MIT
"""What stands behind a console port: the contract of console backends.

A console backend is named in ``--console NAME[:ARGUMENT]`` and registered by
the hook ``vdesktop_console_backends``. It gives file descriptors; the data
plane reads and writes them on its own thread, and Python sees no byte.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Protocol

from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Ctrl-], and the key that makes it mean "quit". Ctrl-] twice sends one; before any other key it is dropped.
ESCAPE, ESCAPE_THEN = 0x1D, ord("q")
_SPEC = re.compile(r"([A-Za-z0-9_-]+)(?:[:,](.*))?", re.DOTALL)


class ConsolePort:
    """An opened end of a console port. Derive from it to free more at the end.

    Descriptors are ``O_NONBLOCK`` unless they are regular files, and owned by
    this object; the data plane duplicates them.

    Attributes:
        read_fd: what the host says to the guest, or -1.
        write_fd: what the guest says to the host, or -1.
        listen_fd: a listening stream socket whose clients take turns, or -1.
        lossy: drop output while nobody reads, instead of making the guest wait.
        escape_fd: an eventfd that is written when a person types ESCAPE and ESCAPE_THEN, or -1.
        session_fd: an eventfd that is written when the guest opens or closes the port, or -1.
    """

    def __init__(
        self,
        read_fd: int = -1,
        write_fd: int = -1,
        *,
        listen_fd: int = -1,
        lossy: bool = False,
        escape_fd: int = -1,
        session_fd: int = -1,
    ) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.listen_fd = listen_fd
        self.lossy = lossy
        self.escape_fd = escape_fd
        self.session_fd = session_fd

    def size(self) -> tuple[int, int] | None:
        """Return columns and rows, or None where that means nothing."""
        return None

    def on_resize(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called on the main thread when :meth:`size` may have changed."""

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        for fd in {self.read_fd, self.write_fd, self.listen_fd} - {-1}:
            os.close(fd)
        self.read_fd = self.write_fd = self.listen_fd = -1


class ConsoleBackend(Protocol):
    """A way to connect a console port to the host."""

    name: str

    def open(self, argument: str) -> ConsolePort:
        """Open it. ``argument`` is what follows the name and a colon or comma, or empty.

        Raises:
            ConfigError: the argument makes no sense.
            DeviceError: the host refuses.
        """
        ...


def split_spec(spec: str) -> tuple[str, str]:
    """Return the name and the argument of ``NAME[:ARGUMENT]`` or ``NAME[,ARGUMENT]``.

    Raises:
        ConfigError: no name.
    """
    match = _SPEC.fullmatch(spec)
    if not match:
        raise ConfigError(f"console {spec!r}: write a name, such as stdio, file:PATH, pty or socket:PATH")
    return match[1], match[2] or ""


def open_console(spec: str, backends: Mapping[str, ConsoleBackend]) -> ConsolePort:
    """Open what a specification names.

    Raises:
        ConfigError: unknown name, or an argument that makes no sense.
        DeviceError: the host refuses.
    """
    name, argument = split_spec(spec)
    backend = backends.get(name)
    if backend is None:
        raise ConfigError(f"unknown console {name!r}: installed are {', '.join(backends)}")
    return backend.open(argument)
