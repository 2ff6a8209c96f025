# SPDX-License-Identifier: MIT
"""Where things lie in the guest memory of these tests."""

from __future__ import annotations

RAM = 0x4000_0000
RAM_SIZE = 0x20_0000
ROM = 0x1000_0000
RING = RAM
TABLE = RAM + 0x1_0000
DATA = RAM + 0x10_0000
