# SPDX-License-Identifier: GPL-2.0-only
"""Finds the Unicorn wheel's shared library, without importing the ``unicorn`` package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from vdesktop_core.errors import BackendError

SONAME = "libunicorn.so.2"
INSTALL = "pip install 'vdesktop[tcg]'"


def find() -> Path:
    """Return the path of ``libunicorn.so.2``.

    Raises:
        BackendError: the wheel is not installed, or holds no such file.
    """
    spec = importlib.util.find_spec("unicorn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "lib" / SONAME
        if path.is_file():
            return path
    raise BackendError(f"the software CPU needs Unicorn 2.1.4, which is not installed: {INSTALL}")


def load() -> tuple[Any, Any]:
    """Load and check the library; returns cffi's ``ffi`` and ``lib`` of the extension.

    Raises:
        BackendError: one line that says why this library, or host, will not do.
    """
    from vdesktop_tcg._tcg import ffi, lib

    error = ffi.new("char[]", 512)
    if lib.tcg_library_load(str(find()).encode(), error, len(error)) != 0:
        raise BackendError(ffi.string(error).decode(errors="replace"))
    return ffi, lib
