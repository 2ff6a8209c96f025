# SPDX-License-Identifier: MIT
"""Builds ``vdesktop_kvm._kvm``, against the kernel's ``<linux/kvm.h>`` and no library."""

from __future__ import annotations

import re
from pathlib import Path

import cffi

HERE = Path(__file__).parent
NATIVE = HERE / "vdesktop_kvm" / "native"
CORE_INCLUDE = HERE.parent.parent / "vdesktop_core" / "native" / "include"


def declarations(header: Path) -> str:
    """Return a header as cffi's parser takes it: without comments and directives."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


ffi = cffi.FFI()
ffi.cdef("struct vd_irq; struct vd_io; struct vd_written;")
ffi.cdef(declarations(NATIVE / "vk.h"))
ffi.cdef('extern "Python" void vk_py_event(void *opaque, int reason, const char *detail);')
ffi.set_source(
    "vdesktop_kvm._kvm",
    '#include "vk.h"',
    sources=sorted(str(p.relative_to(HERE.parent.parent)) for p in NATIVE.glob("*.c")),
    include_dirs=[str(NATIVE), str(CORE_INCLUDE)],
    libraries=["pthread"],
    extra_compile_args=["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
