# SPDX-License-Identifier: MIT
"""Files from a page into the guest. The guest sets the pace: the page sends what it has credit for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vdesktop_core.display.files import FileDropError
from vdesktop_web.messages import CHUNK, Credit, Ended, File

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from vdesktop_core.display.files import FileDrop
    from vdesktop_web.messages import ToPage

#: Files of one page on their way at once; more wait in the page, which is told so.
MAX_UPLOADS = 16
#: Bytes of a file that may be on their way from the page.
WINDOW = 8 * CHUNK


class Uploads:
    """A page's files.

    Args:
        drops: where they go: the first that is ready.
        tell: sends a message to the page.
    """

    def __init__(self, drops: Sequence[FileDrop], tell: Callable[[ToPage], Awaitable[None]]) -> None:
        self._drops = drops
        self._tell = tell
        self._active: dict[int, _Upload] = {}

    async def take(self, message: File) -> None:
        """Copy a file; returns at its end."""
        if not self._drops or message.id in self._active or len(self._active) >= MAX_UPLOADS:
            await self._tell(Ended(message.id, "failed", "too many files at once: drop it again later"))
            return
        drop = next((drop for drop in self._drops if drop.ready), self._drops[0])
        upload = self._active[message.id] = _Upload(message)
        try:
            await self._tell(await upload.copy(drop, self._tell))
        finally:
            del self._active[message.id]

    def data(self, number: int, data: bytes) -> None:
        """Take a piece of a file; what nobody waits for is dropped."""
        if (upload := self._active.get(number)) is not None:
            upload.add(data)

    def cancel(self, number: int) -> None:
        """The page gives one up."""
        if (upload := self._active.get(number)) is not None:
            upload.add(None)

    def close(self) -> None:
        """The page is gone, and what it had not sent with it."""
        for upload in self._active.values():
            upload.add(None)


class _Upload:
    def __init__(self, message: File) -> None:
        self._message = message
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._credit = 0  # bytes that the page may send, and has not
        self._given_up = False

    def add(self, data: bytes | None) -> None:
        """Queue a piece. One without credit ends it, an empty one is none: the window bounds the queue."""
        if self._given_up or data == b"":
            return
        if data is not None:
            self._credit -= len(data)
        self._given_up = data is None or self._credit < 0
        self._pieces.put_nowait(None if self._given_up else data)

    async def copy(self, drop: FileDrop, tell: Callable[[ToPage], Awaitable[None]]) -> Ended:
        name, size, number = self._message.name, self._message.size, self._message.id
        try:
            transfer = await drop.start(name, size)
        except FileDropError as error:
            return Ended(number, "failed", str(error))
        try:
            granted = taken = 0
            while taken < size:
                if more := min(size - granted, WINDOW - (granted - taken)):
                    granted += more
                    self._credit += more
                    await tell(Credit(number, more))
                piece = await self._pieces.get()
                if piece is None:
                    return Ended(number, "cancelled")
                await transfer.write(piece)
                taken += len(piece)
            await transfer.finish()
        except FileDropError as error:
            return Ended(number, "failed", str(error))
        finally:
            transfer.cancel()  # of no effect after the end
        return Ended(number, "done")
