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
class Flavour:
    """What one kind of guest holds.

    Attributes:
        packages: packages whose files the initramfs needs, beside the kernel.
        modules: kernel modules by name; what they depend on comes with them, what is built in is skipped.
    """

    summary: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]


#: The machine's own devices, and ext4 so that a disk can be mounted.
FLAVOURS = {
    "minimal": Flavour(
        summary="busybox on an initramfs, a shell on every console",
        packages=("busybox-static",),
        modules=(
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
        ),
    ),
}


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
