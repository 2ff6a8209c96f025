# SPDX-License-Identifier: MIT
"""The Python face of ``vdesktop/loop.h``: a native thread that data planes live on."""

from __future__ import annotations

import os

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import VdesktopError


class IoThread:
    """An epoll loop on a thread that never runs Python.

    Args:
        host: address of the ``struct vd_host``.
        name: thread name, cut to 15 characters by the kernel.
    """

    def __init__(self, host: int, name: str) -> None:
        self._loop = lib.vd_loop_new(ffi.cast("struct vd_host *", host), name.encode())
        if self._loop == ffi.NULL:
            raise VdesktopError(
                f"cannot create the I/O thread {name!r}: the host is out of memory or descriptors"
            )
        error = lib.vd_loop_start(self._loop)
        if error:
            lib.vd_loop_free(self._loop)
            raise VdesktopError(f"cannot start the I/O thread {name!r}: {os.strerror(-error)}")

    @property
    def native(self) -> int:
        """Address of the ``struct vd_loop``."""
        return int(ffi.cast("uintptr_t", self._loop))

    def close(self) -> None:
        """Stop and join the thread. Idempotent. Nothing may be registered on it any more."""
        if self._loop != ffi.NULL:
            lib.vd_loop_stop(self._loop)
            lib.vd_loop_free(self._loop)
            self._loop = ffi.NULL
