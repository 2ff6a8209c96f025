# SPDX-License-Identifier: MIT
"""Files that are loaded into a guest: opened once, read by offset, never mapped.

A mapping would turn a file that somebody truncates meanwhile into a SIGBUS.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vdesktop_core.arch.boot import WritableMemory

#: Copies go through a buffer of this size, which stays in the host's cache.
_CHUNK = 256 << 10


class ImageFile:
    """A readable file of known size.

    Args:
        fd: owned by this object from now on.
        name: how errors call it.
        start: where in the file the image begins.
        size: bytes from there on.
    """

    def __init__(self, fd: int, name: str, size: int, start: int = 0) -> None:
        self._fd = fd
        self._start = start
        self.name = name
        self.size = size

    @classmethod
    def open(cls, path: Path, what: str, maximum: int) -> ImageFile:
        """Open a regular file of 1 to ``maximum`` bytes; ``what`` is "kernel" or "initrd".

        Raises:
            BootError: it cannot be opened, is no regular file, is empty or too large.
        """
        name = f"{what} {path}"
        try:
            # O_NONBLOCK: opening a FIFO must not hang.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BootError(f"{name}: cannot open it: {reason}") from error
        try:
            size = _checked_size(fd, name, maximum)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, name, size)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            BootError: the range is not in the file.
        """
        self._check(offset, size)
        data = bytearray(size)
        self._read_into(memoryview(data), offset)
        return bytes(data)

    def stat(self) -> os.stat_result:
        """Return what the host says of the file that the image is in."""
        return os.fstat(self._fd)

    def head(self, size: int) -> bytes:
        """Return the first ``size`` bytes, or all where there are fewer."""
        return self.read(0, min(size, self.size))

    def pieces(self, offset: int, size: int) -> Iterator[memoryview]:
        """Yield a range in pieces; each is valid until the next.

        Raises:
            BootError: the range is not in the file (any more).
        """
        self._check(offset, size)
        buffer = memoryview(bytearray(min(size, _CHUNK)))
        done = 0
        while done < size:
            piece = buffer[: min(size - done, _CHUNK)]
            self._read_into(piece, offset + done)
            yield piece
            done += len(piece)

    def copy_to(self, memory: WritableMemory, gpa: int, offset: int = 0, size: int | None = None) -> None:
        """Copy a range (default: to the end) into guest memory.

        Raises:
            BootError: the range is not in the file (any more).
            GuestMemoryError: the destination is not memory.
        """
        size = self.size - offset if size is None else size
        self._check(offset, size)
        if not size:
            return
        try:
            count = memory.write_from(gpa, self._fd, self._start + offset, size)
        except OSError as error:
            raise BootError(f"{self.name}: cannot read it: {error.strerror}") from error
        if count < size:
            raise BootError(f"{self.name}: the file became shorter while it was read")

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _check(self, offset: int, size: int) -> None:
        end = offset + size
        if offset < 0 or size < 0 or end > self.size:
            raise BootError(f"{self.name}: truncated: it ends at byte {self.size}, {end} are needed")

    def _read_into(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._fd, [view[done:]], self._start + offset + done)
            except OSError as error:
                raise BootError(f"{self.name}: cannot read it: {error.strerror}") from error
            if count == 0:
                raise BootError(f"{self.name}: the file became shorter while it was read")
            done += count


def _checked_size(fd: int, name: str, maximum: int) -> int:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise BootError(f"{name}: not a regular file")
    if info.st_size == 0:
        raise BootError(f"{name}: the file is empty")
    if info.st_size > maximum:
        raise BootError(f"{name}: {info.st_size >> 20} MiB is too large (at most {maximum >> 20} MiB)")
    return info.st_size
