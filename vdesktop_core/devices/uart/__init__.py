# SPDX-License-Identifier: MIT
"""The optional 16550A UART for a guest's first messages. A platform device: it sits in no virtio slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.console.port import ESCAPE, ESCAPE_THEN
from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Uart"]


class Uart:
    """A 16550A between byte registers and file descriptors.

    Output that the host's reader does not take in time (64 KiB behind) is dropped and counted.

    Args:
        host: address of the ``struct vd_host``.
        loop: address of the ``struct vd_loop`` that serves the descriptors.
        irq: address of the ``struct vd_irq`` of its interrupt line.
        in_fd: what the guest reads, non-blocking, or -1.
        out_fd: where the guest's output goes, non-blocking unless a regular file, or -1.
        escape_fd: an eventfd that is written when the console's escape is typed, or -1.

    Raises:
        DeviceError: the host is out of memory or descriptors.
    """

    def __init__(
        self, host: int, loop: int, irq: int, in_fd: int = -1, out_fd: int = -1, escape_fd: int = -1
    ) -> None:
        self._uart = lib.vd_uart_new(
            ffi.cast("struct vd_host *", host),
            ffi.cast("struct vd_loop *", loop),
            ffi.cast("struct vd_irq *", irq),
            in_fd,
            out_fd,
            escape_fd,
            ESCAPE,
            ESCAPE_THEN,
        )
        if self._uart == ffi.NULL:
            raise DeviceError("cannot create the debug UART: the host is out of memory or descriptors")

    @property
    def io(self) -> int:
        """Address of the ``struct vd_io`` of its 8 byte registers."""
        return int(ffi.cast("uintptr_t", lib.vd_uart_io(self._uart)))

    def counters(self) -> Mapping[str, int]:
        """Bytes by direction, and those dropped."""
        counters = ffi.new("struct vd_uart_counters *")
        lib.vd_uart_counters(self._uart, counters)
        return {key: int(getattr(counters, key)) for key in ("rx_bytes", "tx_bytes", "tx_dropped_bytes")}

    def close(self) -> None:
        """Write what is left and free. Idempotent. No vCPU may run any more."""
        if self._uart != ffi.NULL:
            lib.vd_uart_free(self._uart)
            self._uart = ffi.NULL
