# SPDX-License-Identifier: MIT
"""virtio-console (device 3): terminals and byte streams between host and guest."""

from vdesktop_core.devices.console.backends import CONSOLE_BACKENDS
from vdesktop_core.devices.console.device import DEVICE_TYPE, ConsoleConfig, PortConfig, parse_console

__all__ = ["CONSOLE_BACKENDS", "DEVICE_TYPE", "ConsoleConfig", "PortConfig", "parse_console"]
