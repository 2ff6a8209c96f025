# SPDX-License-Identifier: MIT
"""What stands behind a disk: formats, which open an image, and the stores they give."""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import stat
import struct
from typing import TYPE_CHECKING, Protocol

import msgspec

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Alignment, in bytes, of memory and offsets from which a request bypasses the
#: page cache under ``cache = "none"``; enough for every host disk of today.
DIRECT_ALIGN = 4096


class CacheMode(enum.StrEnum):
    """How the host caches. A flush reaches stable storage in each."""

    WRITEBACK = "writeback"  #: host page cache; volatile until the guest flushes
    WRITETHROUGH = "writethrough"  #: host page cache; every write is stable when acknowledged
    NONE = "none"  #: past the host page cache (O_DIRECT); volatile until the guest flushes


class DiskOptions(msgspec.Struct, frozen=True):
    """How an image is to be opened."""

    host: int  #: struct vd_host
    readonly: bool = False
    cache: CacheMode = CacheMode.WRITEBACK
    discard: bool = True  #: pass discards on to the host
    connections: int = 4  #: commands side by side, where the format is served by a process


class DiskStore:
    """An open image.

    Args:
        native: address of a ``struct vd_blk_store``, whose owner this object becomes.
    """

    def __init__(self, native: int) -> None:
        self.native = native

    def close(self) -> None:
        """Close the image. Idempotent. No device may use it any more."""
        if self.native:
            lib.vd_blk_store_close(ffi.cast("struct vd_blk_store *", self.native))
            self.native = 0


class DiskFormat(Protocol):
    """A way to open image files; the hook ``vdesktop_disk_formats`` returns these."""

    name: str  #: ``format=NAME``
    suffixes: tuple[str, ...]  #: file names that mean this format, such as ``.qcow2``

    def open(self, path: Path, options: DiskOptions) -> DiskStore:
        """Open an image.

        Raises:
            DeviceError: one line that names the file.
        """
        ...


#: First bytes of image files that are not raw disks, by format.
MAGICS = {b"QFI\xfb": "qcow2", b"KDMV": "vmdk", b"vhdxfile": "vhdx", b"QED\0": "qed"}


def choose_format(path: Path, name: str | None, formats: Mapping[str, DiskFormat]) -> DiskFormat:
    """Return the format of an image: the one that was named, or the one its file name means, or raw.

    The content never chooses. A guest that owns a raw disk writes what it likes
    to it, also the header of an image that is backed by ``/etc/shadow``; the file
    name is the host's. But a raw disk that looks like an image is refused until
    the format is named, as one of both is a mistake.

    Raises:
        ConfigError: the format is unknown, or has to be named.
    """
    if name is not None:
        if name not in formats:
            raise ConfigError(f"disk {path}: unknown format {name!r}: use one of {', '.join(formats)}")
        return formats[name]
    for candidate in formats.values():
        if path.suffix.lower() in candidate.suffixes:
            return candidate
    start = _first_bytes(path, max(map(len, MAGICS)))
    for magic, format_name in MAGICS.items():
        if start.startswith(magic):
            raise ConfigError(
                f"disk {path} starts like a {format_name} image but is not named so: "
                f"add format={format_name}, or format=raw if that is what a guest wrote to a raw disk"
            )
    return formats["raw"]


def _first_bytes(path: Path, count: int) -> bytes:
    """Return the start of a file; nothing where opening it will say what is wrong."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def open_image(path: Path, *, readonly: bool, flags: int = 0) -> int:
    """Open an image file or block device and return the descriptor.

    Raises:
        DeviceError: one line that says what is wrong with the file and what to do.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DeviceError(f"disk {path} is a directory: name an image file or a block device")
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise DeviceError(f"disk {path} is neither a file nor a block device")
        return os.open(path, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC | flags)
    except FileNotFoundError as error:
        raise DeviceError(
            f"disk {path} does not exist: create it, for example with: truncate -s 8G {path}"
        ) from error
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        if denied and not readonly and os.access(path, os.R_OK, effective_ids=True):
            raise DeviceError(
                f"disk {path} cannot be opened for writing ({error.strerror}): add ,ro, or make it writable"
            ) from error
        if flags & os.O_DIRECT and error.errno == errno.EINVAL:
            raise DeviceError(f"disk {path}: its file system always caches: leave out cache=none") from error
        raise DeviceError(f"disk {path} cannot be opened: {error.strerror}") from error


# QEMU's image locks (its block/file-posix.c): a process that uses a permission
# holds a shared lock on byte 100 + its bit, one that does not share it with
# others holds one on byte 200 + its bit. Speaking this, our machines and QEMU's
# tools keep out of each other's images.
_LOCK_USED, _LOCK_UNSHARED = 100, 200
_PERM_READ, _PERM_WRITE, _PERM_RESIZE = 0, 1, 3
_FLOCK = struct.Struct("hhqqi4x")


def _lock(fd: int, command: int, kind: int, byte: int) -> int:
    """Apply a lock command to one byte; returns the kind of lock that was found (for F_OFD_GETLK)."""
    answer = fcntl.fcntl(fd, command, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    return int(_FLOCK.unpack(answer)[0])


def lock_image(fd: int, path: Path, *, readonly: bool) -> None:
    """Claim an image until its descriptor is closed: many readers, or one writer.

    Raises:
        DeviceError: another process has it.
    """
    used = [_PERM_READ] if readonly else [_PERM_READ, _PERM_WRITE]
    unshared = [_PERM_WRITE] if readonly else [_PERM_WRITE, _PERM_RESIZE]
    try:
        for byte in (*(_LOCK_USED + bit for bit in used), *(_LOCK_UNSHARED + bit for bit in unshared)):
            _lock(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, byte)
        clash = (*(_LOCK_UNSHARED + bit for bit in used), *(_LOCK_USED + bit for bit in unshared))
        taken = any(_lock(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, byte) != fcntl.F_UNLCK for byte in clash)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return  # a file system without locks
        taken = True
    if taken:
        what = "written by" if readonly else "in use by"
        raise DeviceError(
            f"disk {path} is {what} another machine or process: stop that one first, or use a copy"
        )


class RawFormat:
    """A file or block device whose bytes are the disk's."""

    name: str = "raw"
    suffixes: tuple[str, ...] = (".raw",)

    def open(self, path: Path, options: DiskOptions) -> DiskStore:
        """Open a raw image; see :meth:`DiskFormat.open`."""
        fd = open_image(path, readonly=options.readonly)
        direct_fd = -1
        try:
            self._check_size(fd, path)
            lock_image(fd, path, readonly=options.readonly)
            if options.cache is CacheMode.NONE:
                direct_fd = open_image(path, readonly=options.readonly, flags=os.O_DIRECT)
        except BaseException:
            os.close(fd)
            raise
        failure = ffi.new("int *")
        store = lib.vd_blk_file_open(
            ffi.cast("struct vd_host *", options.host), fd, direct_fd, DIRECT_ALIGN, options.readonly, failure
        )
        if store == ffi.NULL:
            raise DeviceError(f"disk {path} cannot be used: {os.strerror(-failure[0])}")
        return DiskStore(int(ffi.cast("uintptr_t", store)))

    @staticmethod
    def _check_size(fd: int, path: Path) -> None:
        size = os.lseek(fd, 0, os.SEEK_END)
        if size == 0:
            raise DeviceError(
                f"disk {path} is empty: give it a size, for example with: truncate -s 8G {path}"
            )
        if size % lib.VD_BLK_SECTOR:
            raise DeviceError(
                f"disk {path} has {size} bytes, which is no multiple of 512: if it is a raw image, "
                f"lengthen it with: truncate -s {size + -size % lib.VD_BLK_SECTOR} {path}"
            )
