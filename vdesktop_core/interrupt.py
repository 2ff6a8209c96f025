# SPDX-License-Identifier: MIT
"""Interrupt lines (host to guest) and doorbells (guest to host)."""

from __future__ import annotations

import msgspec

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import VdesktopError


class IrqLine(msgspec.Struct, frozen=True):
    """An interrupt line of the guest's interrupt controller.

    Attributes:
        line: number as :class:`~vdesktop_core.hypervisor.InterruptController` counts it.
        native: address of the ``struct vd_irq``.
    """

    line: int
    native: int

    def set(self, *, level: bool) -> None:
        """Raise or lower the line. Data planes do this in C; this is for cold paths and tests."""
        irq = ffi.cast("struct vd_irq *", self.native)
        irq.set(irq.opaque, level)


class SharedLine:
    """One line for several devices: high while any of its inputs is.

    Args:
        host: address of the ``struct vd_host``.
        line: the line to share.
        inputs: how many share it, 1 to 64.

    Raises:
        VdesktopError: the host is out of memory.
    """

    def __init__(self, host: int, line: IrqLine, inputs: int) -> None:
        self._line = line
        self._share = lib.vd_irq_share_new(
            ffi.cast("struct vd_host *", host), ffi.cast("struct vd_irq *", line.native), inputs
        )
        if self._share == ffi.NULL:
            raise VdesktopError(f"cannot share interrupt line {line.line}: the host is out of memory")

    def input(self, index: int) -> IrqLine:
        """Return one of the inputs, which is used like a line of its own until :meth:`close`."""
        native = lib.vd_irq_share_input(self._share, index)
        if native == ffi.NULL:
            raise IndexError(index)
        return IrqLine(self._line.line, int(ffi.cast("uintptr_t", native)))

    def close(self) -> None:
        """Free it. Idempotent. No device may use an input any more."""
        if self._share != ffi.NULL:
            lib.vd_irq_share_free(self._share)
            self._share = ffi.NULL


class Doorbell(msgspec.Struct, frozen=True):
    """A guest write that a backend may turn straight into an eventfd signal.

    Attributes:
        address: guest-physical address of the write.
        width: in bytes: 1, 2, 4 or 8.
        value: the value that must match, or None for any.
        fd: the eventfd.
    """

    address: int
    width: int
    value: int | None
    fd: int
