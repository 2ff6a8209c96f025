# SPDX-License-Identifier: MIT
"""``--display vnc:[PORT][,listen=ADDRESS][,password=FILE][,tls=CERTIFICATE:KEY][,clients=N]``."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from vdesktop_core.devices.console.terminal import tell
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_rfb.server import RfbOptions, RfbServer, check_password

if TYPE_CHECKING:
    from vdesktop_core.display.frontend import Desktop

_LOG = logging.getLogger("vdesktop.vnc")
PORT: Final = 5900
_BACKLOG: Final = 8


class VncOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the front-end listens, and for whom.

    Attributes:
        address: of the host's, numeric.
        port: 0: a free one.
        rfb: see there.
    """

    address: str = "127.0.0.1"
    port: int = PORT
    rfb: RfbOptions = RfbOptions()


def parse_options(argument: str) -> VncOptions:
    """Understand what follows ``vnc:``.

    Raises:
        ConfigError: it makes no sense, or lets strangers in.
    """
    port, _, rest = argument.partition(",")
    values: dict[str, str] = {}
    for option in rest.split(",") if rest else ():
        key, equals, value = option.partition("=")
        if key not in ("listen", "password", "tls", "clients") or not equals or not value or key in values:
            raise ConfigError(
                f"vnc: {option!r} is no option, or given twice: there are listen=ADDRESS, password=FILE, "
                "tls=CERTIFICATE:KEY, clients=N"
            )
        values[key] = value
    if port and not (port.isdecimal() and int(port) < 65536):
        raise ConfigError(f"vnc: {port!r} is no port: 0 to 65535, 0 for a free one")
    clients = values.get("clients", "8")
    if not (clients.isdecimal() and 1 <= int(clients) <= 32):
        raise ConfigError(f"vnc: clients={clients}: 1 to 32")
    certificate, _, key = values.get("tls", "").partition(":")
    if "tls" in values and not (certificate and key):
        raise ConfigError(f"vnc: tls={values['tls']}: give two PEM files, tls=CERTIFICATE:KEY")
    password = _read_password(Path(values["password"])) if "password" in values else None
    if password is not None and "tls" not in values and len(password.encode()) > 8:
        raise ConfigError("vnc: without TLS only 8 bytes of a password count: shorten it, or add tls=")
    return VncOptions(
        address=_address(values.get("listen", "127.0.0.1"), safe=password is not None),
        port=int(port) if port else PORT,
        rfb=RfbOptions(
            password=password,
            certificate=Path(certificate) if certificate else None,
            key=Path(key) if key else None,
            max_clients=int(clients),
        ),
    )


def _address(text: str, *, safe: bool) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(f"vnc: listen={text}: give a numeric address of this host") from None
    if not address.is_loopback and not safe:
        raise ConfigError(f"vnc: {text} can be reached by others: add password=FILE, and better tls= too")
    return str(address)


def _read_password(path: Path) -> str:
    try:
        return check_password(path.read_text().partition("\n")[0])
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"vnc: password={path}: {error}") from error


class VncDisplay:
    """Listens until it is closed.

    Attributes:
        port: where.
        server: whom clients are handed to.

    Raises:
        DeviceError: the address cannot be used.
    """

    def __init__(self, options: VncOptions, desktop: Desktop) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = self._listen(options)
        try:
            self.server = RfbServer(desktop, options.rfb)
        except DeviceError:
            self._socket.close()
            raise
        self.port = int(self._socket.getsockname()[1])
        self._loop.add_reader(self._socket, self._accept)
        shown = f"[{options.address}]" if ":" in options.address else options.address
        tell(f"VNC: {shown}:{self.port}")

    @staticmethod
    def _listen(options: VncOptions) -> socket.socket:
        family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((options.address, options.port))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise DeviceError(
                f"vnc: cannot listen on {options.address} port {options.port}: {error.strerror}; "
                "choose another with vnc:PORT"
            ) from error
        return listening

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, peer = self._socket.accept()
            try:
                self.server.attach(connection)
            except DeviceError as error:
                _LOG.warning("%s: %s", peer[0], error)

    def close(self) -> None:
        """Listen no more, and end all clients. Idempotent."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        self.server.close()
