# SPDX-License-Identifier: MIT
"""The way to the guest's agent: clipboard and dropped files, over a console port (virtio 1.4 §5.3).

Debian's stock ``spice-vdagent`` is at the other end. Here is the device's configuration; its work is
imported when a machine has one.
"""

from __future__ import annotations

from vdesktop_core.devices.agent.config import DEVICE_TYPE, AgentConfig, ClipboardPolicy

__all__ = ["DEVICE_TYPE", "AgentConfig", "ClipboardPolicy"]
