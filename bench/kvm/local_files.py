# SPDX-License-Identifier: MIT
"""In a rig: bring the files that programs open into its memory.

A rig's root is the host's over 9p, below a layer of memory. 9p keeps what was read, but to open a file is
two or three messages to the host each time, and the answer waits until that has a CPU for it. A program of
few large files would look better beside one of many small ones than on a disk of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What ``python -v`` says of the files that it imports.
_IMPORTED = re.compile(r"(/[^\s']+\.(?:pyc?|so))\b")
#: Firmware that QEMU looks for in these.
_QEMU = (Path("/usr/share/qemu"), Path("/usr/share/seabios"))


def imported(command: list[str]) -> set[Path]:
    """Return the files that a program in Python opens to import them, and those beside them."""
    said = subprocess.run(
        command,
        env={**os.environ, "PYTHONVERBOSE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    ).stderr
    return {Path(name) for name in _IMPORTED.findall(said)}


def mapped(pid: int) -> set[Path]:
    """Return the files that a process has mapped: its program and libraries."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(path) for line in lines if (path := line[73:]).startswith("/")}


def firmware() -> set[Path]:
    """Return QEMU's files."""
    return {path for folder in _QEMU for path in folder.rglob("*") if path.is_file()}


def keep(files: Iterable[Path]) -> int:
    """Copy files into the layer of memory, where what is to be changed goes first; return how many."""
    count = 0
    for path in files:
        with contextlib.suppress(OSError):
            times = path.stat()
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            count += 1
    return count
