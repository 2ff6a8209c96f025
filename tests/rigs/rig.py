# SPDX-License-Identifier: MIT
"""A rig: QEMU's TCG emulates hardware virtualisation, and a real hypervisor in it uses that.

It sees this host's files over 9p, read-only under a layer of memory: the checkout, the virtual environment
and the host's Python are there as they are, and nothing that runs in a rig can change them.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import foreign
import pytest
from rig_image import CACHE, RigImage, build, with_command

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
#: Where the checkout's own Python packages are.
PACKAGES = ("vdesktop_core", "backends", "plugins", "tests/support")
_ENDED = re.compile(rb"rig: the command ended with (\d+)")


@dataclass(frozen=True, slots=True)
class Rig:
    """One kind of rig.

    Attributes:
        name: of its image in the cache.
        qemu: the program.
        options: the machine, with the virtualisation that it emulates.
        packages: Debian's architecture and kernel package.
        modules: of the rig's kernel, in order.
    """

    name: str
    qemu: str
    options: tuple[str, ...]
    packages: tuple[str, str]
    modules: tuple[str, ...]
    console: str
    memory_mib: int = 2048
    cpus: int = 1
    #: Shell commands before the one that a rig is to run.
    prologue: str = ""
    #: Its architecture, where that is not the host's: the rig has a root of its own then.
    foreign: foreign.Foreign | None = None

    @property
    def words(self) -> str:
        """The kernel's command line."""
        words = f"console={self.console} quiet loglevel=4 panic=-1 mitigations=off"
        if self.foreign is None:
            return words
        return f"{words} rig.layer rig.root={self.foreign.root} rig.tree={ROOT}"

    @property
    def python(self) -> str:
        """The rig's Python, with this project."""
        return sys.executable if self.foreign is None else "/usr/bin/python3"

    def boot(self, image: RigImage, initrd: Path) -> list[str]:
        """Return QEMU's options that say what to boot."""
        options = ["-kernel", str(image.kernel), "-initrd", str(initrd), "-append", self.words]
        return options if self.foreign is None else [*options, *layer(self.foreign.layer)]


def layer(folder: Path) -> list[str]:
    """Return QEMU's options for a folder that lies over the rig's root; word: ``rig.layer``."""
    share = f"local,id=layer,path={folder},security_model=none,readonly=on,multidevs=remap"
    return ["-fsdev", share, "-device", "virtio-9p-pci,fsdev=layer,mount_tag=layer"]


KVM_X86_64 = Rig(
    name="kvm-amd64",
    qemu="qemu-system-x86_64",
    # TCG has AMD's virtualisation (SVM) with nested page tables, and not Intel's.
    # QEMU 7.2 does not intercept a guest's XSETBV, so KVM thinks that XCR0 is still 1, and its CPUID leaf 0xD
    # tells 576 bytes: Linux warns of that in any guest, also in those of `qemu-system-x86_64 -accel kvm`.
    options=("-M", "q35", "-cpu", "max,-xsave,-avx,-avx2,-pku"),
    packages=("amd64", "linux-image-amd64"),
    modules=(
        "virtio_pci",
        "virtio_blk",
        "virtio_console",
        "virtio_rng",
        "9pnet_virtio",
        "9p",
        "overlay",
        "kvm_amd",
    ),
    console="ttyS0",
)

KVM_AARCH64 = Rig(
    name="kvm-arm64",
    qemu="qemu-system-aarch64",
    options=("-M", "virt,virtualization=on,gic-version=3", "-cpu", "cortex-a76"),
    packages=("arm64", "linux-image-arm64"),
    modules=("virtio_pci", "virtio_rng", "9pnet_virtio", "9p", "overlay"),
    console="ttyAMA0",
    foreign=foreign.ARM64,
)


def require(rig: Rig) -> RigImage:
    """Return the rig's image; skip the test where the rig cannot be made, and say why."""
    for tool in (rig.qemu, "dpkg-deb", "apt-get"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    for folder in PACKAGES:
        # As pip does where it installs. What a rig compiles is gone with it, and takes it ten times as long.
        compileall.compile_dir(ROOT / folder, quiet=2)
    CACHE.mkdir(parents=True, exist_ok=True)
    if rig.foreign is not None:
        with alone("foreign"):
            foreign.build(rig.foreign)
    with alone("image"):
        architecture, kernel = rig.packages
        return build(rig.name, architecture, kernel, rig.modules)


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """Tests run side by side: others that make the same wait."""
    with (CACHE / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(rig: Rig, image: RigImage, command: list[str], scratch: Path, *, timeout: float) -> str:
    """Run a command in a rig and return what it said; fail if it failed, or did not end."""
    initrd = scratch / "initrd"
    script = (
        f"export HOME={shlex.quote(str(Path.home()))} LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1\n"
        f"export PATH={Path(rig.python).parent}:/usr/sbin:/usr/bin:/sbin:/bin\n"
        f"{rig.prologue}"
        f"cd {shlex.quote(str(ROOT))} && {shlex.join(command)}\n"
    )
    with_command(image, script, initrd)
    share = "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
    arguments = [rig.qemu, "-accel", "tcg,thread=multi", *rig.options]
    arguments += ["-smp", str(rig.cpus), "-m", str(rig.memory_mib)]
    arguments += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]
    arguments += rig.boot(image, initrd)
    arguments += ["-fsdev", share, "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]
    arguments += ["-device", "virtio-rng-pci"]
    log = scratch / "console"
    with log.open("wb") as out:
        try:
            subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            pytest.fail(f"the rig did not end in {timeout} s:\n{_text(log)}")
    ended = _ENDED.search(log.read_bytes())
    if ended is None:
        pytest.fail(f"the rig did not run its command:\n{_text(log)}")
    if ended[1] != b"0":
        pytest.fail(f"{shlex.join(command)} ended with {ended[1].decode()} in the rig:\n{_text(log)}")
    return _text(log)


def _text(log: Path) -> str:
    return log.read_bytes().decode("utf-8", "replace").replace("\r", "")[-20000:]
