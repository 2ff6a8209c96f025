# SPDX-License-Identifier: MIT
"""The guest's root: busybox, modules and the init script in one initramfs."""

from __future__ import annotations

import gzip
import io
from importlib import resources
from typing import TYPE_CHECKING

import zstandard

from vdesktop_core.guestbuild.cpio import CpioWriter
from vdesktop_core.guestbuild.modules import Module, modules_alias, modules_dep

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where each of this package's files goes, and its mode.
_SCRIPTS = {
    "drivers": ("etc/vdesktop/drivers", 0o755),
    "network": ("etc/vdesktop/network", 0o755),
    "dhcp": ("etc/vdesktop/dhcp", 0o755),
    "power-button": ("etc/vdesktop/power-button", 0o755),
    "power-button-pressed": ("etc/acpi/PWRF/00000080", 0o755),  # where busybox's acpid looks
    "profile": ("etc/profile", 0o644),
}
_FOLDERS = ("proc", "sys", "dev", "run", "root", "tmp", "mnt", "sbin")
_CONSOLE = ("dev/console", 5, 1)
_NULL = ("dev/null", 1, 3)

#: How an initramfs may be packed. The kernel tells them apart by their first bytes.
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 6, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor(level=9).compress(data),
}
DEFAULT_COMPRESSION = "zstd"


def build_initramfs(
    *,
    busybox: bytes,
    release: str,
    modules: list[Module],
    hostname: str,
    compression: str = DEFAULT_COMPRESSION,
    init: str = "init",
) -> bytes:
    """Return an initramfs.

    Args:
        busybox: a static busybox of the guest's architecture.
        release: the kernel's release, as ``uname -r`` says it.
        modules: in an order they can be loaded in.
        hostname: what the guest calls itself.
        compression: a key of :data:`COMPRESSIONS`.
        init: which of this package's scripts is the first program.
    """
    out = io.BytesIO()
    cpio = CpioWriter(out)
    for name in _FOLDERS:
        cpio.folder(name, 0o1777 if name == "tmp" else 0o755)
    cpio.character_device(*_CONSOLE)
    cpio.character_device(*_NULL, mode=0o666)
    cpio.file("bin/busybox", busybox, 0o755)
    # The kernel and busybox look for these by their full path.
    cpio.symlink("bin/sh", "busybox")
    cpio.symlink("sbin/modprobe", "/bin/busybox")
    cpio.symlink("sbin/init", "/bin/busybox")
    # What the kernel runs where a host asks for an orderly end.
    cpio.symlink("sbin/poweroff", "/bin/busybox")
    cpio.symlink("sbin/reboot", "/bin/busybox")
    scripts = resources.files(__package__) / "rootfs"
    cpio.file("init", (scripts / init).read_bytes(), 0o755)
    for source, (target, mode) in _SCRIPTS.items():
        cpio.file(target, (scripts / source).read_bytes(), mode)
    cpio.file("etc/hostname", f"{hostname}\n".encode())
    cpio.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n")
    cpio.file("etc/group", b"root:x:0:\ntty:x:5:\n")
    base = f"lib/modules/{release}"
    for module in modules:
        cpio.file(f"{base}/{module.path}", module.data)
    cpio.file(f"{base}/modules.dep", modules_dep(modules).encode())
    cpio.file(f"{base}/modules.alias", modules_alias(modules).encode())
    cpio.close()
    return COMPRESSIONS[compression](out.getvalue())
