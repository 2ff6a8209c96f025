# SPDX-License-Identifier: MIT
"""Builds ``vdesktop_rfb._rfb``. The libraries that it uses are looked for at run time."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cffi

HERE = Path(__file__).parent
NATIVE = HERE / "vdesktop_rfb" / "native"
#: setuptools wants paths relative to the folder of setup.py, which is the working directory.
ROOT = Path.cwd()
CORE = HERE.parents[1] / "vdesktop_core" / "native" / "include"


def declarations(header: Path) -> str:
    """Return a header as cffi's parser takes it: no comments, no directives but integer macros."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    kept = (
        line for line in text.splitlines() if not line.startswith("#") or re.match(r"#define \w+ +\d+", line)
    )
    return "\n".join(kept)


flags = ["-std=gnu11", "-O3", "-g", "-Wall", "-Wextra", "-fvisibility=hidden"]
#: As for the core: VDESKTOP_SANITIZE=address,undefined.
sanitize = [f"-fsanitize={names}"] if (names := os.environ.get("VDESKTOP_SANITIZE")) else []

ffi = cffi.FFI()
ffi.cdef(declarations(NATIVE / "rfb.h"))
ffi.set_source(
    "vdesktop_rfb._rfb",
    '#include "rfb.h"',
    sources=[os.path.relpath(path, ROOT) for path in sorted(NATIVE.glob("*.c"))],
    include_dirs=[os.path.relpath(path, ROOT) for path in (NATIVE, CORE)],
    depends=[os.path.relpath(path, ROOT) for path in sorted([*NATIVE.glob("*.h"), *CORE.rglob("*.h")])],
    libraries=["dl", "pthread"],
    extra_compile_args=flags + sanitize,
    extra_link_args=sanitize,
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
