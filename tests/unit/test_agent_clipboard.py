# SPDX-License-Identifier: MIT
"""Copy and paste between the host and a guest's agent, byte for byte."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import pytest
from agent_guest import DEBIAN, LIMIT, NOTHING, PRIMARY, FakeGuest, grabbed

from vdesktop_core.devices.agent.clipboard import KEEP_BYTES, data_type
from vdesktop_core.devices.agent.wire import (
    CHUNK,
    MESSAGE,
    Capability,
    DataType,
    Kind,
)
from vdesktop_core.display.clipboard import BMP, HTML, PNG, TEXT, Copied

if TYPE_CHECKING:
    from collections.abc import Callable


class Lazy:
    """An offer that tells when it is read, and of a viewer that may leave."""

    def __init__(self, *types: str) -> None:
        self.types = types
        self.reads: list[str] = []
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    async def read(self, media_type: str, limit: int) -> bytes | None:
        self.reads.append(media_type)
        return await asyncio.shield(self.answer)


async def test_text_copied_on_the_host_is_pasted_in_the_guest(guest: FakeGuest) -> None:
    guest.clipboard.offer(Copied({TEXT: "grüße\nzwei".encode()}))
    assert await guest.hear() == grabbed(0, DataType.UTF8_TEXT)
    assert await guest.ask(DataType.UTF8_TEXT) == (DataType.UTF8_TEXT, "grüße\nzwei".encode())


async def test_text_copied_in_the_guest_is_read_by_two_viewers_with_one_request(guest: FakeGuest) -> None:
    await guest.grab(DataType.UTF8_TEXT)
    offer = guest.offers[-1]
    assert offer is not None
    assert list(offer.types) == [TEXT]
    readers = [asyncio.create_task(offer.read(TEXT, LIMIT)) for _ in range(2)]
    assert await guest.hear() == (Kind.CLIPBOARD_REQUEST, struct.pack("<II", 0, DataType.UTF8_TEXT))
    await guest.give(DataType.UTF8_TEXT, "Übung".encode())
    assert await asyncio.gather(*readers) == ["Übung".encode()] * 2
    assert await guest.silent()


async def test_image_is_read_only_when_the_guest_pastes_it(guest: FakeGuest) -> None:
    offer = Lazy(PNG, HTML)
    guest.clipboard.offer(offer)
    assert await guest.hear() == grabbed(0, DataType.IMAGE_PNG)
    assert offer.reads == []
    offer.answer.set_result(b"\x89PNG" * 1000)
    assert await guest.ask(DataType.IMAGE_PNG) == (DataType.IMAGE_PNG, b"\x89PNG" * 1000)
    assert offer.reads == [PNG]


async def test_text_is_pasted_after_its_viewer_left(guest: FakeGuest) -> None:
    offer = Lazy(TEXT)
    guest.clipboard.offer(offer)
    await guest.hear()
    offer.answer.set_result(b"kept")
    await guest.settle()
    offer.answer = asyncio.get_running_loop().create_future()
    offer.answer.set_result(None)
    assert await guest.ask(DataType.UTF8_TEXT) == (DataType.UTF8_TEXT, b"kept")


async def test_offer_of_the_last_viewer_counts(guest: FakeGuest) -> None:
    first = Lazy(TEXT)
    guest.clipboard.offer(first)
    await guest.hear()
    guest.clipboard.offer(Copied({TEXT: b"second"}))
    assert await guest.hear() == grabbed(1, DataType.UTF8_TEXT)
    first.answer.set_result(b"first")
    assert await guest.ask(DataType.UTF8_TEXT) == (DataType.UTF8_TEXT, b"second")


async def test_many_offers_at_once_are_one_grab(guest: FakeGuest) -> None:
    for number in range(1000):
        guest.clipboard.offer(Copied({TEXT: b"%d" % number}))
    assert await guest.hear() == grabbed(0, DataType.UTF8_TEXT)
    assert await guest.silent()


async def test_offer_from_before_the_agent_came_is_told_to_it(fake_guests: Callable[..., FakeGuest]) -> None:
    guest = fake_guests()
    guest.clipboard.offer(Copied({TEXT: b"early"}))
    await guest.greet()
    assert await guest.hear() == grabbed(0, DataType.UTF8_TEXT)
    await guest.close_port()
    await guest.greet()
    assert await guest.hear() == grabbed(0, DataType.UTF8_TEXT)


async def test_offer_of_types_no_agent_knows_is_a_release(guest: FakeGuest) -> None:
    guest.clipboard.offer(Copied({HTML: b"<b>bold</b>"}))
    assert await guest.hear() == (Kind.CLIPBOARD_RELEASE, bytes(4))


async def test_guest_that_releases_offers_nothing_and_readers_end(guest: FakeGuest) -> None:
    await guest.grab(DataType.UTF8_TEXT)
    offer = guest.offers[-1]
    assert offer is not None
    reader = asyncio.create_task(offer.read(TEXT, LIMIT))
    await guest.hear()
    await guest.say(Kind.CLIPBOARD_RELEASE, b"\0")  # one byte, as spice-vdagentd sends it
    assert guest.offers[-1] is None
    assert await reader is None
    assert await offer.read(TEXT, LIMIT) is None


async def test_guest_that_has_it_not_ends_the_reader(guest: FakeGuest) -> None:
    await guest.grab(DataType.IMAGE_PNG)
    offer = guest.offers[-1]
    assert offer is not None
    reader = asyncio.create_task(offer.read(PNG, LIMIT))
    await guest.hear()
    await guest.give(DataType.NONE, b"")
    assert await reader is None


async def test_reader_that_gives_up_does_not_block_the_next(guest: FakeGuest) -> None:
    await guest.grab(DataType.IMAGE_PNG, DataType.UTF8_TEXT)
    offer = guest.offers[-1]
    assert offer is not None
    reader = asyncio.create_task(offer.read(PNG, LIMIT))
    await guest.hear()
    reader.cancel()
    other = asyncio.create_task(offer.read(TEXT, LIMIT))
    assert await guest.hear() == (Kind.CLIPBOARD_REQUEST, struct.pack("<II", 0, DataType.UTF8_TEXT))
    await guest.give(DataType.IMAGE_PNG, b"late")
    await guest.give(DataType.UTF8_TEXT, b"text")
    assert await other == b"text"


async def test_both_copy_at_once_the_host_wins_as_the_agent_has_it(guest: FakeGuest) -> None:
    guest.clipboard.offer(Copied({TEXT: b"host"}))
    assert await guest.hear() == grabbed(0, DataType.UTF8_TEXT)
    await guest.grab(DataType.UTF8_TEXT, serial=0)
    assert guest.offers == []
    await guest.grab(DataType.UTF8_TEXT, serial=1)
    assert guest.offers[-1] is not None
    guest.clipboard.offer(Copied({TEXT: b"host"}))
    assert await guest.hear() == grabbed(2, DataType.UTF8_TEXT)


async def test_text_longer_than_what_is_kept_is_read_again(guest: FakeGuest) -> None:
    assert LIMIT < KEEP_BYTES  # or else this needs more text
    offer = Lazy(BMP)
    guest.clipboard.offer(offer)
    await guest.hear()
    offer.answer.set_result(bytes(LIMIT + 1))
    assert await guest.ask(DataType.IMAGE_BMP) == NOTHING


async def test_hostile_request_with_nothing_offered_is_answered_with_none(guest: FakeGuest) -> None:
    assert await guest.ask(DataType.UTF8_TEXT) == NOTHING
    guest.clipboard.offer(Copied({TEXT: b"x"}))
    await guest.hear()
    assert await guest.ask(77) == NOTHING
    assert await guest.ask(DataType.UTF8_TEXT, selection=PRIMARY) == NOTHING
    assert await guest.ask(DataType.IMAGE_PNG) == NOTHING


async def test_hostile_ten_thousand_requests_are_a_few_answers(guest: FakeGuest) -> None:
    offer = Lazy(TEXT, PNG)
    guest.clipboard.offer(offer)
    await guest.hear()
    message = MESSAGE.pack(1, Kind.CLIPBOARD_REQUEST, 0, 8) + struct.pack("<II", 0, DataType.IMAGE_PNG)
    await guest.write((CHUNK.pack(1, len(message)) + message) * 2000)
    await asyncio.sleep(0.1)
    assert offer.reads.count(PNG) == 1
    offer.answer.set_result(b"picture")
    assert await guest.hear() == (Kind.CLIPBOARD, struct.pack("<II", 0, DataType.IMAGE_PNG) + b"picture")
    assert await guest.silent()


async def test_hostile_data_nobody_asked_for_is_dropped(guest: FakeGuest) -> None:
    await guest.give(DataType.UTF8_TEXT, b"before a grab")
    await guest.grab(DataType.UTF8_TEXT)
    await guest.give(DataType.UTF8_TEXT, b"not asked")
    offer = guest.offers[-1]
    assert offer is not None
    reader = asyncio.create_task(offer.read(TEXT, LIMIT))
    await guest.hear()
    await guest.give(DataType.IMAGE_PNG, b"another type")
    await guest.give(DataType.UTF8_TEXT, b"another selection", selection=PRIMARY)
    assert not reader.done()
    await guest.give(DataType.UTF8_TEXT, b"asked\0")
    assert await reader == b"asked"


async def test_hostile_data_over_the_limit_is_not_to_be_had(guest: FakeGuest) -> None:
    await guest.grab(DataType.IMAGE_PNG)
    offer = guest.offers[-1]
    assert offer is not None
    reader = asyncio.create_task(offer.read(PNG, 10 * LIMIT))
    await guest.hear()
    await guest.give(DataType.IMAGE_PNG, bytes(LIMIT + 1))
    assert await reader is None
    small = asyncio.create_task(offer.read(PNG, 10))
    await guest.hear()
    await guest.give(DataType.IMAGE_PNG, bytes(11))
    assert await small is None


async def test_hostile_text_that_is_no_utf8_is_made_so(guest: FakeGuest) -> None:
    await guest.grab(DataType.UTF8_TEXT)
    offer = guest.offers[-1]
    assert offer is not None
    reader = asyncio.create_task(offer.read(TEXT, LIMIT))
    await guest.hear()
    await guest.give(DataType.UTF8_TEXT, b"a\xff\xfeb")
    assert await reader == "a\ufffd\ufffdb".encode()


async def test_hostile_grab_of_unknown_types_or_selection_offers_nothing(guest: FakeGuest) -> None:
    await guest.grab(0, 6, 99, 0xFFFFFFFF)
    await guest.grab(DataType.UTF8_TEXT, selection=PRIMARY, serial=1)
    await guest.grab(DataType.UTF8_TEXT, selection=255, serial=1)
    assert guest.offers == []


async def test_agent_with_windows_line_ends_gets_and_gives_them(
    fake_guests: Callable[..., FakeGuest],
) -> None:
    guest = fake_guests()
    await guest.greet(DEBIAN | Capability.GUEST_LINEEND_CRLF)
    guest.clipboard.offer(Copied({TEXT: b"a\nb"}))
    await guest.hear()
    assert await guest.ask(DataType.UTF8_TEXT) == (DataType.UTF8_TEXT, b"a\r\nb")
    await guest.grab(DataType.UTF8_TEXT, serial=1)
    offer = guest.offers[-1]
    assert offer is not None
    reader = asyncio.create_task(offer.read(TEXT, LIMIT))
    await guest.hear()
    await guest.give(DataType.UTF8_TEXT, b"c\r\nd")
    assert await reader == b"c\nd"


async def test_viewer_that_stops_listening_hears_no_more(guest: FakeGuest) -> None:
    found: list[object] = []
    stop = guest.clipboard.on_offer(found.append)
    stop()
    stop()
    await guest.grab(DataType.UTF8_TEXT)
    assert found == []
    guest.clipboard.on_offer(found.append)
    assert found == [guest.offers[-1]]


@pytest.mark.parametrize(
    ("media", "kind"),
    [
        ("text/plain", DataType.UTF8_TEXT),
        ("text/plain; charset=UTF-8", DataType.UTF8_TEXT),
        ("text/plain;charset=latin1", None),
        (PNG, DataType.IMAGE_PNG),
        (HTML, None),
    ],
)
def test_media_types_that_agents_know(media: str, kind: DataType | None) -> None:
    assert data_type(media) is kind
