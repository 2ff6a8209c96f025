# SPDX-License-Identifier: MIT
"""Clients that mean harm: they are dropped, or bounded, and nobody else notices."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from rfb_client import CLIPBOARD, FENCE, RAW, TIGHT, VDESKTOP, ZRLE, RfbClient
from rfb_rig import Rig

from vdesktop_core.display.input import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20


@pytest.fixture
def rigs() -> Iterator[Callable[..., Rig]]:
    """Makes servers, each with a screen of 32 x 16."""
    made: list[Rig] = []

    def new(**options: Any) -> Rig:
        made.append(Rig(**options))
        made[-1].canvas.show(32, 16)
        return made[-1]

    yield new
    for rig in made:
        rig.close()


@pytest.fixture
def rig(rigs: Callable[..., Rig]) -> Rig:
    return rigs()


def logged_in(rig: Rig, *encodings: int) -> RfbClient:
    client = RfbClient(rig.connect())
    client.login()
    if encodings:
        client.set_encodings(*encodings)
    return client


def check_dropped(rig: Rig, client: RfbClient) -> None:
    """The client is gone; another is welcome."""
    assert client.closed()
    rig.wait(rig.gone)
    other = logged_in(rig)
    other.picture(ZRLE)


def cut_text(length: int, data: bytes = b"") -> bytes:
    return struct.pack(">Bxxxi", 6, length) + data


@pytest.mark.parametrize("length", [-1, -12, -(1 << 31), (1 << 31) - 1, 257 * MIB])
def test_cut_text_of_negative_or_huge_length_drops_the_client(rig: Rig, length: int) -> None:
    client = logged_in(rig)
    client.send(cut_text(length, b"x" * 100))
    check_dropped(rig, client)


@pytest.mark.parametrize("length", [-(1 << 31), -257 * MIB])
def test_extended_cut_text_of_huge_length_drops_the_client(rig: Rig, length: int) -> None:
    client = logged_in(rig, RAW, CLIPBOARD)
    client.send(cut_text(length))
    check_dropped(rig, client)


def test_cut_text_longer_than_is_taken_is_skipped(rig: Rig) -> None:
    client = logged_in(rig)
    client.send(cut_text(5 * MIB))
    for _ in range(5):
        client.send(b"\xff" * MIB)
    client.key(ord("a"), 1)
    assert rig.keyboard.wait(1) == [[Key(30, down=True)]]


def test_cut_text_that_was_promised_takes_no_memory(rig: Rig) -> None:
    client = logged_in(rig)
    client.send(cut_text(4 * MIB, b"only this"))
    client.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    (number,) = rig.server.clients
    rig.call(lambda: rig.server.send_private(rig.server.clients[number], 0, b""))  # so that it counts
    client.sock.settimeout(60)
    client.read(8)
    stats = rig.call(lambda: rig.server.stats(rig.server.clients[number]))
    assert stats["memory"] < 3 * MIB


@pytest.mark.parametrize(
    "message",
    [
        b"\x01",  # FixColourMapEntries, which is no message
        b"\x63" * 20,
        b"\xff\x01\0\0" + bytes(8),  # QEMU's audio
        struct.pack(">BxH", 2, 1025) + bytes(4100),
        struct.pack(">BxH", 2, 65535),
        b"\xf8\0\0\0" + struct.pack(">IB", 0x80000000, 65) + bytes(65),
        struct.pack(">BBHI", 214, 9, 0, 4),  # not offered
    ],
    ids=["colour map", "unknown", "audio", "encodings", "all encodings", "fence", "private"],
)
def test_message_that_makes_no_sense_drops_the_client(rig: Rig, message: bytes) -> None:
    client = logged_in(rig)
    client.send(message)
    check_dropped(rig, client)


@pytest.mark.parametrize(
    "payload",
    [
        struct.pack(">BBHI", 214, 1, 0, 7) + bytes(7),
        struct.pack(">BBHI", 214, 1, 0, 88) + bytes(88),
        struct.pack(">BBHI", 214, 1, 0, 8) + b"\3\0" + bytes(6),
        struct.pack(">BBHI", 214, 1, 0, 8) + b"\0\x0a" + bytes(6),
        struct.pack(">BBHI", 214, 1, 0, 0xFFFFFFF8),
        struct.pack(">BBHI", 214, 5, 0, (1 << 17) + 1),
        struct.pack(">BBHI", 214, 5, 0, 0xFFFFFFFF),
    ],
)
def test_private_message_that_makes_no_sense_drops_the_client(rig: Rig, payload: bytes) -> None:
    client = logged_in(rig, RAW, VDESKTOP)
    client.send(payload)
    check_dropped(rig, client)
    assert not rig.touch.frames


@pytest.mark.parametrize(
    "wire",
    [
        struct.pack(">BBBBHHHBBB3x", bits, 24, 0, true, *maxima, *shifts)
        for bits, true, maxima, shifts in [
            (0, 1, (255,) * 3, (16, 8, 0)),
            (24, 1, (255,) * 3, (16, 8, 0)),
            (255, 1, (255,) * 3, (16, 8, 0)),
            (32, 0, (255,) * 3, (16, 8, 0)),
            (32, 1, (0, 255, 255), (16, 8, 0)),
            (32, 1, (254, 255, 255), (16, 8, 0)),
            (32, 1, (65535, 255, 255), (16, 8, 0)),
            (32, 1, (255,) * 3, (25, 8, 0)),
            (32, 1, (255,) * 3, (255, 8, 0)),
            (32, 1, (255,) * 3, (8, 8, 0)),
            (16, 1, (31, 63, 31), (12, 5, 0)),
            (8, 1, (255,) * 3, (16, 8, 0)),
        ]
    ],
)
def test_pixel_format_that_makes_no_sense_drops_the_client(rig: Rig, wire: bytes) -> None:
    client = logged_in(rig)
    client.send(b"\0\0\0\0" + wire)
    check_dropped(rig, client)


@pytest.mark.parametrize(
    "hello",
    [
        b"GET / HTTP/1.1\r\n",
        b"RFB 004.000\n",
        b"RFB 003.00x\n",
        b"RFB 003.002\n",
        b"\0" * 12,
        b"RFB 003.008 ",
    ],
)
def test_greeting_of_another_protocol_is_dropped(rig: Rig, hello: bytes) -> None:
    client = RfbClient(rig.connect())
    client.send(hello)
    check_dropped(rig, client)


@pytest.mark.parametrize("password", [None, "secret"])
@pytest.mark.parametrize("chosen", [0, 1, 2, 16, 19, 255])
def test_security_type_that_was_not_offered_is_refused(
    rigs: Callable[..., Rig], password: str | None, chosen: int
) -> None:
    if chosen == (2 if password else 1):
        chosen = 30
    rig = rigs(password=password)
    client = RfbClient(rig.connect())
    client.read(12)
    client.send(b"RFB 003.008\n")
    client.read(2)
    client.send(bytes([chosen]) + b"\1")
    assert client.number(4) == 1
    assert b"not offered" in client.read(client.number(4))
    assert client.closed()
    rig.wait(rig.gone)


def test_client_that_does_not_log_in_is_dropped(rigs: Callable[..., Rig]) -> None:
    rig = rigs(login_seconds=0.2)
    silent, half = RfbClient(rig.connect()), RfbClient(rig.connect())
    half.send(b"RFB 003")
    assert silent.closed()
    assert half.closed()
    rig.wait(rig.gone)


def test_client_that_has_logged_in_may_be_silent(rigs: Callable[..., Rig]) -> None:
    rig = rigs(login_seconds=0.2)
    client = logged_in(rig)
    time.sleep(0.5)
    client.picture(RAW)


def test_half_a_message_holds_up_no_picture(rig: Rig) -> None:
    client = logged_in(rig, RAW)
    client.request()
    client.send(b"\x05\x01\0")
    client.update()
    client.send(b"\3\0\3")
    assert len(rig.tablet.wait(1)[0]) == 2
    client.request(1)
    client.send(b"\x06\0\0\0\0\0\0\x7fhalf a text")
    rig.canvas.paint(b"\1\1\1\1", 3, 3, 1)
    client.update()
    assert client.pixels[3, 3] == (1, 1, 1)


def test_login_cut_off_anywhere_leaves_nothing_behind(rig: Rig) -> None:
    whole = (
        b"RFB 003.008\n\1\1" + struct.pack(">BxH", 2, 1) + bytes(4) + struct.pack(">BBHHHH", 3, 0, 0, 0, 9, 9)
    )
    for end in range(len(whole)):
        sock = rig.connect()
        sock.sendall(whole[:end])
        sock.close()
        rig.wait(rig.gone)


@pytest.mark.parametrize("encoding", [RAW, ZRLE, TIGHT])
def test_slow_reader_holds_up_nobody_and_stays_small(rig: Rig, encoding: int) -> None:
    rig.canvas.show(1024, 768)
    slow, quick = logged_in(rig, encoding), logged_in(rig, RAW)
    for _ in range(100):
        slow.request()  # never read
    for i in range(10):
        rig.canvas.paint(os.urandom(1024 * 768 * 4))
        quick.request()
        assert quick.number(1) == 0
        quick.read(1)
        for _ in range(quick.number(2)):
            _, _, width, height, _ = struct.unpack(">HHHHi", quick.read(12))
            quick.read(width * height * 4)
        quick.key(ord("a"), 1 - i % 2)
    rig.keyboard.wait(10)
    first = min(rig.server.clients)
    stats = rig.call(lambda: rig.server.stats(rig.server.clients[first]))
    assert stats["memory"] < 4 * MIB
    slow.key(ord("b"), 1)  # it is heard, too
    assert rig.keyboard.wait(11)[-1] == [Key(48, down=True)]


def test_answers_that_nobody_reads_are_bounded(rig: Rig) -> None:
    client = logged_in(rig, RAW, FENCE)
    fence = b"\xf8\0\0\0" + struct.pack(">IB", 0x80000000, 64) + bytes(64)
    client.sock.settimeout(60)
    # It is dropped at last: before it has sent all that.
    with pytest.raises(ConnectionError):
        client.send(fence * (64 * MIB // len(fence)))
    rig.wait(rig.gone)


def test_events_that_nobody_takes_hold_up_their_sender_alone(rig: Rig) -> None:
    client, other = logged_in(rig), logged_in(rig, RAW)
    held = threading.Event()
    rig.loop.call_soon_threadsafe(held.wait, 20)
    keys = b"".join(struct.pack(">BBxxI", 4, 1 - i % 2, ord("a")) for i in range(20000))
    sender = threading.Thread(target=client.send, args=(keys,))
    sender.start()
    other.request()
    other.update()  # pictures need no control loop
    assert not rig.keyboard.frames
    held.set()
    sender.join()
    frames = rig.keyboard.wait(20000)
    assert frames == [[Key(30, down=not i % 2)] for i in range(20000)]


def test_pointer_that_moves_fast_is_where_it_went_last(rig: Rig) -> None:
    client = logged_in(rig)
    held = threading.Event()
    rig.loop.call_soon_threadsafe(held.wait, 20)
    for i in range(5000):
        client.pointer(0, i % 32, i % 16)
    client.pointer(1, 31, 15)
    held.set()
    while not rig.tablet.frames or len(rig.tablet.frames[-1]) == 1:
        rig.tablet.wait(len(rig.tablet.frames) + 1)
    assert rig.tablet.frames[-1][0].x == 32767  # type: ignore[union-attr]
    assert len(rig.tablet.frames) < 5000


def test_screen_that_changes_its_size_all_the_time_is_never_read_outside(rig: Rig) -> None:
    clients = [logged_in(rig, code, -308) for code in (RAW, ZRLE, TIGHT)]
    done = threading.Event()

    def change() -> None:
        for i in range(300):
            rig.canvas.show(1 + i * 37 % 300, 1 + i * 53 % 200)
            rig.canvas.damage(0, 0, 1 << 20, 1 << 20)
            if i % 7 == 0:
                rig.canvas.blank()
        done.set()

    thread = threading.Thread(target=change)
    thread.start()
    while not done.is_set():
        for client in clients:
            client.request()
            client.update()
    thread.join()


# WebSocket frames


def header(first: int, second: int, extended: bytes = b"") -> bytes:
    return bytes([first, second]) + extended + b"\1\2\3\4"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (header(0x82, 0xFF, struct.pack(">Q", 1 << 63)), 1009),
        (header(0x82, 0xFF, struct.pack(">Q", (1 << 64) - 1)), 1009),
        (header(0x82, 0xFF, struct.pack(">Q", 1 << 32)), 1009),
        (b"\x82\x0cRFB 003.008\n", 1002),  # no mask
        (header(0xC2, 0x80), 1002),  # a reserved bit
        (header(0x81, 0x80), 1003),  # text
        (header(0x80, 0x80), 1002),  # continues nothing
        (header(0x83, 0x80), 1002),  # an unknown kind
        (header(0x09, 0x80), 1002),  # half a ping
        (header(0x89, 0xFE, struct.pack(">H", 200)), 1002),  # a long ping
        (header(0x02, 0x80) + header(0x82, 0x80), 1002),  # a message within a message
    ],
)
def test_websocket_frame_that_makes_no_sense_drops_the_client(rig: Rig, frame: bytes, code: int) -> None:
    sock = rig.connect(websocket=True)
    client = RfbClient(sock)
    assert client.read(14) == b"\x82\x0cRFB 003.008\n"
    client.send(frame)
    assert client.read(4) == b"\x88\x02" + struct.pack(">H", code)
    assert client.closed()
    rig.wait(rig.gone)


def test_websocket_pings_without_end_are_answered_as_far_as_they_are_read(rig: Rig) -> None:
    sock = rig.connect(websocket=True)
    client = RfbClient(sock)
    ping = header(0x89, 0x80 | 125) + bytes(125)
    for _ in range(2000):
        client.send(ping * 10)
    client.send(header(0x82, 0x8C) + bytes(b ^ (i % 4 + 1) for i, b in enumerate(b"RFB 003.008\n")))
    assert client.read(14) == b"\x82\x0cRFB 003.008\n"
    while (head := client.read(2)) == b"\x8a\x7d":
        client.read(125)
    assert head == b"\x82\2"
    assert client.read(2) == b"\1\1"


def test_tls_that_is_no_tls_is_dropped(rigs: Callable[..., Rig], tmp_path: Path) -> None:
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
    subprocess.run([*command, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    rig = rigs(certificate=paths[0], key=paths[1])
    client = RfbClient(rig.connect())
    client.read(12)
    client.send(b"RFB 003.008\n\x13\0\2" + struct.pack(">I", 260))
    client.send(b"GET / HTTP/1.1\r\n" * 100)
    assert client.closed()
    rig.wait(rig.gone)
