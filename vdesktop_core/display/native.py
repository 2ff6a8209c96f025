# SPDX-License-Identifier: MIT
"""The display layer's screens, over ``vdesktop/display.h``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from vdesktop_core._native import ffi, lib
from vdesktop_core.display.screen import Cursor, News, PixelFormat, Rect, Update
from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable


class NativeSurface:
    """A reference to a ``struct vd_surface``; see :class:`vdesktop_core.display.screen.Surface`."""

    def __init__(self, raw: Any) -> None:
        self._pixels = raw.pixels
        self.offset = int(raw.offset)
        self.width = int(raw.width)
        self.height = int(raw.height)
        self.stride = int(raw.stride)
        self.format = PixelFormat(raw.format)

    @property
    def fd(self) -> int:
        """The memfd that the pixels are in, or -1."""
        return int(lib.vd_pixels_fd(self._pixels))

    @property
    def address(self) -> int:
        """Of the first pixel."""
        return int(ffi.cast("uintptr_t", lib.vd_pixels_base(self._pixels))) + self.offset

    @property
    def view(self) -> memoryview:
        """Bytes from the first pixel to the last."""
        size = (self.height - 1) * self.stride + self.width * 4
        return memoryview(ffi.buffer(ffi.cast("char *", self.address), size)).toreadonly()

    def close(self) -> None:
        """Let go of the memory."""
        lib.vd_pixels_unref(self._pixels)
        self._pixels = ffi.NULL


class NativeViewing:
    """A ``struct vd_viewer``; see :class:`vdesktop_core.display.screen.Viewing`."""

    def __init__(self, scanout: Any, forget: Callable[[NativeViewing], None]) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._forget = forget
        self._viewer = lib.vd_viewer_new(scanout, self._fd)
        if self._viewer == ffi.NULL:
            os.close(self._fd)
            raise DeviceError("cannot watch a screen: the host is out of memory")
        self._native = ffi.new("struct vd_viewing *")
        lib.vd_viewer_viewing(self._viewer, self._native)

    def fileno(self) -> int:
        """Return the eventfd."""
        return self._fd

    @property
    def native(self) -> int:
        """Address of the ``struct vd_viewing``."""
        return int(ffi.cast("uintptr_t", self._native))

    def take(self) -> Update:
        """Take all news."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        raw = ffi.new("struct vd_update *")
        news = News(lib.vd_viewer_take(self._viewer, raw))
        damage = tuple(Rect(r.x, r.y, r.width, r.height) for r in raw.damage[0 : raw.n_damage])
        surface = NativeSurface(raw.surface) if raw.surface.pixels != ffi.NULL else None
        return Update(news, damage, surface)

    def cursor(self) -> Cursor:
        """Return the cursor."""
        raw = ffi.new("struct vd_cursor *")
        lib.vd_viewer_cursor(self._viewer, raw)
        if not raw.visible:
            return Cursor(raw.x, raw.y)
        side = lib.VD_CURSOR_SIZE
        return Cursor(raw.x, raw.y, raw.hot_x, raw.hot_y, side, side, bytes(ffi.buffer(raw.pixels)))

    def close(self) -> None:
        """Hear no more."""
        if self._viewer == ffi.NULL:
            return
        lib.vd_viewer_free(self._viewer)
        self._viewer = ffi.NULL
        os.close(self._fd)
        self._forget(self)


class NativeScanout:
    """A ``struct vd_scanout``; see :class:`vdesktop_core.display.screen.Scanout`.

    Args:
        scanout: the structure.
        request: asks the guest for a size; 0, 0 unplugs.
        refresh: called before somebody begins to look.
    """

    def __init__(
        self, scanout: Any, request: Callable[[int, int], None], refresh: Callable[[], None] = lambda: None
    ) -> None:
        self._scanout = scanout
        self._refresh = refresh
        self._request = request
        self._viewings: list[NativeViewing] = []

    def view(self) -> NativeViewing:
        """Look at it."""
        self._refresh()
        viewing = NativeViewing(self._scanout, self._viewings.remove)
        self._viewings.append(viewing)
        return viewing

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return bool(self._viewings)

    def request_size(self, width: int, height: int) -> None:
        """Ask the guest for a size; 0, 0 unplugs."""
        self._request(width, height)

    def close(self) -> None:
        """End what views are left, before the device goes."""
        for viewing in [*self._viewings]:
            viewing.close()
