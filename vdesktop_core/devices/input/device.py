# SPDX-License-Identifier: MIT
"""The Python face of the input device's data plane."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import Device, DeviceContext
from vdesktop_core.devices.input.encode import Encoder
from vdesktop_core.devices.input.kinds import SHAPES, bitmap
from vdesktop_core.display.input import Led
from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from vdesktop_core.devices.input.config import InputConfig
    from vdesktop_core.display.input import InputEvent

_BUS_VIRTUAL = 0x06


class InputDevice(Device):
    """A virtio-input device (virtio 1.4 §5.8); an :class:`~vdesktop_core.display.input.InputSink`.

    Raises:
        DeviceError: the host refuses.
    """

    def __init__(self, config: InputConfig, context: DeviceContext) -> None:
        super().__init__(context)
        self.kind = config.kind
        self._encoder = Encoder(config.kind)
        self._listeners: list[Callable[[Led], None]] = []
        self._watching: asyncio.AbstractEventLoop | None = None
        self._status_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        shape = SHAPES[config.kind]
        types = ffi.new(
            "struct vd_input_bits[]",
            [
                {"type": number, "size": len(bits), "bits": bits}
                for number, codes in shape.codes.items()
                if (bits := bitmap(codes))
            ],
        )
        axes = ffi.new(
            "struct vd_input_axis[]", [{"code": code, "max": most} for code, most in shape.axes.items()]
        )
        title, serial = ffi.new("char[]", shape.title.encode()), ffi.new("char[]", self.name.encode())
        failure = ffi.new("int *")
        self._input = lib.vd_input_new(
            ffi.cast("struct vd_host *", context.host),
            ffi.cast("struct vd_mem *", context.memory.native),
            ffi.cast("struct vd_loop *", context.loop),
            self.name.encode(),
            ffi.new(
                "struct vd_input_options *",
                {
                    "name": title,
                    "serial": serial,
                    "bustype": _BUS_VIRTUAL,
                    "vendor": 0,
                    "product": shape.product,
                    "version": 1,
                    "properties": shape.properties,
                    "types": types,
                    "n_types": len(types),
                    "axes": axes,
                    "n_axes": len(axes),
                    "status_fd": self._status_fd,
                },
            ),
            failure,
        )
        if self._input == ffi.NULL:
            os.close(self._status_fd)
            raise DeviceError(f"{self.name}: cannot create the device: {os.strerror(-failure[0])}")

    @property
    def native(self) -> int:
        """Address of the ``struct vd_device``."""
        return int(ffi.cast("uintptr_t", lib.vd_input_device(self._input)))

    @property
    def input_sink(self) -> InputDevice:
        """Itself."""
        return self

    @property
    def accepts(self) -> Collection[type]:
        """The kinds of events it takes."""
        return self._encoder.accepts

    def send(self, events: Sequence[InputEvent]) -> bool:
        """Send one frame; see :meth:`InputSink.send <vdesktop_core.display.input.InputSink.send>`."""
        frame = self._encoder.encode(events)
        if not frame:
            return True
        return int(lib.vd_input_send(self._input, ffi.new("struct vd_input_event[]", frame), len(frame))) == 0

    def on_leds(self, changed: Callable[[Led], None]) -> Callable[[], None]:
        """Have ``changed`` called with the lamps that are lit; returns how to stop that."""
        self._listeners.append(changed)
        if self._watching is None:
            self._watching = asyncio.get_running_loop()
            self._watching.add_reader(self._status_fd, self._leds_changed)
        changed(self.leds)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(changed)
            if not self._listeners:
                self._unwatch()

        return stop

    @property
    def leds(self) -> Led:
        """The lamps that the guest has lit."""
        return Led(lib.vd_input_leds(self._input) & sum(Led))

    def on_event(self, kind: int, a: int, b: int) -> None:
        """Forget held fingers with the driver that knew of them."""
        if kind == lib.VD_EVENT_RESET:
            self._encoder.reset()

    def counters(self) -> Mapping[str, int]:
        """Frames delivered, merged and dropped; events of the guest's."""
        if self._input == ffi.NULL:
            return {}
        counters = ffi.new("struct vd_input_counters *")
        lib.vd_input_counters(self._input, counters)
        fields = ffi.typeof("struct vd_input_counters").fields
        return {name: int(getattr(counters, name)) for name, _ in fields}

    def close(self) -> None:
        """Free the device; see :meth:`Device.close`."""
        if self._input == ffi.NULL:
            return
        self._unwatch()
        lib.vd_input_free(self._input)
        self._input = ffi.NULL
        os.close(self._status_fd)

    def _unwatch(self) -> None:
        if self._watching is not None:
            self._watching.remove_reader(self._status_fd)
            self._watching = None

    def _leds_changed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._status_fd)
        for listener in [*self._listeners]:
            listener(self.leds)
