# SPDX-License-Identifier: MIT
"""As much of HTTP/1.1 as a browser needs to get a page and to open a WebSocket. Parsing is h11's."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import ipaddress
from typing import TYPE_CHECKING

import h11
import msgspec

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Mapping
    from http import HTTPStatus

#: Bytes of a request's line and headers together.
HEADER_LIMIT = 16 << 10
#: Seconds for a request to arrive whole, and for an idle connection to be kept.
REQUEST_TIMEOUT = 20.0
_CHUNK = 16 << 10
#: RFC 6455, section 1.3.
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SAFE = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),  # the address holds the token
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self';"
        " img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)


class Request(msgspec.Struct, frozen=True):
    """A request without a body. Header names are lower-case; of one given twice, the last counts."""

    method: str
    path: str
    headers: Mapping[str, str]

    def has_token(self, header: str, token: str) -> bool:
        """Whether a comma-separated header holds a token, in whatever case."""
        return token in (part.strip() for part in self.headers.get(header, "").lower().split(","))


class HttpConnection:
    """One connection of a client's, request after request.

    Args:
        sock: connected and non-blocking. The connection's own until :meth:`upgrade`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_LIMIT)
        self._loop = asyncio.get_running_loop()

    async def request(self) -> Request | None:
        """Return the next request, or None: the client is gone, too slow, or does not speak HTTP."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                if self._h11.states != {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}:
                    self._h11.start_next_cycle()
                head = await self._event()
                if not isinstance(head, h11.Request):
                    return None
                # A page and an upgrade have no body: whoever sends one wants something else.
                if not isinstance(await self._event(), h11.EndOfMessage):
                    return None
        except (TimeoutError, OSError, h11.ProtocolError):
            return None
        return Request(
            head.method.decode("ascii", "replace"),
            head.target.decode("ascii", "replace").partition("?")[0],
            {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers},
        )

    async def _event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._loop.sock_recv(self.sock, _CHUNK))
        return event

    async def respond(
        self, status: HTTPStatus, content_type: str, body: bytes, *, head: bool = False
    ) -> None:
        """Send a response; ``head``: only how it begins.

        Raises:
            OSError: the client is gone.
        """
        headers = [*_SAFE, ("Content-Type", content_type), ("Content-Length", str(len(body)))]
        events = [
            h11.Response(status_code=status, reason=status.phrase, headers=headers),
            *([] if head else [h11.Data(data=body)]),
            h11.EndOfMessage(),
        ]
        await self._loop.sock_sendall(self.sock, b"".join(self._h11.send(event) or b"" for event in events))

    async def upgrade(self, request: Request) -> bytes:
        """Answer with 101: what follows is WebSocket frames. Returns what came already.

        Raises:
            OSError: the client is gone.
        """
        accept = websocket_accept(request.headers["sec-websocket-key"])
        await self._loop.sock_sendall(
            self.sock,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n",
        )
        return self._h11.trailing_data[0]


def websocket_accept(key: str) -> bytes:
    """Return the answer to a ``Sec-WebSocket-Key`` (RFC 6455, section 4.2.2)."""
    # SHA-1 is the protocol's, and keeps nothing secret.
    digest = hashlib.sha1(key.encode("latin-1") + _WEBSOCKET_GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest)


def is_websocket(request: Request) -> bool:
    """Whether a request asks for an upgrade in the way RFC 6455, section 4.2.1 wants it."""
    try:
        key = base64.b64decode(request.headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return (
        request.method == "GET"
        and request.has_token("upgrade", "websocket")
        and request.has_token("connection", "upgrade")
        and request.headers.get("sec-websocket-version") == "13"
        and len(key) == 16
    )


def host_allowed(host: str, names: Collection[str]) -> bool:
    """Whether a ``Host`` header is one we serve: an address, ``localhost``, or a given name.

    Any other name may be an attacker's that leads to our address (DNS rebinding).
    """
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name = host
    name = name.lower()
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def same_origin(request: Request) -> bool:
    """Whether the page that asks is one of ours: its origin is the host that it asks (RFC 6454)."""
    scheme, separator, authority = request.headers.get("origin", "").partition("://")
    return bool(separator) and scheme in ("http", "https") and authority == request.headers.get("host")
