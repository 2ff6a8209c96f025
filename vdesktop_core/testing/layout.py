# SPDX-License-Identifier: MIT
"""Wire formats of virtqueues, as data, for drivers and models written in Python.

All are little-endian (virtio 1.4 §1.4). The C core has its own declarations:
differential tests hold the two together.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

#: struct virtq_desc (§2.7.5): le64 addr, le32 len, le16 flags, le16 next.
SPLIT_DESC = struct.Struct("<QIHH")
#: struct virtq_used_elem (§2.7.8): le32 id, le32 len.
SPLIT_USED_ELEM = struct.Struct("<II")
#: struct pvirtq_desc (§2.8.13): le64 addr, le32 len, le16 id, le16 flags.
PACKED_DESC = struct.Struct("<QIHH")
#: struct pvirtq_event_suppress (§2.8.14): le16 off_wrap, le16 flags.
PACKED_EVENT = struct.Struct("<HH")
LE16 = struct.Struct("<H")
DESC_SIZE = SPLIT_DESC.size


class DescFlag(enum.IntFlag):
    """Descriptor flags (§2.7.5, §2.8.13)."""

    NEXT = 1
    WRITE = 2
    INDIRECT = 4
    AVAIL = 1 << 7
    USED = 1 << 15


class EventFlag(enum.IntEnum):
    """Flags of an event suppression structure (§2.8.14)."""

    ENABLE = 0
    DISABLE = 1
    DESC = 2


#: VIRTQ_AVAIL_F_NO_INTERRUPT (§2.7.6).
AVAIL_F_NO_INTERRUPT = 1
#: VIRTQ_USED_F_NO_NOTIFY (§2.7.8).
USED_F_NO_NOTIFY = 1


class SplitSizes(NamedTuple):
    """Bytes of a split queue's three areas (§2.7)."""

    desc: int
    avail: int
    used: int


def split_sizes(size: int) -> SplitSizes:
    """Return the sizes of the areas of a split queue with ``size`` descriptors, event indices included."""
    return SplitSizes(16 * size, 6 + 2 * size, 6 + 8 * size)


def need_event(event: int, new: int, old: int) -> bool:
    """vring_need_event (§2.7.7.2): did the index pass ``event`` on its way from ``old`` to ``new``?"""
    return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF
