# SPDX-License-Identifier: MIT
"""virtio-gpu (virtio 1.4 §5.7): screens."""

from __future__ import annotations

from vdesktop_core.devices.gpu.config import DEVICE_TYPE, GpuConfig

__all__ = ["DEVICE_TYPE", "GpuConfig"]
