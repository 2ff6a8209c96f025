# SPDX-License-Identifier: MIT
"""virtio-net (device 1): a network card, and what it can be plugged into."""

from vdesktop_core.devices.net.backends import NET_BACKENDS
from vdesktop_core.devices.net.device import DEVICE_TYPE, NetConfig, parse_net

__all__ = ["DEVICE_TYPE", "NET_BACKENDS", "NetConfig", "parse_net"]
