# SPDX-License-Identifier: MIT
"""What is built: C extensions, and noVNC for the web display. pyproject.toml declares all else."""

import os
import platform
import runpy

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

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


class BuildExt(build_ext):
    """With ``VDESKTOP_STRICT`` in the environment, as in the tests, a warning is an error.

    Not for who only installs it: the next compiler warns of more.
    """

    def build_extensions(self) -> None:
        """Compile with the warnings that a distribution's compiler may have on by default."""
        for extension in self.extensions:
            strict = ["-Werror"] if os.environ.get("VDESKTOP_STRICT") else []
            extension.extra_compile_args = [*extension.extra_compile_args, "-Wformat=2", *strict]
        super().build_extensions()


class BuildPy(build_py):
    """Packs what a browser needs, before the package's files are looked for."""

    def run(self) -> None:
        """Build without noVNC where it cannot be had: ``--display web`` then says so."""
        try:
            runpy.run_path("plugins/web/pack_novnc.py")["pack"]()
        except RuntimeError as error:
            self.warn(f"no web display in this build: {error}")
        super().run()


setup(cffi_modules=modules, cmdclass={"build_ext": BuildExt, "build_py": BuildPy})
