# SPDX-License-Identifier: MIT
"""A desktop without a device: a scanout that tests paint on, input devices that remember, an RFB server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from vdesktop_rfb.server import RfbOptions, RfbServer

from vdesktop_core._native import ffi, lib
from vdesktop_core.display.frontend import Desktop
from vdesktop_core.display.input import Key, Led, PointerAbsolute, PointerButton, Touch, Wheel
from vdesktop_core.display.native import NativeViewing
from vdesktop_core.display.screen import PixelFormat
from vdesktop_core.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vdesktop_core.display.input import InputEvent


class Canvas:
    """A scanout, painted on by the test."""

    def __init__(self, host: Host) -> None:
        self._host = ffi.cast("struct vd_host *", host.native)
        self._scanout = lib.vd_scanout_new(self._host)
        self._viewings: list[NativeViewing] = []
        self.wanted: list[tuple[int, int]] = []
        self.width = self.height = self.stride = 0
        self.memory: Any = None

    def view(self) -> NativeViewing:
        viewing = NativeViewing(self._scanout, self._viewings.remove)
        self._viewings.append(viewing)
        return viewing

    def request_size(self, width: int, height: int) -> None:
        self.wanted.append((width, height))

    def show(
        self,
        width: int,
        height: int,
        pixel_format: int = PixelFormat.XRGB8888,
        *,
        gap: int = 0,
        offset: int = 0,
    ) -> None:
        """Another picture, black, with ``gap`` bytes after each row."""
        self.width, self.height, self.stride = width, height, width * 4 + gap
        size = offset + self.stride * height
        failure = ffi.new("int *")
        pixels = lib.vd_pixels_new(self._host, size, failure)
        assert pixels != ffi.NULL
        self.memory = ffi.buffer(lib.vd_pixels_base(pixels), size)
        self.offset = offset
        surface = ffi.new(
            "struct vd_surface *",
            {
                "pixels": pixels,
                "offset": offset,
                "width": width,
                "height": height,
                "stride": self.stride,
                "format": int(pixel_format),
            },
        )
        lib.vd_scanout_show(self._scanout, surface)
        lib.vd_pixels_unref(pixels)

    def blank(self) -> None:
        """Nothing is shown."""
        lib.vd_scanout_show(self._scanout, ffi.NULL)

    def paint(self, rows: bytes, x: int = 0, y: int = 0, width: int | None = None) -> None:
        """Write 32-bit pixels, and say so."""
        width = self.width if width is None else width
        height = len(rows) // (4 * width)
        for row in range(height):
            at = self.offset + (y + row) * self.stride + 4 * x
            self.memory[at : at + 4 * width] = rows[4 * width * row : 4 * width * (row + 1)]
        self.damage(x, y, width, height)

    def damage(self, x: int, y: int, width: int, height: int) -> None:
        lib.vd_scanout_damage(self._scanout, ffi.new("struct vd_rect *", [x, y, width, height]))

    def cursor(
        self,
        pixels: list[int],
        hot: tuple[int, int] = (0, 0),
        at: tuple[int, int] = (0, 0),
        *,
        visible: bool = True,
    ) -> None:
        """A cursor of 64 x 64 pixels, ARGB premultiplied, whose upper left corner is somewhere."""
        about = {"visible": visible, "hot_x": hot[0], "hot_y": hot[1], "x": at[0], "y": at[1]}
        raw = ffi.new("struct vd_cursor *", about)
        raw.pixels = pixels
        lib.vd_scanout_set_cursor(self._scanout, raw)

    def move_cursor(self, x: int, y: int) -> None:
        lib.vd_scanout_move_cursor(self._scanout, x, y)

    def close(self) -> None:
        for viewing in [*self._viewings]:
            viewing.close()
        lib.vd_scanout_free(self._scanout)


class Screen:
    def __init__(self, scanouts: Sequence[Canvas]) -> None:
        self.scanouts = scanouts


class Sink:
    """An input device that remembers."""

    def __init__(self, *accepts: type) -> None:
        self.accepts = frozenset(accepts)
        self.frames: list[list[InputEvent]] = []
        self.arrived = threading.Condition()
        self._leds: list[Callable[[Led], None]] = []

    def send(self, events: Sequence[InputEvent]) -> bool:
        with self.arrived:
            self.frames.append([*events])
            self.arrived.notify_all()
        return True

    def on_leds(self, changed: Callable[[Led], None]) -> Callable[[], None]:
        self._leds.append(changed)
        changed(Led(0))
        return lambda: self._leds.remove(changed)

    def light(self, leds: Led) -> None:
        for changed in self._leds:
            changed(leds)

    def wait(self, count: int) -> list[list[InputEvent]]:
        """Frames, once there are so many."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.frames) >= count, 20), self.frames
            return [*self.frames]


class Rig:
    """A server on a control loop of its own, in a thread: tests are blocking clients."""

    def __init__(self, screens: int = 1, clipboards: Sequence[Any] = (), **options: Any) -> None:
        self.host = Host()
        self.canvases = [Canvas(self.host) for _ in range(screens)]
        self.canvas = self.canvases[0]
        self.keyboard = Sink(Key)
        self.tablet = Sink(PointerAbsolute, PointerButton, Wheel)
        self.touch = Sink(Touch)
        self._sockets: list[socket.socket] = []
        self.private: list[tuple[int, int, bytes]] = []
        self.changed = threading.Condition()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.desktop = Desktop(
            "test", [Screen(self.canvases)], [self.keyboard, self.tablet, self.touch], clipboards
        )
        try:
            self.server: RfbServer = self.call(lambda: self._new(options))
        except BaseException:
            self._end()
            raise

    def _new(self, options: dict[str, Any]) -> RfbServer:
        return RfbServer(
            self.desktop,
            RfbOptions(**options),
            on_change=self._tell,
            on_private=lambda client, kind, payload: self._private(client.number, kind, payload),
        )

    def _tell(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _private(self, number: int, kind: int, payload: bytes) -> None:
        with self.changed:
            self.private.append((number, kind, payload))
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 60)

    def call(self, function: Callable[[], Any]) -> Any:
        """Run on the control loop."""
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                done.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return done.result(60)

    def connect(self, **options: Any) -> socket.socket:
        """A client's end."""
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        self._sockets.append(ours)
        self.call(lambda: self.server.attach(theirs, **options))
        return ours

    def gone(self) -> bool:
        return not self.server.clients

    def close(self) -> None:
        """End it all; the clients' ends too."""
        self.call(self.server.close)
        for sock in self._sockets:
            sock.close()
        self._end()

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        for canvas in self.canvases:
            canvas.close()
        with contextlib.suppress(OSError):
            self.host.close()
