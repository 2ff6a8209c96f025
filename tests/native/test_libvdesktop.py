# SPDX-License-Identifier: MIT
"""libvdesktop: the C core for programs without Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "vdesktop_core" / "native"

#: What a compiler may call even where there is no C library (gcc, "Standards", freestanding).
FREESTANDING = {"memcpy", "memmove", "memset", "memcmp", "_GLOBAL_OFFSET_TABLE_"}
#: The part that a hypervisor without a C library takes.
CORE = (
    "mem",
    "ring",
    "ring_split",
    "ring_packed",
    "device",
    "mmio",
    "mmio_registers",
    "mmio_events",
    "batch",
)


def run(*command: object) -> str:
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("libvdesktop")
    run("make", "-s", "-C", NATIVE, f"O={where}/out", "install", f"PREFIX={where}/usr")
    return where


@pytest.mark.parametrize("library", ["libvdesktop.a", "libvdesktop.so"])
def test_embedder_serves_a_request_without_python(built: Path, library: str) -> None:
    program = built / f"embedder-{library}"
    usr = built / "usr"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{usr}/include", "-pthread"]
    run(
        "gcc",
        *flags,
        Path(__file__).parent / "embedder.c",
        usr / "lib" / library,
        f"-Wl,-rpath,{usr}/lib",
        "-o",
        program,
    )
    assert run(program) == "embedded used=1 len=8 line=1 isr=1\n"


def test_shared_library_exports_what_the_headers_declare_only(built: Path) -> None:
    symbols = {
        line.split()[-1].split("@")[0]
        for line in run("nm", "-D", "--defined-only", built / "usr/lib/libvdesktop.so").splitlines()
    }
    assert {"vd_mmio_new", "vd_queue_pop", "vd_mem_new"} <= symbols
    assert not {"vd_split_pop", "vd_mem_find"} & symbols


@pytest.mark.parametrize("name", CORE)
def test_core_needs_no_c_library(built: Path, name: str) -> None:
    undefined = {line.split()[-1] for line in run("nm", "-u", built / "out" / f"{name}.o").splitlines()}
    assert {symbol for symbol in undefined if not symbol.startswith("vd_")} <= FREESTANDING


@pytest.mark.parametrize("name", CORE)
def test_core_has_no_writable_globals(built: Path, name: str) -> None:
    sections = (line.split()[:2] for line in run("size", "-A", built / "out" / f"{name}.o").splitlines()[2:])
    sizes = {fields[0]: int(fields[1]) for fields in sections if len(fields) == 2}
    assert sizes.get(".data", 0) == sizes.get(".bss", 0) == 0
