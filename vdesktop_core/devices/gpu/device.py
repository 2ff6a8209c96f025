# SPDX-License-Identifier: MIT
"""The gpu: configuration, and the Python face of its data plane."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import Device, DeviceConfig, DeviceContext, DeviceType
from vdesktop_core.devices.gpu.scanout import GpuScreen
from vdesktop_core.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Host memory that a guest's pictures may take, in MiB: sixteen of 3840 x 2160 and then some.
DEFAULT_MEMORY_MIB = 512


class GpuConfig(DeviceConfig, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """``[[device]] type = "gpu"``.

    Attributes:
        width: of the first screen at first, in pixels, 64 to 4095.
        height: the same.
        screens: outputs, 1 to 16. All but the first are unplugged until a viewer asks for a size.
        memory: host memory that the guest's pictures may take, in MiB.
    """

    type: str = "gpu"
    width: int = 1024
    height: int = 768
    screens: int = 1
    memory: int = DEFAULT_MEMORY_MIB

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        least, most = lib.VD_GPU_SIZE_MIN, lib.VD_GPU_SIZE_MAX
        if not (least <= self.width <= most and least <= self.height <= most):
            raise ConfigError(f"gpu: a screen of {self.width} x {self.height}: give {least} to {most} pixels")
        if not 1 <= self.screens <= lib.VD_GPU_SCANOUTS_MAX:
            raise ConfigError(f"gpu: {self.screens} screens: give 1 to {lib.VD_GPU_SCANOUTS_MAX}")
        if not 1 <= self.memory <= 1 << 20:
            raise ConfigError(f"gpu: memory = {self.memory}: give 1 to 1048576 MiB")


class GpuDevice(Device):
    """A virtio-gpu device (virtio 1.4 §5.7), 2D.

    Raises:
        DeviceError: the host refuses.
    """

    def __init__(self, config: GpuConfig, context: DeviceContext) -> None:
        super().__init__(context)
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
                },
            ),
            failure,
        )
        if self._gpu == ffi.NULL:
            raise DeviceError(f"{self.name}: cannot create the device: {os.strerror(-failure[0])}")
        self._screen = GpuScreen(self._gpu, config.screens)

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
            lib.vd_gpu_free(self._gpu)
            self._gpu = ffi.NULL


DEVICE_TYPE = DeviceType(
    name="gpu",
    summary="screens, 2D",
    virtio_id=lib.VD_GPU_ID,
    config=GpuConfig,
    create=GpuDevice,
)
