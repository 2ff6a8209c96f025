# SPDX-License-Identifier: MIT
"""The C extensions; everything else is declared in pyproject.toml."""

import platform

from setuptools import setup

modules = [
    "vdesktop_core/native/build_ffi.py:ffi",
    "backends/tcg/build_tcg.py:ffi",
    "plugins/rfb/build_rfb.py:ffi",
    "plugins/usernet/build_usernet.py:ffi",
]
# KVM runs guests of the host's architecture: these are those the backend knows.
if platform.machine() in ("x86_64", "aarch64", "riscv64"):
    modules.append("backends/kvm/build_kvm.py:ffi")
# Xen's are those of the one architecture whose domains the backend builds.
if platform.machine() == "x86_64":
    modules.append("backends/xen/build_xen.py:ffi")

setup(cffi_modules=modules)
