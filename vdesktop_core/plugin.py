# SPDX-License-Identifier: MIT
"""The core's own plugin: its devices and what stands behind them, through the same hooks as anyone's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.devices.base import DeviceType
    from vdesktop_core.devices.blk.store import DiskFormat
    from vdesktop_core.devices.console.port import ConsoleBackend
    from vdesktop_core.devices.net.port import NetBackend


@hookimpl
def vdesktop_device_types() -> Sequence[DeviceType]:
    """agent, blk, console, gpu, input, net, rng."""
    from vdesktop_core.devices import agent, blk, console, gpu, net, rng
    from vdesktop_core.devices import input as input_device

    return [module.DEVICE_TYPE for module in (agent, blk, console, gpu, input_device, net, rng)]


@hookimpl
def vdesktop_disk_formats() -> Sequence[DiskFormat]:
    """raw, and everything that QEMU's tools open."""
    from vdesktop_core.devices.blk import DISK_FORMATS

    return DISK_FORMATS


@hookimpl
def vdesktop_console_backends() -> Sequence[ConsoleBackend]:
    """stdio, file, pty, socket, none."""
    from vdesktop_core.devices.console import CONSOLE_BACKENDS

    return CONSOLE_BACKENDS


@hookimpl
def vdesktop_net_backends() -> Sequence[NetBackend]:
    """tap, none."""
    from vdesktop_core.devices.net import NET_BACKENDS

    return NET_BACKENDS
