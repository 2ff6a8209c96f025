# SPDX-License-Identifier: MIT
"""The web display of one machine: a web server, and the RFB server that its pages look through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_rfb.server import RfbOptions, RfbServer

from vdesktop_core.devices.console.terminal import tell
from vdesktop_web.options import parse_options
from vdesktop_web.server import MAX_CHANNELS, WebServer

if TYPE_CHECKING:
    import socket

    from vdesktop_rfb.server import Client

    from vdesktop_core.display.frontend import Desktop


class _Viewer:
    def __init__(self, server: RfbServer, client: Client) -> None:
        self._server = server
        self._client = client

    def counters(self) -> dict[str, int]:
        stats = self._server.stats(self._client)
        return {"frames": stats["frames"], "bytes": stats["bytes_sent"]} if stats else {}


class _Pictures:
    """RFB for browsers: they have shown that they know the token."""

    def __init__(self, server: RfbServer) -> None:
        self._server = server

    def attach(self, sock: socket.socket) -> _Viewer:
        return _Viewer(self._server, self._server.attach(sock, websocket=True, trusted=True))


class WebDisplay:
    """Serves a machine's desktop until it is closed.

    Raises:
        ConfigError: the argument makes no sense.
        DeviceError: the address is taken, or something is missing.
    """

    def __init__(self, argument: str, desktop: Desktop) -> None:
        options = parse_options(argument)
        self._rfb = RfbServer(desktop, RfbOptions(max_clients=MAX_CHANNELS, clipboard=False))
        try:
            self._web = WebServer(options, desktop, _Pictures(self._rfb))
        except BaseException:
            self._rfb.close()
            raise
        tell(f"the desktop is at {self._web.address}")

    def close(self) -> None:
        """End every connection. Idempotent."""
        self._web.close()
        self._rfb.close()
