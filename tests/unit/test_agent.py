# SPDX-License-Identifier: MIT
"""The agent's side of clipboard and files, against a guest that is played here, byte for byte."""

from __future__ import annotations

import asyncio
import os
import struct
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.devices.agent import AgentConfig
from vdesktop_core.devices.agent.clipboard import KEEP_BYTES, AgentClipboard, data_type
from vdesktop_core.devices.agent.files import AgentFileDrop, fit_name
from vdesktop_core.devices.agent.link import AgentLink, AgentPort
from vdesktop_core.devices.agent.session import AgentSession
from vdesktop_core.devices.agent.wire import (
    CHUNK,
    MESSAGE,
    Capabilities,
    Capability,
    DataType,
    FileResult,
    Kind,
    encode_capabilities,
)
from vdesktop_core.devices.console.device import PortSession
from vdesktop_core.display.clipboard import BMP, HTML, PNG, TEXT, Copied
from vdesktop_core.display.files import DropFailure, FileDropError
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from vdesktop_core.display.clipboard import ClipboardOffer

LIMIT = 100_000
#: What spice-vdagentd 0.22 announces.
_DEBIAN = sum(1 << bit for bit in (0, 1, 2, 5, 6, 7, 8, 10, 11, 15, 16, 17))
PRIMARY = 1


class FakeGuest:
    """The agent at the other end, and this end under test."""

    def __init__(self, *, to_guest: bool = True, to_host: bool = True, files: bool = True) -> None:
        self.port = AgentPort()
        self.now = PortSession(open=False, openings=0, start=0)
        self.sent = 0
        self.buffer = b""
        self.link = AgentLink("agent0", LIMIT, self.port, lambda: self.now)
        self.clipboard = AgentClipboard(self.link, to_guest=to_guest, to_host=to_host, limit=LIMIT)
        self.files = AgentFileDrop(self.link, enabled=files)
        self.link.start(AgentSession(self.link, self.clipboard, self.files))
        self.offers: list[ClipboardOffer | None] = []
        self.clipboard.on_offer(self.offers.append)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def write(self, data: bytes) -> None:
        self.sent += len(data)
        await asyncio.get_running_loop().sock_sendall(self.port.guests, data)
        await self.settle()

    async def say(self, kind: Kind, data: bytes = b"") -> None:
        message = MESSAGE.pack(1, kind, 0, len(data)) + data
        await self.write(CHUNK.pack(1, len(message)) + message)

    async def hear(self) -> tuple[Kind, bytes]:
        """The next message from this side."""
        loop = asyncio.get_running_loop()

        async def exactly(count: int) -> bytes:
            found = b""
            while len(found) < count:
                found += await loop.sock_recv(self.port.guests, count - len(found))
            return found

        async with asyncio.timeout(20):
            body = b""
            while len(body) < MESSAGE.size or len(body) - MESSAGE.size < MESSAGE.unpack_from(body)[3]:
                port, size = CHUNK.unpack(await exactly(CHUNK.size))
                assert (port, size <= 2048) == (1, True)
                body += await exactly(size)
        return Kind(MESSAGE.unpack_from(body)[1]), body[MESSAGE.size :]

    async def silent(self) -> bool:
        await self.settle()
        try:
            return not self.port.guests.recv(1)
        except BlockingIOError:
            return True

    def open(self) -> None:
        self.now = PortSession(open=True, openings=self.now.openings + 1, start=self.sent)
        os.eventfd_write(self.port.session_fd, 1)

    async def close_port(self) -> None:
        self.now = PortSession(open=False, openings=self.now.openings, start=self.now.start)
        os.eventfd_write(self.port.session_fd, 1)
        await self.settle()

    async def greet(self, has: int = _DEBIAN) -> Capability:
        """Open the port and exchange capabilities, as spice-vdagentd does; returns this side's."""
        self.open()
        announced = encode_capabilities(Capabilities(request=True, has=Capability(0)))[:4]
        await self.say(Kind.ANNOUNCE_CAPABILITIES, announced + struct.pack("<I", has))
        kind, data = await self.hear()
        assert (kind, data[:4]) == (Kind.ANNOUNCE_CAPABILITIES, b"\1\0\0\0")
        await self.say(Kind.ANNOUNCE_CAPABILITIES, bytes(4) + struct.pack("<I", has))
        ours = Capability(struct.unpack("<I", data[4:])[0])
        if Capability.MAX_CLIPBOARD in ours:
            assert await self.hear() == (Kind.MAX_CLIPBOARD, struct.pack("<I", LIMIT))
        return ours

    async def grab(self, *types: int, serial: int = 0, selection: int = 0) -> None:
        data = struct.pack(f"<II{len(types)}I", selection, serial, *types)
        await self.say(Kind.CLIPBOARD_GRAB, data)

    async def give(self, kind: int, data: bytes, selection: int = 0) -> None:
        await self.say(Kind.CLIPBOARD, struct.pack("<II", selection, kind) + data)

    async def ask(self, kind: int, selection: int = 0) -> tuple[int, bytes]:
        """Paste: what the guest gets, by type and content."""
        await self.say(Kind.CLIPBOARD_REQUEST, struct.pack("<II", selection, kind))
        message, data = await self.hear()
        assert message is Kind.CLIPBOARD
        assert data[:4] == bytes((selection, 0, 0, 0))
        return struct.unpack_from("<I", data, 4)[0], data[8:]


@pytest.fixture
async def guests() -> AsyncIterator[Callable[..., FakeGuest]]:
    made: list[FakeGuest] = []

    def make(**policy: bool) -> FakeGuest:
        made.append(FakeGuest(**policy))
        return made[-1]

    yield make
    for guest in made:
        guest.link.close()
        guest.link.close()


@pytest.fixture
async def guest(guests: Callable[..., FakeGuest]) -> FakeGuest:
    found = guests()
    await found.greet()
    return found


class Lazy:
    """An offer that tells when it is read, and of a viewer that may leave."""

    def __init__(self, *types: str) -> None:
        self.types = types
        self.reads: list[str] = []
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    async def read(self, media_type: str, limit: int) -> bytes | None:
        self.reads.append(media_type)
        return await asyncio.shield(self.answer)


def grabbed(serial: int, *types: int) -> tuple[Kind, bytes]:
    return Kind.CLIPBOARD_GRAB, struct.pack(f"<II{len(types)}I", 0, serial, *types)


NOTHING = (DataType.NONE, b"")


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


async def test_offer_from_before_the_agent_came_is_told_to_it(guests: Callable[..., FakeGuest]) -> None:
    guest = guests()
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


async def test_policy_to_host_gives_the_guest_nothing(guests: Callable[..., FakeGuest]) -> None:
    guest = guests(to_guest=False)
    await guest.greet()
    guest.clipboard.offer(Copied({TEXT: b"secret"}))
    assert await guest.silent()
    assert await guest.ask(DataType.UTF8_TEXT) == NOTHING
    await guest.grab(DataType.UTF8_TEXT)
    assert guest.offers[-1] is not None


async def test_policy_to_guest_tells_viewers_nothing(guests: Callable[..., FakeGuest]) -> None:
    guest = guests(to_host=False)
    await guest.greet()
    await guest.grab(DataType.UTF8_TEXT)
    await guest.give(DataType.UTF8_TEXT, b"unasked")
    assert guest.offers == []
    assert await guest.silent()
    guest.clipboard.offer(Copied({TEXT: b"open"}))
    await guest.hear()
    assert await guest.ask(DataType.UTF8_TEXT) == (DataType.UTF8_TEXT, b"open")


async def test_policy_off_announces_no_clipboard_and_lets_nothing_pass(
    guests: Callable[..., FakeGuest],
) -> None:
    guest = guests(to_guest=False, to_host=False, files=False)
    ours = await guest.greet()
    assert Capability.CLIPBOARD_BY_DEMAND not in ours
    guest.clipboard.offer(Copied({TEXT: b"secret"}))
    await guest.grab(DataType.UTF8_TEXT)
    await guest.say(Kind.CLIPBOARD_REQUEST, struct.pack("<II", 0, DataType.UTF8_TEXT))
    assert guest.offers == []
    assert await guest.silent()
    with pytest.raises(FileDropError) as refused:
        await guest.files.start("x", 1)
    assert refused.value.failure is DropFailure.OFF


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


async def test_hostile_bytes_end_the_session_and_the_next_one_works(
    guest: FakeGuest, caplog: pytest.LogCaptureFixture
) -> None:
    await guest.grab(DataType.UTF8_TEXT)
    await guest.write(b"\xff" * 5000)
    await guest.write(b"\xff" * 5000)
    assert guest.offers[-1] is None
    assert guest.link.protocol_errors == 1
    assert len(caplog.records) == 1
    await guest.grab(DataType.UTF8_TEXT, serial=1)
    assert guest.offers[-1] is None
    await guest.close_port()
    await guest.greet()
    await guest.grab(DataType.UTF8_TEXT)
    assert guest.offers[-1] is not None


async def test_hostile_message_for_agents_ends_the_session(guest: FakeGuest) -> None:
    # Of its known kinds, one that only viewers send: framing passes it over.
    await guest.say(Kind.MAX_CLIPBOARD, bytes(4))
    await guest.say(Kind.FILE_XFER_DATA, bytes(12))
    assert guest.link.protocol_errors == 0
    await guest.say(Kind.CLIPBOARD_GRAB, bytes(7))
    assert guest.link.protocol_errors == 1


async def test_session_that_ends_within_a_message_leaves_nothing_to_the_next(guest: FakeGuest) -> None:
    message = MESSAGE.pack(1, Kind.CLIPBOARD, 0, 1000) + b"half of it"
    await guest.write(CHUNK.pack(1, len(message) + 990) + message)
    await guest.close_port()
    await guest.greet()
    await guest.grab(DataType.UTF8_TEXT)
    assert guest.offers[-1] is not None
    assert guest.link.protocol_errors == 0
    assert guest.link.sessions == 2


async def test_what_waits_for_a_guest_that_left_does_not_reach_the_next(guest: FakeGuest) -> None:
    guest.clipboard.offer(Copied({PNG: bytes(LIMIT)}))
    await guest.hear()
    await guest.say(Kind.CLIPBOARD_REQUEST, struct.pack("<II", 0, DataType.IMAGE_PNG))
    await guest.close_port()
    await guest.greet()
    assert await guest.hear() == grabbed(0, DataType.IMAGE_PNG)


async def test_agent_that_begins_again_on_an_open_port_is_greeted_again(guest: FakeGuest) -> None:
    await guest.grab(DataType.UTF8_TEXT)
    announced = struct.pack("<II", 1, _DEBIAN)
    await guest.say(Kind.ANNOUNCE_CAPABILITIES, announced)
    assert guest.offers[-1] is None
    assert (await guest.hear())[0] is Kind.ANNOUNCE_CAPABILITIES


async def test_agent_with_windows_line_ends_gets_and_gives_them(guests: Callable[..., FakeGuest]) -> None:
    guest = guests()
    await guest.greet(_DEBIAN | Capability.GUEST_LINEEND_CRLF)
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


async def status(guest: FakeGuest, transfer: int, result: int) -> None:
    await guest.say(Kind.FILE_XFER_STATUS, struct.pack("<II", transfer, result))


async def test_file_is_sent_in_pieces_after_the_guest_consented(guest: FakeGuest) -> None:
    content = os.urandom(100_000)
    starting = asyncio.create_task(guest.files.start("/tmp/ä.bin", len(content)))
    kind, data = await guest.hear()
    assert kind is Kind.FILE_XFER_START
    assert "name=ä.bin\nsize=100000\n".encode() in data
    (number,) = struct.unpack_from("<I", data)
    assert not starting.done()
    await status(guest, number, FileResult.CAN_SEND_DATA)
    transfer = await starting
    writing = asyncio.create_task(transfer.write(content))
    received = b""
    while len(received) < len(content):
        kind, data = await guest.hear()
        assert kind is Kind.FILE_XFER_DATA
        assert struct.unpack_from("<IQ", data) == (number, len(data) - 12)
        received += data[12:]
    await writing
    assert (received == content, transfer.sent) == (True, len(content))
    finishing = asyncio.create_task(transfer.finish())
    await guest.settle()
    assert not finishing.done()
    await status(guest, number, FileResult.SUCCESS)
    await finishing
    assert guest.files.counters() == {"files_received": 1, "files_failed": 0, "file_bytes": len(content)}


async def started(guest: FakeGuest, size: int) -> tuple[object, int]:
    starting = asyncio.create_task(guest.files.start("f", size))
    _, data = await guest.hear()
    (number,) = struct.unpack_from("<I", data)
    await status(guest, number, FileResult.CAN_SEND_DATA)
    return await starting, number


async def test_guest_that_does_not_read_makes_the_sender_wait(guest: FakeGuest) -> None:
    transfer, _ = await started(guest, 64 << 20)
    writing = asyncio.create_task(transfer.write(bytes(64 << 20)))
    await asyncio.sleep(0.2)
    assert not writing.done()
    assert transfer.sent < 4 << 20
    await guest.close_port()
    with pytest.raises(FileDropError) as gone:
        await writing
    assert gone.value.failure is DropFailure.NO_AGENT


async def test_empty_file_is_one_empty_piece(guest: FakeGuest) -> None:
    transfer, number = await started(guest, 0)
    finishing = asyncio.create_task(transfer.finish())
    assert await guest.hear() == (Kind.FILE_XFER_DATA, struct.pack("<IQ", number, 0))
    await status(guest, number, FileResult.SUCCESS)
    await finishing


@pytest.mark.parametrize(
    ("result", "failure"),
    [
        (FileResult.CANCELLED, DropFailure.CANCELLED),
        (FileResult.ERROR, DropFailure.ERROR),
        (FileResult.NOT_ENOUGH_SPACE, DropFailure.NO_SPACE),
        (FileResult.SESSION_LOCKED, DropFailure.LOCKED),
        (FileResult.VDAGENT_NOT_CONNECTED, DropFailure.NO_AGENT),
        (FileResult.DISABLED, DropFailure.OFF),
        (FileResult.SUCCESS, DropFailure.ERROR),
        (0xFFFF, DropFailure.ERROR),
    ],
)
async def test_guest_that_ends_a_transfer_says_why(
    guest: FakeGuest, result: int, failure: DropFailure
) -> None:
    transfer, number = await started(guest, 10)
    await status(guest, number, result)
    with pytest.raises(FileDropError) as ended:
        await transfer.write(b"x")
    assert ended.value.failure is failure
    assert "\n" not in str(ended.value)
    with pytest.raises(FileDropError):
        await transfer.finish()
    assert guest.files.counters()["files_failed"] == 1


async def test_sender_that_cancels_tells_the_guest(guest: FakeGuest) -> None:
    transfer, number = await started(guest, 10)
    transfer.cancel()
    transfer.cancel()
    assert await guest.hear() == (
        Kind.FILE_XFER_STATUS,
        struct.pack("<II", number, FileResult.CANCELLED),
    )
    await status(guest, number, FileResult.SUCCESS)
    with pytest.raises(FileDropError):
        await transfer.write(b"x")


async def test_sender_that_is_cancelled_before_consent_tells_the_guest(guest: FakeGuest) -> None:
    starting = asyncio.create_task(guest.files.start("f", 5))
    await guest.hear()
    starting.cancel()
    assert (await guest.hear())[0] is Kind.FILE_XFER_STATUS


@pytest.mark.parametrize(("size", "content"), [(3, b"four"), (9, b"four")])
async def test_sender_with_another_size_than_it_said_is_ended(
    guest: FakeGuest, size: int, content: bytes
) -> None:
    transfer, _ = await started(guest, size)

    async def send() -> None:
        await transfer.write(content)
        await transfer.finish()

    with pytest.raises(FileDropError) as ended:
        await send()
    assert ended.value.failure is DropFailure.SIZE


async def test_too_many_transfers_are_refused_and_room_comes_back(guest: FakeGuest) -> None:
    transfers = [await started(guest, 10) for _ in range(8)]
    with pytest.raises(FileDropError) as busy:
        await guest.files.start("ninth", 1)
    assert busy.value.failure is DropFailure.BUSY
    transfers[0][0].cancel()
    await guest.hear()
    await started(guest, 10)


async def test_drop_without_an_agent_is_refused(guests: Callable[..., FakeGuest]) -> None:
    guest = guests()
    assert not guest.files.ready
    with pytest.raises(FileDropError) as nobody:
        await guest.files.start("x", 1)
    assert nobody.value.failure is DropFailure.NO_AGENT
    await guest.greet()
    assert guest.files.ready
    await guest.close_port()
    assert not guest.files.ready


async def test_hostile_status_of_transfers_that_are_not_there_changes_nothing(guest: FakeGuest) -> None:
    for number in (0, 1, 99, 0xFFFFFFFF):
        for result in range(9):
            await status(guest, number, result)
    transfer, number = await started(guest, 4)
    await status(guest, number, FileResult.CAN_SEND_DATA)
    await transfer.write(b"good")
    assert guest.link.protocol_errors == 0


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\x.txt", "x.txt"),
        ("", "file"),
        ("..", "file"),
        ("a/..", "file"),
        ("a\nsize=0\nname=b", "a_size=0_name=b"),
        (" spaced ", "spaced"),
        ("nul\0", "nul_"),
        ("\u202etxt.exe", "_txt.exe"),
        ("x" * 400 + ".txt", "x" * 251 + ".txt"),
        ("ü" * 200, "ü" * 127),
        ("\ud800", "?"),
    ],
)
def test_hostile_file_name_is_made_fit(name: str, fit: str) -> None:
    assert fit_name(name) == fit


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


@pytest.mark.parametrize("limit", ["1023", "257M", "x"])
def test_agent_limit_out_of_range_is_refused(limit: str) -> None:
    with pytest.raises(ConfigError):
        AgentConfig(limit=limit)
