# SPDX-License-Identifier: MIT
"""A WebSocket's messages, bounded both ways. Frames are wsproto's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

#: Seconds that a page may take to read what it was sent.
SEND_TIMEOUT = 30.0
_READ = 64 << 10
#: RFC 6455, section 7.4.1.
_TOO_BIG = 1009


class WebSocket:
    """The server's end, after the handshake.

    Args:
        sock: connected and non-blocking; the caller's.
        early: what came with the handshake.
        text_limit: bytes of a text message, at most.
        binary_limit: bytes of a binary one.
    """

    def __init__(self, sock: socket.socket, early: bytes, text_limit: int, binary_limit: int) -> None:
        self._sock = sock
        self._early = early
        self._limits = {TextMessage: text_limit, BytesMessage: binary_limit}
        self._frames = Connection(ConnectionType.SERVER)
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()

    async def send(self, data: str | bytes) -> None:
        """Send a message.

        Raises:
            OSError: the page is gone.
            TimeoutError: it does not read.
        """
        await self._put(BytesMessage(data=data) if isinstance(data, bytes) else TextMessage(data=data))

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Yield messages until the page leaves, breaks the protocol, or says too much at once."""
        try:
            async for event in self._events():
                if isinstance(event, Message):
                    yield event.data if isinstance(event.data, str) else bytes(event.data)
                elif isinstance(event, Ping):
                    await self._put(event.response())
                elif isinstance(event, CloseConnection):
                    await self._put(event.response())
                    return
        except (OSError, TimeoutError, RemoteProtocolError):
            return

    async def _events(self) -> AsyncIterator[Event]:
        """Yield events, messages whole."""
        parts: list[str | bytes] = []
        size = 0
        data = self._early
        while True:
            if data:
                self._frames.receive_data(data)
            for event in self._frames.events():
                if not isinstance(event, Message):
                    yield event
                    continue
                parts.append(event.data)
                size += len(event.data)
                if size > self._limits[type(event)]:
                    await self._put(CloseConnection(code=_TOO_BIG))
                    return
                if event.message_finished:
                    whole = event.data[:0].join(parts)
                    parts, size = [], 0
                    yield type(event)(data=whole)
            if not (data := await self._loop.sock_recv(self._sock, _READ)):
                return

    async def _put(self, event: Event) -> None:
        async with self._sending:
            try:
                frame = self._frames.send(event)
            except LocalProtocolError as error:
                raise ConnectionResetError("the WebSocket is closed") from error
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._loop.sock_sendall(self._sock, frame)
