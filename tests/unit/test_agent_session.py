# SPDX-License-Identifier: MIT
"""Sessions with a guest's agent: how they begin and end, what policy lets pass, bytes that are none."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from agent_guest import DEBIAN, LIMIT, NOTHING, FakeGuest, grabbed

from vdesktop_core.devices.agent import AgentConfig
from vdesktop_core.devices.agent.wire import (
    CHUNK,
    MESSAGE,
    Capability,
    DataType,
    Kind,
)
from vdesktop_core.display.clipboard import PNG, TEXT, Copied
from vdesktop_core.display.files import DropFailure, FileDropError
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_policy_to_host_gives_the_guest_nothing(fake_guests: Callable[..., FakeGuest]) -> None:
    guest = fake_guests(to_guest=False)
    await guest.greet()
    guest.clipboard.offer(Copied({TEXT: b"secret"}))
    assert await guest.silent()
    assert await guest.ask(DataType.UTF8_TEXT) == NOTHING
    await guest.grab(DataType.UTF8_TEXT)
    assert guest.offers[-1] is not None


async def test_policy_to_guest_tells_viewers_nothing(fake_guests: Callable[..., FakeGuest]) -> None:
    guest = fake_guests(to_host=False)
    await guest.greet()
    await guest.grab(DataType.UTF8_TEXT)
    await guest.give(DataType.UTF8_TEXT, b"unasked")
    assert guest.offers == []
    assert await guest.silent()
    guest.clipboard.offer(Copied({TEXT: b"open"}))
    await guest.hear()
    assert await guest.ask(DataType.UTF8_TEXT) == (DataType.UTF8_TEXT, b"open")


async def test_policy_off_announces_no_clipboard_and_lets_nothing_pass(
    fake_guests: Callable[..., FakeGuest],
) -> None:
    guest = fake_guests(to_guest=False, to_host=False, files=False)
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
    announced = struct.pack("<II", 1, DEBIAN)
    await guest.say(Kind.ANNOUNCE_CAPABILITIES, announced)
    assert guest.offers[-1] is None
    assert (await guest.hear())[0] is Kind.ANNOUNCE_CAPABILITIES


@pytest.mark.parametrize("limit", ["1023", "257M", "x"])
def test_agent_limit_out_of_range_is_refused(limit: str) -> None:
    with pytest.raises(ConfigError):
        AgentConfig(limit=limit)
