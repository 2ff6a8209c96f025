# SPDX-License-Identifier: MIT
"""Public tools for authors of devices and backends: a mock driver, and a twin of the core."""

from vdesktop_core.testing.arena import Arena, Memory
from vdesktop_core.testing.driver import DriverError, MockDriver, wait_until
from vdesktop_core.testing.driver_queue import (
    Buffer,
    Completion,
    DriverQueue,
    PackedDriverQueue,
    SplitDriverQueue,
)
from vdesktop_core.testing.registers import CONFIG, Feature, Interrupt, Reg, Registers, Status

__all__ = [
    "CONFIG",
    "Arena",
    "Buffer",
    "Completion",
    "DriverError",
    "DriverQueue",
    "Feature",
    "Interrupt",
    "Memory",
    "MockDriver",
    "PackedDriverQueue",
    "Reg",
    "Registers",
    "SplitDriverQueue",
    "Status",
    "wait_until",
]
