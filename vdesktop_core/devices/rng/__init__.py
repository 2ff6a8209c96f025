# SPDX-License-Identifier: MIT
"""virtio-rng (virtio 1.4 §5.4): entropy."""

from __future__ import annotations

from vdesktop_core.devices.rng.device import DEVICE_TYPE, RngConfig

__all__ = ["DEVICE_TYPE", "RngConfig"]
