# SPDX-License-Identifier: MIT
"""How much work a picture is worth: pixels of many colours leave as they are where the link is fast."""

from __future__ import annotations

import random
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest
from rfb_client import CONTINUOUS, FENCE, RAW, TIGHT, ZRLE, RfbClient
from rfb_rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rfb_client import Rectangle

WIDTH, HEIGHT = 512, 256
#: So slow that zlib makes pixels fewer in less time than it takes to send them.
SLOW_S = 0.3


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig()
    rig.canvas.show(WIDTH, HEIGHT)
    yield rig
    rig.close()


@pytest.fixture
def client(rig: Rig) -> Iterator[RfbClient]:
    client = RfbClient(rig.connect())
    client.login()
    yield client
    client.sock.close()
    rig.wait(rig.gone)


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(4 * WIDTH * HEIGHT)


def text() -> bytes:
    return b"".join(random.Random(1).choices((b"\0\0\0\0", b"\xff\xff\xff\0"), k=WIDTH * HEIGHT))


def ask(client: RfbClient, encoding: int) -> list[Rectangle]:
    client.set_encodings(encoding)
    client.pixels.clear()
    client.request()
    return client.update()


def kinds(rectangles: list[Rectangle]) -> set[int]:
    return {rectangle.encoding for rectangle in rectangles}


def shown(rig: Rig, client: RfbClient, data: bytes) -> None:
    rows = client.rows()
    for x, y in ((0, 0), (WIDTH - 1, 0), (300, 127), (17, 128), (WIDTH - 1, HEIGHT - 1)):
        blue, green, red = data[4 * (y * WIDTH + x) : 4 * (y * WIDTH + x) + 3]
        assert rows[y][x] == (red, green, blue)


@pytest.mark.parametrize("encoding", [ZRLE, TIGHT])
def test_many_colours_on_a_fast_link_leave_as_they_are(rig: Rig, client: RfbClient, encoding: int) -> None:
    rig.canvas.paint(data := noise(1))
    assert kinds(ask(client, encoding)) == {RAW}
    shown(rig, client, data)


@pytest.mark.parametrize("encoding", [ZRLE, TIGHT])
def test_few_colours_are_compressed_however_fast_the_link(rig: Rig, client: RfbClient, encoding: int) -> None:
    rig.canvas.paint(data := text())
    assert kinds(ask(client, encoding)) == {encoding}
    shown(rig, client, data)


@pytest.mark.parametrize("encoding", [ZRLE, TIGHT])
def test_many_colours_are_compressed_once_a_client_proved_slow(
    rig: Rig, client: RfbClient, encoding: int
) -> None:
    rig.canvas.paint(noise(1))
    assert kinds(ask(client, encoding)) == {RAW}
    for seed in (2, 3):  # the second time with more effort
        time.sleep(SLOW_S)
        rig.canvas.paint(data := noise(seed))
        assert kinds(ask(client, encoding)) == {encoding}
        shown(rig, client, data)


@pytest.mark.parametrize("encoding", [ZRLE, TIGHT])
def test_first_picture_of_a_connection_that_may_be_a_tunnel_is_compressed(rig: Rig, encoding: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    ours.settimeout(60)
    rig.call(lambda: rig.server.attach(theirs))
    client = RfbClient(ours)
    client.login()
    rig.canvas.paint(data := noise(1))
    assert kinds(ask(client, encoding)) == {encoding}
    shown(rig, client, data)
    client.sock.close()
    rig.wait(rig.gone)


def answer_fence(client: RfbClient) -> None:
    assert client.number(1) == 248
    client.read(7)
    payload = client.read(client.number(1))
    client.send(b"\xf8\0\0\0" + struct.pack(">IB", 1, len(payload)) + payload)


def test_fence_that_comes_late_tells_of_a_slow_link_too(rig: Rig, client: RfbClient) -> None:
    client.set_encodings(TIGHT, FENCE, CONTINUOUS)
    assert client.read(1) == b"\x96"
    rig.canvas.paint(noise(1))
    client.send(struct.pack(">BBHHHH", 150, 1, 0, 0, WIDTH, HEIGHT))
    assert kinds(client.update()) == {RAW}
    time.sleep(SLOW_S)
    answer_fence(client)
    rig.canvas.paint(data := noise(2))
    assert kinds(client.update()) == {TIGHT}
    shown(rig, client, data)
    answer_fence(client)
