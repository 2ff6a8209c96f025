# SPDX-License-Identifier: MIT
"""RFB in WebSocket frames (RFC 6455)."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from rfb_client import (
    EXTENDED_SIZE,
    RAW,
    RfbClient,
)
from rfb_rig import Rig

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


@pytest.fixture
def rig() -> Iterator[Rig]:
    """With a screen of 32 x 16."""
    rig = Rig()
    rig.canvas.show(32, 16)
    yield rig
    rig.close()


def frame(payload: bytes, opcode: int = 2, *, last: bool = True, mask: bytes = b"\1\2\3\4") -> bytes:
    length = len(payload)
    size = (
        struct.pack(">B", 0x80 | length)
        if length < 126
        else struct.pack(">BH", 0xFE, length)
        if length < 65536
        else struct.pack(">BQ", 0xFF, length)
    )
    hidden = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([(0x80 if last else 0) | opcode]) + size + mask + hidden


class WebSocket:
    """A browser's end: looks like a socket of the bytes within."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inside = b""
        self.control: list[tuple[int, bytes]] = []

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def read_frame(self) -> tuple[int, bytes]:
        first, length = self._exactly(2)
        assert first & 0x80
        if length == 126:
            (length,) = struct.unpack(">H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._exactly(8))
        return first & 15, self._exactly(length)

    def recv(self, count: int) -> bytes:
        while not self.inside:
            opcode, payload = self.read_frame()
            if opcode == 2:
                self.inside += payload
            else:
                self.control.append((opcode, payload))
        data, self.inside = self.inside[:count], self.inside[count:]
        return data

    def sendall(self, data: bytes) -> None:
        self.sock.sendall(frame(data))

    def close(self) -> None:
        self.sock.close()


def test_websocket_carries_rfb(rig: Rig) -> None:
    client = RfbClient(WebSocket(rig.connect(websocket=True)))  # type: ignore[arg-type]
    client.login()
    data = os.urandom(32 * 16 * 4)
    rig.canvas.paint(data)
    assert client.picture(RAW)[0][1] == (data[6], data[5], data[4])
    rig.canvas.show(200, 200)  # frames with lengths of 64 bits
    client.set_encodings(RAW, EXTENDED_SIZE)
    for _ in range(3):
        client.request()
        client.update()
    assert (client.width, client.height) == (200, 200)
    client.sock.close()


def test_websocket_bytes_that_were_read_before_are_not_lost(rig: Rig) -> None:
    first = frame(b"RFB 003.008\n")
    sock = rig.connect(websocket=True, first=first[:9])
    sock.sendall(first[9:])
    browser = WebSocket(sock)
    client = RfbClient(browser)  # type: ignore[arg-type]
    assert client.read(12) == b"RFB 003.008\n"
    assert client.read(2) == b"\1\1"
    sock.close()


def test_websocket_fragments_and_pings_are_understood(rig: Rig) -> None:
    sock = rig.connect(websocket=True)
    browser = WebSocket(sock)
    client = RfbClient(browser)  # type: ignore[arg-type]
    assert client.read(12) == b"RFB 003.008\n"
    sock.sendall(frame(b"RFB 003", last=False) + frame(b"still there?", 9) + frame(b"", 0, last=False))
    for byte in frame(b".008\n\1\1", 0):
        sock.sendall(bytes([byte]))
    assert client.read(2 + 4) == b"\1\1\0\0\0\0"
    client.width, client.height = struct.unpack(">HH", client.read(4))
    assert (client.width, client.height) == (32, 16)
    sock.sendall(frame(b"\x03\xe8bye", 8))
    client.read(16 + 4 + 4)
    while (8, b"\x03\xe8") not in browser.control:
        browser.control.append(browser.read_frame())
    assert browser.control == [(10, b"still there?"), (8, b"\x03\xe8")]
    sock.close()
    rig.wait(rig.gone)
