# SPDX-License-Identifier: MIT
"""The machine's end of the control socket, on the control loop. Loaded when the first client knocks.

What a client can use up is bounded: :data:`CLIENTS` connections (a new one
takes the place of the one that has been idle longest), one line of input, and
the output of one answer and :data:`EVENTS_BYTES` of events. Who does not read
is disconnected. A client's requests are done one after another; two clients'
may overlap, which is the machine's business to serialize.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from vdesktop_core.control import handlers, protocol
from vdesktop_core.errors import VdesktopError

if TYPE_CHECKING:
    from vdesktop_core.machine import Machine

log = logging.getLogger(__name__)

#: Connections at a time.
CLIENTS = 16
#: Events that wait for a client which is slow to read, in bytes.
EVENTS_BYTES = 256 << 10
#: Seconds that requests have to end when the machine does.
FINISH_SECONDS = 1.0
_READ_BYTES = 16 << 10
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


def peer_user(connection: socket.socket) -> int:
    """Return the user that connected, as the kernel knows it (SO_PEERCRED, unix(7))."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(raw)[1]
    return user


class Server:
    """Serve clients of one machine until :meth:`close`.

    Args:
        machine: whose control loop is the running one.
        listener: a listening socket that does not block. It stays the caller's.
        name: what the machine calls itself here.
    """

    def __init__(self, machine: Machine, listener: socket.socket, name: str) -> None:
        self.machine = machine
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._hello = protocol.pack(protocol.Hello("vdesktop", protocol.VERSION, name, os.getpid()))
        self._clients: dict[_Client, None] = {}  # the one that has been idle longest first
        self._unsubscribe = machine.subscribe(self._publish)
        self._loop.add_reader(listener.fileno(), self.accept)

    def accept(self) -> None:
        """Take one connection, if there is any."""
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # gone again, or out of descriptors: the client sees no hello
            log.debug("control socket: accept: %s", error)
            return
        connection.setblocking(False)
        user = peer_user(connection)
        if user not in {0, os.geteuid()}:
            log.warning("control socket: user %d was refused: it is not the machine's", user)
            connection.close()
            return
        if len(self._clients) >= CLIENTS:
            idle = next((client for client in self._clients if client.idle), None)
            if idle is None:
                connection.close()
                return
            idle.close()
        client = _Client(self, connection)
        self._clients[client] = None
        client.send(self._hello)

    def touch(self, client: _Client) -> None:
        """Note that a client did something."""
        if self._clients.pop(client, self) is None:
            self._clients[client] = None

    def forget(self, client: _Client) -> None:
        """Drop a client that closed."""
        self._clients.pop(client, None)

    def _publish(self, event: str, detail: dict[str, Any]) -> None:
        subscribed = [client for client in self._clients if client.subscribed]
        if subscribed:
            line = protocol.pack(protocol.Event(event, detail))
            for client in subscribed:
                client.send(line)

    async def finish(self) -> None:
        """Let requests end that wait for the machine's end, and send their answers."""
        working = [task for client in self._clients if (task := client.working) is not None]
        if working:
            await asyncio.wait(working, timeout=FINISH_SECONDS)

    def close(self) -> None:
        """Disconnect everybody."""
        self._unsubscribe()
        self._loop.remove_reader(self._listener.fileno())
        for client in list(self._clients):
            client.close()


class _Client:
    """One connection."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._in = bytearray()
        self._out = bytearray()
        self.working: asyncio.Task[None] | None = None
        self._scheduled = False
        self._reading = False
        self._finished = False  # nothing more will come: close when all is answered
        self.subscribed = False
        self._read(on=True)

    @property
    def idle(self) -> bool:
        """Whether it may be sent away for a newer one."""
        return self.working is None and not self.subscribed

    @property
    def _closed(self) -> bool:
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Disconnect. What was asked for is still done; nobody hears of it."""
        if self._closed:
            return
        self._read(on=False)
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._server.forget(self)

    def send(self, line: bytes) -> None:
        """Send a line, now or when the client has read what came before."""
        if self._closed:
            return
        if len(self._out) > EVENTS_BYTES:
            log.warning("control socket: a client that does not read was disconnected")
            self.close()
            return
        self._out += line
        self._write()

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._out[:sent]
        if self._out:
            self._loop.add_writer(self._socket.fileno(), self._write)
        else:
            self._loop.remove_writer(self._socket.fileno())
            self._go_on()

    def _read(self, *, on: bool) -> None:
        if on == self._reading:
            return
        self._reading = on
        if on:
            self._loop.add_reader(self._socket.fileno(), self._receive)
        else:
            self._loop.remove_reader(self._socket.fileno())

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._in += data
            self._server.touch(self)
        else:
            # Perhaps only its sending half: a script's, which now waits for the answers.
            self._finished = True
        self._go_on()

    def _go_on(self) -> None:
        """Look for the next request in the loop's next turn: others have theirs in between."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Begin the next request, once the last is done and its answer is on its way."""
        self._scheduled = False
        if self._closed:
            return
        # Who asks faster than it is answered, or reads the answers, is not read from.
        self._read(on=False)
        if self.working is not None or self._out:
            return
        end = self._in.find(b"\n", 0, protocol.REQUEST_BYTES)
        if end >= 0:
            line = bytes(self._in[:end])
            del self._in[: end + 1]
            self._begin(line)
            self._go_on()
        elif len(self._in) >= protocol.REQUEST_BYTES:
            self._in.clear()
            self._finished = True
            self._refuse(None, f"a request has at most {protocol.REQUEST_BYTES} bytes")
            self._go_on()
        elif self._finished:
            self.close()
        else:
            self._read(on=True)

    def _begin(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            request = protocol.parse_request(line)
        except protocol.BadRequestError as error:
            self._refuse(error.id, str(error))
            return
        if isinstance(request, protocol.Events):
            self.subscribed = True
            self.send(protocol.pack(protocol.Answer(request.id, {})))
            return
        self.working = self._loop.create_task(self._work(request))

    def _refuse(self, number: int | None, message: str) -> None:
        self.send(protocol.pack(protocol.Failure(number, message, "BadRequest")))

    async def _work(self, request: protocol.AnyRequest) -> None:
        try:
            line = protocol.pack(
                protocol.Answer(request.id, await handlers.handle(self._server.machine, request))
            )
        except VdesktopError as error:
            line = protocol.pack(protocol.Failure(request.id, str(error), kind_of(error)))
        except Exception as error:
            log.exception("control socket: %s", type(request).__name__)
            message = f"internal error: {type(error).__name__}: {error}"
            line = protocol.pack(protocol.Failure(request.id, message, "Internal"))
        self.working = None
        self.send(line)
        self._go_on()


def kind_of(error: VdesktopError) -> str:
    """Return the word for a program: the error's class without ``Error``."""
    return type(error).__name__.removesuffix("Error")
