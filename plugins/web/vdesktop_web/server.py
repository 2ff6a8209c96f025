# SPDX-License-Identifier: MIT
"""Who may have what: a page's files, its channel, its pictures. Nothing without the token."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from vdesktop_core.errors import DeviceError
from vdesktop_web.channel import Channel
from vdesktop_web.files import pages
from vdesktop_web.http import HttpConnection, host_allowed, is_websocket, same_origin

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from vdesktop_core.display.frontend import Desktop
    from vdesktop_web.http import Request
    from vdesktop_web.options import Options

log = logging.getLogger(__name__)
#: Connections at once, pages' and strangers' together: a browser opens six for a page, and two stay.
MAX_CONNECTIONS = 64
#: Desktops looked at at once.
MAX_CHANNELS = 16
_TEXT = "text/plain; charset=utf-8"


class Pictures(Protocol):
    """What serves RFB."""

    def attach(self, sock: socket.socket) -> Viewer:
        """Take a socket over, after the WebSocket's handshake.

        Raises:
            DeviceError: there are too many already.
        """
        ...


class Viewer(Protocol):
    """One connection that gets pictures."""

    def counters(self) -> dict[str, int]:
        """Return ``frames`` and ``bytes`` sent so far; empty: it has gone."""
        ...


class WebServer:
    """Serves a desktop at an address until it is closed.

    Args:
        options: where, and the token.
        desktop: what is shown.
        pictures: serves RFB.

    Raises:
        DeviceError: the address is taken, or noVNC is missing.
    """

    def __init__(self, options: Options, desktop: Desktop, pictures: Pictures) -> None:
        self._pages = pages()
        self._options = options
        self._desktop = desktop
        self._pictures = pictures
        self._channels: dict[int, Channel] = {}
        self._next_channel = 1
        self._loop = asyncio.get_running_loop()
        self._socket = self._listen()
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self._accept())

    def _listen(self) -> socket.socket:
        options = self._options
        family = socket.AF_INET6 if ":" in options.listen else socket.AF_INET
        try:
            return _bound(family, options.listen, options.port)
        except OSError as error:
            raise DeviceError(
                f"display web: cannot listen at {options.listen} port {options.port}: {error.strerror}:"
                " choose another with web:PORT"
            ) from error

    @property
    def address(self) -> str:
        """The page's, with the token."""
        host, port = self._socket.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/{self._options.token}/"

    def close(self) -> None:
        """End every connection. Idempotent."""
        for task in self._tasks:
            task.cancel()
        self._socket.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        while True:
            try:
                client, _ = await self._loop.sock_accept(self._socket)
            except OSError as error:
                # Out of descriptors: those that are open go on, and may end.
                log.warning("display web: cannot accept a connection: %s", error.strerror)
                await asyncio.sleep(1)
                continue
            client.setblocking(False)
            if len(self._tasks) > MAX_CONNECTIONS:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            connection = HttpConnection(client)
            while request := await connection.request():
                if not await self._answer(connection, request):
                    return

    async def _answer(self, connection: HttpConnection, request: Request) -> bool:
        """Answer a request; False: it was the connection's last."""
        token, _, path = request.path.removeprefix("/").partition("/")
        known = hmac.compare_digest(token.encode(), self._options.token.encode())
        if not known or not host_allowed(request.headers.get("host", ""), self._options.hosts):
            await connection.respond(HTTPStatus.NOT_FOUND, _TEXT, b"There is nothing here.\n")
            return True
        if path == "channel" or path.startswith("rfb/"):
            return await self._upgrade(connection, request, path)
        page = self._pages.get(path)
        if request.method not in ("GET", "HEAD"):
            await connection.respond(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"Only GET and HEAD.\n")
        elif page is None:
            await connection.respond(HTTPStatus.NOT_FOUND, _TEXT, b"There is nothing here.\n")
        else:
            head = request.method == "HEAD"
            await connection.respond(HTTPStatus.OK, page.content_type, page.content, head=head)
        return True

    async def _upgrade(self, connection: HttpConnection, request: Request, path: str) -> bool:
        if not is_websocket(request) or not same_origin(request):
            await connection.respond(HTTPStatus.FORBIDDEN, _TEXT, b"Only this page's own WebSockets.\n")
            return True
        if path == "channel":
            if len(self._channels) >= MAX_CHANNELS:
                await connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"Too many viewers.\n")
                return True
            await self._talk(connection, request)
            return False
        number = path.removeprefix("rfb/")
        channel = self._channels.get(int(number)) if number.isdecimal() and len(number) < 10 else None
        if channel is None:
            await connection.respond(HTTPStatus.NOT_FOUND, _TEXT, b"Open a channel first.\n")
            return True
        if not await connection.upgrade(request):  # whoever speaks before RFB's greeting is no browser
            try:
                channel.viewer = self._pictures.attach(connection.sock.dup())
            except DeviceError as error:
                log.warning("display web: %s", error)
        return False

    async def _talk(self, connection: HttpConnection, request: Request) -> None:
        number, self._next_channel = self._next_channel, self._next_channel + 1
        early = await connection.upgrade(request)
        channel = Channel(number, connection.sock, early, self._desktop)
        self._channels[number] = channel
        try:
            await channel.run(lambda: len(self._channels))
        finally:
            del self._channels[number]


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen()
    except BaseException:
        sock.close()
        raise
    return sock
