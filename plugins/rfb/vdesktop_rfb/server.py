# SPDX-License-Identifier: MIT
"""The RFB server, for front-ends that speak it: hand it connected sockets, it does the rest.

Everything of a client that is a picture is native code on threads of its own. Here arrive logins, keys,
pointers, wishes for a size, clipboards, and messages of our own, in batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from vdesktop_core.display.input import Key
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_rfb._rfb import ffi, lib
from vdesktop_rfb.clipboard import ClientClipboard
from vdesktop_rfb.hands import Hands

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vdesktop_core.display.frontend import Desktop
    from vdesktop_core.display.input import Led
    from vdesktop_core.display.screen import Viewing

_LOG = logging.getLogger("vdesktop.rfb")
#: Events that are taken at once.
_BATCH: Final = 64
_PRIVATE_HEADER: Final = 8
#: ``CLIENT_VDESKTOP`` of wire.h.
_PRIVATE: Final = 214


class RfbOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a server treats its clients.

    Attributes:
        password: asked for of clients that are not trusted; None: none is.
        certificate: PEM file; with ``key``: clients that are not trusted use TLS (VeNCrypt, X509).
        key: PEM file.
        max_clients: 1..32.
        login_seconds: how long a login may take.
        clipboard: RFB carries clipboards; False: the front-end has another way for them.
    """

    password: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    max_clients: int = 8
    login_seconds: float = 30.0
    clipboard: bool = True


class Client:
    """A connected client. Attributes are read-only to others.

    Attributes:
        number: of the client; not used again.
        joined: it has logged in.
        private: it understands messages of our own (docs/rfb.md).
    """

    def __init__(self, number: int, hands: Hands, viewings: list[Viewing]) -> None:
        self.number = number
        self.joined = False
        self.private = False
        self.hands = hands
        self.viewings = viewings
        self.clipboard: ClientClipboard | None = None


class RfbServer:
    """A server for one desktop. Control loop only.

    Args:
        desktop: what it shows.
        options: see there.
        on_change: called when a client has logged in, or has left.
        on_private: called with a client's message of our own: its kind and payload.

    Raises:
        DeviceError: a library is missing, or a certificate does not load.
    """

    def __init__(
        self,
        desktop: Desktop,
        options: RfbOptions,
        *,
        on_change: Callable[[], None] = lambda: None,
        on_private: Callable[[Client, int, bytes], None] = lambda *_: None,
    ) -> None:
        self._desktop = desktop
        self._on_change = on_change
        self._on_private = on_private
        self._scanouts = [scanout for screen in desktop.screens for scanout in screen.scanouts]
        self._scanouts = self._scanouts[: lib.RFB_SCREENS_MAX]
        self._clipboards = desktop.clipboards if options.clipboard else ()
        self._clients: dict[int, Client] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._events = ffi.new("struct rfb_event[]", _BATCH)
        self._server = self._new(options)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._wake, self._drain)
        self._leds = [sink.on_leds(self._set_leds) for sink in desktop.inputs if Key in sink.accepts]

    def _new(self, options: RfbOptions) -> Any:
        texts = [
            ffi.NULL if text is None else ffi.new("char[]", os.fsencode(text))
            for text in (self._desktop.machine, options.password, options.certificate, options.key)
        ]
        config = ffi.new("struct rfb_config *")
        config.name, config.password, config.certificate, config.key = texts
        config.wake_fd = self._wake
        config.max_clients = max(1, min(options.max_clients, lib.RFB_CLIENTS_MAX))
        config.login_ms = int(options.login_seconds * 1000)
        error = ffi.new("int *")
        server = lib.rfb_server_new(config, error)
        if error[0] == 0:
            return server
        problem = ffi.string(lib.rfb_problem(server)).decode() if server != ffi.NULL else ""
        lib.rfb_server_free(server)
        os.close(self._wake)
        raise DeviceError(f"no RFB server: {problem or os.strerror(-error[0])}")

    @property
    def clients(self) -> Mapping[int, Client]:
        """Those that are connected, by number."""
        return self._clients

    def attach(
        self, connection: socket.socket, *, websocket: bool = False, trusted: bool = False, first: bytes = b""
    ) -> Client:
        """Serve a client on a connected stream socket, which is the server's from here on.

        Args:
            connection: its other end speaks RFB.
            websocket: in WebSocket frames; the HTTP upgrade is done, its answer sent.
            trusted: the client has proved who it is: it needs neither password nor TLS.
            first: what has been read from the socket already; 16 KiB at most.

        Raises:
            DeviceError: there are as many clients as may be, or too many wrong passwords were just given.
        """
        connection.setblocking(False)
        fd = connection.detach()
        viewings = []
        try:
            for scanout in self._scanouts:
                viewings.append(scanout.view())  # noqa: PERF401 - those before a failure are closed
        except DeviceError:
            os.close(fd)
            self._close_all(viewings)
            raise
        natives = ffi.new("struct vd_viewing *[]", len(viewings))
        for i, viewing in enumerate(viewings):
            natives[i] = ffi.cast("struct vd_viewing *", viewing.native)
        flags = (lib.RFB_WEBSOCKET if websocket else 0) | (lib.RFB_TRUSTED if trusted else 0)
        number = lib.rfb_attach(self._server, fd, flags, first, len(first), natives, len(viewings))
        if number < 0:
            self._close_all(viewings)
            busy = "too many clients, or too many wrong passwords" if number == -errno.EBUSY else ""
            raise DeviceError(f"a client was refused: {busy or os.strerror(-number)}")
        client = Client(number, Hands(self._desktop.inputs), viewings)
        if self._clipboards:
            client.clipboard = ClientClipboard(self._clipboards[0], partial(self._try_send, client))
        self._clients[number] = client
        return client

    def kick(self, client: Client) -> None:
        """Ask a client to go."""
        lib.rfb_kick(self._server, client.number)

    def send_private(self, client: Client, kind: int, payload: bytes) -> None:
        """Send a message of our own to a client that understands them.

        Raises:
            DeviceError: the client does not read, or has gone.
        """
        header = bytes([_PRIVATE, kind, 0, 0]) + len(payload).to_bytes(4, "big")
        self._send(client, header + payload)

    def _send(self, client: Client, message: bytes) -> None:
        if error := lib.rfb_send(self._server, client.number, message, len(message)):
            raise DeviceError(f"client {client.number} cannot be told: {os.strerror(-error)}")

    def _try_send(self, client: Client, message: bytes) -> None:
        with contextlib.suppress(DeviceError):
            self._send(client, message)

    def stats(self, client: Client) -> dict[str, int]:
        """Return what was sent to a client: the fields of ``struct rfb_stats``; empty: it has gone."""
        raw = ffi.new("struct rfb_stats *")
        if lib.rfb_stats(self._server, client.number, raw):
            return {}
        return {name: int(getattr(raw, name)) for name, _ in ffi.typeof("struct rfb_stats").fields}

    def close(self) -> None:
        """End all clients. Idempotent."""
        if self._server == ffi.NULL:
            return
        for stop in self._leds:
            stop()
        self._loop.remove_reader(self._wake)
        lib.rfb_server_free(self._server)
        self._server = ffi.NULL
        os.close(self._wake)
        for client in self._clients.values():
            self._let_go(client)
        self._clients.clear()

    def _let_go(self, client: Client) -> None:
        client.hands.close()
        if client.clipboard is not None:
            client.clipboard.close()
        self._close_all(client.viewings)

    @staticmethod
    def _close_all(viewings: list[Viewing]) -> None:
        for viewing in viewings:
            viewing.close()

    def _set_leds(self, leds: Led) -> None:
        lib.rfb_set_leds(self._server, int(leds))

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        count = lib.rfb_take(self._server, self._events, _BATCH)
        for i in range(count):
            event = self._events[i]
            blob = b""
            if event.blob != ffi.NULL:
                blob = bytes(ffi.buffer(event.blob, event.length))
                lib.rfb_blob_free(event.blob)
            client = self._clients.get(event.client)
            if client is not None:
                self._handle(client, event, blob)
        if count:  # perhaps there is more; others have their turn first
            os.eventfd_write(self._wake, 1)

    def _handle(self, client: Client, event: Any, blob: bytes) -> None:
        hands = client.hands
        match event.type:
            case lib.RFB_KEY:
                hands.key(down=bool(event.a), keysym=event.b, scancode=event.c)
            case lib.RFB_POINTER:
                hands.pointer(event.a, event.b, event.c)
            case lib.RFB_TOUCH:
                hands.touch(event.a, event.b, event.c >> 16, event.c & 0xFFFF)
            case lib.RFB_RESIZE:
                self._scanouts[event.a].request_size(event.b, event.c)
            case lib.RFB_CAPABLE:
                client.private = bool(event.a & lib.RFB_CAN_PRIVATE)
                if client.clipboard is not None:
                    client.clipboard.capable(extended=bool(event.a & lib.RFB_CAN_EXTENDED_CLIPBOARD))
            case lib.RFB_CUT_TEXT:
                self._cut_text(client, blob, extended=bool(event.a))
            case lib.RFB_PRIVATE:
                self._on_private(client, event.a, blob)
            case lib.RFB_LOGIN_FAILED:
                _LOG.warning("client %d gave a wrong password", client.number)
            case lib.RFB_JOINED:
                client.joined = True
                _LOG.info("client %d has logged in", client.number)
                self._on_change()
            case lib.RFB_LEFT:
                self._left(client, blob.decode(errors="replace"))

    def _cut_text(self, client: Client, data: bytes, *, extended: bool) -> None:
        if client.clipboard is None:
            return
        try:
            client.clipboard.message(data, extended=extended)
        except ValueError as error:
            _LOG.warning("client %d: %s", client.number, error)
            self.kick(client)

    def _left(self, client: Client, why: str) -> None:
        _LOG.info("client %d left: %s", client.number, why)
        lib.rfb_release(self._server, client.number)
        self._let_go(client)
        del self._clients[client.number]
        self._on_change()


def check_password(password: str) -> str:
    """Return a password as it is used.

    Raises:
        ConfigError: it is empty, or has what clients cannot send.
    """
    if not password or "\0" in password or len(password.encode()) > 255:
        raise ConfigError("a VNC password has 1 to 255 bytes, none of them zero")
    return password
