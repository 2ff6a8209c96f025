# SPDX-License-Identifier: MIT
"""RFB: input, sizes, fences, lamps, messages of our own."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from rfb_client import (
    CONTINUOUS,
    EXTENDED_SIZE,
    FENCE,
    MOUSE,
    QEMU_KEY,
    QEMU_LED,
    RAW,
    VDESKTOP,
    RfbClient,
)
from rfb_rig import Rig

from vdesktop_core.display.input import (
    Button,
    Key,
    Led,
    PointerAbsolute,
    PointerButton,
    Touch,
    TouchPhase,
    Wheel,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def rig() -> Iterator[Rig]:
    """With a screen of 32 x 16."""
    rig = Rig()
    rig.canvas.show(32, 16)
    yield rig
    rig.close()


@pytest.fixture
def client(rig: Rig) -> Iterator[RfbClient]:
    """A client that has logged in."""
    client = RfbClient(rig.connect())
    client.login()
    yield client
    client.sock.close()


# Input


def test_keys_by_place_and_by_letter_arrive(rig: Rig, client: RfbClient) -> None:
    client.key(ord("y"), 1)
    client.key(ord("y"), 0)
    client.set_encodings(RAW, QEMU_KEY)
    client.request()
    assert client.update()[0].encoding == QEMU_KEY
    for down in (1, 0):  # a German keyboard's y is where the z is
        client.send(struct.pack(">BBHII", 255, 0, down, ord("y"), 0x2C))
        client.send(struct.pack(">BBHII", 255, 0, down, 0xFF52, 0xC8))
    assert rig.keyboard.wait(6) == [
        [Key(21, down=True)],
        [Key(21, down=False)],
        [Key(44, down=True)],
        [Key(103, down=True)],
        [Key(44, down=False)],
        [Key(103, down=False)],
    ]


def test_letter_without_its_shift_gets_one(rig: Rig, client: RfbClient) -> None:
    client.key(ord("A"), 1)
    client.key(ord("A"), 0)
    shift, letter = 42, 30
    assert rig.keyboard.wait(4) == [
        [Key(shift, down=True)],
        [Key(letter, down=True)],
        [Key(letter, down=False)],
        [Key(shift, down=False)],
    ]


def test_letter_with_its_shift_gets_no_other(rig: Rig, client: RfbClient) -> None:
    for keysym, down in ((0xFFE1, 1), (ord("A"), 1), (ord("A"), 0), (0xFFE1, 0)):
        client.key(keysym, down)
    assert [frame[0] for frame in rig.keyboard.wait(4)] == [
        Key(42, down=True),
        Key(30, down=True),
        Key(30, down=False),
        Key(42, down=False),
    ]


def test_pointer_arrives_with_its_buttons_and_wheel(rig: Rig, client: RfbClient) -> None:
    client.pointer(0, 31, 15)
    client.pointer(1, 0, 0)
    client.pointer(1 | 8, 0, 0)
    client.pointer(0, 9, 9)
    frames = rig.tablet.wait(4)
    assert frames[0] == [PointerAbsolute(32767, 32767)]
    assert frames[1] == [PointerAbsolute(0, 0), PointerButton(Button.LEFT, down=True)]
    assert frames[2] == [PointerAbsolute(0, 0), Wheel(0, -120)]
    assert frames[3][1:] == [PointerButton(Button.LEFT, down=False)]


def test_pointer_of_more_buttons_arrives(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, MOUSE)
    client.request()
    assert client.update()[0].encoding == MOUSE
    client.send(struct.pack(">BBHHB", 5, 0x80, 0, 0, 0b11))
    client.pointer(0, 0, 0)
    frames = rig.tablet.wait(2)
    assert frames[0][1:] == [PointerButton(Button.SIDE, down=True), PointerButton(Button.EXTRA, down=True)]


def test_client_that_leaves_lifts_what_it_held(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, VDESKTOP)
    client.key(0xFFE3, 1)
    client.pointer(1, 3, 3)
    client.send(private(1, struct.pack(">BBHHH", 0, 2, 0, 5, 5)))
    rig.touch.wait(1)
    client.sock.close()
    rig.wait(rig.gone)
    assert rig.keyboard.wait(2)[-1] == [Key(29, down=False)]
    assert rig.tablet.wait(2)[-1] == [PointerButton(Button.LEFT, down=False)]
    assert rig.touch.wait(2)[-1] == [Touch(TouchPhase.END, 2)]


def test_lamps_of_the_keyboard_are_told(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, QEMU_LED)
    client.request()
    client.update()
    client.request(1)
    rig.call(lambda: rig.keyboard.light(Led.CAPS_LOCK | Led.SCROLL_LOCK))
    (rectangle,) = client.update()
    assert (rectangle.encoding, rectangle.payload) == (QEMU_LED, b"\x05")


# Sizes


def resize(width: int, height: int, screen: int = 0, count: int = 1) -> bytes:
    layout = struct.pack(">IHHHHI", screen, 0, 0, width, height, 0) * count
    return struct.pack(">BxHHBx", 251, width, height, count) + layout


@pytest.mark.parametrize(
    ("message", "status", "wanted"),
    [
        (resize(800, 600), 4, [(800, 600)]),
        (resize(0, 600), 3, []),
        (resize(800, 20000), 3, []),
        (resize(800, 600, count=0), 3, []),
        (resize(800, 600, count=200), 3, []),
        (resize(800, 600, screen=7), 3, []),
    ],
)
def test_size_that_a_client_wants_is_passed_on(
    rig: Rig, client: RfbClient, message: bytes, status: int, wanted: list[tuple[int, int]]
) -> None:
    client.set_encodings(RAW, EXTENDED_SIZE)
    client.request()
    client.update()
    client.send(message)
    client.request(1)
    (rectangle,) = client.update()
    assert rectangle[:5] == (1, status, 32, 16, EXTENDED_SIZE)
    rig.call(lambda: None)
    assert rig.canvas.wanted == wanted


# Fences and continuous updates


def read_fence(client: RfbClient) -> tuple[int, bytes]:
    assert client.read(4) == b"\xf8\0\0\0"
    return client.number(4), client.read(client.read(1)[0])


def test_fence_is_answered_with_what_is_known_of_its_flags(client: RfbClient) -> None:
    client.send(b"\xf8\0\0\0" + struct.pack(">IB", 0xFFFFFFFF, 64) + bytes(range(64)))
    assert read_fence(client) == (7, bytes(range(64)))


def test_continuous_updates_come_unasked_and_wait_for_fences(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, FENCE, CONTINUOUS)
    assert client.read(1) == b"\x96"
    client.send(struct.pack(">BBHHHH", 150, 1, 0, 0, 32, 16))
    client.update()
    flags, payload = read_fence(client)
    assert flags == 0x80000001
    client.send(b"\xf8\0\0\0" + struct.pack(">IB", 1, len(payload)) + payload)
    for _ in range(2):  # on their way at most
        rig.canvas.paint(b"\1\2\3\4", 1, 1, 1)
        client.update()
        _, payload = read_fence(client)
    rig.canvas.paint(b"\5\6\7\0", 1, 1, 1)
    client.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    client.sock.settimeout(60)
    client.send(b"\xf8\0\0\0" + struct.pack(">IB", 1, len(payload)) + payload)
    client.update()
    assert client.pixels[1, 1] == (7, 6, 5)
    read_fence(client)
    client.send(struct.pack(">BBHHHH", 150, 0, 0, 0, 32, 16))
    assert client.read(1) == b"\x96"


# Messages of our own


def private(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BBHI", 214, kind, 0, len(payload)) + payload


def test_touches_of_one_message_are_one_frame(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, VDESKTOP)
    client.request()
    assert client.update()[0].encoding == VDESKTOP
    client.send(private(1, struct.pack(">BBHHHBBHHH", 0, 0, 0, 0, 0, 0, 9, 0, 31, 15)))
    client.send(private(1, struct.pack(">BBHHH", 2, 0, 0, 0, 0)))
    frames = rig.touch.wait(2)
    begin = TouchPhase.BEGIN
    assert frames[0] == [Touch(begin, 0, 0, 0), Touch(begin, 9, 32767, 32767)]
    assert frames[1] == [Touch(TouchPhase.END, 0, 0, 0)]


@pytest.mark.parametrize("size", [0, 1, 20000, 100000])
def test_private_message_arrives_whole(rig: Rig, client: RfbClient, size: int) -> None:
    client.set_encodings(RAW, VDESKTOP)
    payload = os.urandom(size)
    client.send(private(7, payload))
    rig.wait(lambda: bool(rig.private))
    assert rig.private[0][1:] == (7, payload)


def test_private_message_of_the_servers_arrives(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(RAW, VDESKTOP)
    client.request()
    client.update()
    (number,) = rig.server.clients
    rig.call(lambda: rig.server.send_private(rig.server.clients[number], 9, b"hello"))
    assert client.read(13) == private(9, b"hello")


def test_stats_tell_what_was_sent(rig: Rig, client: RfbClient) -> None:
    client.picture(RAW)
    client.request()
    client.update()
    (number,) = rig.server.clients
    stats = rig.call(lambda: rig.server.stats(rig.server.clients[number]))
    assert stats["frames"] >= 1  # the last may be told a moment after it was read
    assert stats["pixels"] == stats["frames"] * 32 * 16
    assert stats["bytes_sent"] > 32 * 16 * 4
    assert 0 < stats["memory"] < 8 << 20
