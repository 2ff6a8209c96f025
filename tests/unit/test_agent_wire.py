# SPDX-License-Identifier: MIT
"""The agent's protocol: what is encoded comes back, in whatever pieces; nonsense is refused."""

from __future__ import annotations

import contextlib
import functools
import operator
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdesktop_core.devices.agent.wire import (
    CHUNK,
    CHUNK_BYTES,
    CLIENT_PORT,
    MESSAGE,
    SERVER_PORT,
    AgentProtocolError,
    Capabilities,
    Capability,
    Codec,
    Data,
    FileStatus,
    Grab,
    Kind,
    Message,
    Parser,
    decode_capabilities,
    decode_file_status,
    encode,
    encode_capabilities,
    encode_file_start,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 10_000
_SIZES = {
    Kind.ANNOUNCE_CAPABILITIES: (4, 132),
    Kind.CLIPBOARD_GRAB: (0, 264),
    Kind.CLIPBOARD_REQUEST: (4, 8),
    Kind.CLIPBOARD_RELEASE: (0, 4),
    Kind.CLIPBOARD: (4, LIMIT + 8),
    Kind.FILE_XFER_STATUS: (8, 4104),
}


def every(capabilities: Iterable[Capability]) -> Capability:
    return functools.reduce(operator.or_, capabilities, Capability(0))


_CODECS = st.sets(st.sampled_from([Capability.CLIPBOARD_SELECTION, Capability.CLIPBOARD_GRAB_SERIAL])).map(
    lambda found: Codec(every(found))
)
_U32 = st.integers(0, 0xFFFFFFFF)
_BYTE = st.integers(0, 255)


@st.composite
def guest_messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(list(_SIZES)))
    least, most = _SIZES[kind]
    return Message(kind, draw(st.binary(min_size=least, max_size=min(most, 5000))))


def framed(kind: int, data: bytes, *, port: int = CLIENT_PORT, size: int | None = None) -> bytes:
    """A message in one chunk, as spice-vdagentd writes it, also one that lies about its size."""
    message = MESSAGE.pack(1, kind, 0, len(data) if size is None else size) + data
    return CHUNK.pack(port, len(message)) + message


def heard(data: bytes, limit: int = LIMIT) -> list[Message]:
    return list(Parser(limit).feed(data))


@settings(deadline=None)
@given(st.lists(guest_messages(), max_size=6), st.data())
def test_messages_come_back_whole_in_whatever_pieces(messages: list[Message], data: st.DataObject) -> None:
    stream = b"".join(b"".join(encode(m.kind, m.data or b"")) for m in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser, found = Parser(LIMIT), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += parser.feed(stream[start:end])
    assert found == messages


@settings(deadline=None)
@given(st.binary(max_size=20_000), st.binary(max_size=3))
def test_encoded_chunks_are_never_longer_than_an_agent_takes(first: bytes, second: bytes) -> None:
    chunks = list(encode(Kind.CLIPBOARD, first, second))
    assert all(len(chunk) - CHUNK.size == CHUNK.unpack_from(chunk)[1] <= CHUNK_BYTES for chunk in chunks)
    body = b"".join(chunk[CHUNK.size :] for chunk in chunks)
    assert body == MESSAGE.pack(1, Kind.CLIPBOARD, 0, len(first) + len(second)) + first + second


@settings(deadline=None)
@given(_CODECS, _BYTE, _U32, st.lists(_U32, max_size=60))
def test_grab_round_trip(codec: Codec, selection: int, serial: int, types: list[int]) -> None:
    found = codec.decode_grab(codec.encode_grab(Grab(selection, serial, tuple(types))))
    assert found.types == tuple(types)
    assert found.selection == (selection if codec.selection else 0)
    assert found.serial == (serial if codec.serial else None)


@settings(deadline=None)
@given(_CODECS, _BYTE, _U32, st.binary(max_size=100))
def test_request_data_and_release_round_trip(codec: Codec, selection: int, kind: int, data: bytes) -> None:
    there = selection if codec.selection else 0
    assert codec.decode_request(codec.encode_request(selection, kind)) == (there, kind)
    assert codec.decode_data(b"".join(codec.encode_data(Data(selection, kind, data)))) == Data(
        there, kind, data
    )
    assert codec.decode_release(codec.encode_release(selection)) == there
    assert codec.decode_release(codec.encode_release(selection)[:1]) == there


@settings(deadline=None)
@given(st.booleans(), st.sets(st.sampled_from(list(Capability))))
def test_capabilities_round_trip(request_: bool, has: set[Capability]) -> None:
    announced = Capabilities(request=request_, has=every(has))
    assert decode_capabilities(encode_capabilities(announced)) == announced


@pytest.mark.parametrize("words", [0, 1, 2, 32])
def test_capabilities_with_bits_from_the_future_are_those_that_are_known(words: int) -> None:
    data = struct.pack("<I", 1) + b"\xff" * 4 * words
    has = decode_capabilities(data).has
    assert has == (every(Capability) if words else Capability(0))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_fuzz_vdagent_bytes_give_messages_or_one_error(noise: bytes, cut: int) -> None:
    parser = Parser(LIMIT)
    with contextlib.suppress(AgentProtocolError):
        for piece in (noise[:cut], noise[cut:]):
            for message in parser.feed(piece):
                assert message.data is None or len(message.data) <= _SIZES[message.kind][1]
    parser.reset()
    assert list(parser.feed(framed(Kind.CLIPBOARD_RELEASE, b""))) == [Message(Kind.CLIPBOARD_RELEASE, b"")]


@settings(max_examples=400, deadline=None)
@given(_CODECS, st.sampled_from(list(_SIZES)), st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_fuzz_vdagent_messages_are_decoded_or_refused(
    codec: Codec, kind: Kind, data: bytes, size: int
) -> None:
    """As the fuzz above, past the framing: each decoder with anything the framing lets through."""
    parser = Parser(LIMIT)
    decoders = {
        Kind.ANNOUNCE_CAPABILITIES: decode_capabilities,
        Kind.CLIPBOARD_GRAB: codec.decode_grab,
        Kind.CLIPBOARD_REQUEST: codec.decode_request,
        Kind.CLIPBOARD_RELEASE: codec.decode_release,
        Kind.CLIPBOARD: codec.decode_data,
        Kind.FILE_XFER_STATUS: decode_file_status,
    }
    with contextlib.suppress(AgentProtocolError):
        for message in parser.feed(framed(kind, data, size=size if size % 3 == 0 else None)):
            if message.data is not None:
                decoders[message.kind](message.data)


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (CHUNK.pack(0, 20), "port 0"),
        (CHUNK.pack(3, 20), "port 3"),
        (CHUNK.pack(0xFFFFFFFF, 0xFFFFFFFF), "port 4294967295"),
        (CHUNK.pack(1, 20) + MESSAGE.pack(2, Kind.CLIPBOARD_RELEASE, 0, 0), "protocol 2"),
        (framed(Kind.CLIPBOARD_REQUEST, b"", size=3), "4 at least"),
        (framed(Kind.CLIPBOARD_REQUEST, b"", size=9), "8 at most"),
        (framed(Kind.CLIPBOARD_RELEASE, b"", size=5), "4 at most"),
        (framed(Kind.CLIPBOARD_GRAB, b"", size=0xFFFFFFFF), "264 at most"),
        (framed(Kind.ANNOUNCE_CAPABILITIES, b"", size=2), "4 at least"),
        (framed(Kind.ANNOUNCE_CAPABILITIES, b"", size=133), "132 at most"),
        (framed(Kind.FILE_XFER_STATUS, b"", size=7), "8 at least"),
        (framed(Kind.FILE_XFER_STATUS, b"", size=1 << 20), "at most"),
    ],
)
def test_hostile_framing_is_refused(stream: bytes, complaint: str) -> None:
    with pytest.raises(AgentProtocolError, match=complaint):
        heard(stream)


def test_hostile_endless_empty_chunks_take_no_memory() -> None:
    parser = Parser(LIMIT)
    assert list(parser.feed(CHUNK.pack(1, 0) * 10_000)) == []
    assert list(parser.feed(framed(Kind.CLIPBOARD_RELEASE, b""))) == [Message(Kind.CLIPBOARD_RELEASE, b"")]


def test_hostile_clipboard_of_four_gibibytes_is_passed_over_without_being_held() -> None:
    parser = Parser(LIMIT)
    total = 0xFFFFFFFF
    stream = CHUNK.pack(1, total) + MESSAGE.pack(1, Kind.CLIPBOARD, 0, total - MESSAGE.size)
    assert list(parser.feed(stream)) == [Message(Kind.CLIPBOARD, None)]
    block = bytes(1 << 20)
    tracemalloc.start()
    for _ in range(64):
        assert list(parser.feed(block)) == []
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("kind", [0, 1, 2, 13, 15, 99, 0xFFFFFFFF])
def test_hostile_unknown_message_is_passed_over(kind: int) -> None:
    release = framed(Kind.CLIPBOARD_RELEASE, b"")
    assert heard(framed(kind, b"x" * 3000) + release) == [Message(Kind.CLIPBOARD_RELEASE, b"")]


def test_messages_of_the_two_ports_do_not_mix() -> None:
    message = MESSAGE.pack(1, Kind.CLIPBOARD_REQUEST, 0, 4) + b"abcd"
    other = MESSAGE.pack(1, 1, 0, 13) + b"mouse, ignore"
    stream = b"".join(
        CHUNK.pack(port, len(piece)) + piece
        for port, piece in (
            (CLIENT_PORT, message[:7]),
            (SERVER_PORT, other[:25]),
            (CLIENT_PORT, message[7:]),
            (SERVER_PORT, other[25:]),
        )
    )
    assert heard(stream) == [Message(Kind.CLIPBOARD_REQUEST, b"abcd")]


@pytest.mark.parametrize("has", [Capability(0), Capability.CLIPBOARD_SELECTION])
def test_hostile_clipboard_message_that_is_too_short_for_its_layout_is_refused(has: Capability) -> None:
    codec = Codec(has | Capability.CLIPBOARD_GRAB_SERIAL)
    for decode in (codec.decode_request, codec.decode_data, codec.decode_grab):
        with pytest.raises(AgentProtocolError, match="too short"):
            decode(b"\0" * 3)
    with pytest.raises(AgentProtocolError, match="not a list"):
        codec.decode_grab(bytes(8) + b"\1\2\3")


def test_file_start_is_a_key_file_with_its_nul() -> None:
    data = encode_file_start(7, "a\\b.txt", 12)
    assert data == b"\7\0\0\0[vdagent-file-xfer]\nname=a\\\\b.txt\nsize=12\n\0"


def test_file_status_with_details_is_its_first_two_numbers() -> None:
    assert decode_file_status(struct.pack("<IIQ", 5, 4, 99)) == FileStatus(5, 4)
