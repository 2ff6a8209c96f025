# SPDX-License-Identifier: MIT
"""The kvm backend's part for riscv64 hosts: its PLIC is run, the rest compiled."""

from __future__ import annotations

import importlib.util
import random
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cffi
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKEND = Path(__file__).parents[2] / "backends/kvm"
NATIVE = BACKEND / "vdesktop_kvm/native"
CORE = Path(__file__).parents[2] / "vdesktop_core/native/include"
SOURCES, CONTEXTS = 96, 3
ENABLE, CONTEXT = 0x2000, 0x20_0000

_DECLARATIONS = """
extern "Python" void heard(void *, uint32_t, bool);
struct vk_plic;
struct vk_plic *plic_new(uint32_t contexts);
void free(void *);
void vk_plic_reset(struct vk_plic *plic);
void vk_plic_set_line(struct vk_plic *plic, uint32_t source, bool level);
uint32_t vk_plic_read(struct vk_plic *plic, uint64_t offset);
void vk_plic_write(struct vk_plic *plic, uint64_t offset, uint32_t value);
"""
_SOURCE = """
#include <stdlib.h>
#include "riscv64_plic.h"
static void heard(void *, uint32_t, bool);
static struct vk_plic *plic_new(uint32_t contexts) {
    struct vk_plic *plic = calloc(1, sizeof *plic);
    plic->contexts = contexts;
    plic->set = heard;
    return plic;
}
"""


class Plic:
    """The model under test; ``raised`` are the contexts whose interrupt line is high."""

    def __init__(self, module: Any) -> None:
        self.lib = module.lib
        self.raised: set[int] = set()
        module.ffi.def_extern(name="heard")(self._heard)
        self.plic = module.lib.plic_new(CONTEXTS)

    def _heard(self, _opaque: Any, context: int, level: bool) -> None:
        (self.raised.add if level else self.raised.discard)(context)

    def line(self, source: int, *, level: bool) -> None:
        self.lib.vk_plic_set_line(self.plic, source, level)

    def read(self, offset: int) -> int:
        return int(self.lib.vk_plic_read(self.plic, offset))

    def write(self, offset: int, value: int) -> None:
        self.lib.vk_plic_write(self.plic, offset, value)

    def enable(self, context: int, *sources: int) -> None:
        for source in sources:
            word = ENABLE + context * 0x80 + source // 32 * 4
            self.write(word, self.read(word) | 1 << source % 32)

    def claim(self, context: int) -> int:
        return self.read(CONTEXT + context * 0x1000 + 4)

    def complete(self, context: int, source: int) -> None:
        self.write(CONTEXT + context * 0x1000 + 4, source)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("plic")
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    ffi.set_source("_kvm_plic", _SOURCE, sources=[str(NATIVE / "riscv64_plic.c")], include_dirs=[str(NATIVE)])
    spec = importlib.util.spec_from_file_location("_kvm_plic", ffi.compile(str(folder)))
    assert spec is not None
    assert spec.loader is not None
    compiled = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compiled)
    return compiled


@pytest.fixture
def plic(module: Any) -> Iterator[Plic]:
    plic = Plic(module)
    yield plic
    module.lib.free(plic.plic)


def test_plic_claims_by_priority_then_by_number(plic: Plic) -> None:
    for source, priority in ((5, 1), (9, 3), (40, 3), (77, 2)):
        plic.write(4 * source, priority)
        plic.enable(0, source)
        plic.line(source, level=True)
    assert plic.raised == {0}
    assert [plic.claim(0) for _ in range(5)] == [9, 40, 77, 5, 0]
    assert plic.raised == set()


def test_plic_line_that_stays_high_interrupts_again_after_its_completion(plic: Plic) -> None:
    plic.write(4 * 33, 1)
    plic.enable(1, 33)
    plic.line(33, level=True)
    assert (set(plic.raised), plic.claim(1)) == ({1}, 33)
    plic.line(33, level=True)
    assert (set(plic.raised), plic.claim(1)) == (set(), 0)
    plic.complete(1, 33)
    assert (set(plic.raised), plic.claim(1)) == ({1}, 33)
    plic.line(33, level=False)
    plic.complete(1, 33)
    assert (set(plic.raised), plic.claim(1)) == (set(), 0)


def test_plic_line_that_was_lowered_in_time_does_not_interrupt(plic: Plic) -> None:
    plic.write(4 * 7, 1)
    plic.enable(2, 7)
    plic.line(7, level=True)
    plic.line(7, level=False)
    assert (set(plic.raised), plic.claim(2)) == (set(), 0)


def test_plic_threshold_and_priority_0_mask(plic: Plic) -> None:
    plic.enable(0, 3)
    plic.line(3, level=True)
    assert plic.raised == set()
    plic.write(4 * 3, 4)
    assert plic.raised == {0}
    plic.write(CONTEXT, 4)
    assert plic.raised == set()
    plic.write(CONTEXT, 3)
    assert plic.claim(0) == 3


def test_plic_completion_by_another_context_is_ignored(plic: Plic) -> None:
    plic.write(4 * 8, 1)
    plic.enable(0, 8)
    plic.line(8, level=True)
    assert plic.claim(0) == 8
    plic.complete(1, 8)
    assert plic.raised == set()
    plic.complete(0, 8)
    assert plic.raised == {0}


def test_plic_reset_keeps_the_lines_and_nothing_else(plic: Plic) -> None:
    plic.write(4 * 8, 1)
    plic.enable(0, 8)
    plic.line(8, level=True)
    plic.claim(0)
    plic.lib.vk_plic_reset(plic.plic)
    assert plic.read(ENABLE) == plic.read(4 * 8) == 0
    plic.write(4 * 8, 1)
    plic.enable(0, 8)
    assert plic.claim(0) == 8


def test_plic_registers_that_do_not_exist_read_0_and_change_nothing(plic: Plic) -> None:
    random_ = random.Random(4)
    for _ in range(20000):
        size = random_.choice([1 << 26, 1 << 13, 1 << 18])
        offset = random_.randrange(size) + (CONTEXT if size == 1 << 18 else 0)
        plic.write(offset, random_.randrange(1 << 32))
        plic.read(offset)
        plic.line(random_.randrange(1 << 9), level=bool(random_.randrange(2)))
    assert plic.read(0) == 0
    assert plic.read(4 * SOURCES) == plic.read(ENABLE + CONTEXTS * 0x80) == 0
    assert all(plic.read(offset) == 0 for offset in (1, 2, 0x1003, CONTEXT + 2, CONTEXT + 8))
    for context in range(CONTEXTS):
        assert not plic.read(ENABLE + context * 0x80) & 1


@pytest.mark.host("cross-compilers")
@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_backend_compiles_for_hosts_of_other_architectures(machine: str) -> None:
    compiler = f"{machine}-linux-gnu-gcc"
    if shutil.which(compiler) is None or not Path(f"/usr/{machine}-linux-gnu/include/linux/kvm.h").is_file():
        pytest.skip(f"{compiler} and its headers are not installed")
    sources = runpy.run_path(str(BACKEND / "build_kvm.py"))["sources"](machine)
    assert any(path.name.startswith(("arm64_", "riscv64_")) for path in sources)
    flags = ["-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}", f"-I{CORE}"]
    subprocess.run([compiler, *flags, *sources], check=True)
