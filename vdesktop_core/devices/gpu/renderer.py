# SPDX-License-Identifier: MIT
"""Where 3D plugs into the gpu: what draws for a guest's contexts, registered by ``vdesktop_gpu_renderers``.

The work is native, on the device's thread, through the functions of ``vdesktop/gpu_renderer.h``; Python only
opens and closes. A gpu that has a renderer offers 3D (``VIRTIO_GPU_F_VIRGL``, and ``CONTEXT_INIT`` where the
renderer has contexts by capset); one that has none is as it was, 2D, and so is every guest that does not ask.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from vdesktop_core.errors import ConfigError, VdesktopError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


class Rendering(Protocol):
    """A renderer at work for one device."""

    @property
    def native(self) -> int:
        """Address of its ``struct vd_gpu_renderer``; valid until :meth:`close`."""
        ...

    def connect(self, gpu: int, fence_done: int) -> None:
        """Hear which device it draws for, before the driver says anything.

        Args:
            gpu: address of the ``struct vd_gpu``.
            fence_done: address of the function ``vd_gpu_fence_done``.
        """
        ...

    def close(self) -> None:
        """Free everything; the device is gone. Idempotent."""
        ...


class GpuRenderer(Protocol):
    """A way to draw."""

    name: str

    def open(self) -> Rendering:
        """Start drawing for a device.

        Raises:
            DeviceError: this host cannot, such as for want of a library or of a graphics card; one line.
        """
        ...


def open_renderer(choice: str, renderers: Mapping[str, GpuRenderer]) -> Rendering | None:
    """Open the renderer that ``renderer = CHOICE`` names; None: 2D only.

    Args:
        choice: a name, ``none``, or ``auto``: the first that this host can use, if there is one.
        renderers: what is installed.

    Raises:
        ConfigError: there is none of this name.
        DeviceError: the one that was asked for by name cannot be used.
    """
    if choice == "none":
        return None
    if choice != "auto":
        if choice not in renderers:
            raise ConfigError(f"gpu: no renderer {choice!r} is installed: {', '.join(['none', *renderers])}")
        return renderers[choice].open()
    return _first([renderer.open for renderer in renderers.values()])


def _first(ways: list[Callable[[], Rendering]]) -> Rendering | None:
    for way in ways:
        try:
            return way()
        except VdesktopError as error:
            log.info("gpu: no 3D: %s", error)
    return None
