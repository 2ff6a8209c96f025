# SPDX-License-Identifier: MIT
"""A second, pure-Python implementation of the rings and the register file.

It is written from the specification, for reading and not for speed, and exists
so that differential tests can hold the C core to it.
"""

from vdesktop_core.testing.twin.factory import make_queue
from vdesktop_core.testing.twin.memory import TwinMemory
from vdesktop_core.testing.twin.mmio import TwinDevice, TwinMmio
from vdesktop_core.testing.twin.packed import PackedTwin
from vdesktop_core.testing.twin.ring import Chain, Geometry, RingBroken, RingError, Segment, TwinQueue
from vdesktop_core.testing.twin.split import SplitTwin

__all__ = [
    "Chain",
    "Geometry",
    "PackedTwin",
    "RingBroken",
    "RingError",
    "Segment",
    "SplitTwin",
    "TwinDevice",
    "TwinMemory",
    "TwinMmio",
    "TwinQueue",
    "make_queue",
]
