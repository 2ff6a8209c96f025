# SPDX-License-Identifier: MIT
"""virtio-input (virtio 1.4 §5.8): keyboards, mice, tablets, touch screens."""

from __future__ import annotations

from vdesktop_core.devices.input.config import DEVICE_TYPE, InputConfig, Kind

__all__ = ["DEVICE_TYPE", "InputConfig", "Kind"]
