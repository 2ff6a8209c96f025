# SPDX-License-Identifier: MIT
"""The byte stream between this process and the guest's agent, and its sessions.

The guest's agent opens its port and closes it: when its user logs in or out, when it crashes, when the
machine is reset. Each opening is a session with a protocol of its own. Bytes of one session never reach the
next: of what the guest sent, the data plane says where the session began; what was on its way to the guest is
taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Protocol

from vdesktop_core.devices.agent.wire import AgentProtocolError, Kind, Message, Parser, encode
from vdesktop_core.devices.console.port import ConsolePort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdesktop_core.devices.console.device import PortSession

log = logging.getLogger(__name__)
#: Bytes taken at a time: how long other work of the control loop may have to wait.
_READ_BYTES = 16384


class AgentGone(Exception):  # noqa: N818 - it is no error of anybody's
    """The session ended before this was sent."""


class Listener(Protocol):
    """Who makes sense of the messages."""

    def heard(self, message: Message) -> None:
        """Take a message.

        Raises:
            AgentProtocolError: it makes no sense.
        """
        ...

    def session_ended(self) -> None:
        """Forget everything about the session. Also called where there was none."""
        ...


class AgentPort(ConsolePort):
    """A console port that is one end of a socket pair; the other is ``ours``."""

    def __init__(self) -> None:
        self.ours, self.guests = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.ours.setblocking(False)
        self.guests.setblocking(False)
        end = self.guests.fileno()
        super().__init__(end, end, session_fd=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    def close(self) -> None:
        """Close both ends. Idempotent."""
        if self.session_fd >= 0:
            os.close(self.session_fd)
            self.session_fd = -1
            self.ours.close()
            self.guests.close()
            self.read_fd = self.write_fd = -1


class AgentLink:
    """Sends and hears messages. Control loop only; holds a message of the guest's, and what waits to be sent.

    Args:
        name: the device's, for logs.
        limit: bytes of clipboard data in a message, at most.
        port: the port; the link closes it.
        session: returns what the guest did with the port last.
    """

    def __init__(self, name: str, limit: int, port: AgentPort, session: Callable[[], PortSession]) -> None:
        self._name = name
        self._port = port
        self._session = session
        self._parser = Parser(limit)
        self._listener: Listener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._position = 0  # bytes of the guest's that were read, of all sessions
        self._openings = 0  # of the port, modulo 2^16: which of them the session is
        self._live = False
        self._posted: dict[object, Callable[[], tuple[Kind, tuple[bytes, ...]] | None]] = {}
        self._queue: deque[tuple[Iterator[bytes], asyncio.Future[None]]] = deque()
        self._work = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self.protocol_errors = 0
        self.sessions = 0

    def start(self, listener: Listener) -> None:
        """Begin, on the running loop. No effect after :meth:`close`."""
        if self._port.session_fd < 0:
            return
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._port.ours, self._readable)
        self._loop.add_reader(self._port.session_fd, self._session_changed)
        self._writer = self._loop.create_task(self._write())

    def post(self, key: object, make: Callable[[], tuple[Kind, tuple[bytes, ...]] | None]) -> None:
        """Send a message soon. One that waits under the same key is replaced: what waits is bounded.

        Args:
            key: what it is about.
            make: returns kind and data at the moment of sending, or None: it is no longer needed.
        """
        self._posted[key] = make
        self._work.set()

    async def send(self, kind: Kind, *parts: bytes) -> None:
        """Send a message; returns when the last of it is on its way.

        Raises:
            AgentGone: the session ended.
        """
        if self._loop is None or not self._live:
            raise AgentGone
        done = self._loop.create_future()
        self._queue.append((encode(kind, *parts), done))
        self._work.set()
        await done

    def close(self) -> None:
        """End the session and free everything. Idempotent."""
        if self._loop is not None:
            self._loop.remove_reader(self._port.ours)
            self._loop.remove_reader(self._port.session_fd)
            self._end()
            if self._writer is not None:
                self._writer.cancel()
            self._loop = None
        self._port.close()

    def _session_changed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._port.session_fd)
        now = self._session()
        if not now.open or now.openings != self._openings:
            self._end()

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = self._port.ours.recv(_READ_BYTES)
            self._position += len(data)
            now = self._session()
            fresh = self._position - now.start  # bytes read that are of the last opening
            if now.openings != self._openings and fresh > 0:
                self._end()
                self._openings = now.openings
                self._live = True
                self.sessions += 1
            if self._live and fresh > 0:
                self._hear(memoryview(data)[-fresh:])

    def _hear(self, data: memoryview) -> None:
        assert self._listener is not None  # noqa: S101 - for the type checker: start() reads
        try:
            for message in self._parser.feed(data):
                self._listener.heard(message)
        except AgentProtocolError as error:
            self.protocol_errors += 1
            log.warning("%s: the guest's agent is not heard before it starts again: %s", self._name, error)
            self._end()

    def _end(self) -> None:
        """End the session: what was to be sent is taken back, and everybody hears of it."""
        self._live = False
        self._parser.reset()
        self._posted.clear()
        if self._loop is not None and self._writer is not None:
            self._writer.cancel()
            self._writer = self._loop.create_task(self._write())
        with contextlib.suppress(BlockingIOError):
            while self._port.guests.recv(1 << 16):
                pass
        for _, done in self._queue:
            if not done.done():
                done.set_exception(AgentGone())
        self._queue.clear()
        if self._listener is not None:
            self._listener.session_ended()

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._posted or self._queue:
                await self._write_posted()
                if self._queue:
                    chunks, done = self._queue[0]
                    await self._write_chunks(chunks)
                    self._queue.popleft()
                    if not done.done():
                        done.set_result(None)

    async def _write_posted(self) -> None:
        while self._posted:
            made = self._posted.pop(next(iter(self._posted)))()
            if made is not None:
                await self._write_chunks(encode(made[0], *made[1]))

    async def _write_chunks(self, chunks: Iterator[bytes]) -> None:
        assert self._loop is not None  # noqa: S101 - for the type checker: start() made this task
        for chunk in chunks:
            await self._loop.sock_sendall(self._port.ours, chunk)
