# SPDX-License-Identifier: MIT
"""One page's channel: fingers, clipboards, files, and how fast its pictures come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import msgspec

from vdesktop_core.display import input as events
from vdesktop_core.display.session import InputSession
from vdesktop_web import messages
from vdesktop_web.messages import CHUNK, HEADER, TEXT_LIMIT, Flags, Kind
from vdesktop_web.paste import Paste
from vdesktop_web.uploads import Uploads
from vdesktop_web.websocket import WebSocket

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

    from vdesktop_core.display.clipboard import ClipboardOffer
    from vdesktop_core.display.frontend import Desktop
    from vdesktop_web.server import Viewer

log = logging.getLogger(__name__)
#: Seconds between two :class:`messages.Status`.
STATUS_PERIOD = 1.0
#: Things that one page may have going on at once: clipboard data and files.
MAX_TASKS = 32
_decoder = msgspec.json.Decoder(messages.FromPage)


class Channel:
    """Serves a page until it leaves.

    Args:
        number: its own, under which the page asks for pictures.
        sock: connected, after the WebSocket's handshake; the caller's.
        early: what came with the handshake.
        desktop: the machine's.
    """

    def __init__(self, number: int, sock: socket.socket, early: bytes, desktop: Desktop) -> None:
        self.viewer: Viewer | None = None
        self._number = number
        self._desktop = desktop
        self._socket = WebSocket(sock, early, TEXT_LIMIT, HEADER.size + CHUNK)
        self._hands = InputSession(desktop.inputs)
        self._clipboard = desktop.clipboards[0] if desktop.clipboards else None
        self._paste = Paste(self._clipboard, self._tell, self._socket.send) if self._clipboard else None
        self._uploads = Uploads(desktop.file_drops, self._tell)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, viewers: Callable[[], int]) -> None:
        """Serve it. ``viewers`` says how many pages there are."""
        clipboard = self._clipboard
        await self._tell(
            messages.Hello(
                channel=self._number,
                machine=self._desktop.machine,
                touch=any(events.Touch in sink.accepts for sink in self._desktop.inputs),
                files=bool(self._desktop.file_drops),
                to_guest=clipboard is not None and clipboard.to_guest,
                to_host=clipboard is not None and clipboard.to_host,
            )
        )
        with contextlib.ExitStack() as stack:
            stack.callback(self._close)
            if clipboard is not None:
                stack.callback(clipboard.on_offer(self._offered))
            self._start(self._report(viewers))
            async for message in self._socket:
                try:
                    self._take(message)
                except (msgspec.DecodeError, ValueError) as error:
                    log.warning("display web: a page said what makes no sense, and was closed: %s", error)
                    return

    def _close(self) -> None:
        self._hands.close()
        self._uploads.close()
        if self._paste is not None:
            self._paste.close()
        for task in self._tasks:
            task.cancel()

    def _take(self, message: str | bytes) -> None:
        """Do what a page says.

        Raises:
            msgspec.DecodeError: it is no message.
            ValueError: it is a binary one, and none of ours.
        """
        if isinstance(message, bytes):
            self._take_data(message)
            return
        match _decoder.decode(message):
            case messages.Touch(points):
                self._hands.send(*[events.Touch(p.phase, p.slot, p.x, p.y) for p in points])
            case messages.Offer() as offer if self._paste is not None:
                self._paste.offered_by_page(offer)
            case messages.Read() as read if self._paste is not None:
                self._start(self._paste.read_by_page(read))
            case messages.File() as file:
                self._start(self._uploads.take(file))
            case messages.Cancel(number):
                self._uploads.cancel(number)

    def _take_data(self, message: bytes) -> None:
        if len(message) < HEADER.size:
            raise ValueError(f"a binary message of {len(message)} bytes")
        kind, flags, _, number = HEADER.unpack_from(message)
        data = message[HEADER.size :]
        match Kind(kind):
            case Kind.CLIPBOARD if self._paste is not None:
                self._paste.data(number, Flags(flags & (Flags.LAST | Flags.FAILED)), data)
            case Kind.FILE:
                self._uploads.data(number, data)

    def _offered(self, offer: ClipboardOffer | None) -> None:
        if self._paste is not None:
            self._start(self._tell(self._paste.offered_by_guest(offer)))

    async def _report(self, viewers: Callable[[], int]) -> None:
        before = {"frames": 0, "bytes": 0}
        while True:
            await asyncio.sleep(STATUS_PERIOD)
            if self.viewer is None:
                continue
            now = self.viewer.counters()
            rates = {name: max(now.get(name, 0) - before[name], 0) for name in before}
            before = {name: now.get(name, 0) for name in before}
            await self._tell(messages.Status(viewers=viewers(), **rates))

    async def _tell(self, message: messages.ToPage) -> None:
        await self._socket.send(msgspec.json.encode(message).decode())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the next message; a page that has too much going on is not heard."""
        if len(self._tasks) >= MAX_TASKS:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(_quiet(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # one that was cancelled before it began


async def _quiet(work: Coroutine[Any, Any, None]) -> None:
    """Run it; a page that leaves meanwhile is no error: the reading end notices."""
    with contextlib.suppress(OSError, TimeoutError):
        await work
