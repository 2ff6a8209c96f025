# SPDX-License-Identifier: MIT
"""The guest's cursor: told to clients that draw one of their own, in the picture for those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rfb_client import CURSOR, CURSOR_ALPHA, RAW, TIGHT, ZRLE, RfbClient
from rfb_rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rfb_decode import Pixel

SIDE = 64
ARROW = [0x80402010] * SIDE + [0xFF112233] * SIDE + [0] * (SIDE * 62)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig(max_clients=32)
    yield rig
    rig.close()


@pytest.fixture
def client(rig: Rig) -> Iterator[RfbClient]:
    client = RfbClient(rig.connect())
    yield client
    client.sock.close()
    rig.wait(rig.gone)


def over(pixel: int, below: Pixel) -> Pixel:
    """A premultiplied pixel over another, by the definition."""
    rest = 255 - (pixel >> 24)
    red, green, blue = (
        min(255, (pixel >> shift & 0xFF) + (under * rest + 127) // 255)
        for shift, under in zip((16, 8, 0), below, strict=True)
    )
    return (red, green, blue)


def composed(rows: list[list[Pixel]], pixels: list[int], at: tuple[int, int]) -> list[list[Pixel]]:
    out = [[*row] for row in rows]
    for y, row in enumerate(out):
        for x, below in enumerate(row):
            if 0 <= x - at[0] < SIDE and 0 <= y - at[1] < SIDE:
                row[x] = over(pixels[(y - at[1]) * SIDE + x - at[0]], below)
    return out


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 90),
    x=st.integers(-80, 160) | st.sampled_from([-(1 << 31), (1 << 31) - 1]),
    y=st.integers(-80, 100) | st.sampled_from([-(1 << 31), (1 << 31) - 1]),
    encoding=st.sampled_from([RAW, ZRLE, TIGHT]),
    colours=st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=5),
)
def test_cursor_is_in_the_picture_of_a_client_that_draws_none(
    rig: Rig, width: int, height: int, x: int, y: int, encoding: int, colours: list[int]
) -> None:
    rig.canvas.show(width, height)
    rig.canvas.paint(bytes([30, 20, 10, 0]) * (width * height))
    plain: list[list[Pixel]] = [[(10, 20, 30)] * width] * height
    pixels = [colours[(i % SIDE + i // SIDE) % len(colours)] for i in range(SIDE * SIDE)]
    rig.canvas.cursor(pixels, at=(x, y))
    client = RfbClient(rig.connect())
    client.login()
    assert client.picture(encoding) == composed(plain, pixels, (x, y))
    rig.canvas.cursor(pixels, visible=False)
    assert client.picture(encoding) == plain
    client.sock.close()


def test_cursor_that_moves_is_redrawn_where_it_was_and_is(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(200, 200)
    rig.canvas.cursor(ARROW, at=(10, 20))
    client.login()
    plain: list[list[Pixel]] = [[(0, 0, 0)] * 200] * 200
    assert client.picture(RAW) == composed(plain, ARROW, (10, 20))
    client.request(1)
    rig.canvas.move_cursor(120, 170)
    places = {rectangle[:4] for rectangle in client.update()}
    assert places == {(10, 20, 64, 64), (120, 170, 64, 30)}
    assert client.rows() == composed(plain, ARROW, (120, 170))


def test_cursor_leaves_the_picture_when_the_client_draws_one(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(80, 80)
    rig.canvas.cursor(ARROW, at=(1, 2))
    client.login()
    plain: list[list[Pixel]] = [[(0, 0, 0)] * 80] * 80
    assert client.picture(RAW) == composed(plain, ARROW, (1, 2))
    client.set_encodings(RAW, CURSOR_ALPHA)
    client.request(1)
    assert {rectangle.encoding for rectangle in client.update()} == {RAW, CURSOR_ALPHA}
    assert client.rows() == plain
    client.set_encodings(RAW)
    client.request(1)
    client.update()
    assert client.rows() == composed(plain, ARROW, (1, 2))


def test_cursor_that_moves_is_no_news_to_a_client_that_draws_one(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(80, 80)
    rig.canvas.cursor(ARROW)
    client.login()
    client.picture(RAW, CURSOR_ALPHA)
    client.request(1)
    rig.canvas.move_cursor(30, 30)
    client.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)


def test_cursor_stays_on_its_own_screen() -> None:
    rig = Rig(screens=2)
    for canvas in rig.canvases:
        canvas.show(100, 70)
    rig.canvases[1].cursor(ARROW, at=(-10, 0))
    client = RfbClient(rig.connect())
    client.login()
    nothing: list[list[Pixel]] = [[(0, 0, 0)] * 100] * 70
    right = composed(nothing, ARROW, (-10, 0))
    assert client.picture(RAW) == [[*row, *more] for row, more in zip(nothing, right, strict=True)]
    client.request(1)
    rig.canvases[0].show(50, 70)  # the other one goes to the left
    client.update()
    assert client.picture(RAW)[0][50:150] == right[0]
    client.sock.close()
    rig.close()


def test_cursor_arrives_with_its_alpha_or_as_a_mask(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(8, 8)
    pixels = [0x80402010] * 64 + [0xFF112233] * 64 + [0] * (64 * 62)
    rig.canvas.cursor(pixels, (3, 4))
    client.login()
    client.set_encodings(RAW, CURSOR)
    client.request()
    cursor = client.update()[0]
    assert cursor[:5] == (3, 4, 64, 64, CURSOR)
    assert cursor.payload[:4] == bytes([0x1F, 0x3F, 0x7F, 0])  # no longer premultiplied
    mask = cursor.payload[64 * 64 * 4 :]
    assert mask == b"\xff" * 16 + b"\0" * (62 * 8)
    client.set_encodings(RAW, CURSOR, CURSOR_ALPHA)
    client.request()
    cursor = client.update()[0]
    assert cursor.encoding == CURSOR_ALPHA
    assert cursor.payload[:8] == bytes([0, 0, 0, 0, 0x40, 0x20, 0x10, 0x80])
    client.request(1)
    rig.canvas.cursor([0] * 4096, visible=False)
    assert client.update()[0][:4] == (0, 0, 0, 0)
