# SPDX-License-Identifier: MIT
"""Builds ``vdesktop_xen._xen``. Nothing of Xen is needed for it: its libraries are loaded at run time."""

from __future__ import annotations

import re
from pathlib import Path

import cffi

HERE = Path(__file__).parent
NATIVE = HERE / "vdesktop_xen" / "native"
CORE_INCLUDE = HERE.parent.parent / "vdesktop_core" / "native" / "include"
_DEFINE = re.compile(r"^#define (\w+) +(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\s*$")


def declarations(header: Path) -> str:
    """Return a header as cffi's parser takes it: integer macros stay, other directives go."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL).replace("\\\n", " ")
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            lines.append(line)
        elif macro := _DEFINE.match(line.rstrip()):
            lines.append(f"#define {macro[1]} {macro[2]}")
    return "\n".join(lines)


ffi = cffi.FFI()
ffi.cdef("struct vd_irq; struct vd_io; struct vd_written; struct vd_dirty;")
for name in ("abi.h", "bus.h", "vx.h"):
    ffi.cdef(declarations(NATIVE / name))
ffi.cdef('extern "Python" void vx_py_event(void *opaque, int reason, const char *detail);')
ffi.set_source(
    "vdesktop_xen._xen",
    '#include "bus.h"\n#include "vx.h"',
    sources=sorted(str(p.relative_to(HERE.parent.parent)) for p in NATIVE.glob("*.c")),
    include_dirs=[str(NATIVE), str(CORE_INCLUDE)],
    libraries=["pthread", "dl"],
    extra_compile_args=["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fvisibility=hidden"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
