# SPDX-License-Identifier: MIT
"""A machine's control socket until somebody knocks. What serves it is loaded then: start-up time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self

from vdesktop_core.config import DEFAULT_NAME
from vdesktop_core.control.place import Claim, NameTakenError
from vdesktop_core.errors import ControlError

if TYPE_CHECKING:
    from pathlib import Path

    from vdesktop_core.control.server import Server
    from vdesktop_core.machine import Machine

log = logging.getLogger(__name__)


class ControlDoor:
    """Where clients knock. Use it on the machine's control loop.

    Args:
        machine: whose it is; its name is claimed.

    Raises:
        ControlError: the socket cannot be had, or a running machine has the name.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._claim = Claim(machine.config.name, numbered=machine.config.name == DEFAULT_NAME)
        #: What serves it, once somebody has knocked.
        self.server: Server | None = None
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._claim.socket.fileno(), self._knocked)

    @classmethod
    def open(cls, machine: Machine) -> Self | None:
        """Open it; None, and a warning, where it cannot be had and the configuration does not ask for one.

        Raises:
            ControlError: as the constructor, where it has to be there or the name is taken.
        """
        try:
            return cls(machine)
        except NameTakenError:
            raise
        except ControlError as error:
            if machine.config.control:
                raise
            log.warning("no control socket: %s", error)
            return None

    @property
    def path(self) -> Path:
        """Where the socket lies."""
        return self._claim.path

    def _knocked(self) -> None:
        from vdesktop_core.control.server import Server

        self.server = Server(self._machine, self._claim.socket, self._claim.name)
        self.server.accept()

    async def finish(self) -> None:
        """Let what clients were promised reach them."""
        if self.server is not None:
            await self.server.finish()

    def close(self) -> None:
        """Close the socket and remove it. Idempotent."""
        if not self._open:
            return
        self._open = False
        if self.server is not None:
            self.server.close()
        self._loop.remove_reader(self._claim.socket.fileno())
        self._claim.close()
