# SPDX-License-Identifier: MIT
"""What may stand behind a device, one example each. It opens descriptors; while a guest runs nobody calls it.

* ``--net cable=NAME``: a cable between two machines of one process.
* ``--console keep:FILE``: as ``file:FILE``, but what an earlier run wrote stays.
* ``--disk FILE,format=scratch``: a disk whose changes are forgotten at the end.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.devices.blk.store import RawFormat
from vdesktop_core.devices.console.port import ConsolePort
from vdesktop_core.devices.net.port import NetPort
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.devices.blk.store import DiskOptions, DiskStore


class Cable:
    """Ends of the same name find each other."""

    name = "cable"

    def __init__(self) -> None:
        self._free: dict[str, socket.socket] = {}

    def open(self, argument: str, options: Sequence[tuple[str, str]]) -> NetPort:
        if not argument or options:
            raise ConfigError("network cable: write cable=NAME, the same for both ends")
        end = self._free.pop(argument, None)
        if end is None:
            # Datagrams: one frame a write, and a full cable drops frames instead of making a guest wait.
            end, self._free[argument] = socket.socketpair(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            )
        return NetPort([end.detach()])


class Keep:
    name = "keep"

    def open(self, argument: str) -> ConsolePort:
        try:
            return ConsolePort(
                write_fd=os.open(argument, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            )
        except OSError as error:
            raise DeviceError(f"console keep:{argument} cannot be opened: {error.strerror}") from error


class Scratch:
    name = "scratch"
    suffixes = (".scratch",)

    def open(self, path: Path, options: DiskOptions) -> DiskStore:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".scratch-") as folder:
            copy = Path(folder, "copy")
            try:
                shutil.copyfile(path, copy)
            except OSError as error:
                raise DeviceError(f"disk {path} cannot be copied: {error.strerror}") from error
            return RawFormat().open(copy, options)  # open, it outlives its name


_cable = Cable()


@hookimpl
def vdesktop_net_backends() -> list[Cable]:
    return [_cable]


@hookimpl
def vdesktop_console_backends() -> list[Keep]:
    return [Keep()]


@hookimpl
def vdesktop_disk_formats() -> list[Scratch]:
    return [Scratch()]
