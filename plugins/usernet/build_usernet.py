# SPDX-License-Identifier: MIT
"""Builds ``vdesktop_usernet._usernet``. libslirp is not needed for it: it is looked for at run time."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cffi

HERE = Path(__file__).parent
NATIVE = HERE / "vdesktop_usernet" / "native"
#: setuptools wants paths relative to the folder of setup.py, which is the working directory.
ROOT = Path.cwd()


def declarations(header: Path) -> str:
    """Return a header as cffi's parser takes it: no comments, no directives."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


flags = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fvisibility=hidden"]
#: As for the core: VDESKTOP_SANITIZE=address,undefined.
sanitize = [f"-fsanitize={names}"] if (names := os.environ.get("VDESKTOP_SANITIZE")) else []

ffi = cffi.FFI()
ffi.cdef(declarations(NATIVE / "usernet.h"))
ffi.set_source(
    "vdesktop_usernet._usernet",
    '#include "usernet.h"',
    sources=[os.path.relpath(path, ROOT) for path in sorted(NATIVE.glob("*.c"))],
    include_dirs=[os.path.relpath(NATIVE, ROOT)],
    depends=[os.path.relpath(path, ROOT) for path in sorted(NATIVE.glob("*.h"))],
    libraries=["dl", "pthread"],
    extra_compile_args=flags + sanitize,
    extra_link_args=sanitize,
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
