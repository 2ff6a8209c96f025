# SPDX-License-Identifier: MIT
"""The time of day, for guests with a device tree. A platform device: it sits in no slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
    from vdesktop_core.interrupt import IrqLine

_MODELS = {"pl031": lib.VD_RTC_PL031, "goldfish": lib.VD_RTC_GOLDFISH}


class Rtc:
    """A real-time clock with an alarm. Its time is the host's, UTC; a guest cannot set it.

    Args:
        host: address of the ``struct vd_host``.
        loop: address of the ``struct vd_loop`` that serves its timer.
        irq: its interrupt line.
        model: ``pl031`` (Arm DDI 0224) or ``goldfish``.

    Raises:
        DeviceError: the host is out of memory or descriptors.
    """

    def __init__(self, host: int, loop: int, irq: IrqLine, model: str) -> None:
        self._rtc = lib.vd_rtc_new(
            ffi.cast("struct vd_host *", host),
            ffi.cast("struct vd_loop *", loop),
            ffi.cast("struct vd_irq *", irq.native),
            _MODELS[model],
        )
        if self._rtc == ffi.NULL:
            raise DeviceError("cannot create the real-time clock: the host is out of memory or descriptors")

    @property
    def io(self) -> int:
        """Address of the ``struct vd_io``, valid until :meth:`close`."""
        return int(ffi.cast("uintptr_t", lib.vd_rtc_io(self._rtc)))

    def reset(self) -> None:
        """Forget the alarm: the machine is reset."""
        lib.vd_rtc_reset(self._rtc)

    def close(self) -> None:
        """Free it. Idempotent. The backend must no longer route accesses here."""
        if self._rtc != ffi.NULL:
            lib.vd_rtc_free(self._rtc)
            self._rtc = ffi.NULL
