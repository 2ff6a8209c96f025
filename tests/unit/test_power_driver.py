# SPDX-License-Identifier: MIT
"""The virtio-power driver of built guests: when it is compiled, from what, and what is said without it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.errors import GuestBuildError
from vdesktop_core.guestbuild import power_driver
from vdesktop_core.guestbuild.apt import Package
from vdesktop_core.guestbuild.power_driver import Compiler

if TYPE_CHECKING:
    from pathlib import Path

KERNELS = ["linux-modules-6.12-test", "linux-image-6.12-test"]


class Recorder:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []

    def step(self, title: str) -> None:
        self.steps.append(title)

    def advance(self, fraction: float) -> None:
        assert 0 <= fraction <= 1

    def note(self, line: str) -> None:
        self.notes.append(line)


class FakeApt:
    """Packages of which the headers are needed, and files of the same content."""

    def __init__(self, folder: Path) -> None:
        self.fetched: list[str] = []
        self._folder = folder

    def sibling(self, _architecture: str) -> FakeApt:
        return self

    def update(self, _progress: Recorder) -> None:
        pass

    def dependencies(self, package: str) -> list[str]:
        return {
            "linux-headers-6.12-test": [
                "linux-base",
                "linux-headers-6.12-common",
                "linux-kbuild-6.12",
                "gcc-14",
            ],
            "linux-kbuild-6.12": ["libc6", "libelf1t64", "libssl3t64", "pahole"],
            "libelf1t64": ["libc6", "zlib1g", "libzstd1"],
        }.get(package, [])

    def fetch(self, packages: list[str], _progress: Recorder) -> list[Package]:
        self.fetched += packages
        return [Package(name, "1", self._folder / name, name) for name in packages]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Compiles nothing, and remembers for which headers."""
    seen: list[str] = []

    def compile_(_scratch: Path, headers: str, *_rest: object) -> bytes:
        seen.append(headers)
        return b"module"

    monkeypatch.setattr(power_driver, "_compile", compile_)
    monkeypatch.setattr(power_driver, "find_compiler", lambda *_: Compiler("test-", "12.2.0"))
    return seen


def provide(folder: Path, recorder: Recorder) -> tuple[FakeApt, bytes | None]:
    apt = FakeApt(folder)
    return apt, power_driver.provide(apt, "riscv64", KERNELS, folder, recorder)  # type: ignore[arg-type]


def test_power_driver_is_compiled_once_for_a_kernel(tmp_path: Path, compiled: list[str]) -> None:
    recorder = Recorder()
    for _ in range(2):
        apt, module = provide(tmp_path, recorder)
        assert module == b"module"
    assert compiled == ["linux-headers-6.12-test"]
    assert apt.fetched[:2] == ["linux-headers-6.12-test", "linux-headers-6.12-common"]
    assert set(apt.fetched[2:]) == {"linux-kbuild-6.12", "libc6", "libelf1t64", "zlib1g", "libzstd1"}
    assert recorder.steps == ["virtio-power driver"] * 2


@pytest.mark.parametrize("what", ["compiler", "source"])
def test_power_driver_is_compiled_again_where_something_changed(
    tmp_path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    provide(tmp_path, Recorder())
    if what == "compiler":
        monkeypatch.setattr(power_driver, "find_compiler", lambda *_: Compiler("test-", "13.1.0"))
    else:
        monkeypatch.setattr(power_driver, "sources", lambda: {"core.c": b"other"})
    provide(tmp_path, Recorder())
    assert len(compiled) == 2


def test_power_driver_without_a_compiler_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_driver.shutil, "which", lambda _name: None)
    recorder = Recorder()
    _, module = provide(tmp_path, recorder)
    assert module is None
    assert recorder.notes == [
        "no virtio-power driver in this guest: install gcc-riscv64-linux-gnu and make, build again"
    ]


@pytest.mark.parametrize(("version", "missing"), [("12.2.0", 1), ("13", 1), ("14.2.0", 0), ("15", 0)])
def test_power_driver_compiler_older_than_the_kernel_s_leaves_its_features_out(
    version: str, missing: int
) -> None:
    assert len(Compiler("", version).missing) == missing


def test_power_driver_sources_are_those_that_kbuild_names() -> None:
    sources = power_driver.sources()
    objects = sources["Kbuild"].decode().partition("virtio_power-y := ")[2].splitlines()[0].split()
    assert {name for name in sources if name.endswith(".c")} == {o.replace(".o", ".c") for o in objects}
    assert "virtio_power.h" in sources


def test_power_driver_is_put_where_modprobe_finds_it(tmp_path: Path) -> None:
    assert power_driver.names(tmp_path) == ()
    power_driver.put(tmp_path, b"module")
    assert power_driver.names(tmp_path) == ("virtio_power",)
    assert (tmp_path / "updates/virtio_power.ko").read_bytes() == b"module"


def test_power_driver_tools_run_with_their_own_c_library(tmp_path: Path) -> None:
    library = tmp_path / "usr/lib/x86_64-linux-gnu"
    folder = tmp_path / "usr/lib/linux-kbuild-6.12/scripts"
    for path in (library, folder):
        path.mkdir(parents=True)
    loader = library / "ld-linux-x86-64.so.2"
    loader.write_text('#!/bin/sh\necho "$@"\n')
    loader.chmod(0o755)
    (library / "libc.so.6").touch()
    (folder / "modpost").write_bytes(b"\x7fELF rest")
    (folder / "script.sh").write_text("#!/bin/sh\n")
    power_driver._wrap_tools(tmp_path)
    said = subprocess.run([folder / "modpost", "a b", "c"], capture_output=True, text=True, check=True).stdout
    tool = folder / "modpost"
    assert said.split() == [
        "--argv0",
        str(tool),
        "--library-path",
        str(library),
        f"{tool}.elf",
        "a",
        "b",
        "c",
    ]
    assert (folder / "script.sh").read_text() == "#!/bin/sh\n"


def test_power_driver_tools_without_a_c_library_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(GuestBuildError, match="without a C library"):
        power_driver._wrap_tools(tmp_path)
