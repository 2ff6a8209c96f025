# SPDX-License-Identifier: GPL-2.0-only
"""Builds ``vdesktop_tcg._tcg``: every C file below ``vdesktop_tcg/native``."""

from __future__ import annotations

import re
from pathlib import Path

import cffi

HERE = Path(__file__).parent
NATIVE = HERE / "vdesktop_tcg" / "native"
CORE_INCLUDE = HERE.parent.parent / "vdesktop_core" / "native" / "include"


def declarations(header: Path) -> str:
    """Return a header as cffi's parser takes it: no comments, no directives but integer constants."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    constant = re.compile(r"^#define \w+\s+(0[xX][0-9a-fA-F]+|\d+)$")
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if not line.startswith("#") or constant.match(line))


ffi = cffi.FFI()
ffi.cdef("struct vd_irq; struct vd_io; struct vd_written;")
ffi.cdef(declarations(NATIVE / "tcg.h"))
ffi.cdef('extern "Python" void tcg_py_event(void *opaque, int reason, const char *detail);')
ffi.set_source(
    "vdesktop_tcg._tcg",
    '#include "tcg.h"',
    sources=sorted(str(p.relative_to(HERE.parent.parent)) for p in NATIVE.rglob("*.c")),
    include_dirs=[str(NATIVE), str(CORE_INCLUDE)],
    libraries=["dl", "pthread"],
    extra_compile_args=["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fvisibility=hidden"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
