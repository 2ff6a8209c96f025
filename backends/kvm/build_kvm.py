# SPDX-License-Identifier: MIT
"""Builds ``vdesktop_kvm._kvm``, against the kernel's ``<linux/kvm.h>`` and no library."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import cffi

HERE = Path(__file__).parent
NATIVE = HERE / "vdesktop_kvm" / "native"
#: Prefixes of the sources that are for one architecture only, by that of the host.
ARCHES = {"x86_64": "x86", "aarch64": "arm64", "riscv64": "riscv64"}
CORE_INCLUDE = HERE.parent.parent / "vdesktop_core" / "native" / "include"


def declarations(header: Path) -> str:
    """Return a header as cffi's parser takes it: without comments and directives."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def sources(machine: str) -> list[Path]:
    """Return the C files for hosts of an architecture, by its ``uname -m`` name."""
    others = {prefix for name, prefix in ARCHES.items() if name != machine}
    return sorted(path for path in NATIVE.glob("*.c") if path.name.partition("_")[0] not in others)


ffi = cffi.FFI()
ffi.cdef("struct vd_irq; struct vd_io; struct vd_written;")
ffi.cdef(declarations(NATIVE / "vk.h"))
ffi.cdef('extern "Python" void vk_py_event(void *opaque, int reason, const char *detail);')
ffi.set_source(
    "vdesktop_kvm._kvm",
    '#include "vk.h"',
    sources=[str(path.relative_to(HERE.parent.parent)) for path in sources(platform.machine())],
    include_dirs=[str(NATIVE), str(CORE_INCLUDE)],
    libraries=["pthread"],
    extra_compile_args=["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fvisibility=hidden"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
