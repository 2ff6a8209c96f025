# SPDX-License-Identifier: MIT
"""A root of another architecture for a rig, and a layer over it with this project, cross-compiled.

The root is Debian's packages, unpacked and never configured: no program of that architecture runs while it is
made. The layer holds what differs from this host's checkout and Python: compiled extensions and wheels.
"""

from __future__ import annotations

import compileall
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig_image import CACHE, SUITE

from vdesktop_core.guestbuild.mirror import find_mirror

ROOT = Path(__file__).parents[2]
#: Of the Debian suite: what the wheels are chosen for.
_PYTHON = "3.11"
_SITE = "usr/lib/python3/dist-packages"
_PACKAGES = (
    "bash",
    "busybox-static",
    "coreutils",
    "libslirp0",
    "mount",
    "python3",
    "python3-libfdt",
    "util-linux",
)
_BUILDERS = (
    "vdesktop_core/native/build_ffi.py",
    "backends/kvm/build_kvm.py",
    "plugins/usernet/build_usernet.py",
)
#: What only Debian has for every architecture.
_NOT_FROM_PIP = ("pylibfdt",)
_TESTS_NEED = ("pytest", "pytest-asyncio", "pytest-rerunfailures", "pytest-timeout")
_LEFT_OUT = ("doc", "info", "locale", "man")


@dataclass(frozen=True, slots=True)
class Foreign:
    """An architecture: Debian's name, ``uname -m``'s, and further Debian packages that its root has."""

    debian: str
    machine: str
    extra: tuple[str, ...] = ()

    @property
    def compiler(self) -> str:
        """The cross-compiler."""
        return f"{self.machine}-linux-gnu-gcc"

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return CACHE / f"foreign-{self.debian}"

    @property
    def root(self) -> Path:
        """Debian's files."""
        return self.folder / "-".join(("root", *self.extra))

    @property
    def layer(self) -> Path:
        """What lies over the root, and over this checkout's own folder in it."""
        return self.folder / "layer"


ARM64 = Foreign("arm64", "aarch64")


def build(target: Foreign) -> None:
    """Make the root, and bring the layer up to date.

    Raises:
        subprocess.CalledProcessError: a package cannot be had, or something does not compile.
    """
    for tool in ("mmdebstrap", target.compiler):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    _root(target)
    _wheels(target)
    _extensions(target)
    _metadata(target)
    _bytecode(target)


def _fresh(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text() == wanted


def _root(target: Foreign) -> None:
    root = target.root
    packages = ",".join(sorted({*_PACKAGES, *target.extra}))
    stamp = root.with_name(root.name + ".stamp")
    if _fresh(stamp, packages):
        return
    stamp.unlink(missing_ok=True)
    shutil.rmtree(root, ignore_errors=True)
    target.folder.mkdir(parents=True, exist_ok=True)
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    options += ['--aptopt=APT::Install-Recommends "false"', f"--architectures={target.debian}"]
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=extract", *options, f"--include={packages}"),
            *(SUITE, str(root), f"deb {find_mirror(SUITE)} {SUITE} main"),
        ],
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    stamp.write_text(packages)


def _bytecode(target: Foreign) -> None:
    """Compile the Python files: a rig cannot keep what it compiles, and needs half a minute for it.

    Bytecode is the same on all architectures; where this Python is of another version, rigs do it themselves.
    """
    if sysconfig.get_python_version() != _PYTHON:
        return
    for folder in (target.root / "usr/lib", target.layer / _SITE):
        # By the files' times and sizes, as the interpreter does: what is compiled already is looked at only.
        compileall.compile_dir(folder, quiet=2, stripdir=str(target.root), workers=0)


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _wheels(target: Foreign) -> None:
    project = _project()["project"]
    wanted = [*project["dependencies"], *_TESTS_NEED]
    wanted = [one for one in wanted if not one.startswith(_NOT_FROM_PIP)]
    stamp = target.folder / "wheels.stamp"
    if _fresh(stamp, " ".join(wanted)):
        return
    site = target.layer / _SITE
    shutil.rmtree(site, ignore_errors=True)
    platforms = [f"--platform=manylinux{tag}_{target.machine}" for tag in ("2014", "_2_17", "_2_28")]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *(f"--target={site}", f"--python-version={_PYTHON}", "--implementation=cp", *platforms),
            *("--only-binary=:all:", "--no-compile", "--upgrade", *wanted),
        ],
        check=True,
    )
    stamp.write_text(" ".join(wanted))


def _extensions(target: Foreign) -> None:
    for builder in _BUILDERS:
        ffi = runpy.run_path(str(ROOT / builder))["ffi"]
        module, _, _, options = ffi._assigned_source
        folder = _package_folder(module.partition(".")[0])
        output = target.layer / ROOT.relative_to("/") / folder / f"{module.rpartition('.')[2]}.abi3.so"
        sources = _of_target([ROOT / source for source in options["sources"]], target)
        newest = max(path.stat().st_mtime for path in _inputs(builder, sources))
        if output.is_file() and output.stat().st_mtime > newest:
            continue
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            generated = Path(scratch, "generated.c")
            ffi.emit_c_code(str(generated))
            headers = _python_headers(Path(scratch), target)
            includes = [f"-I{path}" for path in (*headers, *map(str, options["include_dirs"]))]
            link = [f"-l{name}" for name in options.get("libraries", ())]
            link += options.get("extra_link_args", ())
            subprocess.run(
                [
                    *(target.compiler, "-shared", "-fPIC", "-Werror"),
                    *(*options["extra_compile_args"], *includes),
                    *("-o", str(output), str(generated), *map(str, sources), *link),
                ],
                check=True,
                cwd=ROOT,
            )


def _of_target(sources: list[Path], target: Foreign) -> list[Path]:
    """Exchange the sources that are for this host's architecture only, in the backend's folder."""
    backend = runpy.run_path(str(ROOT / "backends/kvm/build_kvm.py"))
    mine = set(backend["sources"](os.uname().machine))
    if not mine <= set(sources):
        return sources
    return list(backend["sources"](target.machine))


def _inputs(builder: str, sources: list[Path]) -> list[Path]:
    headers = [path for folder in {path.parent for path in sources} for path in folder.glob("*.h")]
    contract = list((ROOT / "vdesktop_core/native/include/vdesktop").glob("*.h"))
    return [ROOT / builder, *sources, *headers, *contract]


def _python_headers(scratch: Path, target: Foreign) -> tuple[str, ...]:
    """Return folders with this Python's headers.

    The stable ABI is the same for all 64-bit architectures of Linux; where Debian keeps a ``pyconfig.h`` for
    each, this host's stands in.
    """
    include = sysconfig.get_path("include")
    version = Path(include).name
    own = Path("/usr/include", f"{os.uname().machine}-linux-gnu", version, "pyconfig.h")
    if not own.is_file():
        return (include,)
    shim = scratch / f"{target.machine}-linux-gnu" / version / "pyconfig.h"
    shim.parent.mkdir(parents=True)
    shim.write_text(f'#include "{own}"\n')
    return (include, str(scratch))


def _package_folder(package: str) -> str:
    return str(_project()["tool"]["setuptools"]["package-dir"][package])


def _metadata(target: Foreign) -> None:
    """Make this checkout an installed distribution of that root's Python."""
    project = _project()
    site = target.layer / _SITE
    folders = {str((ROOT / path).parent) for path in project["tool"]["setuptools"]["package-dir"].values()}
    (site / "vdesktop.pth").write_text("\n".join(sorted(folders)) + "\n")
    info = site / f"vdesktop-{project['project']['version']}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: vdesktop\nVersion: {project['project']['version']}\n"
    )
    entries = project["project"]["entry-points"]["vdesktop"]
    (info / "entry_points.txt").write_text(
        "[vdesktop]\n" + "".join(f"{name} = {module}\n" for name, module in entries.items())
    )
    module, function = project["project"]["scripts"]["vdesktop"].split(":")
    command = target.layer / "usr/bin/vdesktop"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(
        f"#!/usr/bin/python3\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
    )
    command.chmod(0o755)
    # What dash's configuration would have made.
    shell = target.layer / "bin/sh"
    shell.parent.mkdir(exist_ok=True)
    if not shell.is_symlink():
        shell.symlink_to("bash")
