# SPDX-License-Identifier: MIT
"""The Python face of ``vdesktop/acpi_events.h``: what an ACPI guest without any driver of ours is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import VdesktopError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from vdesktop_core.interrupt import IrqLine

#: Size of the registers in bytes, and where the two of them are.
SIZE: int = lib.VD_ACPI_EVENTS_SIZE
PENDING: int = lib.VD_ACPI_EVENTS_PENDING
SLOTS: int = lib.VD_ACPI_EVENTS_SLOTS
#: Bits of PENDING.
EVENT_SLOTS: int = lib.VD_ACPI_EVENT_SLOTS
EVENT_POWER_BUTTON: int = lib.VD_ACPI_EVENT_POWER_BUTTON


class AcpiEvents:
    """Registers that the AML of the machine's event device reads.

    Args:
        host: address of the ``struct vd_host``.
        irq: the event device's interrupt line.

    Raises:
        VdesktopError: the host is out of memory.
    """

    def __init__(self, host: int, irq: IrqLine) -> None:
        self._events = lib.vd_acpi_events_new(
            ffi.cast("struct vd_host *", host), ffi.cast("struct vd_irq *", irq.native)
        )
        if self._events == ffi.NULL:
            raise VdesktopError("cannot create the ACPI events: the host is out of memory")

    @property
    def io(self) -> int:
        """Address of the ``struct vd_io``, valid until :meth:`close`."""
        return int(ffi.cast("uintptr_t", lib.vd_acpi_events_io(self._events)))

    def show_slots(self, slots: AbstractSet[int], *, tell: bool = True) -> None:
        """Say which slots the guest is to see.

        Args:
            slots: their numbers.
            tell: have it look now; otherwise it finds out when it looks for another reason.
        """
        lib.vd_acpi_events_set_slots(self._events, sum(1 << slot for slot in slots))
        if tell:
            lib.vd_acpi_events_raise(self._events, EVENT_SLOTS)

    def press_power_button(self) -> None:
        """Tell the guest that its power button was pressed."""
        lib.vd_acpi_events_raise(self._events, EVENT_POWER_BUTTON)

    @property
    def pending(self) -> int:
        """Events that the guest has not taken yet, as bits."""
        return int(lib.vd_acpi_events_pending(self._events))

    def reset(self) -> None:
        """Forget what the guest has not taken: the machine is reset. The slots stay."""
        lib.vd_acpi_events_reset(self._events)

    def close(self) -> None:
        """Free the registers. Idempotent. The backend must no longer route accesses here."""
        if self._events != ffi.NULL:
            lib.vd_acpi_events_free(self._events)
            self._events = ffi.NULL
