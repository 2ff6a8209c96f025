# SPDX-License-Identifier: MIT
"""Files that a person drops on the screen: from the host into the guest, a stream each."""

from __future__ import annotations

import enum
from typing import Final, Protocol

from vdesktop_core.errors import VdesktopError

#: Bytes of a file's name in UTF-8, at most: what Linux's file systems take.
NAME_BYTES: Final = 255


class DropFailure(enum.StrEnum):
    """Why a file did not get there."""

    OFF = "off"  #: the machine's configuration or the guest's does not allow it
    NO_AGENT = "no agent"  #: the guest has none that takes files, or it went away
    BUSY = "busy"  #: too many transfers at a time
    CANCELLED = "cancelled"  #: by the guest
    NO_SPACE = "no space"  #: the guest's disk is full
    LOCKED = "locked"  #: the guest's session is locked
    ERROR = "error"  #: the guest could not write it, or broke the protocol
    SIZE = "size"  #: the sender gave more or fewer bytes than it had said


class FileDropError(VdesktopError):
    """A file did not get there. The message is a line for a person.

    Attributes:
        failure: why, for a program.
    """

    def __init__(self, failure: DropFailure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class FileTransfer(Protocol):
    """One file on its way. Control loop only."""

    @property
    def size(self) -> int:
        """Bytes it will have."""
        ...

    @property
    def sent(self) -> int:
        """Bytes on their way or there: how far it is."""
        ...

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send more of it, any number of bytes. Returns when there is room for more, so it sets the pace.

        Raises:
            FileDropError: the guest ended the transfer, or this is more than ``size``; it is over.
        """
        ...

    async def finish(self) -> None:
        """Wait until the guest says that it has the whole file.

        Raises:
            FileDropError: it has not; the transfer is over.
        """
        ...

    def cancel(self) -> None:
        """Give up: the guest removes what it has. Idempotent, and of no effect after the end."""
        ...


class FileDrop(Protocol):
    """A guest that files can be dropped into. Control loop only."""

    @property
    def ready(self) -> bool:
        """Whether there is somebody in the guest now who takes files."""
        ...

    async def start(self, name: str, size: int) -> FileTransfer:
        """Offer a file to the guest and wait for its consent.

        Args:
            name: what the file is called. Folders before it are taken off, and what no file's name can
                have is replaced: it may come from a web page as it is.
            size: bytes it has, 0 or more.

        Raises:
            FileDropError: the guest does not take it.
        """
        ...
