# SPDX-License-Identifier: MIT
"""The virtio-mmio registers (virtio 1.4 §4.2.2), as a driver knows them, and access to them."""

from __future__ import annotations

import enum
from typing import Protocol


class Reg(enum.IntEnum):
    """Offsets of the control registers. All are accessed as aligned 32-bit words."""

    MAGIC_VALUE = 0x000
    VERSION = 0x004
    DEVICE_ID = 0x008
    VENDOR_ID = 0x00C
    DEVICE_FEATURES = 0x010
    DEVICE_FEATURES_SEL = 0x014
    DRIVER_FEATURES = 0x020
    DRIVER_FEATURES_SEL = 0x024
    QUEUE_SEL = 0x030
    QUEUE_SIZE_MAX = 0x034
    QUEUE_SIZE = 0x038
    QUEUE_READY = 0x044
    QUEUE_NOTIFY = 0x050
    INTERRUPT_STATUS = 0x060
    INTERRUPT_ACK = 0x064
    STATUS = 0x070
    QUEUE_DESC_LOW = 0x080
    QUEUE_DESC_HIGH = 0x084
    QUEUE_DRIVER_LOW = 0x090
    QUEUE_DRIVER_HIGH = 0x094
    QUEUE_DEVICE_LOW = 0x0A0
    QUEUE_DEVICE_HIGH = 0x0A4
    SHM_SEL = 0x0AC
    SHM_LEN_LOW = 0x0B0
    SHM_LEN_HIGH = 0x0B4
    SHM_BASE_LOW = 0x0B8
    SHM_BASE_HIGH = 0x0BC
    QUEUE_RESET = 0x0C0
    CONFIG_GENERATION = 0x0FC


#: Where the device's config space begins.
CONFIG = 0x100
MAGIC = 0x74726976
VERSION = 2


class Status(enum.IntFlag):
    """Device status bits (§2.1)."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    NEEDS_RESET = 64
    FAILED = 128


class Feature(enum.IntEnum):
    """Numbers of the feature bits that do not belong to one device type (§6)."""

    INDIRECT_DESC = 28
    EVENT_IDX = 29
    VERSION_1 = 32
    ACCESS_PLATFORM = 33
    RING_PACKED = 34
    IN_ORDER = 35
    ORDER_PLATFORM = 36
    NOTIFICATION_DATA = 38
    RING_RESET = 40


class Interrupt(enum.IntFlag):
    """Bits of InterruptStatus."""

    USED = 1
    CONFIG = 2


class Registers(Protocol):
    """Something that answers register accesses: a slot of the C core, the twin, or a booted machine's."""

    def read(self, offset: int, width: int) -> int:
        """Read 1, 2, 4 or 8 bytes."""
        ...

    def write(self, offset: int, width: int, value: int) -> None:
        """Write 1, 2, 4 or 8 bytes."""
        ...
