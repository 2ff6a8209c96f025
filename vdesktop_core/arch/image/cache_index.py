# SPDX-License-Identifier: MIT
"""Which entry of the cache a file unpacks to, without reading the file: hashing a kernel takes 10 ms.

A symbolic link a file, beside the entries. It is named by all that ``stat`` tells of the contents:
device, inode, size, and the times of the last change of contents and of anything; the latter, the ctime,
no program can set. A file that changed so recently that another change might get the same time has no link
(git calls such files racy): it is hashed again the next time.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vdesktop_core.arch.image.files import ImageFile

#: Longer than the steps of any file system's clock, a file server's skew included.
_RACY_NS = 3_000_000_000
_SUFFIX = ".link"
_ENTRY = ".image"


def link_path(directory: Path, file: ImageFile, offset: int, size: int) -> Path | None:
    """Return the link of a range of a file, asked for *before* it is read; None: the file is racy."""
    info = file.stat()
    if abs(time.time_ns() - max(info.st_mtime_ns, info.st_ctime_ns)) < _RACY_NS:
        return None
    identity = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, offset, size)
    return directory / ("-".join(f"{number:x}" for number in identity) + _SUFFIX)


def follow(link: Path) -> Path | None:
    """Return the entry that a link names, which may be gone; None without a link."""
    try:
        target = link.readlink()
    except OSError:
        return None
    return link.with_name(target.name) if target == Path(target.name) and target.suffix == _ENTRY else None


def remember(link: Path, entry: Path) -> None:
    """Make a link, or change what it names; a cache that cannot be written to stays as it is."""
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(entry.name)


def is_stale(path: Path) -> bool:
    """Whether a file of the cache is a link to an entry that is gone."""
    return path.suffix == _SUFFIX and not path.exists()
