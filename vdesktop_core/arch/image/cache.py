# SPDX-License-Identifier: MIT
"""Unpacked kernels, kept: unpacking xz takes a second, reading a file 30 ms.

Entries are named by the hash of the *compressed* bytes, so that a changed
kernel never finds an old entry; each carries its size, so that a cut entry is
made anew; each is on disk before it appears by rename, so that readers,
concurrent writers and a host that loses power see whole files only. The content
is not read again to check it: that would take as long as loading it. Pages of
zeros, a fifth of an x86 kernel, are holes of the file. Without a writable cache
directory, the image stays in anonymous memory.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.arch.image.cache_index import follow, is_stale, link_path, remember
from vdesktop_core.arch.image.files import ImageFile
from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Iterable

#: All entries together stay below this many bytes; the least recently used go first.
CACHE_LIMIT = 512 << 20

#: Holes are made of whole pages.
_PAGE = 4096
_ZEROS = bytes(_PAGE)
# magic, size of the image; then the image, its pages on those of the file.
_HEADER = struct.Struct("<8sQ4080x")
_MAGIC = b"VDIMAGE3"
_SUFFIX = ".image"
_TEMPORARY = ".new-"
#: No writer takes this long.
_STALE_SECONDS = 3600


def cache_directory() -> Path:
    """Return the directory of unpacked images (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "vdesktop" / "images"


def unpacked(file: ImageFile, offset: int, size: int, *, size_word: bool = False) -> ImageFile:
    """Return the unpacked form of a compressed range of ``file``, from the cache if it is there.

    Args:
        file: stays open.
        offset: where the compressed data begin.
        size: how long they are, in bytes.
        size_word: the last four bytes of the range are the unpacked size (Linux ``size_append``).

    Raises:
        BootError: the data are corrupt, or there is nowhere to put them.
    """
    try:
        directory = cache_directory()
    except RuntimeError:  # no home directory
        return _in_memory(file, file.read(offset, size), size_word=size_word)
    link = link_path(directory, file, offset, size)
    if link and (entry := follow(link)) and (found := _lookup(entry, file.name)) is not None:
        return found
    import hashlib

    digest = hashlib.sha256()
    for piece in file.pieces(offset, size):
        digest.update(piece)
    path = _entry(directory, digest)
    found = _lookup(path, file.name) or _made(directory, file, offset, size, size_word=size_word)
    # The same moment before and after: the range did not change while it was read.
    if link and link == link_path(directory, file, offset, size) and path.exists():
        remember(link, path)
    return found


def _made(directory: Path, file: ImageFile, offset: int, size: int, *, size_word: bool) -> ImageFile:
    """Unpack into the cache, or into memory where that is not possible."""
    import hashlib
    import tempfile

    data = file.read(offset, size)
    # The file may have changed since: the entry's name belongs to what is unpacked.
    path = _entry(directory, hashlib.sha256(data))
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=directory, prefix=_TEMPORARY)
    except OSError:
        return _in_memory(file, data, size_word=size_word)
    try:
        length = _write(fd, data, file.name, size_word=size_word)
        os.fsync(fd)
        Path(temporary).rename(path)
    except OSError:  # a full or vanished cache directory does not stop a boot
        os.close(fd)
        _remove(temporary)
        return _in_memory(file, data, size_word=size_word)
    except BaseException:
        os.close(fd)
        _remove(temporary)
        raise
    with contextlib.suppress(OSError):
        _shrink(directory, keep=path)
    return ImageFile(fd, file.name, length, _HEADER.size)


def _entry(directory: Path, digest: hashlib._Hash) -> Path:
    return directory / f"{digest.hexdigest()}{_SUFFIX}"


def _in_memory(file: ImageFile, data: bytes, *, size_word: bool) -> ImageFile:
    fd = os.memfd_create("vdesktop-image", os.MFD_CLOEXEC)
    try:
        return ImageFile(fd, file.name, _write(fd, data, file.name, size_word=size_word), _HEADER.size)
    except OSError as error:
        os.close(fd)
        raise BootError(f"{file.name}: no memory to unpack it: {error.strerror}") from error
    except BaseException:
        os.close(fd)
        raise


def _write(fd: int, data: bytes, name: str, *, size_word: bool) -> int:
    """Write an entry; return the image's size."""
    from vdesktop_core.arch.image.compression import decompress

    length = _append(fd, decompress(data, name))
    if length == 0:
        raise BootError(f"{name}: unpacks to nothing: the file is corrupt")
    if size_word and struct.pack("<I", length & 0xFFFF_FFFF) != data[-4:]:
        (told,) = struct.unpack("<I", data[-4:])
        raise BootError(f"{name}: unpacks to {length} bytes, its size word says {told}: the file is corrupt")
    os.ftruncate(fd, _HEADER.size + length)
    os.pwrite(fd, _HEADER.pack(_MAGIC, length), 0)
    return length


def _append(fd: int, pieces: Iterable[bytes]) -> int:
    """Write the image behind the header; return its size. Zeros at its end may be missing from the file."""
    length = 0
    for piece in pieces:
        view = memoryview(piece)
        while view:
            part = view[: _PAGE - length % _PAGE]
            if not _ZEROS.startswith(part):
                part = part[: os.pwrite(fd, part, _HEADER.size + length)]
            length += len(part)
            view = view[len(part) :]
    return length


def _lookup(path: Path, name: str) -> ImageFile | None:
    """Open an entry if it is whole; remove it if it is not."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with contextlib.suppress(OSError, BootError):
        length = _verified_size(fd)
        if length is not None:
            with contextlib.suppress(OSError):
                os.utime(fd)
            return ImageFile(fd, name, length, _HEADER.size)
    os.close(fd)
    _remove(path)
    return None


def _verified_size(fd: int) -> int | None:
    header = os.pread(fd, _HEADER.size, 0)
    if len(header) != _HEADER.size:
        return None
    magic, length = _HEADER.unpack(header)
    if magic != _MAGIC or os.fstat(fd).st_size != _HEADER.size + length:
        return None
    return int(length)


def _shrink(directory: Path, keep: Path) -> None:
    """Remove the least recently used entries beyond ``CACHE_LIMIT``, and what crashed writers left."""
    entries = []
    for path in directory.iterdir():
        with contextlib.suppress(OSError):
            if is_stale(path):
                _remove(path)
                continue
            info = path.stat()
            if path.suffix == _SUFFIX:
                entries.append((info.st_mtime_ns, info.st_size, path))
            elif path.name.startswith(_TEMPORARY) and time.time() - info.st_mtime > _STALE_SECONDS:
                _remove(path)
    total = 0
    for _, size, path in sorted(entries, reverse=True):
        total += size
        if total > CACHE_LIMIT and path != keep:
            _remove(path)


def _remove(path: Path | str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()
