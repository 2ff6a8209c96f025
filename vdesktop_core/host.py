# SPDX-License-Identifier: MIT
"""What the C core takes from this process: memory, a clock, and a way to log (``struct vd_host``)."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Self

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import VdesktopError


def wait_for_event(fd: int) -> int:
    """Wait for an eventfd and take its count, on any thread.

    A signal that comes to a thread that waits in :func:`os.eventfd_read` ends the call with an exception:
    PEP 475 left it out.
    """
    while True:
        with contextlib.suppress(InterruptedError):
            return os.eventfd_read(fd)


class Host:
    """A ``struct vd_host``, with the reading end of its log.

    The control loop watches :meth:`fileno` and calls :meth:`drain_log`; native
    threads never wait for it. Messages go to the logger ``vdesktop.COMPONENT``.
    """

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._host = lib.vd_host_posix_new(self._write_fd)
        if self._host == ffi.NULL:
            raise VdesktopError("cannot start the C core: the host is out of memory")

    @property
    def native(self) -> int:
        """Address of the ``struct vd_host``, valid until :meth:`close`."""
        return int(ffi.cast("uintptr_t", self._host))

    def fileno(self) -> int:
        """Return the descriptor that is readable when there are messages."""
        return self._read_fd

    @property
    def dropped(self) -> int:
        """Messages lost because nobody read the log."""
        return int(lib.vd_host_posix_dropped(self._host))

    def drain_log(self) -> int:
        """Hand all waiting messages to :mod:`logging`; returns how many."""
        size = ffi.sizeof("struct vd_log_record")
        count = 0
        with contextlib.suppress(BlockingIOError):
            while len(data := os.read(self._read_fd, size)) == size:
                record = ffi.cast("struct vd_log_record *", ffi.from_buffer(data))
                component = ffi.string(record.component).decode(errors="replace")
                message = ffi.string(record.message).decode(errors="replace")
                logging.getLogger(f"vdesktop.{component}").log(record.level, "%s", message)
                count += 1
        return count

    def close(self) -> None:
        """Deliver what is left and free. Idempotent. No C structure may use the host any more."""
        if self._host == ffi.NULL:
            return
        self.drain_log()
        lib.vd_host_posix_free(self._host)
        self._host = ffi.NULL
        os.close(self._read_fd)
        os.close(self._write_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
