# SPDX-License-Identifier: MIT
"""What goes into a guest: suites, package names and modules, as data."""

from __future__ import annotations

from dataclasses import dataclass

from vdesktop_core.errors import GuestBuildError
from vdesktop_core.hypervisor import Arch

DEFAULT_SUITE = "trixie"
DEFAULT_FLAVOUR = "minimal"


@dataclass(frozen=True, slots=True)
class DebianPort:
    """One architecture as Debian names it.

    Attributes:
        name: Debian's name of the architecture.
        kernel: the metapackage that depends on the current generic kernel.
        suites: the Debian suites that have the architecture.
    """

    name: str
    kernel: str
    suites: tuple[str, ...]


PORTS = {
    Arch.X86_64: DebianPort("amd64", "linux-image-amd64", ("trixie", "bookworm")),
    Arch.AARCH64: DebianPort("arm64", "linux-image-arm64", ("trixie", "bookworm")),
    Arch.RISCV64: DebianPort("riscv64", "linux-image-riscv64", ("trixie",)),
}

SUITES = tuple(sorted({suite for port in PORTS.values() for suite in port.suites}, reverse=True))


@dataclass(frozen=True, slots=True)
class DebianRoot:
    """An installed Debian on a disk.

    Attributes:
        packages: what is installed beside Debian's required packages; dependencies come with them.
        modules: kernel modules on the disk, beside those of the initramfs; dependencies come with them, and
            what the kernel has not is left out.
        disk_bytes: size of the disk, of which a host's file takes what is used.
    """

    packages: tuple[str, ...]
    modules: tuple[str, ...]
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Flavour:
    """What one kind of guest holds.

    Attributes:
        init: the initramfs's first program, a script of this package.
        memory: how much the guest's machine file gives it.
        append: words for the kernel's command line.
        root: the disk, or None: the guest lives in its initramfs.
        packages: packages whose files the initramfs needs, beside the kernel.
        modules: kernel modules by name; what they depend on comes with them, what is built in is skipped.
    """

    summary: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    init: str = "init"
    memory: str = "512M"
    append: str = "console=hvc0 quiet"
    root: DebianRoot | None = None


_DEVICES = (
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_input",
    "virtio_gpu",
    "evdev",
    "af_packet",
    "ext4",
    "crc32c_generic",  # ext4 asks for it by the algorithm's name, not as a dependency
)

_ROOT_PACKAGES = """
    systemd-sysv systemd-resolved udev dbus dbus-user-session libpam-systemd kmod procps iproute2
    login less nano
    xserver-xorg-core xserver-xorg-input-libinput xinit x11-xserver-utils x11-xkb-utils x11-utils xkb-data
    jwm xterm l3afpad x11-apps xdg-user-dirs fonts-dejavu fonts-liberation
    spice-vdagent xclip xdotool xinput evtest
"""
_ROOT_MODULES = """
    uinput joydev autofs4 fuse overlay loop isofs udf vfat nls_cp437 nls_iso8859_1 nls_utf8 squashfs
    9p 9pnet_virtio virtiofs vsock vmw_vsock_virtio_transport virtio_balloon virtio_scsi virtio_mem
    tun veth bridge nf_tables dm_mod binfmt_misc
"""

#: The machine's own devices, and ext4 so that a disk can be mounted.
FLAVOURS = {
    "minimal": Flavour(
        summary="busybox on an initramfs, a shell on every console",
        packages=("busybox-static",),
        modules=_DEVICES,
    ),
    "desktop": Flavour(
        summary="Debian on a disk, with a graphical desktop that logs in by itself",
        packages=("busybox-static",),
        modules=_DEVICES,
        init="disk-init",
        memory="1G",
        # Without BPF's: systemd would load programs of it at each start, for what no unit here asks.
        append="root=/dev/vda rw console=tty0 lsm=landlock,lockdown,yama,apparmor",
        root=DebianRoot(
            packages=tuple(_ROOT_PACKAGES.split()),
            modules=tuple(_ROOT_MODULES.split()),
            disk_bytes=3 << 30,
        ),
    ),
}

#: Modules that one architecture has beside those of the flavour.
ARCH_MODULES = {Arch.X86_64: ("button",)}


def port(arch: Arch, suite: str) -> DebianPort:
    """Return Debian's port for a guest.

    Raises:
        GuestBuildError: Debian has no such architecture in this suite.
    """
    found = PORTS[arch]
    if suite not in found.suites:
        have = " or ".join(found.suites)
        raise GuestBuildError(f"Debian {suite} has no {arch} kernel for this machine: use --suite {have}")
    return found
