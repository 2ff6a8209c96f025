# SPDX-License-Identifier: MIT
"""The page's half of the clipboard: what it copied for the guest, and what it wants of the guest's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vdesktop_core.display.clipboard import TEXT
from vdesktop_web.messages import CHUNK, HEADER, Flags, Kind, Offer, Read

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from vdesktop_core.display.clipboard import Clipboard, ClipboardOffer
    from vdesktop_web.messages import ToPage

#: Pieces of data on their way to or from one page at once.
MAX_READS = 8
#: What browsers call plain text; they know no parameter of it.
_BROWSER_TEXT = "text/plain"


def to_browser(media_type: str) -> str:
    """Return a media type as browsers name it."""
    return _BROWSER_TEXT if media_type == TEXT else media_type


def from_browser(media_type: str) -> str:
    """Return a browser's media type as the machine names it."""
    return TEXT if media_type == _BROWSER_TEXT else media_type


class Paste:
    """Joins a page's clipboard and the guest's.

    Args:
        clipboard: the guest's.
        tell: sends a message to the page.
        send: sends binary data to it.
    """

    def __init__(
        self,
        clipboard: Clipboard,
        tell: Callable[[ToPage], Awaitable[None]],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._clipboard = clipboard
        self._tell = tell
        self._send = send
        self._guest: ClipboardOffer | None = None
        self._incoming: dict[int, _Incoming] = {}
        self._next_id = 1
        self._outgoing = 0

    def offered_by_guest(self, offer: ClipboardOffer | None) -> Offer:
        """Note what the guest has copied; returns how to say so to the page."""
        self._guest = offer
        return Offer([to_browser(kind) for kind in offer.types] if offer else [])

    def offered_by_page(self, message: Offer) -> None:
        """Tell the guest what the page has copied."""
        types = tuple(from_browser(kind) for kind in message.types)
        self._clipboard.offer(PageOffer(types, self) if types else None)

    async def read_by_page(self, message: Read) -> None:
        """Send the page what it wants of the guest's clipboard, in pieces."""
        data = None
        if self._guest is not None and self._outgoing < MAX_READS:
            self._outgoing += 1
            try:
                data = await self._guest.read(from_browser(message.media), self._clipboard.limit)
            finally:
                self._outgoing -= 1
        if data is None:
            await self._send(HEADER.pack(Kind.CLIPBOARD, Flags.LAST | Flags.FAILED, 0, message.id))
            return
        for at in range(0, max(len(data), 1), CHUNK):
            last = Flags.LAST if at + CHUNK >= len(data) else Flags(0)
            await self._send(HEADER.pack(Kind.CLIPBOARD, last, 0, message.id) + data[at : at + CHUNK])

    async def fetch(self, media_type: str, limit: int) -> bytes | None:
        """Ask the page for what it offered; None: it has it no more, or it is longer than ``limit``."""
        if len(self._incoming) >= MAX_READS:
            return None
        number, self._next_id = self._next_id, self._next_id % 0xFFFFFFFF + 1
        incoming = self._incoming[number] = _Incoming(limit)
        try:
            await self._tell(Read(number, to_browser(media_type)))
            return await incoming.whole
        except (OSError, TimeoutError):
            return None
        finally:
            del self._incoming[number]

    def data(self, number: int, flags: Flags, data: bytes) -> None:
        """Take a piece of what the page was asked for; what nobody waits for is dropped."""
        if (incoming := self._incoming.get(number)) is not None:
            incoming.add(flags, data)

    def close(self) -> None:
        """The page is gone: whoever waits for its data waits no more."""
        for incoming in self._incoming.values():
            incoming.give(None)


class PageOffer:
    """What a page has copied; see :class:`vdesktop_core.display.clipboard.ClipboardOffer`."""

    def __init__(self, types: Sequence[str], paste: Paste) -> None:
        self.types = types
        self._paste = paste

    async def read(self, media_type: str, limit: int) -> bytes | None:
        """Ask the page for it."""
        return await self._paste.fetch(media_type, limit) if media_type in self.types else None


class _Incoming:
    """Data that arrives in pieces."""

    def __init__(self, limit: int) -> None:
        self.whole: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._data = bytearray()

    def add(self, flags: Flags, data: bytes) -> None:
        if flags & Flags.FAILED or len(self._data) + len(data) > self._limit:
            self.give(None)
        elif not self.whole.done():
            self._data += data
            if flags & Flags.LAST:
                self.give(bytes(self._data))

    def give(self, data: bytes | None) -> None:
        if not self.whole.done():
            self.whole.set_result(data)
