# SPDX-License-Identifier: MIT
"""How a build tells what it is doing; the command draws it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Steps, one after the other, of which each may know how far it is."""

    def step(self, title: str) -> None:
        """End the step before, begin one."""

    def advance(self, fraction: float) -> None:
        """Say how far this step is, 0 to 1."""

    def note(self, line: str) -> None:
        """Say something worth a line."""
