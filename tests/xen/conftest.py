# SPDX-License-Identifier: MIT
"""Tests on a real Xen: in a dom0, and in the rig of tests/rigs, where none may be skipped."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vdesktop_xen.hypervisor import XenHypervisor

if TYPE_CHECKING:
    from vdesktop_core.hypervisor import Probe


@functools.cache
def probe() -> Probe:
    return XenHypervisor().probe()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    if mine and not probe().available:
        for item in mine:
            item.add_marker(pytest.mark.skip(reason=probe().reason))
