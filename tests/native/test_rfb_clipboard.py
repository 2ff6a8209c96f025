# SPDX-License-Identifier: MIT
"""Clipboards between a client and the guest: plain texts, and the extended clipboard."""

from __future__ import annotations

import asyncio
import struct
import threading
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from rfb_client import CLIPBOARD, RAW, RfbClient
from rfb_rig import Rig
from vdesktop_rfb.clipboard import Flag, pack, unpack

from vdesktop_core.display.clipboard import HTML, TEXT, Copied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdesktop_core.display.clipboard import ClipboardOffer


class Guest:
    """The guest's clipboard."""

    to_guest = to_host = True
    limit = 100_000

    def __init__(self) -> None:
        self.offers: list[ClipboardOffer | None] = []
        self.arrived = threading.Condition()
        self._listeners: list[Callable[[ClipboardOffer | None], None]] = []

    def offer(self, offer: ClipboardOffer | None) -> None:
        with self.arrived:
            self.offers.append(offer)
            self.arrived.notify_all()

    def on_offer(self, offered: Callable[[ClipboardOffer | None], None]) -> Callable[[], None]:
        self._listeners.append(offered)
        return lambda: self._listeners.remove(offered)

    def copies(self, offer: ClipboardOffer | None) -> None:
        for offered in self._listeners:
            offered(offer)

    def wait(self, count: int = 1) -> Any:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.offers) >= count, 20)
            return self.offers[-1]


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def rig(guest: Guest) -> Iterator[Rig]:
    rig = Rig(clipboards=[guest])
    rig.canvas.show(4, 4)
    yield rig
    rig.close()


def plain(rig: Rig) -> RfbClient:
    client = RfbClient(rig.connect())
    client.login()
    client.set_encodings(RAW)
    client.key(0xFFE1, 1)  # heard after the encodings
    rig.keyboard.wait(1)
    return client


def extended(rig: Rig) -> RfbClient:
    client = RfbClient(rig.connect())
    client.login()
    client.set_encodings(RAW, CLIPBOARD)
    flags, sizes = read(client)
    assert flags == Flag.CAPS | Flag.REQUEST | Flag.PEEK | Flag.NOTIFY | Flag.PROVIDE | Flag.TEXT | Flag.HTML
    assert sizes == struct.pack(">II", Guest.limit, Guest.limit)
    return client


def read(client: RfbClient) -> tuple[Flag, bytes]:
    """An extended message."""
    kind, length = struct.unpack(">Bxxxi", client.read(8))
    assert kind == 3
    assert length < 0
    data = client.read(-length)
    return Flag(struct.unpack_from(">I", data)[0]), data[4:]


def send(client: RfbClient, body: bytes) -> None:
    client.send(struct.pack(">Bxxxi", 6, -len(body)) + body)


def read_offer(rig: Rig, offer: Any, media_type: str = TEXT, limit: int = 1 << 20) -> asyncio.Future[Any]:
    return asyncio.run_coroutine_threadsafe(offer.read(media_type, limit), rig.loop)  # type: ignore[return-value]


def test_text_of_a_plain_client_reaches_the_guest(rig: Rig, guest: Guest) -> None:
    client = plain(rig)
    client.send(struct.pack(">Bxxxi", 6, 5) + b"caf\xe9\n")
    assert read_offer(rig, guest.wait()).result(60) == "café\n".encode()  # type: ignore[call-arg]


def test_text_of_the_guest_reaches_a_plain_client(rig: Rig, guest: Guest) -> None:
    client = plain(rig)
    rig.call(lambda: guest.copies(Copied({TEXT: "é€\n".encode()})))
    assert struct.unpack(">Bxxxi", client.read(8)) == (3, 3)
    assert client.read(3) == b"\xe9?\n"


def test_text_of_the_guest_reaches_an_extended_client_that_asks(rig: Rig, guest: Guest) -> None:
    client = extended(rig)
    rig.call(lambda: guest.copies(Copied({TEXT: "é€\n".encode(), HTML: b"<p>"})))
    assert read(client) == (Flag.NOTIFY | Flag.TEXT | Flag.HTML, b"")
    send(client, struct.pack(">I", Flag.REQUEST | Flag.TEXT))
    flags, data = read(client)
    assert flags == Flag.PROVIDE | Flag.TEXT
    assert zlib.decompress(data) == struct.pack(">I", 8) + "é€\r\n\0".encode()
    send(client, struct.pack(">I", Flag.PEEK))
    assert read(client) == (Flag.NOTIFY | Flag.TEXT | Flag.HTML, b"")
    rig.call(lambda: guest.copies(None))
    assert read(client) == (Flag.NOTIFY, b"")


def test_text_of_an_extended_client_is_fetched_when_the_guest_pastes(rig: Rig, guest: Guest) -> None:
    client = extended(rig)
    send(client, struct.pack(">I", Flag.NOTIFY | Flag.TEXT | Flag.HTML))
    offer = guest.wait()
    assert offer.types == [TEXT, HTML]
    pasted = read_offer(rig, offer, HTML)
    assert read(client) == (Flag.REQUEST | Flag.HTML, b"")
    send(client, pack({HTML: b"<b>\n"}))
    assert pasted.result(60) == b"<b>\n"  # type: ignore[call-arg]


def test_client_that_leaves_ends_the_wait_for_its_text(rig: Rig, guest: Guest) -> None:
    client = extended(rig)
    send(client, struct.pack(">I", Flag.NOTIFY | Flag.TEXT))
    pasted = read_offer(rig, guest.wait())
    read(client)
    client.sock.close()
    assert pasted.result(60) is None  # type: ignore[call-arg]


def test_text_that_comes_unasked_is_taken(rig: Rig, guest: Guest) -> None:
    client = extended(rig)
    send(client, pack({TEXT: b"a\nb"}))
    assert read_offer(rig, guest.wait()).result(60) == b"a\nb"  # type: ignore[call-arg]


def test_text_longer_than_the_bound_is_not_taken(rig: Rig, guest: Guest) -> None:
    client = extended(rig)
    send(client, struct.pack(">I", Flag.NOTIFY | Flag.TEXT))
    pasted = read_offer(rig, guest.wait())
    read(client)
    send(client, pack({TEXT: b"x" * (Guest.limit + 1)}))
    assert pasted.result(60) is None  # type: ignore[call-arg]


def test_text_that_is_not_to_leave_the_guest_does_not(rig: Rig, guest: Guest) -> None:
    guest.to_host = False
    client = extended(rig)
    rig.call(lambda: guest.copies(Copied({TEXT: b"secret"})))
    read(client)
    send(client, struct.pack(">I", Flag.REQUEST | Flag.TEXT))
    send(client, struct.pack(">I", Flag.PEEK))
    assert read(client)[0] & Flag.NOTIFY


@pytest.mark.parametrize("body", [b"", b"\1\2", struct.pack(">I", Flag.PROVIDE | Flag.TEXT) + b"no zlib"])
def test_clipboard_message_that_makes_no_sense_drops_the_client(rig: Rig, body: bytes) -> None:
    client = extended(rig)
    client.send(struct.pack(">Bxxxi", 6, -len(body) or -1) + (body or b"\0"))
    assert client.closed()
    rig.wait(rig.gone)


def test_unpack_of_a_bomb_stays_small() -> None:
    bomb = zlib.compress(struct.pack(">I", 1 << 30) + bytes(1 << 26))
    assert unpack(Flag.PROVIDE | Flag.TEXT, bomb, 1000) == {}


@pytest.mark.parametrize("lengths", [(0xFFFFFFFF,), (3, 0xFFFFFFFF), (0, 0)])
def test_unpack_of_lengths_that_lie_takes_nothing_wrong(lengths: tuple[int, ...]) -> None:
    body = b"".join(struct.pack(">I", length) + b"abc"[: min(length, 3)] for length in lengths)
    got = unpack(Flag.PROVIDE | Flag.TEXT | Flag.HTML, zlib.compress(body), 1000)
    assert all(len(data) <= 3 for data in got.values())


def test_unpack_passes_over_formats_that_are_not_known() -> None:
    body = struct.pack(">I", 3) + b"t\r\n" + struct.pack(">I", 3) + b"rtf" + struct.pack(">I", 4) + b"html"
    flags = Flag.PROVIDE | Flag.TEXT | Flag(2) | Flag.HTML
    assert unpack(flags, zlib.compress(body), 1000) == {TEXT: b"t\n", HTML: b"html"}
