# SPDX-License-Identifier: MIT
"""What virtio-power and the machine are to each other.

The machine implements :class:`MachineControl` and gives it to the device, which
calls it when the guest has spoken; for the other direction the machine calls the
methods of :class:`~vdesktop_core.devices.power.device.PowerDevice`. All of both
belongs to the control loop's thread.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

import msgspec

from vdesktop_core.devices.power.wire import Reason

if TYPE_CHECKING:
    from vdesktop_core.devices.power.inventory import Inventory


class MachineControl(Protocol):
    """The machine, as its virtio-power device sees it. Nothing of it may block or raise."""

    def inventory(self) -> Inventory:
        """Describe the machine as it is now: see ``take_inventory`` of the module of that name."""
        ...

    def guest_shutdown(self) -> None:
        """The guest powered itself off."""
        ...

    def guest_reset(self) -> None:
        """The guest asked for a reset."""
        ...

    def guest_crash(self, text: str) -> None:
        """The guest's system has crashed. It may still write a dump, reset or power off: do not stop it.

        Args:
            text: what it says of it: one line, or empty.
        """
        ...

    def cpu_state(self, cpu: int, *, online: bool) -> None:
        """The guest began or ceased to use a CPU that is plugged in."""
        ...

    def reset_slot(self, slot: int) -> None:
        """Bring a filled slot to its state at power-on: the guest asks for it."""
        ...


class Outcome(enum.StrEnum):
    """How the guest took a request of the host's."""

    ACCEPTED = "accepted"  #: it is at it
    DONE = "done"  #: it did it
    REFUSED = "refused"  #: it will not, or cannot: see ``reason``
    TIMEOUT = "timeout"  #: it did not answer in time; the request is withdrawn
    NO_DRIVER = "no driver"  #: it has no driver for virtio-power, or one without the feature
    GONE = "gone"  #: its driver was reset, or the device taken away, before it answered


class Answer(msgspec.Struct, frozen=True):
    """The guest's answer to a request of the host's."""

    outcome: Outcome
    reason: Reason = Reason.UNSPECIFIED

    @property
    def ok(self) -> bool:
        """Whether the guest does or did what it was asked to."""
        return self.outcome in (Outcome.ACCEPTED, Outcome.DONE)

    def __str__(self) -> str:
        """Say it in a few words, for a line to a person."""
        match self.outcome:
            case Outcome.REFUSED:
                return f"the guest refused: {self.reason.summary}"
            case Outcome.TIMEOUT:
                return "the guest did not answer in time"
            case Outcome.NO_DRIVER:
                return "the guest has no driver of virtio-power"
            case Outcome.GONE:
                return "the guest's driver was reset before it answered"
            case _:
                return f"the guest has {self.outcome} it"
