# SPDX-License-Identifier: GPL-2.0-only
"""The riscv64 models, compiled by themselves: no CPU, no libunicorn."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cffi
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
NATIVE = Path(__file__).parents[3] / "backends" / "tcg" / "vdesktop_tcg" / "native"
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


class Models:
    """``ffi`` and ``lib`` of plic.c and sbi.c."""

    def __init__(self, ffi: cffi.FFI, lib: Any) -> None:
        self.ffi = ffi
        self.lib = lib


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    library = tmp_path_factory.mktemp("models") / "models.so"
    sources = [str(NATIVE / name) for name in ("plic.c", "sbi.c")]
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    # Undefined behaviour in a model is a bug of the model: trap on it.
    flags += ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    subprocess.run(["cc", *flags, *sources, "-o", str(library)], check=True)
    ffi = cffi.FFI()
    for name in ("plic.h", "sbi.h"):
        ffi.cdef(_declarations(NATIVE / name))
    return Models(ffi, ffi.dlopen(str(library)))
