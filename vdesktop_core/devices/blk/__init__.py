# SPDX-License-Identifier: MIT
"""virtio-blk (virtio 1.4 §5.2): disks."""

from __future__ import annotations

from vdesktop_core.devices.blk.device import DEVICE_TYPE, BlkConfig, parse_disk
from vdesktop_core.devices.blk.qemu import QEMU_FORMATS
from vdesktop_core.devices.blk.store import CacheMode, DiskFormat, DiskOptions, DiskStore, RawFormat

DISK_FORMATS: tuple[DiskFormat, ...] = (RawFormat(), *QEMU_FORMATS)

__all__ = [
    "DEVICE_TYPE",
    "DISK_FORMATS",
    "BlkConfig",
    "CacheMode",
    "DiskFormat",
    "DiskOptions",
    "DiskStore",
    "parse_disk",
]
