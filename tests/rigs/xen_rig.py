# SPDX-License-Identifier: MIT
"""The Xen rig: Debian's Xen and its tools over the host's root, in a paravirtual dom0.

QEMU's TCG has bugs that this goes around: SMAP and IRET together kill a paravirtual dom0, RDTSCP is taken for
RDTSC, and AVX under Xen raises #UD.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rig import Rig, alone, layer
from rig_image import CACHE, SUITE, Quiet

from vdesktop_core.guestbuild.apt import Apt
from vdesktop_core.guestbuild.build import default_cache
from vdesktop_core.guestbuild.mirror import find_keyring, find_mirror

if TYPE_CHECKING:
    from pathlib import Path

    from rig_image import RigImage

VERSION = "4.17"
FOLDER = CACHE / f"xen-{VERSION}"
_PACKAGES = (
    f"xen-hypervisor-{VERSION}-amd64",
    f"xen-utils-{VERSION}",
    "xen-utils-common",
    "xenstore-utils",
    f"libxenmisc{VERSION}",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxenstore4",
    "libxentoolcore1",
    "libxentoollog1",
    "libyajl2",
    "libxen-dev",
    # xl's own device model: its libraries and firmware are those of qemu-system-x86, which the host has.
    "qemu-system-xen",
)
_DOM0_MIB = 1536
#: What Debian's init scripts do, as far as a domain needs it.
_PROLOGUE = f"""\
mount -t xenfs none /proc/xen
mkdir -p /run/xen /run/xenstored /var/lib/xen /var/lib/xenstored /var/log/xen/console
xen=/usr/lib/xen-{VERSION}/bin
export PATH=$PATH:$xen
$xen/xenstored --pid-file=/run/xenstored.pid
$xen/xen-init-dom0 >/dev/null
$xen/xenconsoled --pid-file=/run/xenconsoled.pid --log=guest --log-dir=/var/log/xen/console
"""


@dataclass(frozen=True, slots=True)
class XenRig(Rig):
    """A rig whose kernel is the dom0 of a Xen."""

    def boot(self, image: RigImage, initrd: Path) -> list[str]:
        """Return QEMU's options: Xen by multiboot, the kernel and its initramfs as modules."""
        memory = f"dom0_mem={_DOM0_MIB}M,max:{_DOM0_MIB}M"
        kernel = f"{image.kernel} {self.words} rig.layer"
        return [
            *("-kernel", str(FOLDER / "xen.elf")),
            *("-append", f"{memory} console=com1 com1=115200,8n1 loglvl=warning guest_loglvl=warning"),
            *("-initrd", f"{kernel.replace(',', ',,')},{initrd}"),
            *layer(FOLDER / "root"),
        ]


XEN_X86_64 = XenRig(
    name="xen-amd64",
    qemu="qemu-system-x86_64",
    options=("-M", "q35", "-cpu", "max,-smap,-rdtscp,-xsave,-avx,-avx2"),
    packages=("amd64", "linux-image-amd64"),
    modules=(
        "virtio_pci",
        "virtio_blk",
        "virtio_rng",
        "9pnet_virtio",
        "9p",
        "overlay",
        "xen_privcmd",
        "xen_evtchn",
        "xenfs",
        "xen_gntdev",
        "xen_gntalloc",
    ),
    console="hvc0",
    memory_mib=3072,
    cpus=2,
    prologue=_PROLOGUE,
)


def fetch_xen() -> None:
    """Download Debian's Xen into the cache, unless it is there: its files as a layer, and the hypervisor.

    Raises:
        GuestBuildError: a package cannot be had.
    """
    with alone("image"):
        stamp = FOLDER / "stamp"
        if not stamp.is_file() or stamp.read_text() != " ".join(_PACKAGES):
            # Others look at its headers: it is there as a whole, or not at all.
            fresh = FOLDER.with_name(f"{FOLDER.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            _fetch(fresh)
            (fresh / "stamp").write_text(" ".join(_PACKAGES))
            shutil.rmtree(FOLDER, ignore_errors=True)
            fresh.rename(FOLDER)


def _fetch(folder: Path) -> None:
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    apt = Apt(cache, mirror=find_mirror(SUITE), suite=SUITE, architecture="amd64", keyring=find_keyring())
    apt.update(Quiet())
    root = folder / "root"
    root.mkdir(parents=True)
    for package in apt.fetch(list(_PACKAGES), Quiet()):
        subprocess.run(["dpkg-deb", "-x", package.file, root], check=True)
    [packed] = root.glob(f"boot/xen-{VERSION}-*.gz")
    # QEMU's multiboot loader wants the ELF file.
    (folder / "xen.elf").write_bytes(gzip.decompress(packed.read_bytes()))
    # Folders that are links on the host must not become folders.
    for name in ("lib", "bin", "sbin"):
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
