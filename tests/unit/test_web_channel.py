# SPDX-License-Identifier: MIT
"""A page's channel: fingers, clipboards, files; and pages that lie, flood, or leave in the middle."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vdesktop_web import channel, messages
from vdesktop_web.channel import Channel
from vdesktop_web.messages import CHUNK, HEADER, Flags, Kind
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage

from vdesktop_core.display.clipboard import PNG, TEXT, Copied
from vdesktop_core.display.files import DropFailure, FileDropError
from vdesktop_core.display.frontend import Desktop
from vdesktop_core.display.input import Touch, TouchPhase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from vdesktop_core.display.clipboard import ClipboardOffer


class TouchScreen:
    accepts = (Touch,)

    def __init__(self) -> None:
        self.frames: list[list[Touch]] = []

    def send(self, events: Sequence[Any]) -> bool:
        self.frames.append(list(events))
        return True

    def on_leds(self, changed: Callable[[Any], None]) -> Callable[[], None]:
        return lambda: None


class GuestClipboard:
    to_guest = to_host = True
    limit = 4 * CHUNK

    def __init__(self) -> None:
        self.offers: list[ClipboardOffer | None] = []
        self.hear: Callable[[ClipboardOffer | None], None] | None = None

    def offer(self, offer: ClipboardOffer | None) -> None:
        self.offers.append(offer)

    def on_offer(self, offered: Callable[[ClipboardOffer | None], None]) -> Callable[[], None]:
        self.hear = offered
        return lambda: setattr(self, "hear", None)


class Drop:
    """Takes a file, slowly; ``error`` is raised where it says."""

    ready = True

    def __init__(self) -> None:
        self.name = ""
        self.size = self.sent = 0
        self.data = bytearray()
        self.events: list[str] = []
        self.error_at = ""

    def _step(self, what: str) -> None:
        self.events.append(what)
        if what == self.error_at:
            raise FileDropError(DropFailure.NO_SPACE, "the guest's disk is full")

    async def start(self, name: str, size: int) -> Drop:
        self.name, self.size = name, size
        self._step("start")
        return self

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await asyncio.sleep(0)
        self._step("write")
        self.data += data

    async def finish(self) -> None:
        self._step("finish")

    def cancel(self) -> None:
        self._step("cancel")


class Page:
    """The browser's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._frames = Connection(ConnectionType.CLIENT)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Event] = []

    async def send(self, message: object) -> None:
        data = bytes(message) if isinstance(message, bytes) else json.dumps(message)
        await self.raw(
            self._frames.send(BytesMessage(data) if isinstance(data, bytes) else TextMessage(data))
        )

    async def raw(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def event(self) -> Event | None:
        """Return the next event, messages whole; None at the end."""
        parts: list[Any] = []
        async with asyncio.timeout(60):
            while True:
                while not self._waiting:
                    try:
                        data = await self._loop.sock_recv(self.sock, 1 << 20)
                    except ConnectionError:
                        return None
                    if not data:
                        return None
                    self._frames.receive_data(data)
                    self._waiting = list(self._frames.events())
                event = self._waiting.pop(0)
                if not isinstance(event, Message):
                    return event
                parts.append(event.data)
                if event.message_finished:
                    return type(event)(data=event.data[:0].join(parts))

    async def told(self, kind: str) -> dict[str, Any]:
        """Return the next text message of a type; others are passed over."""
        while True:
            event = await self.event()
            assert event is not None
            if isinstance(event, TextMessage) and json.loads(event.data)["type"] == kind:
                return json.loads(event.data)  # type: ignore[no-any-return]

    async def data(self) -> tuple[int, int, int, bytes]:
        """Return the next binary message: kind, flags, id, data."""
        while not isinstance(event := await self.event(), BytesMessage):
            assert event is not None
        kind, flags, _, number = HEADER.unpack_from(event.data)
        return kind, flags, number, bytes(event.data[HEADER.size :])


@pytest.fixture
async def desk() -> AsyncIterator[Any]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)

    class Desk:
        touch, clipboard, drop = TouchScreen(), GuestClipboard(), Drop()
        page = Page(theirs)

    desktop = Desktop("m", (), (Desk.touch,), (Desk.clipboard,), (Desk.drop,))
    Desk.channel = Channel(7, ours, b"", desktop)  # type: ignore[attr-defined]
    running = asyncio.create_task(Desk.channel.run(lambda: 1))  # type: ignore[attr-defined]
    Desk.running = running  # type: ignore[attr-defined]
    yield Desk
    theirs.close()
    await asyncio.wait_for(running, 60)
    ours.close()


def finger(phase: str, slot: int, x: int = 0, y: int = 0) -> dict[str, object]:
    return {"phase": phase, "slot": slot, "x": x, "y": y}


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0.005)


async def test_hello_says_what_there_is(desk: Any) -> None:
    hello = await desk.page.told("hello")
    assert hello["channel"] == 7
    assert all(hello[what] for what in ("touch", "files", "to_guest", "to_host"))


async def test_fingers_that_move_at_once_are_one_frame(desk: Any) -> None:
    await desk.page.send(
        {"type": "touch", "points": [finger("begin", 0, 1, 2), finger("begin", 9, 32767, 0)]}
    )
    await settled()
    assert desk.touch.frames == [[Touch(TouchPhase.BEGIN, 0, 1, 2), Touch(TouchPhase.BEGIN, 9, 32767, 0)]]


async def test_page_that_leaves_lifts_its_fingers(desk: Any) -> None:
    await desk.page.send({"type": "touch", "points": [finger("begin", 3, 1, 2)]})
    await settled()
    desk.page.sock.close()
    await asyncio.wait_for(desk.running, 60)
    assert [(event.phase, event.slot) for event in desk.touch.frames[-1]] == [(TouchPhase.END, 3)]


async def test_guest_clipboard_is_read_in_pieces(desk: Any) -> None:
    text = b"a" * (2 * CHUNK + 5)
    desk.clipboard.hear(Copied({TEXT: text}))
    assert (await desk.page.told("offer"))["types"] == ["text/plain"]
    await desk.page.send({"type": "read", "id": 5, "media": "text/plain"})
    got, flags = b"", 0
    while not flags & Flags.LAST:
        kind, flags, number, data = await desk.page.data()
        assert (kind, number) == (Kind.CLIPBOARD, 5)
        got += data
    assert got == text


@pytest.mark.parametrize("media", ["image/png", "text/plain;charset=utf-8;x", ""])
async def test_guest_clipboard_of_another_type_is_not_to_be_had(desk: Any, media: str) -> None:
    desk.clipboard.hear(Copied({TEXT: b"a"}))
    await desk.page.send({"type": "read", "id": 5, "media": media})
    assert (await desk.page.data())[1] == Flags.LAST | Flags.FAILED


async def test_page_clipboard_is_fetched_when_the_guest_pastes(desk: Any) -> None:
    await desk.page.send({"type": "offer", "types": ["text/plain", "image/png"]})
    await settled()
    (offer,) = desk.clipboard.offers
    assert tuple(offer.types) == (TEXT, PNG)
    reading = asyncio.create_task(offer.read(PNG, 1 << 20))
    wanted = await desk.page.told("read")
    assert wanted["media"] == "image/png"
    await desk.page.send(HEADER.pack(Kind.CLIPBOARD, 0, 0, wanted["id"]) + b"ab")
    await desk.page.send(HEADER.pack(Kind.CLIPBOARD, Flags.LAST, 0, wanted["id"]) + b"cd")
    assert await reading == b"abcd"


async def test_page_clipboard_that_is_longer_than_asked_is_not_taken(desk: Any) -> None:
    await desk.page.send({"type": "offer", "types": ["text/plain"]})
    await settled()
    reading = asyncio.create_task(desk.clipboard.offers[0].read(TEXT, 3))
    wanted = await desk.page.told("read")
    await desk.page.send(HEADER.pack(Kind.CLIPBOARD, Flags.LAST, 0, wanted["id"]) + b"abcd")
    assert await reading is None


async def test_page_that_leaves_with_a_clipboard_asked_for_ends_the_wait(desk: Any) -> None:
    await desk.page.send({"type": "offer", "types": ["text/plain"]})
    await settled()
    reading = asyncio.create_task(desk.clipboard.offers[0].read(TEXT, 1 << 20))
    await desk.page.told("read")
    desk.page.sock.close()
    assert await asyncio.wait_for(reading, 60) is None


async def test_page_that_has_copied_nothing_any_more_withdraws_its_offer(desk: Any) -> None:
    await desk.page.send({"type": "offer", "types": []})
    await settled()
    assert desk.clipboard.offers == [None]


async def send_file(desk: Any, content: bytes, number: int = 4) -> dict[str, Any]:
    """Send a file as files.js does, and return how it ended."""
    await desk.page.send({"type": "file", "id": number, "name": "a.txt", "size": len(content)})
    sent = 0
    while isinstance(event := await desk.page.event(), TextMessage):
        said = json.loads(event.data)
        if said["type"] == "ended":
            return said  # type: ignore[no-any-return]
        credit = said.get("bytes", 0) if said["type"] == "credit" else 0
        while credit:
            part = content[sent : sent + min(CHUNK, credit)]
            sent += len(part)
            credit -= len(part)
            await desk.page.send(HEADER.pack(Kind.FILE, 0, 0, number) + part)
    raise AssertionError(event)


@pytest.mark.parametrize("size", [0, 1, CHUNK, 20 * CHUNK + 7])
async def test_file_arrives_whole(desk: Any, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    assert (await send_file(desk, content))["state"] == "done"
    assert desk.drop.data == content
    assert desk.drop.name == "a.txt"


@pytest.mark.parametrize("where", ["start", "write", "finish"])
async def test_file_that_the_guest_refuses_ends_with_its_reason(desk: Any, where: str) -> None:
    desk.drop.error_at = where
    ended = await send_file(desk, b"abc")
    assert ended["state"] == "failed"
    assert ended["detail"] == "the guest's disk is full"


async def test_file_that_the_page_gives_up_is_cancelled(desk: Any) -> None:
    await desk.page.send({"type": "file", "id": 4, "name": "a", "size": 10})
    await desk.page.told("credit")
    await desk.page.send({"type": "cancel", "id": 4})
    assert (await desk.page.told("ended"))["state"] == "cancelled"
    assert desk.drop.events == ["start", "cancel"]


async def test_page_that_leaves_in_the_middle_of_a_file_cancels_it(desk: Any) -> None:
    await desk.page.send({"type": "file", "id": 4, "name": "a", "size": 10})
    await desk.page.told("credit")
    desk.page.sock.close()
    await asyncio.wait_for(desk.running, 60)
    await settled()
    assert desk.drop.events == ["start", "cancel"]


async def test_file_sent_beyond_its_credit_is_cancelled(desk: Any) -> None:
    await desk.page.send({"type": "file", "id": 4, "name": "a", "size": 2})
    await desk.page.told("credit")
    await desk.page.send(HEADER.pack(Kind.FILE, 0, 0, 4) + b"abc")
    assert (await desk.page.told("ended"))["state"] == "cancelled"
    assert desk.drop.data == b""


async def test_flood_of_empty_pieces_and_cancels_queues_one_end(desk: Any) -> None:
    await desk.page.send({"type": "file", "id": 4, "name": "a", "size": 2})
    await desk.page.told("credit")
    upload = desk.channel._uploads._active[4]
    for _ in range(1000):
        upload.add(b"")
    assert upload._pieces.qsize() == 0
    for _ in range(1000):
        upload.add(None)
    assert upload._pieces.qsize() == 1
    assert (await desk.page.told("ended"))["state"] == "cancelled"


async def test_flood_of_files_is_bounded(desk: Any) -> None:
    for number in range(100):
        await desk.page.send({"type": "file", "id": number, "name": "a", "size": 10})
    await settled()
    assert desk.drop.events.count("start") <= channel.MAX_TASKS


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{}",
        "[]",
        '{"type": "hello"}',
        '{"type": "touch", "points": [{"phase": "begin", "slot": 10, "x": 0, "y": 0}]}',
        '{"type": "touch", "points": [{"phase": "begin", "slot": -1, "x": 0, "y": 0}]}',
        '{"type": "touch", "points": [{"phase": "begin", "slot": 0, "x": 32768, "y": 0}]}',
        '{"type": "touch", "points": [{"phase": "sideways", "slot": 0, "x": 0, "y": 0}]}',
        '{"type": "file", "id": -1, "name": "a", "size": 1}',
        '{"type": "file", "id": 1, "name": "a", "size": -1}',
        '{"type": "file", "id": 1, "name": "a", "size": 1e300}',
        '{"type": "offer", "types": ["' + "a" * 200 + '"]}',
        '{"type": "read", "id": 4294967296, "media": "a"}',
        "[" * 30_000,
    ],
)
async def test_page_that_says_nonsense_is_closed(desk: Any, message: str) -> None:
    await desk.page.raw(desk.page._frames.send(TextMessage(message)))
    await asyncio.wait_for(desk.running, 60)
    assert not desk.touch.frames


@pytest.mark.parametrize("data", [b"", b"\1", bytes(8), b"\xff" * 8])
async def test_page_with_a_broken_header_is_closed(desk: Any, data: bytes) -> None:
    await desk.page.raw(desk.page._frames.send(BytesMessage(data)))
    await asyncio.wait_for(desk.running, 60)


@pytest.mark.parametrize(
    "message",
    [TextMessage("a" * (messages.TEXT_LIMIT + 1)), BytesMessage(bytes(HEADER.size + CHUNK + 1))],
)
async def test_page_that_says_too_much_at_once_is_closed(desk: Any, message: Message[Any]) -> None:
    await desk.page.raw(desk.page._frames.send(message))
    while not isinstance(event := await desk.page.event(), CloseConnection):
        assert event is not None
    assert event.code == 1009


async def test_page_with_a_frame_of_2_to_the_63_bytes_is_closed(desk: Any) -> None:
    await desk.page.raw(b"\x82\xff\xff" + b"\xff" * 7 + bytes(4) + b"x" * 100)
    await asyncio.wait_for(desk.running, 60)


async def test_page_that_pings_is_answered(desk: Any) -> None:
    await desk.page.raw(desk.page._frames.send(Ping(b"there?")))
    await desk.page.told("hello")
    event = await desk.page.event()
    assert bytes(event.payload) == b"there?"


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_page_that_says_anything_does_no_harm(said: bytes | str) -> None:
    async def say() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            running = asyncio.create_task(Channel(1, ours, b"", Desktop("m", (), ())).run(lambda: 1))
            page = Page(theirs)
            await page.raw(
                page._frames.send(BytesMessage(said) if isinstance(said, bytes) else TextMessage(said))
            )
            theirs.shutdown(socket.SHUT_WR)
            await asyncio.wait_for(running, 60)

    asyncio.run(say())
