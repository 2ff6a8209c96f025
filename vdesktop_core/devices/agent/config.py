# SPDX-License-Identifier: MIT
"""What may pass between host and guest."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from vdesktop_core.config import parse_size
from vdesktop_core.devices.base import DeviceConfig, DeviceType
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from vdesktop_core.devices.agent.device import AgentDevice
    from vdesktop_core.devices.base import DeviceContext

#: The same as the console's: to a driver it is one.
VIRTIO_ID = 3


class ClipboardPolicy(enum.StrEnum):
    """Which way copies go."""

    BOTH = "both"
    TO_GUEST = "to-guest"
    TO_HOST = "to-host"
    OFF = "off"


class AgentConfig(DeviceConfig, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """``[[device]] type = "agent"``.

    Attributes:
        clipboard: which way copies go.
        files: whether files may be dropped into the guest.
        limit: bytes of one piece of clipboard data at most, or as text such as ``16M``; 1K to 256M.
    """

    type: str = "agent"
    clipboard: ClipboardPolicy = ClipboardPolicy.BOTH
    files: bool = True
    limit: int | str = 16 << 20

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not 1 << 10 <= self.limit_bytes <= 256 << 20:
            raise ConfigError(f"agent: a clipboard limit of {self.limit}: give 1K to 256M")

    @property
    def limit_bytes(self) -> int:
        """The limit, in bytes."""
        return parse_size(self.limit)


def _create(config: AgentConfig, context: DeviceContext) -> AgentDevice:
    from vdesktop_core.devices.agent.device import AgentDevice

    return AgentDevice(config, context)


DEVICE_TYPE = DeviceType(
    name="agent",
    summary="clipboard and dropped files, through the guest's spice-vdagent",
    virtio_id=VIRTIO_ID,
    config=AgentConfig,
    create=_create,
)
