# SPDX-License-Identifier: MIT
"""The virtio-power driver for a guest's kernel: compiled once, from its sources and Debian's kernel headers.

Headers of a foreign architecture are compiled with, on this host: their Kbuild tools come from the same suite
for the host's own architecture, with the C library they were linked with.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.errors import GuestBuildError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from vdesktop_core.guestbuild.apt import Apt, Package
    from vdesktop_core.guestbuild.progress import Progress

#: The module's name.
NAME = "virtio_power"
#: Where it lies below the kernel's folder of modules.
FOLDER = "updates"
_SOURCES = "virtio_power"
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "riscv64": "riscv64-linux-gnu"}
_LIBRARIES = re.compile(r"lib(c6|elf1(t64)?|zstd1)|zlib1g")
_KERNEL = re.compile(r"linux-image-(\d.*)")
#: What a kernel's configuration found of its own compiler, and the first GCC that has it.
_COMPILER_FEATURES = {"CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT": 14}


class Compiler(msgspec.Struct, frozen=True):
    """A C compiler for a Debian architecture."""

    prefix: str  #: of the names of its tools
    version: str

    @property
    def missing(self) -> list[str]:
        """Settings of a kernel's configuration that this compiler cannot do."""
        major = int(self.version.partition(".")[0])
        return [name for name, first in _COMPILER_FEATURES.items() if major < first]


def find_compiler(architecture: str, host: str) -> Compiler | None:
    """Return what compiles for a Debian architecture, or None where something is not installed.

    Args:
        architecture: of the guest.
        host: of this host.
    """
    prefixes = [_TRIPLETS[architecture] + "-"] + ([""] if architecture == host else [])
    for prefix in prefixes:
        if all(map(shutil.which, (f"{prefix}gcc", f"{prefix}objcopy", "make"))):
            return Compiler(prefix, _run([f"{prefix}gcc", "-dumpfullversion"]).strip())
    return None


def sources() -> dict[str, bytes]:
    """Return the driver's sources by file name."""

    def files(folder: Traversable) -> Iterator[tuple[str, bytes]]:
        for entry in folder.iterdir():
            if entry.is_file() and (entry.name == "Kbuild" or entry.name.endswith((".c", ".h"))):
                yield entry.name, entry.read_bytes()

    return dict(sorted(files(resources.files("vdesktop_guest") / _SOURCES)))


def provide(apt: Apt, architecture: str, kernels: list[str], cache: Path, progress: Progress) -> bytes | None:
    """Return the module for a kernel, from the cache or compiled; None, and a line that says why, without.

    Args:
        apt: the guest's suite and architecture.
        architecture: the guest's, as Debian names it.
        kernels: names of the kernel's packages.
        cache: folder of downloads and compiled modules; locked by the caller.
        progress: hears of what is done.

    Raises:
        GuestBuildError: the headers cannot be had, or the compiler failed.
    """
    host = _run(["dpkg", "--print-architecture"]).strip()
    compiler = find_compiler(architecture, host)
    if compiler is None:
        package = f"gcc-{_TRIPLETS[architecture].replace('_', '-')}"
        progress.note(f"no virtio-power driver in this guest: install {package} and make, build again")
        return None
    progress.step("virtio-power driver")
    release = next(m[1] for name in kernels if (m := _KERNEL.fullmatch(name)))
    headers = f"linux-headers-{release}"
    needed = [name for name in apt.dependencies(headers) if name.startswith("linux-headers-")]
    kbuild = [name for name in apt.dependencies(headers) if name.startswith("linux-kbuild-")]
    host_apt = apt if host == architecture else apt.sibling(host)
    if host_apt is not apt:
        host_apt.update(progress)
    libraries = _libraries(host_apt, kbuild)
    packages = apt.fetch([headers, *needed], progress)
    tools = host_apt.fetch([*kbuild, *libraries], progress)

    kept = cache / "drivers" / f"{NAME}-{release}-{_key(compiler, [*packages, *tools])}.ko"
    if kept.is_file():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory(prefix="vdesktop-driver-") as scratch:
        module = _compile(Path(scratch), headers, compiler, packages, tools)
    kept.parent.mkdir(exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_bytes(module)
    part.replace(kept)
    return module


def put(tree: Path, module: bytes) -> None:
    """Put the module into a kernel's folder of modules."""
    (tree / FOLDER).mkdir(exist_ok=True)
    (tree / FOLDER / f"{NAME}.ko").write_bytes(module)


def names(tree: Path) -> tuple[str, ...]:
    """Return the module's name if a kernel's folder of modules has it."""
    return (NAME,) if (tree / FOLDER / f"{NAME}.ko").is_file() else ()


def _libraries(apt: Apt, packages: list[str]) -> list[str]:
    """Return the shared libraries of Kbuild's tools, and theirs."""
    found: list[str] = []
    for package in packages:
        names = [name for name in apt.dependencies(package) if _LIBRARIES.fullmatch(name)]
        found += [name for name in names if name not in found]
        for name in names:
            found += (
                [more for more in _libraries(apt, [name]) if more not in found] if name != "libc6" else []
            )
    return found


def _key(compiler: Compiler, packages: list[Package]) -> str:
    digest = hashlib.sha256(f"{compiler.prefix} {compiler.version}".encode())
    for package in packages:
        digest.update(package.sha256.encode())
    for name, data in sources().items():
        digest.update(f"{name} {len(data)} ".encode() + data)
    return digest.hexdigest()[:16]


def _compile(
    scratch: Path, headers: str, compiler: Compiler, packages: list[Package], tools: list[Package]
) -> bytes:
    root = scratch / "root"
    for package in (*packages, *tools):
        _run(["dpkg-deb", "-x", str(package.file), str(root)])
    _wrap_tools(root)
    build = root / "usr/src" / headers
    common = next(path for path in (root / "usr/src").glob("linux-headers-*-common*"))
    # The package's own names a place that this is not.
    (build / "Makefile").write_text(f"include {common}/Makefile\n", encoding="utf-8")
    module = scratch / "module"
    module.mkdir()
    for name, data in sources().items():
        (module / name).write_bytes(data)
    settings = [f"{name}=" for name in compiler.missing]
    _run(
        [
            *("make", "-s", "-C", str(build), f"M={module}"),
            *(f"CROSS_COMPILE={compiler.prefix}", f"CC={compiler.prefix}gcc"),
            # Type information comes from a tool and a vmlinux that are not needed for anything else.
            *("CONFIG_DEBUG_INFO_BTF_MODULES=", "W=1", *settings, "modules"),
        ],
        "the virtio-power driver does not compile",
    )
    _run([f"{compiler.prefix}objcopy", "--strip-debug", str(module / f"{NAME}.ko")])
    return (module / f"{NAME}.ko").read_bytes()


def _wrap_tools(root: Path) -> None:
    """Have each of Kbuild's programs run with the C library that came with them: the host's may be older."""
    loader = next((path for path in root.rglob("ld-linux*.so.*") if path.is_file()), None)
    if loader is None:
        raise GuestBuildError("the kernel headers' tools came without a C library: try another --suite")
    libraries = next(root.rglob("libc.so.6")).parent
    for folder in (root / "usr/lib").glob("linux-kbuild-*"):
        for path in [*folder.rglob("*")]:
            if path.is_symlink() or not path.is_file() or path.read_bytes()[:4] != b"\x7fELF":
                continue
            program = path.rename(path.with_name(path.name + ".elf"))
            # Some find their parts by the name they were called by.
            path.write_text(
                f'#!/bin/sh\nexec "{loader}" --argv0 "$0" --library-path "{libraries}" "{program}" "$@"\n',
                encoding="utf-8",
            )
            path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _run(command: list[str], failure: str = "") -> str:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["unknown reason"]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise GuestBuildError(f"{failure or f'{command[0]} failed'}: {reason}")
    return result.stdout
