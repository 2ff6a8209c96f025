# SPDX-License-Identifier: MIT
"""The desktop's disk: a Debian root from mmdebstrap, our files and modules in it, as one ext4 image.

Each stage leaves its result in the cache under a name made of all that went into it, so a build that was
interrupted goes on where it was: packages one by one, then the root as an archive, then the disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from importlib import resources
from typing import TYPE_CHECKING

from vdesktop_core.errors import GuestBuildError
from vdesktop_core.guestbuild import namespace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vdesktop_core.guestbuild.apt import Apt, Package
    from vdesktop_core.guestbuild.modules import Module
    from vdesktop_core.guestbuild.progress import Progress
    from vdesktop_core.guestbuild.recipe import DebianRoot
    from vdesktop_core.hypervisor import Arch

#: What dpkg leaves out: a third of the files, which nobody reads here, and udev's table of the world's
#: hardware, which takes an emulated CPU a minute to compile and has none of this machine's.
_LEFT_OUT = (
    *(f"/usr/share/{folder}/*" for folder in ("doc", "man", "locale", "info", "lintian", "bug")),
    "/usr/lib/udev/hwdb.d/*",
)
#: What make-disk announces.
_DISK_STEPS = 4
_CONFIGURING = re.compile(r"^(Unpacking|Setting up) ")


class DesktopDisk:
    """Builds the disk of one suite and architecture.

    Args:
        arch: the guest's.
        cache: a folder that is this build's alone while it runs.
        apt: that suite and architecture, its lists up to date.
        keyring: Debian's archive keys.
    """

    def __init__(self, arch: Arch, cache: Path, apt: Apt, keyring: Path) -> None:
        for tool, package in (("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs"), ("tar", "tar")):
            if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
                raise GuestBuildError(f"{tool} is missing: install the package {package}")
        self._arch = arch
        self._cache = cache
        self._apt = apt
        self._keyring = keyring

    def root(self, recipe: DebianRoot, progress: Progress) -> Path:
        """Return an archive of an installed Debian; built, unless these very packages were before.

        Raises:
            GuestBuildError: one line, and where to read more.
        """
        progress.step("download root")
        packages = self._apt.fetch_closure(recipe.packages, progress)
        key = _digest({p.name: p.sha256 for p in packages}, _LEFT_OUT)
        archive = self._cache / "roots" / f"{self._apt.suite}-{self._arch}-{key}.tar"
        if archive.is_file():
            return archive
        progress.step("install root")
        archive.parent.mkdir(exist_ok=True)
        part = archive.with_name(f".{archive.name}.part.tar")
        done = 0

        def installing(line: str) -> None:
            nonlocal done
            done += bool(_CONFIGURING.match(line))
            progress.advance(min(1.0, done / (2 * len(packages))))

        try:
            self._run("install", self._mmdebstrap(recipe, packages, part), installing)
            part.replace(archive)
        finally:
            part.unlink(missing_ok=True)
        for old in archive.parent.glob(f"{self._apt.suite}-{self._arch}-*.tar"):
            if old != archive:
                old.unlink()
        return archive

    def disk(
        self, archive: Path, recipe: DebianRoot, tree: Path, modules: list[Module], progress: Progress
    ) -> Path:
        """Return a new disk image in the cache folder, the caller's to move away.

        Args:
            archive: what :meth:`root` returned.
            recipe: the same.
            tree: the kernel's own folder of modules, named after its release.
            modules: those of them to put into it.
            progress: hears of it.

        Raises:
            GuestBuildError: one line, and where to read more.
        """
        progress.step("disk")
        scratch = self._cache / f"disk-{self._arch}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        target = scratch / "modules" / tree.name
        for module in modules:
            path = target / module.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(module.data)
        for index in tree.glob("modules.builtin*"):
            shutil.copy(index, target)
        (target / "modules.order").write_text("".join(f"{m.path}\n" for m in modules), encoding="utf-8")
        with resources.as_file(resources.files(__package__) / "desktop") as files:
            command: list[str | Path] = [
                "sh",
                files / "make-disk",
                archive,
                files,
                scratch / "modules",
                scratch / "disk.img",
            ]
            done = 0

            def making(line: str) -> None:
                nonlocal done
                done += line.startswith("I: ")
                progress.advance(min(1.0, done / _DISK_STEPS))

            self._run("disk", [*command, str(recipe.disk_bytes)], making)
        return scratch / "disk.img"

    def _mmdebstrap(self, recipe: DebianRoot, packages: list[Package], output: Path) -> list[str | Path]:
        # An interrupted build starts this stage again: nothing needs to survive a power cut.
        options = ["force-unsafe-io", *(f"path-exclude={pattern}" for pattern in _LEFT_OUT)]
        listed = self._cache / f"install-{self._arch}.list"
        listed.write_text("".join(f"{package.file}\n" for package in packages), encoding="utf-8")
        to = '-t "$1/var/cache/apt/archives"'
        each = f"xargs -d '\\n' -a {shlex.quote(str(listed))}"
        # The host's dpkg unpacks, which takes a tenth of the time of an emulated one; what packages have to
        # say about it runs in the root. Afterwards, a dpkg of the root's own configures them in order.
        unpack = (
            'dpkg --root="$1" --force-architecture --force-depends --skip-same-version --unpack '
            + " ".join(f"--{option}" for option in options)
        )
        return [
            "mmdebstrap",
            # The namespace is ours; programs of the architecture run in it.
            "--mode=root",
            "--skip=check/qemu",
            "--verbose",
            "--variant=minbase",
            f"--architectures={self._apt.architecture}",
            f"--include={','.join(recipe.packages)}",
            f"--keyring={self._keyring}",
            "--aptopt=APT::Install-Recommends false",
            *(f"--dpkgopt={option}" for option in options),
            # What is there needs no download; hard links where they are possible.
            '--setup-hook=mkdir -p "$1/var/cache/apt/archives"',
            f"--setup-hook={each} cp -l {to} || {each} cp {to}",
            f"--essential-hook={each} {unpack}",
            '--essential-hook=chroot "$1" dpkg --configure --pending',
            self._apt.suite,
            output,
            self._apt.mirror,
        ]

    def _run(self, what: str, command: list[str | Path], heard: Callable[[str], None]) -> None:
        log = self._cache / f"{what}-{self._arch}.log"
        last = ""
        with log.open("w", encoding="utf-8") as file:

            def line_heard(line: str) -> None:
                nonlocal last
                file.write(line + "\n")
                if line.startswith("E: "):
                    last = last or line[3:]
                heard(line)

            status = namespace.run(self._arch, command, line_heard)
        if status:
            reason = last or _last_line(log) or f"status {status}"
            raise GuestBuildError(
                f"cannot make the {what} stage for {self._arch}: {reason} (all of it: {log})"
            )


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([str(p) for p in parts]).encode()).hexdigest()[:16]
