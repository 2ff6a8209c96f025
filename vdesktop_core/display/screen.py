# SPDX-License-Identifier: MIT
"""Screens: what a guest shows, and how one hears of changes."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class PixelFormat(enum.IntEnum):
    """32 bits a pixel; the codes of Linux's ``<drm/drm_fourcc.h>``. Named from the high to the low byte."""

    XRGB8888 = 0x34325258  #: B, G, R, X in memory
    ARGB8888 = 0x34325241
    XBGR8888 = 0x34324258  #: R, G, B, X in memory
    ABGR8888 = 0x34324241
    RGBX8888 = 0x34325852
    RGBA8888 = 0x34324152
    BGRX8888 = 0x34325842
    BGRA8888 = 0x34324142

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Where red, green and blue are among the four bytes of a pixel in memory."""
        name = self.name[:4]
        red, green, blue = (3 - name.index(letter) for letter in "RGB")
        return red, green, blue


class Rect(msgspec.Struct, frozen=True):
    """A rectangle, in pixels from the upper left corner."""

    x: int
    y: int
    width: int
    height: int


class Surface(Protocol):
    """A picture in shared memory, drawn into by the guest at any time. Valid until :meth:`close`.

    Attributes:
        fd: a memfd that other processes can map; it never becomes smaller. The surface's own. -1: there is
            none, the pixels are pages of the guest's.
        offset: of the first pixel in it, in bytes.
        address: of the first pixel in this process.
        width: in pixels.
        height: in pixels.
        stride: from row to row, in bytes.
        format: of each pixel.
        view: read-only bytes from the first pixel to the last.
    """

    @property
    def fd(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def format(self) -> PixelFormat: ...
    @property
    def view(self) -> memoryview: ...

    def close(self) -> None:
        """Let go of the memory. Idempotent; ``view`` must not be in use."""
        ...


class Cursor(msgspec.Struct, frozen=True):
    """A hardware cursor.

    Attributes:
        x: of its upper left corner on the surface, in pixels; may be negative.
        y: the same.
        hot_x: the pixel of it that points, from its corner.
        hot_y: the same.
        width: in pixels.
        height: in pixels.
        pixels: rows of ARGB8888, alpha premultiplied; empty: not visible.
    """

    x: int = 0
    y: int = 0
    hot_x: int = 0
    hot_y: int = 0
    width: int = 0
    height: int = 0
    pixels: bytes = b""


class News(enum.IntFlag):
    """What changed."""

    SURFACE = 1  #: another picture, or none; all of it is damaged
    DAMAGE = 2
    CURSOR = 4  #: another picture of the cursor, or none
    CURSOR_MOVED = 8


class Update(msgspec.Struct, frozen=True):
    """All that changed since the last one.

    Attributes:
        news: what.
        damage: together they cover every changed pixel; at most 16, may overlap.
        surface: what is shown, or None. The receiver closes it.
    """

    news: News
    damage: tuple[Rect, ...]
    surface: Surface | None


class Viewing(Protocol):
    """A viewer's end of a scanout. Memory it takes is bounded, however seldom it looks."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while there is news: for a loop of one's own, in C too."""
        ...

    @property
    def native(self) -> int:
        """Address of the ``struct vd_viewing`` (``vdesktop/display.h``), for front-ends in C; until close."""
        ...

    def take(self) -> Update:
        """Take all news. The first has everything that is shown now."""
        ...

    def cursor(self) -> Cursor:
        """Return the cursor as it is now."""
        ...

    def close(self) -> None:
        """Hear no more. Idempotent."""
        ...


class Scanout(Protocol):
    """One output of a screen, as of one monitor."""

    def view(self) -> Viewing:
        """Look at it. Any number of viewers may."""
        ...

    def request_size(self, width: int, height: int) -> None:
        """Ask the guest to use this size, brought into the range there is; 0, 0: unplug the monitor.

        The guest decides: watch for a new surface.
        """
        ...


class Screen(Protocol):
    """What a display device provides. Control loop only."""

    @property
    def scanouts(self) -> Sequence[Scanout]:
        """Its outputs; their number does not change."""
        ...


def read_rgb(surface: Surface) -> bytes:
    """Copy a surface's pixels: rows of red, green and blue bytes, without padding."""
    count = surface.width * 4
    rows = surface.view
    packed = b"".join(
        rows[at : at + count] for at in range(0, surface.height * surface.stride, surface.stride)
    )
    rgb = bytearray(surface.width * surface.height * 3)
    for place, source in enumerate(surface.format.rgb):
        rgb[place::3] = packed[source::4]
    return bytes(rgb)
