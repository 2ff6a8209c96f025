# SPDX-License-Identifier: MIT
"""Devices written in Python.

A device is a class: what it is, as data, and one method that serves a queue::

    class Dice(PythonDevice):
        virtio_id = 4
        queues = (QueueSpec("requests", 64),)

        def serve(self, queue: Queue) -> None:
            for chain in queue.drain():
                queue.complete(chain, chain.write(os.urandom(chain.writable)))

It runs on a thread of its own, which the driver's kicks wake; all of its
methods are called there, one at a time, so a device needs no locks. The guest's
registers, the rings and the interrupt stay in C: a slow or failing device holds
up neither the guest's vCPUs nor another device, and a reset never waits for it.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import Device
from vdesktop_core.errors import DeviceError
from vdesktop_core.host import wait_for_event
from vdesktop_core.virtqueue import Queue, StaleChainError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vdesktop_core.devices.base import DeviceContext

#: Ring features every device gets: indirect descriptors, event index, packed rings, ring reset, VERSION_1.
COMMON_FEATURES: int = lib.VD_FEATURES_COMMON


class QueueSpec(msgspec.Struct, frozen=True):
    """A virtqueue: its name and its largest size, a power of two up to 1024."""

    name: str
    size: int = 64


class Field(msgspec.Struct, frozen=True):
    """A field of the config space.

    Args:
        name: the specification's name.
        format: a :mod:`struct` format of one little-endian value without ``<``: ``B``, ``H``,
            ``I``, ``Q``, or ``16s`` for bytes.
        writable: whether the driver may write it.
        default: its value before the device sets one; 0 or zero bytes if None.
    """

    name: str
    format: str
    writable: bool = False
    default: Any = None


class ConfigSpace:
    """The config space by field name: ``space["mode"]``, ``space["mode"] = 3``.

    Setting a field bumps ConfigGeneration and raises the config interrupt.
    Offsets follow from the order of the fields, without padding.
    """

    def __init__(self, device: Any, fields: Sequence[Field]) -> None:
        self._device = device
        self._at: dict[str, tuple[int, struct.Struct]] = {}
        offset = 0
        for field in fields:
            codec = struct.Struct("<" + field.format)
            if field.name in self._at or offset + codec.size > lib.VD_CONFIG_MAX:
                raise DeviceError(f"config field {field.name!r} is declared twice or does not fit 4096 bytes")
            self._at[field.name] = (offset, codec)
            device.config_len = offset + codec.size
            if field.writable:
                ffi.memmove(device.config_writable + offset, b"\xff" * codec.size, codec.size)
            if field.default is not None:
                self[field.name] = field.default
            offset += codec.size

    def __getitem__(self, name: str) -> Any:
        offset, codec = self._at[name]
        raw = ffi.new("char[]", codec.size)
        lib.vd_device_config_get(self._device, offset, raw, codec.size)
        return codec.unpack(ffi.buffer(raw, codec.size))[0]

    def __setitem__(self, name: str, value: Any) -> None:
        offset, codec = self._at[name]
        lib.vd_device_config_set(self._device, offset, codec.pack(value), codec.size)


class PythonDevice(Device):
    """Base of devices written in Python. See the module's docstring.

    Attributes:
        virtio_id: the device type of virtio 1.4 §5.
        features: device-specific feature bits it offers, as a mask.
        queues: its virtqueues, at most 32.
        fields: its config space.
        config: the keys of its ``[[device]]`` table.
        space: the config space's values.

    Raises:
        DeviceError: the class declares what a device cannot have, or the host is out of memory.
    """

    virtio_id: ClassVar[int]
    features: ClassVar[int] = 0
    queues: ClassVar[Sequence[QueueSpec]] = ()
    fields: ClassVar[Sequence[Field]] = ()

    def __init__(self, config: Any, context: DeviceContext) -> None:
        super().__init__(context)
        self.config = config
        for spec in self.queues:
            if not 0 < spec.size <= lib.VD_QUEUE_SIZE_MAX or spec.size & (spec.size - 1):
                raise DeviceError(
                    f"{self.name}: queue {spec.name!r} has size {spec.size}, "
                    f"which is not a power of two up to {lib.VD_QUEUE_SIZE_MAX}"
                )
        self._log = logging.getLogger(f"vdesktop.{self.name}")
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._batch = lib.vd_batch_new(
            ffi.cast("struct vd_host *", context.host),
            ffi.cast("struct vd_mem *", context.memory.native),
            self.name.encode(),
            self.virtio_id,
            self.features | COMMON_FEATURES,
            [spec.size for spec in self.queues],
            len(self.queues),
            self._wake,
        )
        if self._batch == ffi.NULL:
            os.close(self._wake)
            raise DeviceError(f"cannot create {self.name}: more than 32 queues, or the host is out of memory")
        self._device = lib.vd_batch_device(self._batch)
        self.space = ConfigSpace(self._device, self.fields)
        self._queues = [Queue(self._batch, index, spec.name) for index, spec in enumerate(self.queues)]
        self._posted: deque[Callable[[], None]] = deque()
        self._closing = False
        self._failed = False
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    # What a device overrides. All of it runs on the device's own thread.

    def serve(self, queue: Queue) -> None:
        """Handle what is waiting in a queue: the driver kicked it."""
        raise NotImplementedError

    def driver_ok(self) -> None:
        """The driver is ready: :attr:`driver_features` is valid, and kicks follow."""

    def reset(self) -> None:
        """The driver reset the device: forget requests, go back to the initial state."""

    def config_written(self) -> None:
        """The driver wrote fields of the config space."""

    # What a device may use.

    @property
    def driver_features(self) -> int:
        """The features the driver accepted; 0 before it did."""
        return int(self._device.driver_features)

    def queue(self, name: str) -> Queue:
        """Return a queue by name."""
        return next(queue for queue in self._queues if queue.name == name)

    def run_soon(self, function: Callable[[], None]) -> None:
        """Have a function called on the device's thread. From any thread."""
        self._posted.append(function)
        os.eventfd_write(self._wake, 1)

    def fail(self, reason: str) -> None:
        """Stop until the driver resets the device (DEVICE_NEEDS_RESET); one line goes to the log."""
        self._failed = True
        lib.vd_device_failed(self._device, " ".join(reason.split()).encode())

    def protocol_error(self, what: str) -> None:
        """The driver broke the device's protocol: counted, logged, and stopped until it resets the device."""
        self._failed = True
        lib.vd_device_protocol_error(self._device, " ".join(what.split()).encode())

    # The machine's side.

    @property
    def native(self) -> int:
        """Address of the ``struct vd_device``."""
        return int(ffi.cast("uintptr_t", self._device))

    def counters(self) -> Mapping[str, int]:
        """Kicks, interrupts, config writes, resets and protocol errors since creation."""
        names = ("n_kicks", "n_interrupts", "n_config_writes", "n_resets", "n_protocol_errors")
        return {name.removeprefix("n_"): int(getattr(self._device, name)) for name in names}

    def close(self) -> None:
        """Stop the device's thread and free everything. Waits for a handler that is running."""
        if self._closing:
            return
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        lib.vd_batch_free(self._batch)

    def _run(self) -> None:
        while True:
            wait_for_event(self._wake)
            if self._closing:
                return
            self._hear(lib.vd_batch_take(self._batch))
            # What is there now: what is posted meanwhile has set the eventfd again, and the driver's
            # requests are heard before it. Somebody who posts all the time starves nobody.
            for _ in range(len(self._posted)):
                self._call(self._posted.popleft())

    def _hear(self, news: int) -> None:
        if news >> lib.VD_BATCH_RESET & 1:
            self._failed = False
            self._call(self.reset)
        if news >> lib.VD_BATCH_DRIVER_OK & 1 and not self._failed:
            self._call(self.driver_ok)
        if news >> lib.VD_BATCH_CONFIG_WRITTEN & 1 and not self._failed:
            self._call(self.config_written)
        for queue in self._queues:
            if news >> queue.index & 1 and not self._failed:
                queue.enter()
                self._call(self.serve, queue)
                queue.leave()

    def _call(self, method: Any, *args: Queue) -> None:
        """Call a method of the device's. What it raises stops this device only."""
        generation = lib.vd_batch_generation(self._batch)
        try:
            method(*args)
        except Exception as error:  # noqa: BLE001 - a device author's code may raise anything
            self._log.debug("%s: an exception left the device's code", self.name, exc_info=True)
            if isinstance(error, StaleChainError) or lib.vd_batch_generation(self._batch) != generation:
                return  # it worked on requests of before a reset; news of that is waiting
            name = getattr(method, "__name__", "a function")
            what = f"{name} of queue {args[0].name}" if args else name
            self.fail(f"{what} failed: {type(error).__name__}: {error}; stopped until the driver resets it")
