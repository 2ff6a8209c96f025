# SPDX-License-Identifier: MIT
"""What Xen's own tools say of a host, in its dom0."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Far more than it takes: no test is about time.
PATIENCE = 120


def domains() -> dict[int, str]:
    """What ``xl list`` shows: names by number, without dom0."""
    said = subprocess.run(["xl", "list"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in said.splitlines()[1:]]
    return {int(row[1]): row[0] for row in rows if row[1] != "0"}


def event_channels() -> int:
    """How many event channels dom0 has."""
    said = subprocess.run(["lsevtchn", "0"], capture_output=True, text=True, check=True).stdout
    return len(said.splitlines())


def until(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)
