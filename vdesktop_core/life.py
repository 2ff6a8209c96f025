# SPDX-License-Identifier: MIT
"""The states of a machine's life, and how a run ends."""

from __future__ import annotations

import enum

import msgspec


class State(enum.StrEnum):
    """Where a machine is in its life."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    CLOSED = "closed"


class Outcome(enum.StrEnum):
    """How a run ended."""

    SHUTDOWN = "shutdown"  #: the guest powered itself off
    REBOOT = "reboot"  #: the guest asked for a reset and ``reboot`` is off
    CRASH = "crash"  #: the guest or the backend cannot go on
    STOPPED = "stopped"  #: this side asked for it


class Result(msgspec.Struct, frozen=True):
    """The end of a run. ``detail`` is one line for a person, or empty."""

    outcome: Outcome
    detail: str = ""
