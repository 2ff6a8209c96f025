# SPDX-License-Identifier: MIT
"""The network plane: its control queue, and drivers that break the rules."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
from net_rig import (
    CTRL,
    F_CSUM,
    F_CTRL_MAC,
    F_CTRL_RX,
    F_CTRL_RX_EXTRA,
    F_CTRL_VLAN,
    F_CTRL_VQ,
    F_GUEST_CSUM,
    F_MRG,
    F_TSO4,
    F_TSO6,
    F_USO,
    MAC,
    RX,
    TX,
    Card,
    frame,
)
from split_driver import FREE, NEEDS_RESET, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

MULTICAST, BROADCAST, STRANGER = bytes.fromhex("01005e000001"), b"\xff" * 6, bytes.fromhex("029999999999")
OFFLOADS = F_CSUM | F_GUEST_CSUM | F_TSO4 | F_TSO6 | F_USO
CONTROL = F_CTRL_VQ | F_CTRL_RX | F_CTRL_RX_EXTRA | F_CTRL_VLAN | F_CTRL_MAC


def ready(cards: Callable[..., Card]) -> Card:
    card = cards()
    card.start(CONTROL)
    card.give(1526, 20)
    return card


def arrives(card: Card, data: bytes) -> bool:
    """Whether a frame gets through; a frame to the card's own address says that it did not."""
    before = card.counters.rx_filtered
    card.wire(data)
    wait_for(
        lambda: card.counters.rx_filtered > before or card.rig.poll_used(RX) is not None, "the frame's end"
    )
    return bool(card.counters.rx_filtered == before)


def test_filter_before_any_command_lets_all_in(cards) -> None:
    card = ready(cards)
    assert all(arrives(card, frame(60, to)) for to in (MAC, STRANGER, MULTICAST, BROADCAST))


def test_filter_not_promiscuous_knows_unicast_multicast_broadcast(cards) -> None:
    card = ready(cards)
    assert card.command(0, 0, b"\0") == 0
    assert [arrives(card, frame(60, to)) for to in (MAC, STRANGER, MULTICAST, BROADCAST)] == [
        True,
        False,
        False,
        True,
    ]
    tables = struct.pack("<I", 1) + STRANGER + struct.pack("<I", 1) + MULTICAST
    assert card.command(1, 0, tables) == 0
    assert [arrives(card, frame(60, to)) for to in (STRANGER, MULTICAST)] == [True, True]


@pytest.mark.parametrize(
    ("mode", "to", "expected"),
    [
        (1, MULTICAST, True),
        (2, STRANGER, True),
        (3, MULTICAST, False),
        (4, MAC, False),
        (5, BROADCAST, False),
    ],
)
def test_filter_mode_changes_one_kind(cards, mode: int, to: bytes, expected: bool) -> None:
    card = ready(cards)
    card.command(0, 0, b"\0")
    assert card.command(0, mode, b"\1") == 0
    assert arrives(card, frame(60, to)) is expected


def test_filter_table_over_its_bound_lets_all_of_the_kind_in(cards) -> None:
    card = ready(cards)
    card.command(0, 0, b"\0")
    many = b"".join(b"\x01\x00\x5e" + i.to_bytes(3, "big") for i in range(1000, 1200))
    assert card.command(1, 0, struct.pack("<I", 0) + struct.pack("<I", 200) + many) == 0
    assert arrives(card, frame(60, MULTICAST))
    assert not arrives(card, frame(60, STRANGER))


def test_vlan_filter_lets_in_what_was_added(cards) -> None:
    card = ready(cards)
    tagged = frame(64, MAC, b"\x81\x00", b"\x00\x05\x08\x00" + b"x" * 46)
    assert not arrives(card, tagged)
    assert card.command(2, 0, struct.pack("<H", 5)) == 0
    assert arrives(card, tagged)
    assert card.command(2, 1, struct.pack("<H", 5)) == 0
    assert not arrives(card, tagged)
    assert arrives(card, frame(60))


def test_mac_set_changes_the_filter_until_reset(cards) -> None:
    card = ready(cards)
    card.command(0, 0, b"\0")
    assert card.command(1, 1, STRANGER) == 0
    assert [arrives(card, frame(60, to)) for to in (MAC, STRANGER)] == [False, True]
    card.start(CONTROL)
    card.give(1526, 5)
    card.command(0, 0, b"\0")
    assert arrives(card, frame(60, MAC))


@pytest.mark.parametrize(
    ("cls", "cmd", "data"),
    [
        (0, 6, b"\1"),
        (0, 0, b""),
        (1, 0, b""),
        (1, 0, struct.pack("<I", 1) + b"\0" * 5),
        (1, 0, struct.pack("<I", 0xFFFFFFFF) + b"\0" * 60),
        (1, 0, struct.pack("<I", 0) + struct.pack("<I", 0x2AAAAAAB)),
        (1, 1, b"\0" * 5),
        (1, 2, b"\0" * 6),
        (2, 0, b"\1"),
        (2, 0, struct.pack("<H", 4096)),
        (2, 2, struct.pack("<H", 1)),
        (4, 0, struct.pack("<H", 1)),
        (5, 0, struct.pack("<Q", 0)),
        (3, 0, b""),
        (255, 255, b"\xff" * 100),
    ],
)
def test_command_malformed_or_not_negotiated_is_refused(cards, cls: int, cmd: int, data: bytes) -> None:
    card = ready(cards)
    assert card.command(cls, cmd, data) == 1
    assert card.counters.ctrl_refused == 1
    assert not card.rig.status & NEEDS_RESET


def test_command_of_one_byte_is_refused(cards) -> None:
    card = ready(cards)
    card.rig.memory.write(FREE, b"\0\xee")
    card.rig.add([(FREE, 1)], [(FREE + 1, 1)], index=CTRL)
    card.rig.kick(CTRL)
    card.rig.wait_used(CTRL)
    assert card.rig.memory.read(FREE + 1, 1) == b"\1"


def test_command_without_room_for_its_ack_needs_reset(cards) -> None:
    card = ready(cards)
    card.rig.add([(FREE, 3)], [], index=CTRL)
    card.rig.kick(CTRL)
    wait_for(lambda: card.rig.status & NEEDS_RESET, "NEEDS_RESET")


def test_random_commands_leave_the_card_usable(cards) -> None:
    card = ready(cards)
    source = random.Random(7)
    for _ in range(300):
        card.command(source.randrange(7), source.randrange(7), source.randbytes(source.randrange(300)))
    card.start(CONTROL)
    card.send(frame())
    assert card.heard() == frame()


# Hostile rings


@pytest.mark.parametrize(
    ("queue", "out", "into"),
    [(TX, 11, 0), (TX, 0, 100), (TX, 80, 8), (RX, 80, 0), (RX, 8, 1526), (RX, 0, 12)],
)
def test_chain_of_a_wrong_shape_needs_reset_and_reset_heals(cards, queue: int, out: int, into: int) -> None:
    card = cards()
    card.start()
    at = card.place()
    card.rig.add([(at, out)] if out else [], [(at + 4096, into)] if into else [], index=queue)
    card.rig.kick(queue)
    card.wire(frame())
    wait_for(lambda: card.rig.status & NEEDS_RESET, "NEEDS_RESET")
    card.start()
    card.send(frame(99))
    assert card.heard() == frame(99)
    card.give()
    assert card.received()[1] == frame()


def test_reset_under_traffic_never_touches_memory_again(cards) -> None:
    card = cards()
    card.cable.setblocking(False)
    for turn in range(50):
        card.start(F_MRG)
        card.give(1536, 30)
        for _ in range(8):
            card.wire(frame(5000))
            card.send(frame(1000))
        card.rig.write(0x70, 0)
        before = card.rig.memory.read(FREE, 4 << 20)
        assert card.rig.memory.read(FREE, 4 << 20) == before, turn
        while True:
            try:
                card.heard()
            except BlockingIOError:
                break


def test_queue_reset_gives_up_the_buffers_of_a_half_received_frame(cards) -> None:
    card = cards()
    card.start(F_MRG | 1 << 40)
    card.give(1536, 3)
    card.wire(frame(10000))
    card.wait_counter("rx_stalls")
    card.rig.write(0x30, RX)
    card.rig.write(0xC0, 1)
    card.rig.queues[RX] = card.rig.queue(RX, 128)
    card.give()
    card.wire(frame(70))
    assert card.received()[1] == frame(70)


def test_tiny_buffers_cannot_hold_a_frame_for_ever(cards) -> None:
    card = cards()
    card.start(F_MRG)
    card.give(13, 120)
    card.wire(frame(60))
    hdr, data = card.received()
    assert data == frame(60)
    assert struct.unpack("<H", hdr[10:])[0] == 1 + -(-59 // 13)
