# SPDX-License-Identifier: MIT
"""Files dropped into a guest, against an agent that is played byte for byte."""

from __future__ import annotations

import asyncio
import os
import struct
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.devices.agent.files import fit_name
from vdesktop_core.devices.agent.wire import (
    FileResult,
    Kind,
)
from vdesktop_core.display.files import DropFailure, FileDropError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_guest import FakeGuest


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


async def test_drop_without_an_agent_is_refused(fake_guests: Callable[..., FakeGuest]) -> None:
    guest = fake_guests()
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
