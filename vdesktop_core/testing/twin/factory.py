# SPDX-License-Identifier: MIT
"""Which of the twin's queues a geometry asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.testing.twin.packed import PackedTwin
from vdesktop_core.testing.twin.split import SplitTwin

if TYPE_CHECKING:
    from vdesktop_core.testing.twin.memory import TwinMemory
    from vdesktop_core.testing.twin.ring import Geometry, TwinQueue


def make_queue(memory: TwinMemory, geometry: Geometry) -> TwinQueue:
    """Start a queue in the format its geometry asks for; raises RingBroken on a bad geometry."""
    return (PackedTwin if geometry.packed else SplitTwin)(memory, geometry)
