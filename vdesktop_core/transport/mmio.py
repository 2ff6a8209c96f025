# SPDX-License-Identifier: MIT
"""The Python face of a virtio-mmio slot: life cycle, events, counters. Guest accesses never come here."""

from __future__ import annotations

import enum
import errno
import functools
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Size of a slot in bytes, and where the device's config space begins in it.
SLOT_SIZE: int = lib.VD_MMIO_SIZE
CONFIG_OFFSET: int = lib.VD_MMIO_CONFIG
#: Offset of QueueNotify in a slot.
QUEUE_NOTIFY: int = lib.VD_MMIO_QUEUE_NOTIFY


class Access(enum.IntFlag):
    """What the driver may do with a register."""

    R = lib.VD_MMIO_R
    W = lib.VD_MMIO_W


class Register(msgspec.Struct, frozen=True):
    """A control register of virtio 1.4 §4.2.2: 32 bits at ``offset`` into the slot."""

    name: str
    offset: int
    access: Access
    summary: str


@functools.cache
def registers() -> tuple[Register, ...]:
    """Return all control registers, ascending, from the table the C core decodes with."""
    count = ffi.new("uint32_t *")
    table = lib.vd_mmio_regs(count)
    return tuple(
        Register(
            ffi.string(raw.name).decode(), raw.offset, Access(raw.access), ffi.string(raw.summary).decode()
        )
        for raw in ffi.unpack(table, count[0])
    )


def register_at(offset: int) -> Register | None:
    """Return the control register at an offset into the slot."""
    return next((register for register in registers() if register.offset == offset), None)


class EventKind(enum.IntEnum):
    """A decision of the driver's (``enum vd_event_kind``)."""

    RESET = lib.VD_EVENT_RESET
    FEATURES_OK = lib.VD_EVENT_FEATURES_OK  #: a: the accepted features
    QUEUE_RESET = lib.VD_EVENT_QUEUE_RESET  #: a: the queue
    QUEUE_READY = lib.VD_EVENT_QUEUE_READY  #: a: the queue
    DRIVER_OK = lib.VD_EVENT_DRIVER_OK
    CONFIG_WRITTEN = lib.VD_EVENT_CONFIG_WRITTEN  #: a: offset, b: length in bytes
    NEEDS_RESET = lib.VD_EVENT_NEEDS_RESET


class Status(enum.IntFlag):
    """Device status bits, virtio 1.4 §2.1."""

    ACKNOWLEDGE = lib.VD_STATUS_ACKNOWLEDGE
    DRIVER = lib.VD_STATUS_DRIVER
    DRIVER_OK = lib.VD_STATUS_DRIVER_OK
    FEATURES_OK = lib.VD_STATUS_FEATURES_OK
    NEEDS_RESET = lib.VD_STATUS_NEEDS_RESET
    FAILED = lib.VD_STATUS_FAILED


class Event(msgspec.Struct, frozen=True):
    """What happened in a slot; ``a`` and ``b`` depend on the kind."""

    slot: int
    kind: EventKind
    a: int
    b: int


class MmioSlot:
    """One slot of the machine: an MMIO page, an interrupt line, and a device or none.

    Methods are called on one control thread.

    Args:
        host: address of a ``struct vd_host``.
        index: the slot's number, which its events carry.
        irq: address of a ``struct vd_irq``, which is copied; 0: no interrupt.
        event_fd: an eventfd that is written when :meth:`events` has news; -1: none.

    Raises:
        DeviceError: the host is out of memory.
    """

    def __init__(self, host: int, index: int, irq: int = 0, event_fd: int = -1) -> None:
        self.index = index
        self._mmio = lib.vd_mmio_new(
            ffi.cast("struct vd_host *", host), index, ffi.cast("struct vd_irq *", irq), event_fd
        )
        if self._mmio == ffi.NULL:
            raise DeviceError(f"cannot create slot {index}: the host is out of memory")
        self._event = ffi.new("struct vd_event *")

    @property
    def io(self) -> int:
        """Address of the ``struct vd_io`` to map at the slot's address, valid until :meth:`close`."""
        return int(ffi.cast("uintptr_t", lib.vd_mmio_io(self._mmio)))

    def attach(self, device: int) -> None:
        """Put a device (the address of its ``struct vd_device``) into the slot.

        Raises:
            DeviceError: the slot is occupied, or the device declares what a slot has no room for.
        """
        error = lib.vd_mmio_attach(self._mmio, ffi.cast("struct vd_device *", device))
        if error == -errno.EBUSY:
            raise DeviceError(f"slot {self.index} is occupied: detach its device first, or name another slot")
        if error:
            raise DeviceError(
                f"the device does not fit slot {self.index}: at most {lib.VD_QUEUES_MAX} queues of up to "
                f"{lib.VD_QUEUE_SIZE_MAX} and {SLOT_SIZE - CONFIG_OFFSET} bytes of config space"
            )

    def detach(self) -> bool:
        """Reset and remove the device; when this returns no vCPU is inside of it. False: it was empty."""
        return bool(lib.vd_mmio_detach(self._mmio) != ffi.NULL)

    def lose(self) -> bool:
        """Take away what stands behind the device, which goes on answering (``vd_device_ops.lose``).

        False: the slot is empty, or its device can only be detached.
        """
        return bool(lib.vd_mmio_lose(self._mmio))

    def doorbells(self) -> Iterator[tuple[int, int]]:
        """Yield (queue, eventfd) of the queues of the attached device that an eventfd can kick.

        The descriptors are the device's own: valid until it is closed.
        """
        for queue in range(lib.vd_mmio_queues(self._mmio)):
            fd = lib.vd_mmio_doorbell(self._mmio, queue)
            if fd >= 0:
                yield queue, fd

    def reset(self) -> None:
        """Reset the slot as a machine reset does: status 0, queues stopped, interrupt low."""
        lib.vd_mmio_reset(self._mmio)

    def events(self) -> Iterator[Event]:
        """Yield what happened since the last call."""
        raw = self._event
        while lib.vd_mmio_poll_event(self._mmio, raw):
            yield Event(raw.slot, EventKind(raw.kind), raw.a, raw.b)

    @property
    def status(self) -> Status:
        """The device status register."""
        return Status(lib.vd_mmio_status(self._mmio))

    def counters(self) -> dict[str, int]:
        """Return what the register file refused or ignored, by reason, and interrupts raised."""
        raw = ffi.new("struct vd_mmio_counters *")
        lib.vd_mmio_counters(self._mmio, raw)
        return {name: int(getattr(raw, name)) for name, _ in ffi.typeof(raw[0]).fields}

    def close(self) -> None:
        """Detach and free. Idempotent. The backend must no longer route accesses here."""
        if self._mmio != ffi.NULL:
            lib.vd_mmio_free(self._mmio)
            self._mmio = ffi.NULL
