# SPDX-License-Identifier: MIT
"""A control socket, a machine that does nothing behind it, and clients of any kind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from typing import TYPE_CHECKING, Any

from vdesktop_core.control import place, server
from vdesktop_core.control.place import Claim
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


PATIENCE = 60


class FakeMachine:
    """What the server needs of a machine."""

    def __init__(self) -> None:
        self.paused = 0
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self.gate = asyncio.Event()

    def subscribe(self, listener: Callable[[str, dict[str, Any]], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def publish(self, event: str, **detail: Any) -> None:
        for listener in [*self.listeners]:
            listener(event, detail)

    def status(self) -> dict[str, str]:
        return {"state": "running"}

    def counters(self) -> dict[str, dict[str, int]]:
        return {"vm": {f"counter{i}": i for i in range(2000)}}

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        raise ConfigError("it is not paused")

    def reset(self) -> None:
        raise RuntimeError("a bug")

    async def unplug(self, slot: int | str, *, timeout: float, force: bool) -> bool:
        await self.gate.wait()
        return True


class Wire:
    """A client that sends what it likes."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        with contextlib.closing(place.Folder(create=False)) as folder:
            self.socket.connect(folder.address(name))
        self.loop = asyncio.get_running_loop()
        self.data = b""

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)

    async def line(self) -> dict[str, Any] | None:
        """The next line; None: the machine closed."""
        async with asyncio.timeout(PATIENCE):
            while b"\n" not in self.data:
                try:
                    data = await self.loop.sock_recv(self.socket, 65536)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self.data += data
        line, self.data = self.data.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    async def ask(self, **fields: Any) -> dict[str, Any] | None:
        await self.send(json.dumps(fields).encode() + b"\n")
        return await self.line()

    def close(self) -> None:
        self.socket.close()


class Served:
    """A fake machine with a server."""

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.claim = Claim("served")
        self.server = server.Server(self.machine, self.claim.socket, self.claim.name)  # type: ignore[arg-type]
        self.wires: list[Wire] = []

    def wire(self) -> Wire:
        self.wires.append(Wire("served"))
        return self.wires[-1]

    async def greeted(self) -> Wire:
        wire = self.wire()
        assert await wire.line() == {
            "hello": "vdesktop",
            "version": 1,
            "machine": "served",
            "pid": os.getpid(),
        }
        return wire

    async def answers(self) -> bool:
        """Whether a new client is served."""
        wire = await self.greeted()
        answer = await wire.ask(id=7, do="status")
        wire.close()
        return answer == {"id": 7, "ok": {"state": "running"}}

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        if self.machine.listeners:
            self.server.close()
        self.claim.close()
