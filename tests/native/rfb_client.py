# SPDX-License-Identifier: MIT
"""An RFB client in Python: asks, decodes every encoding, and keeps the picture."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from rfb_decode import Format, Pixel, Tight, Zrle

if TYPE_CHECKING:
    import socket

RAW, TIGHT, ZRLE = 0, 7, 16
DESKTOP_SIZE, CURSOR, QEMU_KEY, QEMU_LED, EXTENDED_SIZE = -223, -239, -258, -261, -308
FENCE, CONTINUOUS, CURSOR_ALPHA, MOUSE, CLIPBOARD, VDESKTOP = -312, -313, -314, -316, -0x3F5E1A32, 0x76640001
QUALITY_0, EFFORT_0 = -32, -256


class Rectangle(NamedTuple):
    """What came in an update."""

    x: int
    y: int
    width: int
    height: int
    encoding: int
    payload: bytes = b""


def wire(form: Format) -> bytes:
    """A PIXEL_FORMAT."""
    return struct.pack(">BBBBHHHBBB3x", form.bits, form.depth, form.big, 1, *form.maxima, *form.shifts)


class RfbClient:
    """The client's end of a socket; every wait ends with the socket's timeout."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.format = Format()
        self.pixels: dict[tuple[int, int], Pixel] = {}
        self.zrle = Zrle()
        self.tight = Tight()
        self.width = self.height = 0

    def read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            if not part:
                raise EOFError(bytes(data))
            data += part
        return bytes(data)

    def number(self, size: int) -> int:
        return int.from_bytes(self.read(size), "big")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def closed(self) -> bool:
        """Whether the server hangs up; what it still says is dropped."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    # Login

    def login(self, minor: int = 8, shared: int = 1) -> None:
        assert self.read(12) == b"RFB 003.008\n"
        self.send(b"RFB 003.%03d\n" % minor)
        if minor == 3:
            assert self.number(4) == 1
        else:
            assert self.read(2) == b"\x01\x01"
            self.send(b"\x01")
            if minor >= 8:
                assert self.number(4) == 0
        self.start(shared)

    def start(self, shared: int = 1) -> None:
        self.send(bytes([shared]))
        self.width, self.height = struct.unpack(">HH", self.read(4))
        assert self.read(16) == wire(Format())
        self.name = self.read(self.number(4)).decode()

    # Messages

    def set_format(self, pixel_format: Format) -> None:
        self.format = pixel_format
        self.send(b"\0\0\0\0" + wire(pixel_format))

    def set_encodings(self, *codes: int) -> None:
        self.send(struct.pack(">BxH", 2, len(codes)) + b"".join(struct.pack(">i", code) for code in codes))

    def picture(self, encoding: int, *more: int) -> list[list[Pixel]]:
        """Everything that is shown, in an encoding."""
        self.set_encodings(encoding, *more)
        self.pixels.clear()
        self.request()
        self.update()
        return self.rows()

    def request(self, incremental: int = 0) -> None:
        self.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def key(self, keysym: int, down: int) -> None:
        self.send(struct.pack(">BBxxI", 4, down, keysym))

    def pointer(self, buttons: int, x: int, y: int) -> None:
        self.send(struct.pack(">BBHH", 5, buttons, x, y))

    # What comes

    def update(self) -> list[Rectangle]:
        """The next FramebufferUpdate, decoded into ``pixels``."""
        assert self.number(1) == 0
        self.read(1)
        return [self._rectangle() for _ in range(self.number(2))]

    def _rectangle(self) -> Rectangle:
        x, y, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
        size = self.format.bits // 8
        payload = b""
        if encoding == RAW:
            data = self.read(width * height * size)
            raw = [self.format.pixel(data[i : i + size]) for i in range(0, len(data), size)]
            self._put(x, y, width, raw)
        elif encoding == ZRLE:
            packed = self.read(self.number(4))
            self._put(x, y, width, self.zrle.rectangle(self.format, width, height, packed))
        elif encoding == TIGHT:
            self._put(x, y, width, self.tight.rectangle(self.format, width, height, self.read))
        elif encoding == CURSOR:
            payload = self.read(width * height * size + (width + 7) // 8 * height)
        elif encoding == CURSOR_ALPHA:
            payload = self.read(4 + 4 * width * height)
        elif encoding == EXTENDED_SIZE:
            count = self.read(4)
            payload = self.read(16 * count[0])
            if x != 1 or y == 0:
                self.width, self.height = width, height
        elif encoding == DESKTOP_SIZE:
            self.width, self.height = width, height
        elif encoding == QEMU_LED:
            payload = self.read(1)
        else:
            assert encoding in (QEMU_KEY, MOUSE, VDESKTOP), encoding
        return Rectangle(x, y, width, height, encoding, payload)

    def _put(self, x: int, y: int, width: int, pixels: list[Pixel]) -> None:
        for i, pixel in enumerate(pixels):
            self.pixels[x + i % width, y + i // width] = pixel

    def rows(self) -> list[list[Pixel]]:
        return [[self.pixels[x, y] for x in range(self.width)] for y in range(self.height)]
