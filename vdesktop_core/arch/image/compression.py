# SPDX-License-Identifier: MIT
"""The compressions kernels come in, decoded in bounded pieces."""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Protocol

from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: No kernel unpacks to more.
IMAGE_LIMIT = 512 << 20
#: What an xz or LZMA decoder may allocate; kernels use dictionaries of 32 to 128 MiB.
_LZMA_MEMORY = 256 << 20
_ZSTD_WINDOW = 128 << 20
_PIECE = 1 << 20
#: An LZ4 legacy frame's blocks unpack to at most this (``lz4_Frame_format.md``, "Legacy frame").
_LZ4_BLOCK = 8 << 20
_LZ4_LEGACY_MAGIC = 0x184C2102


class Compression(enum.StrEnum):
    """A compression format, by the name people know it by."""

    GZIP = "gzip"
    XZ = "xz"
    LZMA = "LZMA"
    BZIP2 = "bzip2"
    LZ4 = "LZ4"
    ZSTD = "Zstandard"
    LZO = "LZO"


_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b\x08", Compression.GZIP),
    (b"\xfd7zXZ\x00", Compression.XZ),
    (b"\x5d\x00\x00", Compression.LZMA),
    (b"BZh", Compression.BZIP2),
    (struct.pack("<I", _LZ4_LEGACY_MAGIC), Compression.LZ4),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    (b"\x89LZO", Compression.LZO),
)


def identify(head: bytes) -> Compression | None:
    """Tell the compression from the first bytes."""
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def decompress(data: bytes, name: str, limit: int = IMAGE_LIMIT) -> Iterator[bytes]:
    """Yield what ``data`` unpacks to; what follows the compressed stream is ignored.

    Args:
        data: begins with the stream's magic.
        name: how errors call it.
        limit: the most that may come out, in bytes.

    Raises:
        BootError: the data are corrupt, truncated, too large, or of an unsupported compression.
    """
    kind = identify(data)
    if kind is None:
        raise BootError(
            f"{name}: its payload starts with {data[:4].hex(' ') or 'nothing'}: unknown compression"
        )
    if kind is Compression.LZO:
        raise BootError(
            f"{name}: LZO compression is not supported: use a kernel packed with gzip, xz, LZ4 or zstd"
        )
    total = 0
    try:
        for piece in _DECODERS[kind](data):
            total += len(piece)
            if total > limit:
                raise BootError(f"{name}: unpacks to more than {limit >> 20} MiB: the file is corrupt")
            yield piece
    except _decoder_errors() as error:
        reason = str(error).strip() or type(error).__name__
        raise BootError(f"{name}: its {kind} data are corrupt or truncated ({reason})") from error


class _TruncatedError(Exception):
    """The stream does not reach its end mark."""

    def __str__(self) -> str:
        return "the stream has no end"


def _decoder_errors() -> tuple[type[Exception], ...]:
    """Name what decoders raise on bad input. Called when one did: a good kernel imports one decoder only."""
    import lzma
    import zlib

    import lz4.block
    import zstandard

    own: tuple[type[Exception], ...] = (
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
        lz4.block.LZ4BlockError,
    )
    # bz2 raises OSError, EOFError and ValueError; lz4 refuses sizes with ValueError.
    return (_TruncatedError, *own, OSError, EOFError, ValueError)


def _gzip(data: bytes) -> Iterator[bytes]:
    import zlib

    decoder = zlib.decompressobj(wbits=31)
    tail: bytes = data
    while not decoder.eof:
        piece = decoder.decompress(tail, _PIECE)
        if not piece and not decoder.eof and len(decoder.unconsumed_tail) == len(tail):
            raise _TruncatedError
        tail = decoder.unconsumed_tail
        yield piece


class _Bounded(Protocol):
    """What ``lzma`` and ``bz2`` decoders have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def _bounded(decoder: _Bounded, data: bytes) -> Iterator[bytes]:
    yield decoder.decompress(data, _PIECE)
    while not decoder.eof:
        if decoder.needs_input:
            raise _TruncatedError
        yield decoder.decompress(b"", _PIECE)


def _xz(data: bytes) -> Iterator[bytes]:
    import lzma

    return _bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY), data)


def _lzma(data: bytes) -> Iterator[bytes]:
    import lzma

    return _bounded(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY), data)


def _bzip2(data: bytes) -> Iterator[bytes]:
    import bz2

    return _bounded(bz2.BZ2Decompressor(), data)


def _zstd(data: bytes) -> Iterator[bytes]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    # A 4-byte block unpacks to at most 128 KiB (RFC 8878 §3.1.1.2): 1 KiB at a time bounds a piece to 32 MiB.
    for start in range(0, len(data), 1024):
        yield decoder.decompress(data[start : start + 1024])
        if decoder.eof:
            return
    raise _TruncatedError


def _lz4(data: bytes) -> Iterator[bytes]:
    import lz4.block

    offset = 4
    # The end of a legacy frame is where no block can follow; a kernel's size word comes after it.
    while offset + 4 < len(data):
        (size,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if size == _LZ4_LEGACY_MAGIC:
            continue
        if not 0 < size <= len(data) - offset:
            raise _TruncatedError
        yield lz4.block.decompress(data[offset : offset + size], uncompressed_size=_LZ4_BLOCK)
        offset += size


_DECODERS = {
    Compression.GZIP: _gzip,
    Compression.XZ: _xz,
    Compression.LZMA: _lzma,
    Compression.BZIP2: _bzip2,
    Compression.LZ4: _lz4,
    Compression.ZSTD: _zstd,
}
