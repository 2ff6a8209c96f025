# SPDX-License-Identifier: MIT
"""Clipboards, host and guest: offers of data by type, fetched when somebody pastes.

Nothing is copied when somebody copies: the one side says what types there are, and the other asks for one
of them, if ever. Every piece of data is bounded by :attr:`Clipboard.limit`.

Any number of viewers may use one clipboard. The guest has what was offered last, whoever offered it, and
all viewers hear of what the guest has copied. A viewer that leaves stops listening and needs to do nothing
about what it offered: its text stays to be pasted, and the rest is gone with it.

Text is UTF-8, its lines end with LF, and it has no NUL at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TEXT: Final = "text/plain;charset=utf-8"
HTML: Final = "text/html"
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
BMP: Final = "image/bmp"
TIFF: Final = "image/tiff"


class ClipboardOffer(Protocol):
    """What one side has copied."""

    @property
    def types(self) -> Sequence[str]:
        """Media types it can be had as, best first: :data:`TEXT`, :data:`PNG` and so on."""
        ...

    async def read(self, media_type: str, limit: int) -> bytes | None:
        """Return the data; None: it is gone, longer than ``limit`` bytes, or not to be had as this type.

        Waits for the other side, as long as that takes: cancel it when nobody needs it any more.
        """
        ...


class Clipboard(Protocol):
    """The guest's clipboard, as a front-end sees it. Control loop only."""

    @property
    def to_guest(self) -> bool:
        """Whether the guest may have what the host copied. If not, offers are dropped."""
        ...

    @property
    def to_host(self) -> bool:
        """Whether the host may have what the guest copied. If not, there are no offers."""
        ...

    @property
    def limit(self) -> int:
        """Bytes of one piece of data at most, in both directions. What is longer is not to be had."""
        ...

    def offer(self, offer: ClipboardOffer | None) -> None:
        """Tell the guest what the host has copied, in place of what was offered before.

        Its text is read at once, if it has any, and kept for the time when the viewer has left; anything
        else is read when the guest pastes it. Types that the guest does not know are passed over.

        Args:
            offer: None: nothing any more.
        """
        ...

    def on_offer(self, offered: Callable[[ClipboardOffer | None], None]) -> Callable[[], None]:
        """Have ``offered`` called with what the guest has copied; returns how to stop that.

        Called at once if the guest has copied something already. None: that is gone.
        """
        ...


class Copied:
    """An offer of data that is at hand.

    Args:
        data: by media type, best first.
    """

    def __init__(self, data: Mapping[str, bytes]) -> None:
        self._data = dict(data)

    @property
    def types(self) -> Sequence[str]:
        """See :class:`ClipboardOffer`."""
        return tuple(self._data)

    async def read(self, media_type: str, limit: int) -> bytes | None:
        """See :class:`ClipboardOffer`. Does not wait."""
        data = self._data.get(media_type)
        return data if data is not None and len(data) <= limit else None
