# SPDX-License-Identifier: MIT
"""Fuzz target: what a guest says on the agent's port, and what viewers do meanwhile.

The protocol is parsed in Python, so this is libFuzzer by way of atheris, with its options.
The form of an input is that of ``vdagent_seeds.py``.

What may come of it: messages, or one AgentProtocolError, which ends the session. Anything else is a finding:
another exception, more memory than the limit, a message to the guest that no agent takes, a session after
which none can begin.
"""

from __future__ import annotations

import asyncio
import sys

import atheris

with atheris.instrument_imports(include=["vdesktop_core.devices.agent"]):
    from vdagent_seeds import Op, Option, greeting

    from vdesktop_core.devices.agent.clipboard import AgentClipboard
    from vdesktop_core.devices.agent.files import AgentFileDrop
    from vdesktop_core.devices.agent.link import AgentGone
    from vdesktop_core.devices.agent.session import AgentSession
    from vdesktop_core.devices.agent.wire import (
        CHUNK,
        CHUNK_BYTES,
        MESSAGE,
        PROTOCOL,
        AgentProtocolError,
        Kind,
        Message,
        Parser,
        encode,
    )
    from vdesktop_core.display.clipboard import HTML, PNG, TEXT, ClipboardOffer, Copied
    from vdesktop_core.display.files import FileDropError, FileTransfer

#: Bytes of clipboard data at most: small, so that inputs reach it.
LIMIT = 1000
#: ``post`` replaces what waits under the same key, so that what waits is bounded: 256 selections and a few.
POSTS_MAX = 300
#: Operations that take their time, in one input.
TASKS_MAX = 64
GREETING = Message(Kind.ANNOUNCE_CAPABILITIES, greeting(0))


class Link:
    """In the place of AgentLink: keeps what would be sent, and looks at it."""

    def __init__(self) -> None:
        self.posted: dict[object, object] = {}
        self.live = True

    def post(self, key: object, make: object) -> None:
        self.posted[key] = make
        assert len(self.posted) <= POSTS_MAX

    async def send(self, kind: Kind, *parts: bytes) -> None:
        if not self.live:
            raise AgentGone
        check(kind, *parts)
        await asyncio.sleep(0)

    def flush(self) -> None:
        """The guest reads: what waits is made and sent."""
        while self.posted:
            made = self.posted.pop(next(iter(self.posted)))()
            if made is not None:
                check(made[0], *made[1])


def check(kind: Kind, *parts: bytes) -> None:
    """What is sent must be a message in chunks that an agent takes."""
    stream = b"".join(encode(kind, *parts))
    body = b""
    while stream:
        port, size = CHUNK.unpack_from(stream)
        assert (port, 0 < size <= CHUNK_BYTES) == (1, True)
        body += stream[CHUNK.size : CHUNK.size + size]
        stream = stream[CHUNK.size + size :]
    assert MESSAGE.unpack_from(body) == (PROTOCOL, kind, 0, len(body) - MESSAGE.size)


class Play:
    """One input's machine: this side of the agent, and a viewer."""

    def __init__(self, options: int) -> None:
        self.link = Link()
        self.parser = Parser(LIMIT)
        self.clipboard = AgentClipboard(
            self.link,
            to_guest=bool(options & Option.TO_GUEST),
            to_host=bool(options & Option.TO_HOST),
            limit=LIMIT,
        )
        self.files = AgentFileDrop(self.link, enabled=bool(options & Option.FILES))
        self.agent = AgentSession(self.link, self.clipboard, self.files)
        self.offer: ClipboardOffer | None = None
        self.transfer: FileTransfer | None = None
        self.tasks: list[asyncio.Task[object]] = []
        self.clipboard.on_offer(self.offered)
        self.dead = False
        if options & Option.GREETED:
            self.heard(GREETING)

    def offered(self, offer: ClipboardOffer | None) -> None:
        assert self.clipboard.to_host or offer is None
        self.offer = offer

    def heard(self, message: Message) -> None:
        assert message.data is None or len(message.data) <= max(LIMIT + 8, 8 + 4096)
        self.agent.heard(message)

    def feed(self, data: bytes) -> None:
        """What the guest sends; after an error it is not heard before it begins again."""
        if self.dead:
            return
        try:
            for message in self.parser.feed(data):
                self.heard(message)
        except AgentProtocolError:
            self.end()
            self.dead = True

    def end(self) -> None:
        """The port was closed, or as good as that."""
        self.parser.reset()
        self.link.posted.clear()
        self.agent.session_ended()
        assert not self.files.ready
        self.dead = False

    async def read(self, offer: ClipboardOffer, media: str) -> None:
        data = await offer.read(media, LIMIT)
        assert data is None or len(data) <= LIMIT
        if data is not None and media == TEXT:
            data.decode()

    async def drop(self, name: str, size: int) -> None:
        self.transfer = None
        try:
            self.transfer = await self.files.start(name, size)
        except FileDropError as error:
            one_line(error)

    async def write(self, transfer: FileTransfer, size: int) -> None:
        try:
            await transfer.write(bytes(size))
            if transfer.sent == transfer.size:
                await transfer.finish()
        except FileDropError as error:
            one_line(error)

    def start(self, work: object) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def close(self) -> None:
        """End everything; nothing may be left that waits, and the next session must work."""
        self.end()
        self.clipboard.offer(None)
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        self.heard(GREETING)
        assert self.files.ready == self.files.enabled
        self.end()


def one_line(error: Exception) -> None:
    """What reaches a person is one line."""
    if "\n" in str(error):
        raise AssertionError from error


def split(data: bytes) -> tuple[bytes, bytes]:
    """A piece with its length in front, and what is after it."""
    size = int.from_bytes(data[:2], "little")
    return data[2 : 2 + size], data[2 + size :]


async def play(data: bytes) -> None:
    """Carry an input out."""
    now = Play(data[0] if data else 0)
    rest = data[1:]
    while rest and len(now.tasks) < TASKS_MAX:
        op, rest = Op(rest[0] % len(Op)), rest[1:]
        match op:
            case Op.BYTES:
                piece, rest = split(rest)
                now.feed(piece)
            case Op.MESSAGE:
                kind, rest = rest[:1], rest[1:]
                piece, rest = split(rest)
                body = MESSAGE.pack(PROTOCOL, kind[0] if kind else 0, 0, len(piece)) + piece
                now.feed(CHUNK.pack(1, len(body)) + body)
            case Op.OFFER:
                what, rest = rest[:1], rest[1:]
                media = {0: TEXT, 1: PNG, 2: HTML}.get(what[0] % 4 if what else 3)
                size = 8 * what[0] if what else 0
                now.clipboard.offer(Copied({media: b"\xc3\xa4" * size}) if media else None)
            case Op.READ:
                what, rest = rest[:1], rest[1:]
                if now.offer is not None:
                    now.start(now.read(now.offer, PNG if what == b"\1" else TEXT))
            case Op.DROP:
                name, rest = split(rest)
                now.start(now.drop(name.decode("utf-8", "surrogateescape"), len(name) * 100))
            case Op.WRITE:
                if now.transfer is not None:
                    now.start(now.write(now.transfer, now.transfer.size - now.transfer.sent))
            case Op.END:
                now.end()
            case Op.SENT:
                now.link.flush()
        for _ in range(3):
            await asyncio.sleep(0)
    await now.close()


def parses_alike(data: bytes) -> None:
    """The same bytes, whole and one by one, are the same messages and the same error."""

    def parsed(pieces: list[bytes]) -> list[object]:
        parser, found = Parser(LIMIT), []
        try:
            for piece in pieces:
                found.extend(parser.feed(piece))
        except AgentProtocolError as error:
            found.append(str(error))
        return found

    assert parsed([data]) == parsed([data[at : at + 1] for at in range(len(data))])


def one_input(data: bytes) -> None:
    """What libFuzzer calls."""
    LOOP.run_until_complete(play(data))
    parses_alike(data[:512])


if __name__ == "__main__":
    LOOP = asyncio.new_event_loop()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
