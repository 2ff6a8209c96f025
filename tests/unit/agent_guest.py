# SPDX-License-Identifier: MIT
"""The agent at the guest's end of the port, played byte for byte, and this end under test."""

from __future__ import annotations

import asyncio
import os
import struct
from typing import TYPE_CHECKING

from vdesktop_core.devices.agent.clipboard import AgentClipboard
from vdesktop_core.devices.agent.files import AgentFileDrop
from vdesktop_core.devices.agent.link import AgentLink, AgentPort
from vdesktop_core.devices.agent.session import AgentSession
from vdesktop_core.devices.agent.wire import (
    CHUNK,
    MESSAGE,
    Capabilities,
    Capability,
    DataType,
    Kind,
    encode_capabilities,
)
from vdesktop_core.devices.console.device import PortSession

if TYPE_CHECKING:
    from vdesktop_core.display.clipboard import ClipboardOffer

LIMIT = 100_000
#: What spice-vdagentd 0.22 announces.
DEBIAN = sum(1 << bit for bit in (0, 1, 2, 5, 6, 7, 8, 10, 11, 15, 16, 17))
PRIMARY = 1
#: What a paste brings that came to nothing.
NOTHING = (DataType.NONE, b"")


class FakeGuest:
    """The agent at the other end, and this end under test."""

    def __init__(self, *, to_guest: bool = True, to_host: bool = True, files: bool = True) -> None:
        self.port = AgentPort()
        self.now = PortSession(open=False, openings=0, start=0)
        self.sent = 0
        self.buffer = b""
        self.link = AgentLink("agent0", LIMIT, self.port, lambda: self.now)
        self.clipboard = AgentClipboard(self.link, to_guest=to_guest, to_host=to_host, limit=LIMIT)
        self.files = AgentFileDrop(self.link, enabled=files)
        self.link.start(AgentSession(self.link, self.clipboard, self.files))
        self.offers: list[ClipboardOffer | None] = []
        self.clipboard.on_offer(self.offers.append)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def write(self, data: bytes) -> None:
        self.sent += len(data)
        await asyncio.get_running_loop().sock_sendall(self.port.guests, data)
        await self.settle()

    async def say(self, kind: Kind, data: bytes = b"") -> None:
        message = MESSAGE.pack(1, kind, 0, len(data)) + data
        await self.write(CHUNK.pack(1, len(message)) + message)

    async def hear(self) -> tuple[Kind, bytes]:
        """The next message from this side."""
        loop = asyncio.get_running_loop()

        async def exactly(count: int) -> bytes:
            found = b""
            while len(found) < count:
                found += await loop.sock_recv(self.port.guests, count - len(found))
            return found

        async with asyncio.timeout(60):
            body = b""
            while len(body) < MESSAGE.size or len(body) - MESSAGE.size < MESSAGE.unpack_from(body)[3]:
                port, size = CHUNK.unpack(await exactly(CHUNK.size))
                assert (port, size <= 2048) == (1, True)
                body += await exactly(size)
        return Kind(MESSAGE.unpack_from(body)[1]), body[MESSAGE.size :]

    async def silent(self) -> bool:
        await self.settle()
        try:
            return not self.port.guests.recv(1)
        except BlockingIOError:
            return True

    def open(self) -> None:
        self.now = PortSession(open=True, openings=self.now.openings + 1, start=self.sent)
        os.eventfd_write(self.port.session_fd, 1)

    async def close_port(self) -> None:
        self.now = PortSession(open=False, openings=self.now.openings, start=self.now.start)
        os.eventfd_write(self.port.session_fd, 1)
        await self.settle()

    async def greet(self, has: int = DEBIAN) -> Capability:
        """Open the port and exchange capabilities, as spice-vdagentd does; returns this side's."""
        self.open()
        announced = encode_capabilities(Capabilities(request=True, has=Capability(0)))[:4]
        await self.say(Kind.ANNOUNCE_CAPABILITIES, announced + struct.pack("<I", has))
        kind, data = await self.hear()
        assert (kind, data[:4]) == (Kind.ANNOUNCE_CAPABILITIES, b"\1\0\0\0")
        await self.say(Kind.ANNOUNCE_CAPABILITIES, bytes(4) + struct.pack("<I", has))
        ours = Capability(struct.unpack("<I", data[4:])[0])
        if Capability.MAX_CLIPBOARD in ours:
            assert await self.hear() == (Kind.MAX_CLIPBOARD, struct.pack("<I", LIMIT))
        return ours

    async def grab(self, *types: int, serial: int = 0, selection: int = 0) -> None:
        data = struct.pack(f"<II{len(types)}I", selection, serial, *types)
        await self.say(Kind.CLIPBOARD_GRAB, data)

    async def give(self, kind: int, data: bytes, selection: int = 0) -> None:
        await self.say(Kind.CLIPBOARD, struct.pack("<II", selection, kind) + data)

    async def ask(self, kind: int, selection: int = 0) -> tuple[int, bytes]:
        """Paste: what the guest gets, by type and content."""
        await self.say(Kind.CLIPBOARD_REQUEST, struct.pack("<II", selection, kind))
        message, data = await self.hear()
        assert message is Kind.CLIPBOARD
        assert data[:4] == bytes((selection, 0, 0, 0))
        return struct.unpack_from("<I", data, 4)[0], data[8:]


def grabbed(serial: int, *types: int) -> tuple[Kind, bytes]:
    """What the guest hears when the host has copied something."""
    return Kind.CLIPBOARD_GRAB, struct.pack(f"<II{len(types)}I", 0, serial, *types)
