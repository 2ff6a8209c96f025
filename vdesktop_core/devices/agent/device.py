# SPDX-License-Identifier: MIT
"""The agent's device: a console with one port, and this side of the protocol at the host's end of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.devices.agent.clipboard import AgentClipboard
from vdesktop_core.devices.agent.config import ClipboardPolicy
from vdesktop_core.devices.agent.files import AgentFileDrop
from vdesktop_core.devices.agent.link import AgentLink, AgentPort
from vdesktop_core.devices.agent.session import AgentSession
from vdesktop_core.devices.agent.wire import PORT_NAME
from vdesktop_core.devices.console.device import ConsoleConfig, ConsoleDevice, PortConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vdesktop_core.devices.agent.config import AgentConfig
    from vdesktop_core.devices.base import DeviceContext
    from vdesktop_core.devices.console.port import ConsolePort
    from vdesktop_core.display.clipboard import Clipboard
    from vdesktop_core.display.files import FileDrop


class _Backend:
    """A console backend of one port."""

    name = "agent"

    def __init__(self, port: AgentPort) -> None:
        self._port = port

    def open(self, argument: str) -> ConsolePort:
        return self._port


class AgentDevice(ConsoleDevice):
    """A virtio console whose port is named as the guest's agent expects.

    Raises:
        DeviceError: the host refuses.
    """

    def __init__(self, config: AgentConfig, context: DeviceContext) -> None:
        with contextlib.ExitStack() as stack:
            port = AgentPort()
            stack.callback(port.close)
            super().__init__(
                ConsoleConfig(ports=(PortConfig(backend="agent", name=PORT_NAME, console=False),)),
                msgspec.structs.replace(context, plugins={"console": {"agent": _Backend(port)}}),
            )
            stack.pop_all()
        policy, both = config.clipboard, ClipboardPolicy.BOTH
        self._link = AgentLink(self.name, config.limit_bytes, port, lambda: self.session(0))
        self._clipboard = AgentClipboard(
            self._link,
            to_guest=policy in (both, ClipboardPolicy.TO_GUEST),
            to_host=policy in (both, ClipboardPolicy.TO_HOST),
            limit=config.limit_bytes,
        )
        self._files = AgentFileDrop(self._link, enabled=config.files)
        self._agent = AgentSession(self._link, self._clipboard, self._files)
        # The device is made before the machine's loop turns.
        context.call_soon(lambda: self._link.start(self._agent))

    @property
    def clipboard(self) -> Clipboard | None:
        """The guest's clipboard, unless the configuration turned it off."""
        return self._clipboard if self._clipboard.to_guest or self._clipboard.to_host else None

    @property
    def file_drop(self) -> FileDrop | None:
        """What takes files, unless the configuration turned it off."""
        return self._files if self._files.enabled else None

    def counters(self) -> Mapping[str, int]:
        """The port's, and what the protocol saw."""
        return {
            **super().counters(),
            "sessions": self._link.sessions,
            "protocol_errors_agent": self._link.protocol_errors,
            **self._clipboard.counters(),
            **self._files.counters(),
        }

    def lost(self) -> None:
        """End the session: see :meth:`close`."""
        self._link.close()
        super().lost()

    def close(self) -> None:
        """End the session: transfers fail, pastes come to nothing. Idempotent."""
        self._link.close()
        super().close()
