# SPDX-License-Identifier: MIT
"""The Python face of the gpu's data plane."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import Device, DeviceContext
from vdesktop_core.devices.gpu.renderer import open_renderer
from vdesktop_core.devices.gpu.scanout import GpuScreen
from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vdesktop_core.devices.gpu.config import GpuConfig


class GpuDevice(Device):
    """A virtio-gpu device (virtio 1.4 §5.7): 2D, and 3D where there is a renderer.

    Raises:
        DeviceError: the host refuses.
    """

    def __init__(self, config: GpuConfig, context: DeviceContext) -> None:
        super().__init__(context)
        self._rendering = open_renderer(config.renderer, context.plugins.get("renderer", {}))
        failure = ffi.new("int *")
        self._gpu = lib.vd_gpu_new(
            ffi.cast("struct vd_host *", context.host),
            ffi.cast("struct vd_mem *", context.memory.native),
            ffi.cast("struct vd_loop *", context.loop),
            self.name.encode(),
            ffi.new(
                "struct vd_gpu_options *",
                {
                    "scanouts": config.screens,
                    "width": config.width,
                    "height": config.height,
                    "max_memory": config.memory << 20,
                    "renderer": ffi.cast(
                        "struct vd_gpu_renderer *", self._rendering.native if self._rendering else 0
                    ),
                },
            ),
            failure,
        )
        if self._gpu == ffi.NULL:
            if self._rendering is not None:
                self._rendering.close()
            raise DeviceError(f"{self.name}: cannot create the device: {os.strerror(-failure[0])}")
        if self._rendering is not None:
            done = int(ffi.cast("uintptr_t", ffi.addressof(lib, "vd_gpu_fence_done")))
            self._rendering.connect(int(ffi.cast("uintptr_t", self._gpu)), done)
        framebuffer = context.framebuffer
        refresh = (lambda: None) if framebuffer is None else framebuffer.refresh
        self._screen = GpuScreen(self._gpu, config.screens, refresh)
        if framebuffer is not None:
            framebuffer.take(self, lib.vd_gpu_scanout(self._gpu, 0))

    @property
    def native(self) -> int:
        """Address of the ``struct vd_device``."""
        return int(ffi.cast("uintptr_t", lib.vd_gpu_device(self._gpu)))

    @property
    def screen(self) -> GpuScreen:
        """Its outputs."""
        return self._screen

    def counters(self) -> Mapping[str, int]:
        """Commands, errors, flushes, bytes copied; ``memory_bytes`` is what the guest's pictures take now."""
        if self._gpu == ffi.NULL:
            return {}
        counters = ffi.new("struct vd_gpu_counters *")
        lib.vd_gpu_counters(self._gpu, counters)
        return {name: int(getattr(counters, name)) for name, _ in ffi.typeof("struct vd_gpu_counters").fields}

    def close(self) -> None:
        """Free the device; see :meth:`Device.close`."""
        if self._gpu != ffi.NULL:
            self._screen.close()
            if self.context.framebuffer is not None:
                self.context.framebuffer.give_back(self)
            lib.vd_gpu_free(self._gpu)
            self._gpu = ffi.NULL
            if self._rendering is not None:
                self._rendering.close()
