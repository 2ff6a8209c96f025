# SPDX-License-Identifier: MIT
"""Fuzz target: clients of a control socket that send what they like, read or do not, and leave.

The server is written in Python, so this is libFuzzer by way of atheris, with its options. Lines are read by
msgspec, which is C and not instrumented; what is made of them is.
The form of an input is that of ``control_seeds.py``.

What must hold: each line is answered by one line of JSON that a terminal can bear, in the order of requests;
none of them finds a bug; what waits for a client is bounded; afterwards a new client is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys

import atheris

with atheris.instrument_imports(include=["vdesktop_core.control", "vdesktop_core.config"]):
    from control_seeds import CLIENTS, Op

    from vdesktop_core import config
    from vdesktop_core.control import protocol, server
    from vdesktop_core.errors import ConfigError
    from vdesktop_core.life import Outcome, Result
    from vdesktop_core.machine import installed

#: Turns of the control loop that are enough for all that was sent.
TURNS = 200
ANSWERS = ("ok", "error")


class Machine:
    """Takes requests as a machine does that can refuse them all; devices are looked at, and not made."""

    def __init__(self) -> None:
        self.listeners: list[object] = []

    def subscribe(self, listener: object) -> object:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def publish(self, event: str, **detail: object) -> None:
        for listener in [*self.listeners]:
            listener(event, detail)

    def status(self) -> dict[str, str]:
        return {"state": "running"}

    def counters(self) -> dict[str, dict[str, int]]:
        return {"vm": dict.fromkeys(map(str, range(400)), 1)}

    def pause(self) -> None:
        self.publish("state", state="paused")

    def resume(self) -> None:
        raise ConfigError("it is not paused")

    def reset(self) -> None:
        self.publish("reset")

    def reset_device(self, slot: int | str) -> None:
        assert isinstance(slot, str) or 0 <= slot <= 255

    def stop(self) -> None:
        pass

    async def shutdown(self, *, timeout: float, force: bool) -> Result:
        assert 0 < timeout <= protocol.LONGEST_WAIT
        await asyncio.sleep(0)
        return Result(Outcome.SHUTDOWN if force else Outcome.STOPPED, "")

    async def plug(self, device: dict[str, object]) -> int:
        config.device_config(device, TYPES)
        raise ConfigError("all slots are occupied")

    async def unplug(self, slot: int | str, *, timeout: float, force: bool) -> bool:
        assert timeout or force
        self.reset_device(slot)
        return force

    async def set_cpus(self, count: int, *, timeout: float) -> None:
        assert count >= 1
        assert timeout > 0

    @property
    def desktop(self) -> object:
        raise ConfigError("it has no screen")


class Listener:
    """A listening socket whose clients come when they are made."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.coming: list[socket.socket] = []

    def fileno(self) -> int:
        return self.fd

    def accept(self) -> tuple[socket.socket, None]:
        return self.coming.pop(), None


class Client:
    """A client's end: what it sent in lines, and what it read."""

    def __init__(self, play: Play) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        play.listener.coming.append(theirs)
        play.server.accept()
        self.sent = b""
        self.got = b""

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sent += data[: self.socket.send(data)]

    def read(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.socket.recv(1 << 20):
                self.got += data

    def check(self) -> None:
        """Look at everything that was read."""
        *lines, _rest = self.got.split(b"\n")
        answers = []
        for number, line in enumerate(lines):
            assert len(line) < protocol.ANSWER_BYTES
            message = json.loads(line)
            assert ("hello" in message) == (number == 0)
            if any(word in message for word in ANSWERS):
                answers.append(message)
        for answer in answers:
            assert answer.get("kind") != "Internal", answer
            assert str(answer.get("error", "")).isprintable(), answer
        asked = [
            line for line in self.sent.split(b"\n") if line.strip() or len(line) >= protocol.REQUEST_BYTES
        ]
        assert len(answers) <= len(asked)
        for line, answer in zip(asked, answers, strict=False):
            if "ok" in answer:
                assert json.loads(line)["id"] == answer["id"]


class Play:
    """One input's machine, server and clients."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.listener = Listener()
        self.server = server.Server(self.machine, self.listener, "fuzzed")
        self.clients: dict[int, Client] = {}

    def client(self, number: int) -> Client:
        if number not in self.clients:
            self.clients[number] = Client(self)
        return self.clients[number]

    def leave(self, number: int) -> None:
        if (client := self.clients.pop(number, None)) is not None:
            client.read()
            client.check()
            client.socket.close()

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
        for client in self.server._clients:
            assert len(client._out) <= server.EVENTS_BYTES + protocol.ANSWER_BYTES
            assert len(client._in) <= protocol.REQUEST_BYTES + 2 * (16 << 10)

    async def close(self) -> None:
        """Everybody leaves; then somebody who means well is served."""
        for client in self.clients.values():
            client.read()
        await self.turns(TURNS)
        for number in [*self.clients]:
            self.leave(number)
        await self.turns(20)
        last = Client(self)
        last.send(b'{"id":7,"do":"status"}\n')
        for _ in range(TURNS):
            await asyncio.sleep(0)
            last.read()
            if last.got.count(b"\n") == 2:
                break
        assert json.loads(last.got.split(b"\n")[1]) == {"id": 7, "ok": {"state": "running"}}
        last.socket.close()
        await self.server.finish()
        self.server.close()
        os.close(self.listener.fd)


def split(data: bytes) -> tuple[bytes, bytes]:
    """A piece with its length in front, and what is after it."""
    size = int.from_bytes(data[:2], "little")
    return data[2 : 2 + size], data[2 + size :]


async def play(data: bytes) -> None:
    """Carry an input out."""
    now = Play()
    while len(data) > 1:
        op, number, data = Op(data[0] % len(Op)), data[1] % CLIENTS, data[2:]
        match op:
            case Op.BYTES | Op.LINE:
                piece, data = split(data)
                now.client(number).send(piece + b"\n" * (op is Op.LINE))
            case Op.FILL:
                piece, data = data[:1], data[1:]
                now.client(number).send(piece * (16 << 10))
            case Op.READ:
                now.client(number).read()
            case Op.HALF:
                with contextlib.suppress(OSError):
                    now.client(number).socket.shutdown(socket.SHUT_WR)
            case Op.LEAVE:
                now.leave(number)
            case Op.EVENT:
                count, data = data[:1], data[1:]
                for _ in range(count[0] if count else 0):
                    now.machine.publish("crash", text="\N{BLACK STAR}" * 60)
            case Op.TURN:
                await now.turns(8)
    await now.close()


def one_input(data: bytes) -> None:
    """What libFuzzer calls."""
    LOOP.run_until_complete(play(data))


if __name__ == "__main__":
    LOOP = asyncio.new_event_loop()
    TYPES = installed().device_types
    server.CLIENTS = CLIENTS - 1
    logging.getLogger("vdesktop_core.control.server").setLevel(logging.CRITICAL)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
