# SPDX-License-Identifier: MIT
"""Image formats that QEMU's tools read and write. What serves them is imported only where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from vdesktop_core.devices.blk.store import DiskOptions, DiskStore


class QemuFormat:
    """A format by its QEMU name.

    Args:
        name: as ``qemu-img -f`` knows it.
        suffixes: file names that mean it.
    """

    def __init__(self, name: str, *suffixes: str) -> None:
        self.name = name
        self.suffixes = suffixes

    def open(self, path: Path, options: DiskOptions) -> DiskStore:
        """Start a server for the image and connect to it; see :meth:`DiskFormat.open`."""
        from vdesktop_core.devices.blk.qemu_nbd import serve

        return serve(self.name, path, options)


QEMU_FORMATS = (
    QemuFormat("qcow2", ".qcow2"),
    QemuFormat("qcow", ".qcow"),
    QemuFormat("vmdk", ".vmdk"),
    QemuFormat("vhdx", ".vhdx"),
    QemuFormat("vdi", ".vdi"),
    QemuFormat("vpc", ".vhd", ".vpc"),
)
