# SPDX-License-Identifier: MIT
"""The disk of a machine: its configuration, and the device that the native plane serves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import Device, DeviceConfig, DeviceContext, DeviceType
from vdesktop_core.devices.blk.store import CacheMode, DiskOptions, DiskStore, choose_format
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_core.iothread import IoThread

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes of one kick that are moved on the vCPU's own thread, where that cannot block.
INLINE_BYTES = 64 << 10


class BlkConfig(DeviceConfig, frozen=True, kw_only=True):
    """A ``[[device]] type = "blk"`` table, or ``--disk``."""

    type: str = "blk"
    path: str
    #: raw, qcow2, … ; default: what the file name means, else raw. See store.choose_format.
    format: str | None = None
    readonly: bool = False
    #: At most 20 ASCII characters; the guest's /dev/disk/by-id and /sys/block/vda/serial.
    serial: str = ""
    #: Request queues, 1..16, each with a native thread of its own.
    queues: int = 1
    #: Requests in a queue at most: a power of two, 4..1024.
    queue_size: int = 256
    cache: CacheMode = CacheMode.WRITEBACK
    #: Logical block size the guest sees, in bytes: a power of two, 512..65536; default: the image's.
    block_size: int | None = None
    #: Offer discard and unmap, and pass them on to the host.
    discard: bool = True
    #: Native threads for requests that block, at most: 1..64.
    workers: int = 8

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path is empty: name an image file or a block device")
        if len(self.serial) > lib.VD_BLK_SERIAL_LEN or not (
            self.serial.isascii() and self.serial.isprintable()
        ):
            raise ValueError(
                f"serial {self.serial!r}: at most {lib.VD_BLK_SERIAL_LEN} printable ASCII characters"
            )
        for key, low, high in (
            ("queues", 1, lib.VD_BLK_QUEUES_MAX),
            ("queue_size", 4, lib.VD_QUEUE_SIZE_MAX),
            ("block_size", lib.VD_BLK_SECTOR, 65536),
            ("workers", 1, 64),
        ):
            value = getattr(self, key)
            if value is None:
                continue
            if not low <= value <= high:
                raise ValueError(f"{key} = {value}: {low} to {high}")
            if key in ("queue_size", "block_size") and value & (value - 1):
                raise ValueError(f"{key} = {value}: a power of two")


def parse_disk(spec: str) -> BlkConfig:
    """Read ``FILE[,ro][,KEY=VALUE…]``, the value of ``--disk``; a comma in FILE is written twice.

    Raises:
        ConfigError: no such key, or a value that does not fit.
    """
    parts = [part.replace("\0", ",") for part in spec.replace(",,", "\0").split(",")]
    values: dict[str, Any] = {"path": parts[0]}
    for part in parts[1:]:
        key, equals, value = part.partition("=")
        if key == "ro" and not equals:
            values["readonly"] = True
        elif equals and key in BlkConfig.__struct_fields__ and key not in ("type", "path"):
            values[key] = value
        else:
            keys = ", ".join(k for k in BlkConfig.__struct_fields__ if k not in ("type", "path"))
            raise ConfigError(f"--disk {spec}: {part!r} is not known: use ro or KEY=VALUE with {keys}")
    try:
        return msgspec.convert(values, BlkConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--disk {spec}: {error}") from error


class BlkDevice(Device):
    """A virtio-blk device over an image.

    Raises:
        DeviceError, ConfigError: the image cannot be used.
    """

    def __init__(self, config: BlkConfig, context: DeviceContext) -> None:
        super().__init__(context)
        self._blk = ffi.NULL
        self._threads: list[IoThread] = []
        self._store: DiskStore | None = None
        path = Path(config.path)
        disk_format = choose_format(path, config.format, context.plugins["disk"])
        options = DiskOptions(
            host=context.host,
            readonly=config.readonly,
            cache=config.cache,
            discard=config.discard,
            connections=min(config.workers, 8),
        )
        try:
            self._store = disk_format.open(path, options)
            self._check_block_size(config, self._store)
            for i in range(1, config.queues):
                self._threads.append(IoThread(context.host, f"{self.name}-q{i}"))
            self._blk = self._create(config, self._store)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _check_block_size(config: BlkConfig, store: DiskStore) -> None:
        native = ffi.cast("struct vd_blk_store *", store.native)
        size, block_size = native.size, config.block_size or native.block_size
        if size % block_size:
            raise DeviceError(
                f"disk {config.path} has {size} bytes, which is no multiple of its block size {block_size}"
            )

    def _create(self, config: BlkConfig, store: DiskStore) -> Any:
        loops = ffi.new("struct vd_loop *[]", config.queues)
        for i, address in enumerate([self.context.loop, *(thread.native for thread in self._threads)]):
            loops[i] = ffi.cast("struct vd_loop *", address)
        options = ffi.new(
            "struct vd_blk_options *",
            {
                "queues": config.queues,
                "queue_size": config.queue_size,
                "block_size": config.block_size or 0,
                "workers": config.workers,
                "inline_bytes": INLINE_BYTES,
                "write_through": config.cache is CacheMode.WRITETHROUGH,
                "no_discard": not config.discard,
                "serial": config.serial.encode(),
            },
        )
        failure = ffi.new("int *")
        blk = lib.vd_blk_new(
            ffi.cast("struct vd_host *", self.context.host),
            ffi.cast("struct vd_mem *", self.context.memory.native),
            self.name.encode(),
            ffi.cast("struct vd_blk_store *", store.native),
            options,
            loops,
            failure,
        )
        if blk == ffi.NULL:
            raise DeviceError(f"disk {config.path}: cannot create the device: {os.strerror(-failure[0])}")
        return blk

    @property
    def native(self) -> int:
        """Address of the ``struct vd_device``."""
        return int(ffi.cast("uintptr_t", lib.vd_blk_device(self._blk)))

    def counters(self) -> Mapping[str, int]:
        """Requests by type, bytes, errors, and the summed latency in nanoseconds."""
        if self._blk == ffi.NULL:
            return {}
        counters = ffi.new("struct vd_blk_counters *")
        lib.vd_blk_counters(self._blk, counters)
        return {name: int(getattr(counters, name)) for name, _ in ffi.typeof("struct vd_blk_counters").fields}

    def lost(self) -> None:
        """Close the image: all that was in flight is answered, and what comes fails."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def close(self) -> None:
        """Finish what workers have begun, flush, and close the image; see :meth:`Device.close`."""
        if self._blk != ffi.NULL:
            lib.vd_blk_free(self._blk)
            self._blk = ffi.NULL
        for thread in self._threads:
            thread.close()
        self._threads.clear()
        self.lost()


DEVICE_TYPE = DeviceType(
    name="blk",
    summary="a disk: raw file, block device, or an image that QEMU's tools open",
    virtio_id=lib.VD_BLK_ID,
    config=BlkConfig,
    create=BlkDevice,
)
