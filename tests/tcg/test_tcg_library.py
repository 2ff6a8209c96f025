# SPDX-License-Identifier: GPL-2.0-only
"""Which library the backend accepts, and that it leaves other users of Unicorn alone."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from vdesktop_tcg import library
from vdesktop_tcg.hypervisor import TcgHypervisor

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch, EntryState, VmSpec
from vdesktop_core.memory import MemoryRegion

if TYPE_CHECKING:
    from pathlib import Path

LOAD = """
import sys
from vdesktop_tcg._tcg import ffi, lib
error = ffi.new("char[]", 512)
print(lib.tcg_library_load(sys.argv[1].encode(), error, len(error)), ffi.string(error).decode())
"""


def in_a_process(script: str, *arguments: str) -> str:
    """Run Python code: a library is loaded once a process."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def fake_library(folder: Path, version: str) -> str:
    functions = [
        "reg_read",
        "reg_write",
        "hook_add",
        "mem_map_ptr",
        "mem_unmap",
        "mmio_map",
        "open",
        "close",
        "ctl",
        "strerror",
    ]
    source = folder / "fake.c"
    source.write_text(
        "".join(f"int uc_{name}(void) {{ return 0; }}\n" for name in functions)
        + "unsigned uc_version(unsigned *major, unsigned *minor) { "
        + "*major = {}; *minor = {}; return *major << 24 | *minor << 16 | {} << 8; }}\n".format(
            *version.split(".")
        )
    )
    path = folder / "libfake.so"
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
    return str(path)


def test_library_that_is_not_unicorn_is_refused_in_one_line() -> None:
    answer = in_a_process(LOAD, "libm.so.6")
    assert answer.startswith("-1 ")
    assert "pip install" in answer
    assert answer.count("\n") == 1


def test_library_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert in_a_process(LOAD, str(tmp_path / "no.so")).startswith("-1 cannot load ")


@pytest.mark.parametrize("version", ["2.1.3", "2.2.4", "3.1.4", "1.0.3"])
def test_other_version_is_refused_by_name(tmp_path: Path, version: str) -> None:
    answer = in_a_process(LOAD, fake_library(tmp_path, version))
    assert answer.startswith("-1 ")
    assert f"Unicorn {version}, and only 2.1.4 will do" in answer


def test_right_version_without_the_insides_is_refused_when_a_machine_is_made(tmp_path: Path) -> None:
    script = LOAD + (
        'vm = lib.tcg_vm_new(b"aarch64", 1, b"", error, len(error))\n'
        "print(vm == ffi.NULL, ffi.string(error).decode())\n"
    )
    answer = in_a_process(script, fake_library(tmp_path, "2.1.4"))
    assert answer.splitlines()[0].startswith("0")
    assert answer.splitlines()[1].startswith("True this libunicorn has no function ")


def test_unicorn_that_is_not_installed_makes_the_backend_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    probe = TcgHypervisor().probe()
    assert not probe.available
    assert "pip install" in probe.reason


def test_package_without_the_library_makes_the_backend_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = importlib.machinery.ModuleSpec("unicorn", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(BackendError, match=r"Unicorn 2\.1\.4"):
        library.find()


def test_probe_finds_what_the_wheel_can_do() -> None:
    probe = TcgHypervisor().probe()
    assert probe.available
    assert set(probe.architectures) == set(Arch)


OTHERS = """
import unicorn
from unicorn import arm64_const, x86_const

def emulate():
    engine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    engine.mem_map(0x1000, 0x2000)
    # ldr x1, [x0]; subs x2, x2, #1; b.ne -4; add x1, x1, #1
    code = bytes.fromhex("010040f9 420400f1 e1ffff54 21040091")
    engine.mem_write(0x1000, code)
    engine.mem_write(0x2000, (41).to_bytes(8, "little"))
    engine.reg_write(arm64_const.UC_ARM64_REG_X0, 0x2000)
    engine.reg_write(arm64_const.UC_ARM64_REG_X2, 1000)
    seen = []
    engine.hook_add(unicorn.UC_HOOK_CODE, lambda *a: seen.append(a[1]), begin=0x100C, end=0x100C)
    engine.emu_start(0x1000, 0x1010)
    other = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    other.mem_map(0x1000, 0x1000)
    other.mem_write(0x1000, bytes.fromhex("b82a000000 ebfe"))  # mov eax, 42; jmp .
    other.hook_add(unicorn.UC_HOOK_BLOCK, lambda engine, pc, *a: pc != 0x1000 and engine.emu_stop())
    other.emu_start(0x1000, 0)
    return (engine.reg_read(arm64_const.UC_ARM64_REG_X1), len(seen), other.reg_read(x86_const.UC_X86_REG_EAX))

from vdesktop_core.hypervisor import Arch, VmSpec
from vdesktop_tcg.hypervisor import TcgHypervisor
before = emulate() if BEFORE else None
machines = [TcgHypervisor().create(VmSpec(arch=arch, vcpus=2)) for arch in Arch]
during = emulate()
for machine in machines:
    machine.close()
print(before, during, emulate())
"""


@pytest.mark.parametrize("before", [True, False])
def test_other_users_of_unicorn_in_the_process_are_not_disturbed(before: bool) -> None:
    right = (42, 1, 42)
    assert in_a_process(f"BEFORE = {before}\n{OTHERS}").strip() == (
        f"{right if before else None} {right} {right}"
    )


@pytest.mark.parametrize("arch", list(Arch))
def test_creation_mistakes_are_one_line_each(arch: Arch) -> None:
    hypervisor = TcgHypervisor()
    with pytest.raises(BackendError, match="9 vCPUs"):
        hypervisor.create(VmSpec(arch=arch, vcpus=9))
    with pytest.raises(BackendError, match="integers"):
        hypervisor.create(VmSpec(arch=arch, vcpus=1, options={"speed": "fast"}))


def test_map_and_line_mistakes_are_refused() -> None:
    machine = TcgHypervisor().create(VmSpec(arch=Arch.AARCH64, vcpus=1))
    region = MemoryRegion("test", 1 << 20)
    try:
        machine.map_memory(0x40000000, region)
        for gpa, why in ((0x40000000, "exists"), (0x400FF000, "exists"), (0x50000001, "Invalid")):
            with pytest.raises(BackendError, match=why):
                machine.map_memory(gpa, region)
        with pytest.raises(BackendError):
            machine.map_memory(0x50000000, region, readonly=True)
        with pytest.raises(BackendError):
            machine.unmap_memory(0x50000000)
        for line in (-1, 128):
            with pytest.raises(BackendError, match="no interrupt line"):
                machine.irq_line(line)
        with pytest.raises(BackendError, match="register rax"):
            machine.set_entry(EntryState({"rax": 1}))
        with pytest.raises(BackendError, match="register x31"):
            machine.set_entry(EntryState({"x31": 1}))
    finally:
        machine.close()
        machine.close()
        region.close()


@pytest.mark.parametrize("size", [0, -1, (1 << 20) - 1, (1 << 30) + 1])
def test_translation_buffer_of_a_senseless_size_is_refused(size: int) -> None:
    spec = VmSpec(Arch.RISCV64, 1, "test", {"translation_buffer": size})
    with pytest.raises(BackendError, match=f"translation_buffer is {size} bytes: give it 1048576 to"):
        TcgHypervisor().create(spec)
