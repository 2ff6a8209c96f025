# SPDX-License-Identifier: MIT
"""The compressions kernels come in."""

from __future__ import annotations

import pytest
from arch_support import PACKERS, noise, packed
from hypothesis import given
from hypothesis import strategies as st

from vdesktop_core.arch.image.compression import Compression, decompress, identify
from vdesktop_core.errors import BootError

_DATA = bytes(range(256)) * 300 + noise(1, 50_000)


@pytest.mark.parametrize("name", PACKERS)
def test_decompress_kernel_stream_returns_the_data(name: str) -> None:
    assert b"".join(decompress(packed(_DATA, name), "kernel x")) == _DATA


@pytest.mark.parametrize("name", PACKERS)
def test_decompress_several_pieces_returns_the_data(name: str) -> None:
    data = bytes(17 << 20) + noise(2, 1000)  # more than two LZ4 blocks
    assert b"".join(decompress(packed(data, name), "kernel x")) == data


@pytest.mark.parametrize("name", PACKERS)
def test_decompress_truncated_stream_is_one_line(name: str) -> None:
    whole = PACKERS[name][0](_DATA)
    for size in (len(whole) // 2, len(whole) - 1, 12):
        with pytest.raises(BootError, match="corrupt or truncated") as error:
            list(decompress(whole[:size], "kernel x"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", PACKERS)
def test_decompress_bomb_stops_at_the_limit(name: str) -> None:
    bomb = packed(bytes(40 << 20), name)
    seen: list[int] = []
    with pytest.raises(BootError, match="unpacks to more than 16 MiB"):
        seen.extend(map(len, decompress(bomb, "kernel x", limit=16 << 20)))
    assert sum(seen) <= 16 << 20


@given(st.sampled_from(sorted(PACKERS)), st.data())
def test_decompress_damaged_stream_is_an_error_or_bounded(name: str, data: st.DataObject) -> None:
    stream = bytearray(packed(_DATA[:5000], name))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(3, len(stream) - 1))] = data.draw(st.integers(0, 255))
    total, message = 0, ""
    try:
        total = sum(map(len, decompress(bytes(stream), "kernel x", limit=32 << 20)))
    except BootError as error:
        message = str(error)
    assert total <= 32 << 20
    assert message.startswith("kernel x: ") or not message


def test_decompress_lzo_is_named() -> None:
    assert identify(b"\x89LZO\0\r\n") is Compression.LZO
    with pytest.raises(BootError, match="LZO compression is not supported"):
        list(decompress(b"\x89LZO\0\r\n\x1a\n", "kernel x"))


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", b"hello"])
def test_decompress_unknown_stream_is_refused(data: bytes) -> None:
    with pytest.raises(BootError, match="unknown compression"):
        list(decompress(data, "kernel x"))
