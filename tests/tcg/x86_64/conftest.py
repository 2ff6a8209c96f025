# SPDX-License-Identifier: GPL-2.0-only
"""The APIC models of x86_64, compiled by themselves, and programs on the software CPU."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cffi
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from bare_metal import BareMetal

from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NATIVE = Path(__file__).parents[3] / "backends" / "tcg" / "vdesktop_tcg" / "native"
SOURCES = ("x86_apic_bus.c", "x86_ioapic.c", "x86_lapic.c", "x86_lapic_timer.c")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_DEFINE = re.compile(r"^#define\s+(\w+)\s+(0[xX][0-9a-fA-F]+|\d+)u?\s*$")


def _declarations(header: Path) -> str:
    lines = []
    for line in _COMMENT.sub("", header.read_text()).splitlines():
        if not line.startswith("#"):
            lines.append(line)
        elif macro := _DEFINE.match(line):
            lines.append(f"#define {macro[1]} {macro[2]}")
    return "\n".join(lines)


class Library:
    def __init__(self, path: Path) -> None:
        flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
        # Undefined behaviour in a model is a bug of the model: trap on it.
        flags += ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
        subprocess.run(["cc", *flags, *(NATIVE / name for name in SOURCES), "-o", path], check=True)
        self.ffi = cffi.FFI()
        self.ffi.cdef(_declarations(NATIVE / "x86_apic.h"))
        self.lib: Any = self.ffi.dlopen(str(path))


class Apics:
    """A bus of local APICs and the I/O APIC, with a clock the test moves."""

    NEVER = 2**64 - 1

    def __init__(self, library: Library, cpus: int) -> None:
        ffi, self.lib = library.ffi, library.lib
        self.clock = 1_000_000
        self.intr = [False] * cpus
        self.calls: list[tuple[Any, ...]] = []
        self.bus = ffi.new("struct apic_bus *")
        host = self.bus.host
        self._keep = [
            ffi.callback("uint64_t(void *)", lambda _: self.clock),
            ffi.callback("void(void *, uint32_t, bool)", lambda _, cpu, level: self._set(cpu, level)),
            ffi.callback("void(void *, uint32_t)", lambda _, cpu: self.calls.append(("prefer", cpu))),
            ffi.callback("void(void *, uint32_t)", lambda _, cpu: self.calls.append(("nmi", cpu))),
            ffi.callback("void(void *, uint32_t)", lambda _, cpu: self.calls.append(("init", cpu))),
            ffi.callback(
                "void(void *, uint32_t, uint8_t)", lambda _, cpu, page: self.calls.append(("sipi", cpu, page))
            ),
            ffi.callback("void(void *, uint32_t, uint64_t)", lambda _, cpu, at: self._timer(cpu, at)),
        ]
        host.now, host.interrupt, host.prefer, host.nmi, host.init, host.sipi, host.timer = self._keep
        self.deadlines = [self.NEVER] * cpus
        self.lib.apic_bus_reset(self.bus, cpus)
        for cpu in range(cpus):
            self.write(cpu, 0xF0, 0x1FF)

    def _set(self, cpu: int, level: bool) -> None:
        self.intr[cpu] = level

    def _timer(self, cpu: int, deadline: int) -> None:
        self.deadlines[cpu] = min(self.deadlines[cpu], deadline)

    def read(self, cpu: int, offset: int) -> int:
        return int(self.lib.lapic_read(self.bus, cpu, offset))

    def write(self, cpu: int, offset: int, value: int) -> None:
        self.lib.lapic_write(self.bus, cpu, offset, value)

    def acknowledge(self, cpu: int) -> int:
        return int(self.lib.lapic_acknowledge(self.bus, cpu))

    def eoi(self, cpu: int) -> None:
        self.write(cpu, 0xB0, 0)

    def ipi(self, cpu: int, low: int, destination: int = 0) -> None:
        self.write(cpu, 0x310, destination << 24)
        self.write(cpu, 0x300, low)

    def timer(self, cpu: int) -> int:
        return int(self.lib.lapic_timer(self.bus, cpu, self.clock))

    def bits(self, cpu: int, base: int) -> set[int]:
        words = [self.read(cpu, base + 0x10 * i) for i in range(8)]
        return {32 * i + bit for i, word in enumerate(words) for bit in range(32) if word >> bit & 1}

    def redirect(self, pin: int, entry: int) -> None:
        for half, value in ((1, entry >> 32), (0, entry & 0xFFFFFFFF)):
            self.lib.ioapic_write(self.bus, 0x00, 0x10 + 2 * pin + half)
            self.lib.ioapic_write(self.bus, 0x10, value)

    def entry(self, pin: int) -> int:
        value = 0
        for half in (0, 1):
            self.lib.ioapic_write(self.bus, 0x00, 0x10 + 2 * pin + half)
            value |= int(self.lib.ioapic_read(self.bus, 0x10)) << 32 * half
        return value

    def line(self, pin: int, level: bool) -> None:
        self.lib.ioapic_set_levels(self.bus, 1 << pin, int(level) << pin)


@pytest.fixture(scope="session")
def apic_library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(tmp_path_factory.mktemp("apic") / "apic.so")


@pytest.fixture(scope="session")
def new_apics(apic_library: Library) -> Callable[[], Apics]:
    """For property tests, which need fresh models an example."""
    return lambda: Apics(apic_library, 4)


@pytest.fixture
def apics(new_apics: Callable[[], Apics]) -> Apics:
    return new_apics()


@pytest.fixture
def machine() -> Iterator[BareMetal]:
    with BareMetal(Arch.X86_64) as bare:
        yield bare


@pytest.fixture
def four() -> Iterator[BareMetal]:
    with BareMetal(Arch.X86_64, vcpus=4) as bare:
        yield bare
