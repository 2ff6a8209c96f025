# SPDX-License-Identifier: MIT
"""The C extensions; everything else is declared in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=[
        "vdesktop_core/native/build_ffi.py:ffi",
        "backends/tcg/build_tcg.py:ffi",
        "plugins/usernet/build_usernet.py:ffi",
    ],
)
