# SPDX-License-Identifier: MIT
"""Interrupt lines (host to guest) and doorbells (guest to host)."""

from __future__ import annotations

from dataclasses import dataclass

from vdesktop_core._native import ffi


@dataclass(frozen=True, slots=True)
class IrqLine:
    """A level-triggered interrupt line of the guest's interrupt controller.

    Attributes:
        line: number as :class:`~vdesktop_core.hypervisor.InterruptController` counts it.
        native: address of the backend's ``struct vd_irq``.
    """

    line: int
    native: int

    def set(self, *, level: bool) -> None:
        """Raise or lower the line. Data planes do this in C; this is for cold paths and tests."""
        irq = ffi.cast("struct vd_irq *", self.native)
        irq.set(irq.opaque, level)


@dataclass(frozen=True, slots=True)
class Doorbell:
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
