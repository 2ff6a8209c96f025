# SPDX-License-Identifier: MIT
"""The entropy source of a machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import Device, DeviceConfig, DeviceContext, DeviceType
from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping


class RngConfig(DeviceConfig, frozen=True, kw_only=True):
    """A ``[[device]] type = "rng"`` table."""

    type: str = "rng"
    #: Bytes the guest gets in a period at most; 0: no limit. The default is far above
    #: what a guest needs, and keeps one that asks without end off the host's CPU.
    max_bytes: int = 1 << 20
    #: The period in milliseconds, 1..3600000.
    period: int = 1000

    def __post_init__(self) -> None:
        if not 0 <= self.max_bytes < 1 << 63:
            raise ValueError(f"max_bytes = {self.max_bytes}: 0 (no limit) or more")
        if not 1 <= self.period <= 3_600_000:
            raise ValueError(f"period = {self.period}: 1 to 3600000 milliseconds")


class RngDevice(Device):
    """A virtio-rng device (virtio 1.4 §5.4) that gives the host kernel's random bytes."""

    def __init__(self, config: RngConfig, context: DeviceContext) -> None:
        super().__init__(context)
        options = ffi.new(
            "struct vd_rng_options *", {"max_bytes": config.max_bytes, "period_ms": config.period}
        )
        failure = ffi.new("int *")
        self._rng = lib.vd_rng_new(
            ffi.cast("struct vd_host *", context.host),
            ffi.cast("struct vd_mem *", context.memory.native),
            self.name.encode(),
            options,
            ffi.cast("struct vd_loop *", context.loop),
            failure,
        )
        if self._rng == ffi.NULL:
            raise DeviceError(f"{self.name}: cannot create the device: {os.strerror(-failure[0])}")

    @property
    def native(self) -> int:
        """Address of the ``struct vd_device``."""
        return int(ffi.cast("uintptr_t", lib.vd_rng_device(self._rng)))

    def counters(self) -> Mapping[str, int]:
        """Requests, bytes, and how often the limit made the guest wait."""
        if self._rng == ffi.NULL:
            return {}
        counters = ffi.new("struct vd_rng_counters *")
        lib.vd_rng_counters(self._rng, counters)
        return {name: int(getattr(counters, name)) for name, _ in ffi.typeof("struct vd_rng_counters").fields}

    def close(self) -> None:
        """Free the device; see :meth:`Device.close`."""
        if self._rng != ffi.NULL:
            lib.vd_rng_free(self._rng)
            self._rng = ffi.NULL


DEVICE_TYPE = DeviceType(
    name="rng",
    summary="the host kernel's random bytes",
    virtio_id=lib.VD_RNG_ID,
    config=RngConfig,
    create=RngDevice,
)
