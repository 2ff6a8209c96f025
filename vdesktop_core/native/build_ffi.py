# SPDX-License-Identifier: MIT
"""Builds ``vdesktop_core._native``: the C core, seen through cffi's API mode.

Nothing is listed here. Every ``src/*.c`` is compiled, and every public header
``include/vdesktop/*.h`` is both included and declared to cffi, in the order
their ``#include`` lines ask for; so a new part of the core is a header and a
source file. A header that is declared this way holds plain C declarations and
``#define NAME integer``; anything else goes to a header under ``src/``.

``VDESKTOP_SANITIZE=address,undefined`` builds with these sanitizers.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import cffi

HERE = Path(__file__).parent
INCLUDE = HERE / "include"

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r'^\s*#\s*include\s+"(vdesktop/[\w.]+)"', re.MULTILINE)
_DEFINE = re.compile(r"^#define (\w+) +(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\s*$")


def headers() -> list[str]:
    """Return the public headers, each after those it includes, as ``vdesktop/NAME.h``."""
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        for needed in _INCLUDE.findall((INCLUDE / name).read_text()):
            visit(needed)
        ordered.append(name)

    for path in sorted((INCLUDE / "vdesktop").glob("*.h")):
        visit(f"vdesktop/{path.name}")
    return ordered


def declarations(name: str) -> str:
    """Return a header as cffi's parser takes it: integer macros stay, other directives go."""
    text = _COMMENT.sub(lambda m: "\n" * m[0].count("\n"), (INCLUDE / name).read_text())
    lines: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.lstrip().startswith("#"):
            lines.append(line)
        elif macro := _DEFINE.match(line.rstrip()):
            lines.append(f"#define {macro[1]} {macro[2]}")
    return "\n".join(lines)


def compile_flags() -> tuple[list[str], list[str]]:
    """Return compiler and linker flags."""
    flags = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-fvisibility=hidden", "-pthread"]
    link = ["-O2", "-pthread"]
    if sanitizers := os.environ.get("VDESKTOP_SANITIZE"):
        flags += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined"]
        return flags, [*link, f"-fsanitize={sanitizers}"]
    # The rings are inlined into the data planes: a fifth off the time of a chain.
    return [*flags, "-flto"], [*link, "-flto=auto"]


def make() -> cffi.FFI:
    """Assemble the module. Paths are relative to the directory of ``setup.py``."""
    root = HERE.resolve().parent.parent
    builder = cffi.FFI()
    for name in headers():
        builder.cdef(declarations(name))
    flags, link = compile_flags()
    # The code cffi generates is not ours to keep free of warnings.
    quiet = ("extra", "unused-parameter", "missing-field-initializers", "sign-compare")
    preamble = "".join(f'#pragma GCC diagnostic ignored "-W{warning}"\n' for warning in quiet)
    builder.set_source(
        "vdesktop_core._native",
        preamble + "".join(f'#include "{name}"\n' for name in headers()),
        sources=[os.path.relpath(path, root) for path in sorted((HERE / "src").glob("*.c"))],
        include_dirs=[os.path.relpath(path, root) for path in (INCLUDE, HERE / "src")],
        depends=[os.path.relpath(path, root) for path in sorted(HERE.rglob("*.h"))],
        extra_compile_args=flags,
        extra_link_args=link,
    )
    return builder


ffi = make()
