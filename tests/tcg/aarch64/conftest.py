# SPDX-License-Identifier: GPL-2.0-only
"""aarch64 programs on the software CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from typing import TYPE_CHECKING

from bare_metal import BareMetal

from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def machine() -> Iterator[BareMetal]:
    with BareMetal(Arch.AARCH64) as bare:
        yield bare


@pytest.fixture
def pair() -> Iterator[BareMetal]:
    with BareMetal(Arch.AARCH64, vcpus=2) as bare:
        yield bare
