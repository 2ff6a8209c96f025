# SPDX-License-Identifier: MIT
"""What a client sees is what the screen shows: every encoding, any format and size."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rfb_client import (
    DESKTOP_SIZE,
    EFFORT_0,
    EXTENDED_SIZE,
    QUALITY_0,
    RAW,
    TIGHT,
    ZRLE,
    RfbClient,
)
from rfb_decode import Format
from rfb_rig import Rig

from vdesktop_core.display.screen import PixelFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = {
    "ours": Format(),
    "novnc": Format(shifts=(0, 8, 16)),
    "big-endian": Format(big=True),
    "upper bytes": Format(shifts=(24, 16, 8)),
    "upper bytes, big-endian": Format(shifts=(8, 16, 24), big=True),
    "depth 32": Format(depth=32, shifts=(16, 8, 0)),
    "565": Format(16, 16, maxima=(31, 63, 31), shifts=(11, 5, 0)),
    "555 big-endian": Format(16, 15, True, (31, 31, 31), (10, 5, 0)),
    "332": Format(8, 8, maxima=(7, 7, 3), shifts=(0, 3, 6)),
    "6 bits in 32": Format(32, 18, maxima=(63, 63, 63), shifts=(20, 10, 0)),
}


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


def picture(kind: str, width: int, height: int, seed: int) -> bytes:
    """32-bit pixels; the unused byte is never zero."""
    some = random.Random(seed)
    count = width * height

    def colours(n: int) -> list[bytes]:
        return [bytes([*some.randbytes(3), 0xA5]) for _ in range(n)]

    match kind:
        case "solid":
            return colours(1)[0] * count
        case "noise":
            return b"".join(colours(count))
        case "runs":
            out = b""
            while len(out) < 4 * count:
                out += colours(1)[0] * some.choice((1, 2, 300, 600))
            return out[: 4 * count]
        case _:
            few = colours(int(kind))
            return b"".join(some.choices(few, k=count))


def seen(form: Format, data: bytes, width: int) -> list[list[tuple[int, int, int]]]:
    """What a client has to see of XRGB8888 pixels."""
    pixels = [form.expected((data[i + 2], data[i + 1], data[i])) for i in range(0, len(data), 4)]
    return [pixels[i : i + width] for i in range(0, len(pixels), width)]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 140),
    kind=st.sampled_from(["solid", "2", "4", "16", "17", "127", "200", "300", "runs", "noise"]),
    form=st.sampled_from(sorted(FORMATS)),
    encoding=st.sampled_from([RAW, ZRLE, TIGHT]),
    effort=st.sampled_from([EFFORT_0, EFFORT_0 + 1, EFFORT_0 + 9]),
    seed=st.integers(0, 1 << 30),
)
def test_picture_of_any_kind_arrives_as_it_is(
    rig: Rig, width: int, height: int, kind: str, form: str, encoding: int, effort: int, seed: int
) -> None:
    rig.canvas.show(width, height, gap=12)
    client = RfbClient(rig.connect())
    client.login()
    assert (client.width, client.height) == (width, height)
    client.set_format(FORMATS[form])
    for again in range(2):  # streams go on
        data = picture(kind, width, height, seed + again)
        rig.canvas.paint(data)
        assert client.picture(encoding, effort) == seen(FORMATS[form], data, width)
    client.sock.close()


@pytest.mark.parametrize("form", sorted(FORMATS))
@pytest.mark.parametrize("encoding", [RAW, ZRLE, TIGHT])
def test_format_of_any_kind_gets_its_pixels(rig: Rig, client: RfbClient, encoding: int, form: str) -> None:
    rig.canvas.show(67, 66)
    data = picture("300", 67, 66, 1)
    rig.canvas.paint(data)
    client.login()
    client.set_format(FORMATS[form])
    assert client.picture(encoding) == seen(FORMATS[form], data, 67)


def test_zrle_uses_every_form_of_a_tile(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(64, 64)
    client.login()
    for kind in ("solid", "2", "4", "16", "noise", "runs"):
        rig.canvas.paint(picture(kind, 64, 64, 5))
        client.picture(ZRLE)
    few = picture("3", 64, 1, 9)
    long_runs = b"".join(few[4 * i : 4 * i + 4] * 64 for i in range(64))
    rig.canvas.paint(long_runs)
    assert client.picture(ZRLE) == seen(Format(), long_runs, 64)
    assert client.zrle.kinds >= {0, 1, 2, 4, 16, 128}
    assert any(kind > 128 for kind in client.zrle.kinds)


def test_tight_uses_every_form_of_a_rectangle(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(600, 150)  # more than one rectangle
    client.login()
    for kind in ("solid", "2", "200", "noise"):
        data = picture(kind, 600, 150, 3)
        rig.canvas.paint(data)
        assert client.picture(TIGHT) == seen(Format(), data, 600)
    assert client.tight.kinds == {"fill", "mono", "indexed", "full"}


@pytest.mark.parametrize("quality", [0, 5, 9])
def test_tight_with_quality_shows_photographs_nearly_as_they_are(
    rig: Rig, client: RfbClient, quality: int
) -> None:
    width, height = 90, 70
    rig.canvas.show(width, height)
    smooth = [(x * 2, y * 3, (x + y) % 256) for y in range(height) for x in range(width)]
    rig.canvas.paint(b"".join(bytes([blue, green, red, 0]) for red, green, blue in smooth))
    client.login()
    rows = client.picture(TIGHT, QUALITY_0 + quality)
    assert client.tight.kinds == {"jpeg"}
    off = [abs(a - b) for row in rows for pixel in row for a, b in zip(pixel, smooth.pop(0), strict=True)]
    assert sum(off) / len(off) < (20 if quality < 5 else 6)


def test_tight_with_quality_keeps_text_exact(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(64, 64)
    data = picture("16", 64, 64, 3)
    rig.canvas.paint(data)
    client.login()
    assert client.picture(TIGHT, QUALITY_0) == seen(Format(), data, 64)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_surface_of_every_format_has_the_right_colours(
    rig: Rig, client: RfbClient, pixel_format: PixelFormat
) -> None:
    rig.canvas.show(5, 3, pixel_format, gap=4, offset=8)
    red, green, blue = pixel_format.rgb
    pixel = bytearray([0xEE] * 4)
    pixel[red], pixel[green], pixel[blue] = 10, 20, 30
    rig.canvas.paint(bytes(pixel) * 15)
    client.login()
    assert client.picture(RAW) == [[(10, 20, 30)] * 5] * 3


def test_surface_at_an_odd_place_is_read_all_the_same(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(5, 3, gap=3, offset=5)
    data = picture("noise", 5, 3, 1)
    rig.canvas.paint(data)
    client.login()
    assert client.picture(ZRLE) == seen(Format(), data, 5)


@pytest.mark.parametrize("encoding", [RAW, ZRLE, TIGHT])
def test_pixels_that_change_while_they_are_encoded_keep_the_stream_whole(
    rig: Rig, client: RfbClient, encoding: int
) -> None:
    rig.canvas.show(150, 130)
    memory, over = rig.canvas.memory, threading.Event()
    scenes = [picture(kind, 150, 130, 1) for kind in ("noise", "2", "solid", "200", "runs")]

    def scribble() -> None:
        while not over.is_set():
            for scene in scenes:
                memory[0 : len(scene)] = scene

    client.login()
    guest = threading.Thread(target=scribble)
    guest.start()
    for _ in range(12):
        client.picture(encoding)
    over.set()
    guest.join()
    rig.canvas.paint(scenes[3])
    assert client.picture(encoding) == seen(Format(), scenes[3], 150)


def test_damage_alone_is_sent(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(100, 100)
    client.login()
    client.picture(RAW)
    client.request(1)
    rig.canvas.paint(b"\1\2\3\0" * 6, 10, 20, 3)
    (rectangle,) = client.update()
    assert rectangle[:4] == (10, 20, 3, 2)
    assert client.pixels[11, 21] == (3, 2, 1)


def test_damage_before_the_request_is_not_lost(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(100, 100)
    client.login()
    client.picture(RAW)
    for i in range(60):  # more pieces than are kept
        rig.canvas.paint(bytes([i + 1] * 4), (i * 17) % 100, (i * 31) % 100, 1)
    client.request(1)
    client.update()
    assert all(client.pixels[(i * 17) % 100, (i * 31) % 100] == (i + 1,) * 3 for i in range(60))


def test_unchanged_screen_sends_nothing(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(100, 100)
    client.login()
    client.picture(RAW)
    client.request(1)
    client.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)


@pytest.mark.parametrize("code", [DESKTOP_SIZE, EXTENDED_SIZE])
def test_size_of_the_screen_changes_for_clients_that_can(rig: Rig, client: RfbClient, code: int) -> None:
    rig.canvas.show(20, 10)
    client.login()
    client.set_encodings(RAW, code)
    if code == EXTENDED_SIZE:  # its layout is told once, unasked
        client.request()
        client.update()
    client.request()
    client.update()
    client.request(1)
    rig.canvas.show(33, 44)
    (rectangle,) = client.update()
    assert rectangle.encoding == code
    assert (client.width, client.height) == (33, 44)
    rig.canvas.paint(data := picture("noise", 33, 44, 1))
    client.pixels.clear()
    client.request(1)
    client.update()
    assert client.rows() == seen(Format(), data, 33)


def test_size_of_the_screen_changes_for_a_client_that_cannot_follow(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(20, 10)
    client.login()
    client.picture(RAW)
    rig.canvas.show(12, 30)
    rig.canvas.paint(b"\7\7\7\0" * 360)
    rows = client.picture(RAW)
    assert rows == [[(7, 7, 7)] * 12 + [(0, 0, 0)] * 8] * 10


def test_screen_that_goes_dark_is_black_and_comes_back(rig: Rig, client: RfbClient) -> None:
    rig.canvas.show(8, 8)
    rig.canvas.paint(b"\7\7\7\0" * 64)
    client.login()
    client.picture(RAW)
    client.request(1)
    rig.canvas.blank()
    client.update()
    assert client.rows() == [[(0, 0, 0)] * 8] * 8
    client.request(1)
    rig.canvas.show(8, 8)
    rig.canvas.paint(b"\7\7\7\0" * 64)
    client.update()
    client.request()
    client.update()
    assert client.rows() == [[(7, 7, 7)] * 8] * 8


def test_screens_stand_side_by_side() -> None:
    rig = Rig(screens=2)
    left, right = rig.canvases
    left.show(10, 6)
    right.show(7, 8)
    client = RfbClient(rig.connect())
    client.login()
    assert (client.width, client.height) == (17, 8)
    left.paint(b"\1\1\1\0" * 60)
    right.paint(b"\2\2\2\0" * 56)
    rows = client.picture(TIGHT)
    assert rows == [[(1,) * 3] * 10 + [(2,) * 3] * 7] * 6 + [[(0,) * 3] * 10 + [(2,) * 3] * 7] * 2
    client.sock.close()
    rig.close()
