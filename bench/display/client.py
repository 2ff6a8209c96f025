# SPDX-License-Identifier: MIT
"""A client that asks for pictures and throws them away: it costs little, and knows where each one ends.

``client.py PORT keys|look|both COUNT``: hits so many keys, and prints when; sees pictures; or both at once.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time

RAW, TIGHT, ZRLE = 0, 7, 16
QUALITY_6, EFFORT_1 = -26, -255


class Sink:
    """A client of the server at a port of this host."""

    def __init__(self, port: int, *encodings: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)
        self.bytes = 0
        self._read(12)
        self.sock.sendall(b"RFB 003.008\n")
        self._read(self._read(1)[0])
        self.sock.sendall(b"\1")
        self._read(4)
        self.sock.sendall(b"\1")
        self.width, self.height = struct.unpack(">HH", self._read(4))
        self._read(16)
        self._read(int.from_bytes(self._read(4), "big"))
        self.sock.sendall(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))

    def _read(self, count: int) -> bytes:
        self._fill(count)
        return bytes(self._buffer[:count])

    def _fill(self, count: int) -> None:
        view = memoryview(self._buffer)[:count]
        while view:
            got = self.sock.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        self.bytes += count

    def _skip(self, count: int) -> None:
        while count:
            part = min(count, len(self._buffer))
            self._fill(part)
            count -= part

    def request(self, *, incremental: bool = False) -> None:
        """Ask for the whole screen."""
        self.sock.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def picture(self) -> None:
        """Read an update, and throw it away."""
        kind, count = struct.unpack(">BxH", self._read(4))
        assert kind == 0
        for _ in range(count):
            _, _, width, height, encoding = struct.unpack(">HHHHi", self._read(12))
            if encoding == RAW:
                self._skip(width * height * 4)
            elif encoding == ZRLE:
                self._skip(int.from_bytes(self._read(4), "big"))
            else:
                assert encoding == TIGHT, encoding
                self._tight(width, height)

    def _tight(self, width: int, height: int) -> None:
        control = self._read(1)[0] >> 4
        if control == 8:
            self._skip(3)
            return
        length = width * height * 3
        if control == 9:
            length = 1 << 30
        elif control & 4:
            palette = self._read(1)[0] == 1
            assert palette
            colours = self._read(1)[0] + 1
            self._skip(3 * colours)
            length = (width + 7) // 8 * height if colours == 2 else width * height
        self._skip(length if length < 12 else self._compact())

    def _compact(self) -> int:
        value = 0
        for shift in (0, 7, 14):
            byte = self._read(1)[0]
            value |= (byte if shift == 14 else byte & 127) << shift
            if byte < 128:
                break
        return value

    def look(self) -> None:
        """See one picture after another."""
        while True:
            self.request()
            self.picture()

    def hit_keys(self, count: int) -> list[float]:
        """Hit keys; returns when."""
        times = []
        for i in range(count):
            times.append(time.perf_counter())
            self.sock.sendall(bytes([4, 1 - i % 2, 0, 0, 0, 0, 0, 97]))
            time.sleep(0.004)
        return times


def main(port: str, what: str, count: str) -> None:
    sink = Sink(int(port), TIGHT, QUALITY_6)
    if what == "look":
        sink.look()
    # The same connection in two processes: the keys shall not wait for this interpreter.
    looking = os.fork() if what == "both" else None
    if looking == 0:
        sink.look()
    print(*sink.hit_keys(int(count)))
    if looking:
        os.kill(looking, signal.SIGKILL)
        os.waitpid(looking, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
