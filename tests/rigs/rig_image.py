# SPDX-License-Identifier: MIT
"""What a rig boots: Debian's generic kernel (cloud kernels lack 9p), and a way to the host's root."""

from __future__ import annotations

import gzip
import io
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vdesktop_core.guestbuild.apt import Apt
from vdesktop_core.guestbuild.build import default_cache
from vdesktop_core.guestbuild.cpio import CpioWriter
from vdesktop_core.guestbuild.mirror import find_keyring, find_mirror
from vdesktop_core.guestbuild.modules import ModuleTree

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "rigs"
SUITE = "bookworm"
_FOLDERS = ("proc", "sys", "dev", "lower", "upper", "root")


@dataclass(frozen=True, slots=True)
class RigImage:
    """Kernel and initramfs of a rig."""

    kernel: Path
    initrd: Path


class Quiet:
    """Progress that nobody watches."""

    def step(self, title: str) -> None: ...

    def advance(self, fraction: float) -> None: ...

    def note(self, line: str) -> None: ...


def build(name: str, architecture: str, kernel_package: str, modules: tuple[str, ...]) -> RigImage:
    """Return a rig's image, from the cache if it is there under this name.

    Raises:
        GuestBuildError: a package cannot be had, or lacks a module.
    """
    folder = CACHE / name
    image = RigImage(folder / "kernel", folder / "initrd")
    stamp = folder / "stamp"
    wanted = f"{SUITE} {kernel_package} {modules} {(HERE / 'init').read_text()}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return image
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    apt = Apt(
        cache, mirror=find_mirror(SUITE), suite=SUITE, architecture=architecture, keyring=find_keyring()
    )
    apt.update(Quiet())
    kernels = [name for name in apt.dependencies(kernel_package) if name.startswith("linux-image-")]
    packages = apt.fetch([*kernels, "busybox-static"], Quiet())
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = Path(scratch)
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", package.file, root], check=True)
        [tree] = root.glob("lib/modules/*")
        [kernel] = root.glob("boot/vmlinu[xz]-*")
        image.initrd.write_bytes(_initramfs(root / "bin/busybox", tree, modules))
        image.kernel.write_bytes(kernel.read_bytes())
    stamp.write_text(wanted)
    return image


def _initramfs(busybox: Path, tree: Path, modules: tuple[str, ...]) -> bytes:
    out = io.BytesIO()
    cpio = CpioWriter(out)
    for name in _FOLDERS:
        cpio.folder(name)
    cpio.character_device("dev/console", 5, 1)
    cpio.file("bin/busybox", busybox.read_bytes(), 0o755)
    cpio.file("init", (HERE / "init").read_bytes(), 0o755)
    found = ModuleTree(tree).resolve(modules)
    for module in found:
        cpio.file(f"modules/{module.name}.ko", module.data)
    cpio.file("modules/order", "\n".join(f"{module.name}.ko" for module in found).encode())
    cpio.close()
    return gzip.compress(out.getvalue(), 1, mtime=0)


def with_command(image: RigImage, command: str, output: Path) -> None:
    """Write an initramfs that runs a shell script: archives may follow one another."""
    out = io.BytesIO()
    cpio = CpioWriter(out)
    cpio.file("command", command.encode())
    cpio.close()
    base = image.initrd.read_bytes()
    output.write_bytes(base + bytes(-len(base) % 4) + out.getvalue())
