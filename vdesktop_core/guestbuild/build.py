# SPDX-License-Identifier: MIT
"""From a suite and an architecture to a folder that ``vdesktop run`` boots."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.errors import GuestBuildError
from vdesktop_core.guestbuild import initramfs, power_driver, recipe
from vdesktop_core.guestbuild.apt import Apt, Package
from vdesktop_core.guestbuild.mirror import find_keyring, find_mirror
from vdesktop_core.guestbuild.modules import ModuleTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.guestbuild.progress import Progress
    from vdesktop_core.hypervisor import Arch

MANIFEST = "manifest.json"
MACHINE = "machine.toml"
DISK = "disk.img"
_MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """What to build.

    Attributes:
        mirror: URL of a Debian mirror; empty: the host's own.
        compression: how the initramfs is packed, a key of ``initramfs.COMPRESSIONS``.
        power_driver: compile the driver of virtio-power for it.
    """

    arch: Arch
    suite: str = recipe.DEFAULT_SUITE
    flavour: str = recipe.DEFAULT_FLAVOUR
    mirror: str = ""
    compression: str = initramfs.DEFAULT_COMPRESSION
    power_driver: bool = True


def default_cache() -> Path:
    """Return the folder downloads are kept in."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "vdesktop" / "guests"


def build(spec: GuestSpec, output: Path, cache: Path, progress: Progress) -> None:
    """Build a guest in a folder: ``kernel``, ``initrd``, ``machine.toml``, ``manifest.json``, ``disk.img``.

    Files appear whole, the manifest last; a failure leaves the folder as it was. A ``machine.toml`` that
    someone edited is kept. A flavour without a root has no disk.

    Raises:
        GuestBuildError: one line that says what failed and what to do.
    """
    port = recipe.port(spec.arch, spec.suite)
    flavour = recipe.FLAVOURS[spec.flavour]
    if flavour.root is not None:
        _refuse_used_disk(output)
    keyring = find_keyring()
    mirror = spec.mirror.rstrip("/") or find_mirror(spec.suite)
    try:
        with _locked(cache, progress):
            apt = Apt(cache, mirror=mirror, suite=spec.suite, architecture=port.name, keyring=keyring)
            progress.step("package lists")
            apt.update(progress)
            progress.step("download")
            depends = apt.dependencies(port.kernel)
            kernels = [name for name in depends if name.startswith(("linux-image-", "linux-modules-"))]
            packages = apt.fetch([*kernels, *flavour.packages], progress)
            driver = (
                power_driver.provide(apt, port.name, kernels, cache, progress) if spec.power_driver else None
            )
            with tempfile.TemporaryDirectory(prefix="unpack-", dir=cache) as scratch:
                files, modules = _assemble(spec, packages, kernels, driver, Path(scratch), progress)
                disk = _disk(spec, apt, cache, keyring, modules, progress)
                progress.step("write")
                files[MANIFEST] = _manifest(spec, mirror, packages, files)
                _write(output, files, disk, progress)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise GuestBuildError(f"cannot build the guest:{where} {error.strerror or error}") from error


def _assemble(
    spec: GuestSpec,
    packages: list[Package],
    kernels: list[str],
    driver: bytes | None,
    scratch: Path,
    progress: Progress,
) -> tuple[dict[str, bytes], ModuleTree]:
    """Unpack the packages; return output files by name, but for the manifest, and the kernel's modules."""
    progress.step("unpack")
    for number, package in enumerate(packages):
        progress.advance(number / len(packages))
        _unpack(package, scratch)
    trees = [*scratch.glob("usr/lib/modules/*"), *scratch.glob("lib/modules/*")]
    images = sorted(scratch.glob("boot/vmlinu[xz]-*"))
    boxes = [path for path in (scratch / "usr/bin/busybox", scratch / "bin/busybox") if path.is_file()]
    if len(trees) != 1 or len(images) != 1 or not boxes:
        raise GuestBuildError(
            f"{', '.join(kernels)} and busybox are not laid out as expected: try another --suite"
        )
    progress.step("initramfs")
    flavour = recipe.FLAVOURS[spec.flavour]
    if driver is not None:
        power_driver.put(trees[0], driver)
    tree = ModuleTree(trees[0])
    modules = tree.resolve(
        (*flavour.modules, *recipe.ARCH_MODULES.get(spec.arch, ()), *power_driver.names(tree.folder))
    )
    initrd = initramfs.build_initramfs(
        busybox=boxes[0].read_bytes(),
        release=trees[0].name,
        modules=modules,
        hostname="vdesktop",
        compression=spec.compression,
        init=flavour.init,
    )
    files = {
        "kernel": images[0].read_bytes(),
        "initrd": initrd,
        MACHINE: _machine(spec).encode(),
    }
    return files, tree


def _disk(
    spec: GuestSpec, apt: Apt, cache: Path, keyring: Path, tree: ModuleTree, progress: Progress
) -> Path | None:
    """Make the disk of a flavour that has one; it stays in the cache folder until it is moved away."""
    flavour = recipe.FLAVOURS[spec.flavour]
    if flavour.root is None:
        return None
    from vdesktop_core.guestbuild.desktop import DesktopDisk

    maker = DesktopDisk(spec.arch, cache, apt, keyring)
    archive = maker.root(flavour.root, progress)
    there = tree.present(flavour.root.modules)
    modules = tree.resolve((*flavour.modules, *there, *power_driver.names(tree.folder)))
    return maker.disk(archive, flavour.root, tree.folder, modules, progress)


def _unpack(package: Package, folder: Path) -> None:
    result = subprocess.run(
        ["dpkg-deb", "-x", package.file, folder], capture_output=True, text=True, check=False
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["unknown reason"])[-1]
        raise GuestBuildError(f"cannot unpack {package.file.name}: {reason}")


def _machine(spec: GuestSpec) -> str:
    flavour = recipe.FLAVOURS[spec.flavour]
    disk = f'\n[[device]]\ntype = "blk"\npath = "{DISK}"\n' if flavour.root is not None else ""
    return f"""\
# A machine for this guest: vdesktop run {MACHINE}
[machine]
name = "{spec.suite}-{spec.arch}"
arch = "{spec.arch}"
memory = "{flavour.memory}"

[boot]
kernel = "kernel"
initrd = "initrd"
append = "{flavour.append}"
{disk}"""


def _manifest(spec: GuestSpec, mirror: str, packages: list[Package], files: dict[str, bytes]) -> bytes:
    manifest = {
        "version": _MANIFEST_VERSION,
        "arch": str(spec.arch),
        "suite": spec.suite,
        "flavour": spec.flavour,
        "mirror": mirror,
        "packages": {p.name: {"version": p.version, "sha256": p.sha256} for p in packages},
        "files": {name: {"size": len(data), "sha256": _digest(data)} for name, data in sorted(files.items())},
    }
    return (json.dumps(manifest, indent=2) + "\n").encode()


def _write(output: Path, files: dict[str, bytes], disk: Path | None, progress: Progress) -> None:
    """Replace the files one by one, each of them whole; the disk is moved."""
    output.mkdir(parents=True, exist_ok=True)
    if _edited(output):
        files = {name: data for name, data in files.items() if name != MACHINE}
        progress.note(f"{output / MACHINE} was edited: kept as it is")
    staged: list[tuple[Path, Path]] = []
    try:
        for name, data in files.items():
            handle, path = tempfile.mkstemp(prefix=f".{name}-", dir=output)
            staged.append((Path(path), output / name))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), 0o644)
                file.flush()
                os.fsync(file.fileno())
        if disk is not None:
            part = output / f".{DISK}-part"
            staged.insert(0, (part, output / DISK))
            _move(disk, part)
        for source, target in staged:
            source.replace(target)
    finally:
        for source, _ in staged:
            source.unlink(missing_ok=True)


def _move(disk: Path, target: Path) -> None:
    """Move the disk, with its holes, to another file system too."""
    try:
        disk.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copied = subprocess.run(["cp", "--sparse=always", disk, target], capture_output=True, check=False)
        if copied.returncode:
            raise GuestBuildError(f"cannot copy the disk to {target.parent}: is there room?") from error
        disk.unlink()


def _refuse_used_disk(output: Path) -> None:
    """A guest's disk is somebody's work: it is not overwritten once the guest has run."""
    with contextlib.suppress(FileNotFoundError):
        if (output / DISK).stat().st_mtime_ns > (output / MANIFEST).stat().st_mtime_ns:
            raise GuestBuildError(
                f"{output / DISK} was written to since it was built: move it away, or use another --output"
            )


def _edited(output: Path) -> bool:
    """Whether the folder's machine file is another than the one its manifest tells of."""
    try:
        present = (output / MACHINE).read_bytes()
    except FileNotFoundError:
        return False
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        manifest = json.loads((output / MANIFEST).read_bytes())
        return bool(manifest["files"][MACHINE]["sha256"] != _digest(present))
    return True


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def _locked(cache: Path, progress: Progress) -> Iterator[None]:
    """Hold the cache folder: two builds at a time would write the same files."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note("another build uses the cache: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
