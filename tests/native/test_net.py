# SPDX-License-Identifier: MIT
"""The network plane, by a driver that says what real ones say, and what hostile ones do."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any

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
    F_MQ,
    F_MRG,
    F_MTU,
    F_STATUS,
    F_TSO4,
    F_TSO6,
    F_USO,
    HDR,
    MAC,
    RX,
    TX,
    Card,
    frame,
    header,
)
from split_driver import FREE, NEEDS_RESET, wait_for

from vdesktop_core._native import lib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MULTICAST, BROADCAST, STRANGER = bytes.fromhex("01005e000001"), b"\xff" * 6, bytes.fromhex("029999999999")
OFFLOADS = F_CSUM | F_GUEST_CSUM | F_TSO4 | F_TSO6 | F_USO
CONTROL = F_CTRL_VQ | F_CTRL_RX | F_CTRL_RX_EXTRA | F_CTRL_VLAN | F_CTRL_MAC


@pytest.fixture
def make() -> Iterator[Callable[..., Card]]:
    made: list[Card] = []

    def new(**options: Any) -> Card:
        made.append(Card(**options))
        return made[-1]

    yield new
    for card in made:
        card.free()


# Frames


@pytest.mark.parametrize("vnet", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 40])
def test_transmit_frame_goes_out_whole(make, vnet: bool, parts: int) -> None:
    card = make(vnet=vnet)
    card.start()
    card.send(frame(1514), parts=parts)
    assert card.heard() == (header() if vnet else b"") + frame(1514)
    assert card.rig.wait_used(TX)[1] == 0
    assert (card.counters.tx_frames, card.counters.tx_bytes) == (1, 1514)


@pytest.mark.parametrize("vnet", [False, True])
@pytest.mark.parametrize("features", [0, F_MRG])
def test_receive_frame_lands_in_one_buffer(make, vnet: bool, features: int) -> None:
    card = make(vnet=vnet)
    card.start(features)
    card.give()
    card.wire(frame(60))
    assert card.received() == (header(n=1), frame(60))
    assert card.rig.levels[-1] is True


def test_receive_long_frame_mergeable_is_spread(make) -> None:
    card = make(vnet=True)
    card.start(F_MRG)
    card.give(1536, 60)
    data = frame(65000)
    card.wire(data)
    hdr, got = card.received()
    assert got == data
    assert struct.unpack("<H", hdr[10:])[0] == -(-(65000 + HDR) // 1536)


def test_receive_long_frame_into_one_long_buffer(make) -> None:
    card = make(vnet=True)
    card.start()
    card.give(65562)
    card.wire(frame(65000))
    assert card.received()[1] == frame(65000)


def test_receive_long_frame_waits_for_the_rest_of_its_buffers(make) -> None:
    card = make()
    card.start(F_MRG)
    card.give(1536, 3)
    card.wire(frame(10000))
    card.wire(frame(100))
    card.wait_counter("rx_stalls")
    assert card.rig.used_index(RX) == 0
    card.give(1536, 4)
    card.give(1536, 4)
    assert card.received()[1] == frame(10000)
    assert card.received()[1] == frame(100)
    assert card.counters.rx_too_long == 0


def test_receive_frame_longer_than_the_buffer_is_dropped_and_the_buffer_kept(make) -> None:
    card = make()
    card.start()
    card.give(1526)
    card.wire(frame(1515))
    card.wire(frame(1514))
    assert card.received()[1] == frame(1514)
    assert card.counters.rx_too_long == 1


def test_receive_without_buffers_waits_in_the_cable(make) -> None:
    card = make()
    card.start()
    for i in range(20):
        card.wire(frame(60 + i))
    card.wait_counter("rx_stalls")
    for i in range(20):
        card.give()
        assert card.received()[1] == frame(60 + i)


def test_receive_flood_is_bounded_by_the_cable(make) -> None:
    card = make()
    card.start()
    card.cable.setblocking(False)
    sent = 0
    try:
        for sent in range(10000):  # noqa: B007 - the last one counts
            card.wire(frame(1514))
    except BlockingIOError:
        pass
    assert 0 < sent < 9999
    assert card.counters.rx_frames == 0


def test_transmit_to_a_slow_host_waits_and_loses_nothing(make) -> None:
    card = make()
    card.start()
    for _ in range(100):
        card.send(frame(9000))
    card.wait_counter("tx_stalls")
    for _ in range(100):
        assert card.heard() == frame(9000)
    wait_for(lambda: card.rig.used_index(TX) == 100, "all chains")
    assert card.counters.tx_refused == 0


def test_host_that_goes_takes_the_link_down(make) -> None:
    card = make()
    card.start(F_STATUS)
    assert card.rig.config(6, 2) == 1
    card.give()
    card.cable.close()
    wait_for(lambda: card.rig.config(6, 2) == 0, "link down")
    card.send(frame())
    card.wait_counter("tx_refused")
    assert not card.rig.status & NEEDS_RESET


def test_link_set_is_told_and_stops_frames(make) -> None:
    card = make()
    card.start(F_STATUS)
    lib.vd_net_set_link(card.net, False)
    assert card.rig.config(6, 2) == 0
    assert card.rig.read(0x60) & 2
    card.send(frame())
    card.wait_counter("tx_refused")
    lib.vd_net_set_link(card.net, True)
    card.send(frame())
    assert card.heard() == frame()


def test_config_space_says_mac_pairs_and_mtu(make) -> None:
    card = make(mtu=9000)
    assert bytes(card.rig.config(i, 1) for i in range(6)) == MAC
    assert (card.rig.config(8, 2), card.rig.config(10, 2)) == (1, 9000)
    assert card.rig.offered() & F_MTU


def test_offloads_are_offered_only_where_the_port_takes_them(make) -> None:
    assert not make(offloads=OFFLOADS).rig.offered() & OFFLOADS  # no header to say them in
    assert make(vnet=True, offloads=F_CSUM).rig.offered() & OFFLOADS == F_CSUM
    assert not make(vnet=True, offloads=OFFLOADS).rig.offered() & F_MQ


# Headers


def tcp_header(
    flags: int = 1, gso: int = 1, hdr_len: int = 54, size: int = 1448, start: int = 34, offset: int = 16
) -> bytes:
    return header(flags, gso, hdr_len, size, start, offset)


@pytest.mark.parametrize(
    "hdr",
    [
        header(1, 0, 0, 0, 34, 16),
        tcp_header(),
        tcp_header(gso=4, hdr_len=74, start=54),
        header(1, 5, 42, 1200, 34, 6),
        header(1, 0, 0, 0, 34, 4000 - 34 - 2),
    ],
)
def test_header_that_fits_its_frame_goes_to_the_host(make, hdr: bytes) -> None:
    card = make(vnet=True, offloads=OFFLOADS)
    card.start(OFFLOADS)
    card.send(frame(4000), hdr)
    got = card.heard()
    assert got[HDR:] == frame(4000)
    assert got[:2] == hdr[:2]
    assert got[6:10] == hdr[6:10]


@pytest.mark.parametrize(
    ("why", "hdr"),
    [
        ("checksum behind the frame", header(1, 0, 0, 0, 3999, 0)),
        ("checksum offset behind the frame", header(1, 0, 0, 0, 34, 4000 - 35)),
        ("both at their largest", header(1, 0, 0, 0, 0xFFFF, 0xFFFF)),
        ("checksum inside the Ethernet header", header(1, 0, 0, 0, 13, 2)),
        ("unknown flag", header(4)),
        ("unknown segmentation", header(1, 2, 54, 1448, 34, 16)),
        ("UDP fragmentation, not offered", header(1, 3, 54, 1448, 34, 16)),
        ("ECN, not negotiated", tcp_header(gso=0x81)),
        ("segmentation without checksum", tcp_header(flags=0)),
        ("segment size 0", tcp_header(size=0)),
        ("segment size 1: thousands of segments", tcp_header(size=1)),
        ("header longer than the frame", tcp_header(hdr_len=4001)),
        ("TCP header behind the frame", tcp_header(start=3990)),
        ("checksum not where TCP has it", tcp_header(offset=6)),
        ("checksum not where UDP has it", header(1, 5, 42, 1200, 34, 16)),
    ],
)
def test_header_that_does_not_fit_is_dropped_and_counted(make, why: str, hdr: bytes) -> None:
    card = make(vnet=True, offloads=OFFLOADS)
    card.start(OFFLOADS)
    card.send(frame(4000), hdr)
    card.send(frame(100))
    assert card.heard()[HDR:] == frame(100), why
    assert card.counters.tx_bad_header == 1
    assert not card.rig.status & NEEDS_RESET


@pytest.mark.parametrize("hdr", [header(1, 0, 0, 0, 34, 16), tcp_header()])
def test_header_asks_what_was_not_negotiated_is_dropped(make, hdr: bytes) -> None:
    card = make(vnet=True, offloads=OFFLOADS)
    card.start(0)
    card.send(frame(4000), hdr)
    card.wait_counter("tx_bad_header")


def test_header_of_the_host_is_cut_to_what_was_negotiated(make) -> None:
    card = make(vnet=True, offloads=OFFLOADS)
    card.start(0)
    card.give()
    card.cable.send(header(2, n=77) + frame(60))
    assert card.received() == (header(n=1), frame(60))
    card.start(F_GUEST_CSUM)
    card.give()
    card.cable.send(header(2) + frame(60))
    assert card.received() == (header(2, n=1), frame(60))


@pytest.mark.parametrize("size", [0, 13, 65551])
def test_frame_of_impossible_length_is_dropped_and_counted(make, size: int) -> None:
    card = make()
    card.start()
    card.send(b"x" * size)
    card.send(frame(60))
    assert card.heard() == frame(60)
    assert card.counters.tx_bad_length == 1


def test_frame_over_the_ports_maximum_is_dropped_and_counted(make) -> None:
    card = make(max_frame=1514)
    card.start()
    card.send(frame(1515))
    card.send(frame(1514))
    assert card.heard() == frame(1514)
    assert card.counters.tx_bad_length == 1


# Control queue


def ready(make: Callable[..., Card]) -> Card:
    card = make()
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


def test_filter_before_any_command_lets_all_in(make) -> None:
    card = ready(make)
    assert all(arrives(card, frame(60, to)) for to in (MAC, STRANGER, MULTICAST, BROADCAST))


def test_filter_not_promiscuous_knows_unicast_multicast_broadcast(make) -> None:
    card = ready(make)
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
def test_filter_mode_changes_one_kind(make, mode: int, to: bytes, expected: bool) -> None:
    card = ready(make)
    card.command(0, 0, b"\0")
    assert card.command(0, mode, b"\1") == 0
    assert arrives(card, frame(60, to)) is expected


def test_filter_table_over_its_bound_lets_all_of_the_kind_in(make) -> None:
    card = ready(make)
    card.command(0, 0, b"\0")
    many = b"".join(b"\x01\x00\x5e" + i.to_bytes(3, "big") for i in range(1000, 1200))
    assert card.command(1, 0, struct.pack("<I", 0) + struct.pack("<I", 200) + many) == 0
    assert arrives(card, frame(60, MULTICAST))
    assert not arrives(card, frame(60, STRANGER))


def test_vlan_filter_lets_in_what_was_added(make) -> None:
    card = ready(make)
    tagged = frame(64, MAC, b"\x81\x00", b"\x00\x05\x08\x00" + b"x" * 46)
    assert not arrives(card, tagged)
    assert card.command(2, 0, struct.pack("<H", 5)) == 0
    assert arrives(card, tagged)
    assert card.command(2, 1, struct.pack("<H", 5)) == 0
    assert not arrives(card, tagged)
    assert arrives(card, frame(60))


def test_mac_set_changes_the_filter_until_reset(make) -> None:
    card = ready(make)
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
def test_command_malformed_or_not_negotiated_is_refused(make, cls: int, cmd: int, data: bytes) -> None:
    card = ready(make)
    assert card.command(cls, cmd, data) == 1
    assert card.counters.ctrl_refused == 1
    assert not card.rig.status & NEEDS_RESET


def test_command_of_one_byte_is_refused(make) -> None:
    card = ready(make)
    card.rig.memory.write(FREE, b"\0\xee")
    card.rig.add([(FREE, 1)], [(FREE + 1, 1)], index=CTRL)
    card.rig.kick(CTRL)
    card.rig.wait_used(CTRL)
    assert card.rig.memory.read(FREE + 1, 1) == b"\1"


def test_command_without_room_for_its_ack_needs_reset(make) -> None:
    card = ready(make)
    card.rig.add([(FREE, 3)], [], index=CTRL)
    card.rig.kick(CTRL)
    wait_for(lambda: card.rig.status & NEEDS_RESET, "NEEDS_RESET")


def test_random_commands_leave_the_card_usable(make) -> None:
    card = ready(make)
    source = random.Random(7)  # noqa: S311 - the same every time
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
def test_chain_of_a_wrong_shape_needs_reset_and_reset_heals(make, queue: int, out: int, into: int) -> None:
    card = make()
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


def test_reset_under_traffic_never_touches_memory_again(make) -> None:
    card = make()
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


def test_queue_reset_gives_up_the_buffers_of_a_half_received_frame(make) -> None:
    card = make()
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


def test_tiny_buffers_cannot_hold_a_frame_for_ever(make) -> None:
    card = make()
    card.start(F_MRG)
    card.give(13, 120)
    card.wire(frame(60))
    hdr, data = card.received()
    assert data == frame(60)
    assert struct.unpack("<H", hdr[10:])[0] == 1 + -(-59 // 13)
