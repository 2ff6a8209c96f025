# SPDX-License-Identifier: MIT
"""A writer of "newc" cpio archives, the format of Linux's initramfs.

The format is in Linux's Documentation/driver-api/early-userspace/buffer-format.rst.
Entries may be device nodes, which is why no root is needed to make an initramfs. Archives are
reproducible: owner 0:0, a fixed time, entries in the order they are added.
"""

from __future__ import annotations

import stat
from typing import BinaryIO

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_ALIGN = 4
_FIELD_LIMIT = 1 << 32


class CpioWriter:
    """Writes one archive to a binary file; :meth:`close` ends it and leaves the file open."""

    def __init__(self, file: BinaryIO, *, mtime: int = 0) -> None:
        self._file = file
        self._mtime = mtime
        self._inode = 0
        self._folders: set[str] = set()

    def folder(self, name: str, mode: int = 0o755) -> None:
        """Add a folder and those above it; one that is there already is left alone."""
        parent = name.rpartition("/")[0]
        if parent:
            self.folder(parent)
        if name not in self._folders:
            self._folders.add(name)
            self._entry(name, stat.S_IFDIR | mode)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._parent(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._parent(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device node."""
        self._parent(name)
        self._entry(name, stat.S_IFCHR | mode, rdev=(major, minor))

    def close(self) -> None:
        """Write the trailer."""
        self._inode = -1
        self._entry(_TRAILER, 0)

    def _parent(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent:
            self.folder(parent)

    def _entry(self, name: str, mode: int, data: bytes = b"", rdev: tuple[int, int] = (0, 0)) -> None:
        if len(data) >= _FIELD_LIMIT:
            raise ValueError(f"{name}: {len(data)} bytes do not fit a newc archive")
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (
            self._inode,
            mode,
            0,  # uid
            0,  # gid
            1,  # nlink
            self._mtime,
            len(data),
            0,  # device major and minor of the file itself
            0,
            *rdev,
            len(encoded),
            0,  # checksum: unused in newc
        )
        header = _MAGIC + b"".join(b"%08X" % field for field in fields)
        self._file.write(_padded(header + encoded))
        self._file.write(_padded(data))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGN)
