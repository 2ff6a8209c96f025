# SPDX-License-Identifier: MIT
"""Decoders of RFB's encodings, in Python: slow, and written from the protocol's texts."""

from __future__ import annotations

import ctypes
import ctypes.util
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Pixel = tuple[int, int, int]


class Format(NamedTuple):
    """A pixel format: bits, depth, big-endian, maxima, shifts."""

    bits: int = 32
    depth: int = 24
    big: bool = False
    maxima: tuple[int, int, int] = (255, 255, 255)
    shifts: tuple[int, int, int] = (16, 8, 0)

    def pixel(self, data: bytes) -> Pixel:
        value = int.from_bytes(data, "big" if self.big else "little")
        red, green, blue = (value >> s & m for s, m in zip(self.shifts, self.maxima, strict=True))
        return red, green, blue

    def expected(self, pixel: Pixel) -> Pixel:
        """What becomes of a pixel of 8 bits a colour."""
        red, green, blue = (c >> (8 - m.bit_length()) for c, m in zip(pixel, self.maxima, strict=True))
        return red, green, blue

    @property
    def cpixel(self) -> tuple[int, int]:
        """Bytes of a CPIXEL, and where zero bytes go to make a whole pixel of it: before or after."""
        mask = sum(m << s for m, s in zip(self.maxima, self.shifts, strict=True))
        if self.bits != 32 or self.depth > 24 or (mask >> 24 and mask & 0xFF):
            return self.bits // 8, 0
        low = not mask >> 24
        return 3, 1 if low == self.big else -1

    def from_cpixel(self, data: bytes) -> Pixel:
        _, where = self.cpixel
        return self.pixel(b"\0" + data if where > 0 else data + b"\0" if where < 0 else data)

    @property
    def tpixel(self) -> int:
        return 3 if self.bits == 32 and self.depth == 24 and self.maxima == (255,) * 3 else self.bits // 8

    def from_tpixel(self, data: bytes) -> Pixel:
        return (data[0], data[1], data[2]) if self.tpixel == 3 else self.pixel(data)


class Reader:
    """Bytes, from the first to the last."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def __call__(self, count: int) -> bytes:
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]


class Zrle:
    """RFC 6143 §7.7.6. The zlib stream goes on from rectangle to rectangle."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self.kinds: set[int] = set()

    def rectangle(self, form: Format, width: int, height: int, data: bytes) -> list[Pixel]:
        read = Reader(self._stream.decompress(data))
        out: list[Pixel] = [(0, 0, 0)] * (width * height)
        for top in range(0, height, 64):
            for left in range(0, width, 64):
                w, h = min(64, width - left), min(64, height - top)
                for i, pixel in enumerate(self._tile(form, read, w, h)):
                    out[(top + i // w) * width + left + i % w] = pixel
        assert read.at == len(read.data)
        return out

    def _tile(self, form: Format, read: Reader, width: int, height: int) -> list[Pixel]:
        size, _ = form.cpixel
        kind = read(1)[0]
        self.kinds.add(kind)
        count = width * height
        if kind == 0:
            return [form.from_cpixel(read(size)) for _ in range(count)]
        if kind == 128:
            plain: list[Pixel] = []
            while len(plain) < count:
                pixel = form.from_cpixel(read(size))
                plain += [pixel] * self._length(read)
            assert len(plain) == count
            return plain
        palette = [form.from_cpixel(read(size)) for _ in range(kind & 127)]
        if kind == 1:
            return palette * count
        out: list[Pixel] = []
        if kind < 128:
            assert kind <= 16
            bits = 1 if kind == 2 else 2 if kind <= 4 else 4
            for _ in range(height):
                row = int.from_bytes(line := read((width * bits + 7) // 8), "big")
                shifts = (len(line) * 8 - bits * (x + 1) for x in range(width))
                out += [palette[row >> shift & ((1 << bits) - 1)] for shift in shifts]
            return out
        while len(out) < count:
            index = read(1)[0]
            out += [palette[index & 127]] * (self._length(read) if index & 128 else 1)
        assert len(out) == count
        return out

    @staticmethod
    def _length(read: Reader) -> int:
        length = 1
        while (byte := read(1)[0]) == 255:
            length += 255
        return length + byte


class Tight:
    """rfbproto "Tight Encoding": four zlib streams."""

    def __init__(self) -> None:
        self._streams = [zlib.decompressobj() for _ in range(4)]
        self.kinds: set[str] = set()

    def rectangle(self, form: Format, width: int, height: int, read: Callable[[int], bytes]) -> list[Pixel]:
        control, size, count = read(1)[0], form.tpixel, width * height
        assert control & 0x0F == 0, "no stream is ever reset"
        if control == 0x80:
            self.kinds.add("fill")
            return [form.from_tpixel(read(size))] * count
        if control == 0x90:
            self.kinds.add("jpeg")
            return jpeg(read(_compact(read)), width, height)
        stream = self._streams[control >> 4 & 3]
        if not control & 0x40:
            self.kinds.add("full")
            data = self._bytes(stream, read, count * size)
            return [form.from_tpixel(data[i * size : (i + 1) * size]) for i in range(count)]
        assert read(1) == b"\x01"
        colours = read(1)[0] + 1
        palette = [form.from_tpixel(read(size)) for _ in range(colours)]
        if colours > 2:
            self.kinds.add("indexed")
            return [palette[index] for index in self._bytes(stream, read, count)]
        self.kinds.add("mono")
        row = (width + 7) // 8
        data = self._bytes(stream, read, row * height)
        return [
            palette[data[y * row + x // 8] >> (7 - x % 8) & 1] for y in range(height) for x in range(width)
        ]

    @staticmethod
    def _bytes(stream: zlib._Decompress, read: Callable[[int], bytes], count: int) -> bytes:
        if count < 12:
            return read(count)
        data = stream.decompress(read(_compact(read)))
        assert len(data) == count
        return data


def _compact(read: Callable[[int], bytes]) -> int:
    value = 0
    for shift in (0, 7, 14):
        byte = read(1)[0]
        value |= (byte if shift == 14 else byte & 127) << shift
        if not byte & 128:
            break
    return value


def jpeg(data: bytes, width: int, height: int) -> list[Pixel]:
    """Decode a JPEG file with libturbojpeg."""
    library = ctypes.CDLL("libturbojpeg.so.0")
    library.tjInitDecompress.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(library.tjInitDecompress())
    out = ctypes.create_string_buffer(width * height * 3)
    failed = library.tjDecompress2(
        handle, data, ctypes.c_ulong(len(data)), out, width, 0, height, 0, 0
    )  # TJPF_RGB
    library.tjDestroy(handle)
    assert not failed
    raw = out.raw
    return [(raw[i], raw[i + 1], raw[i + 2]) for i in range(0, len(raw), 3)]
