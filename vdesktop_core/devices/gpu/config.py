# SPDX-License-Identifier: MIT
"""The gpu's configuration. Light: it is imported whether a machine has a gpu or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core._native import lib
from vdesktop_core.devices.base import DeviceConfig, DeviceContext, DeviceType
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from vdesktop_core.devices.gpu.device import GpuDevice

#: Host memory that a guest's pictures may take, in MiB: sixteen of 3840 x 2160 and then some.
DEFAULT_MEMORY_MIB = 512


class GpuConfig(DeviceConfig, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """``[[device]] type = "gpu"``.

    Attributes:
        width: of the first screen at first, in pixels, 64 to 4095.
        height: the same.
        screens: outputs, 1 to 16. All but the first are unplugged until a viewer asks for a size.
        memory: host memory that the guest's pictures may take, in MiB.
        renderer: what draws 3D: the name of an installed renderer, ``none``, or ``auto``.
    """

    type: str = "gpu"
    width: int = 1024
    height: int = 768
    screens: int = 1
    memory: int = DEFAULT_MEMORY_MIB
    renderer: str = "auto"

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        least, most = lib.VD_GPU_SIZE_MIN, lib.VD_GPU_SIZE_MAX
        if not (least <= self.width <= most and least <= self.height <= most):
            raise ConfigError(f"gpu: a screen of {self.width} x {self.height}: give {least} to {most} pixels")
        if not 1 <= self.screens <= lib.VD_GPU_SCANOUTS_MAX:
            raise ConfigError(f"gpu: {self.screens} screens: give 1 to {lib.VD_GPU_SCANOUTS_MAX}")
        if not 1 <= self.memory <= 1 << 20:
            raise ConfigError(f"gpu: memory = {self.memory}: give 1 to 1048576 MiB")


def _create(config: GpuConfig, context: DeviceContext) -> GpuDevice:
    from vdesktop_core.devices.gpu.device import GpuDevice

    return GpuDevice(config, context)


DEVICE_TYPE = DeviceType(
    name="gpu",
    summary="screens, 2D; 3D by a renderer",
    virtio_id=lib.VD_GPU_ID,
    config=GpuConfig,
    create=_create,
)
