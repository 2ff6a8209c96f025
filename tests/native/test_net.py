# SPDX-License-Identifier: MIT
"""The network plane, by a driver that says what real ones say, and what hostile ones do."""

from __future__ import annotations

import struct

import pytest
from net_rig import (
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
    frame,
    header,
)
from split_driver import NEEDS_RESET, wait_for

from vdesktop_core._native import lib

MULTICAST, BROADCAST, STRANGER = bytes.fromhex("01005e000001"), b"\xff" * 6, bytes.fromhex("029999999999")
OFFLOADS = F_CSUM | F_GUEST_CSUM | F_TSO4 | F_TSO6 | F_USO
CONTROL = F_CTRL_VQ | F_CTRL_RX | F_CTRL_RX_EXTRA | F_CTRL_VLAN | F_CTRL_MAC


# Frames


@pytest.mark.parametrize("vnet", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 40])
def test_transmit_frame_goes_out_whole(cards, vnet: bool, parts: int) -> None:
    card = cards(vnet=vnet)
    card.start()
    card.send(frame(1514), parts=parts)
    assert card.heard() == (header() if vnet else b"") + frame(1514)
    assert card.rig.wait_used(TX)[1] == 0
    assert (card.counters.tx_frames, card.counters.tx_bytes) == (1, 1514)


@pytest.mark.parametrize("vnet", [False, True])
@pytest.mark.parametrize("features", [0, F_MRG])
def test_receive_frame_lands_in_one_buffer(cards, vnet: bool, features: int) -> None:
    card = cards(vnet=vnet)
    card.start(features)
    card.give()
    card.wire(frame(60))
    assert card.received() == (header(n=1), frame(60))
    wait_for(lambda: card.rig.levels[-1:] == [True], "the interrupt")  # it follows the used ring


def test_receive_long_frame_mergeable_is_spread(cards) -> None:
    card = cards(vnet=True)
    card.start(F_MRG)
    card.give(1536, 60)
    data = frame(65000)
    card.wire(data)
    hdr, got = card.received()
    assert got == data
    assert struct.unpack("<H", hdr[10:])[0] == -(-(65000 + HDR) // 1536)


def test_receive_long_frame_into_one_long_buffer(cards) -> None:
    card = cards(vnet=True)
    card.start()
    card.give(65562)
    card.wire(frame(65000))
    assert card.received()[1] == frame(65000)


def test_receive_long_frame_waits_for_the_rest_of_its_buffers(cards) -> None:
    card = cards()
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


def test_receive_frame_longer_than_the_buffer_is_dropped_and_the_buffer_kept(cards) -> None:
    card = cards()
    card.start()
    card.give(1526)
    card.wire(frame(1515))
    card.wire(frame(1514))
    assert card.received()[1] == frame(1514)
    assert card.counters.rx_too_long == 1


def test_receive_without_buffers_waits_in_the_cable(cards) -> None:
    card = cards()
    card.start()
    for i in range(20):
        card.wire(frame(60 + i))
    card.wait_counter("rx_stalls")
    for i in range(20):
        card.give()
        assert card.received()[1] == frame(60 + i)


def test_receive_flood_is_bounded_by_the_cable(cards) -> None:
    card = cards()
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


def test_transmit_to_a_slow_host_waits_and_loses_nothing(cards) -> None:
    card = cards()
    card.start()
    for _ in range(100):
        card.send(frame(9000))
    card.wait_counter("tx_stalls")
    for _ in range(100):
        assert card.heard() == frame(9000)
    wait_for(lambda: card.rig.used_index(TX) == 100, "all chains")
    assert card.counters.tx_refused == 0


def test_host_that_goes_takes_the_link_down(cards) -> None:
    card = cards()
    card.start(F_STATUS)
    assert card.rig.config(6, 2) == 1
    card.give()
    card.cable.close()
    wait_for(lambda: card.rig.config(6, 2) == 0, "link down")
    card.send(frame())
    card.wait_counter("tx_refused")
    assert not card.rig.status & NEEDS_RESET


def test_link_set_is_told_and_stops_frames(cards) -> None:
    card = cards()
    card.start(F_STATUS)
    lib.vd_net_set_link(card.net, False)
    assert card.rig.config(6, 2) == 0
    assert card.rig.read(0x60) & 2
    card.send(frame())
    card.wait_counter("tx_refused")
    lib.vd_net_set_link(card.net, True)
    card.send(frame())
    assert card.heard() == frame()


def test_config_space_says_mac_pairs_and_mtu(cards) -> None:
    card = cards(mtu=9000)
    assert bytes(card.rig.config(i, 1) for i in range(6)) == MAC
    assert (card.rig.config(8, 2), card.rig.config(10, 2)) == (1, 9000)
    assert card.rig.offered() & F_MTU


def test_offloads_are_offered_only_where_the_port_takes_them(cards) -> None:
    assert not cards(offloads=OFFLOADS).rig.offered() & OFFLOADS  # no header to say them in
    assert cards(vnet=True, offloads=F_CSUM).rig.offered() & OFFLOADS == F_CSUM
    assert not cards(vnet=True, offloads=OFFLOADS).rig.offered() & F_MQ


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
def test_header_that_fits_its_frame_goes_to_the_host(cards, hdr: bytes) -> None:
    card = cards(vnet=True, offloads=OFFLOADS)
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
def test_header_that_does_not_fit_is_dropped_and_counted(cards, why: str, hdr: bytes) -> None:
    card = cards(vnet=True, offloads=OFFLOADS)
    card.start(OFFLOADS)
    card.send(frame(4000), hdr)
    card.send(frame(100))
    assert card.heard()[HDR:] == frame(100), why
    assert card.counters.tx_bad_header == 1
    assert not card.rig.status & NEEDS_RESET


@pytest.mark.parametrize("hdr", [header(1, 0, 0, 0, 34, 16), tcp_header()])
def test_header_asks_what_was_not_negotiated_is_dropped(cards, hdr: bytes) -> None:
    card = cards(vnet=True, offloads=OFFLOADS)
    card.start(0)
    card.send(frame(4000), hdr)
    card.wait_counter("tx_bad_header")


def test_header_of_the_host_is_cut_to_what_was_negotiated(cards) -> None:
    card = cards(vnet=True, offloads=OFFLOADS)
    card.start(0)
    card.give()
    card.cable.send(header(2, n=77) + frame(60))
    assert card.received() == (header(n=1), frame(60))
    card.start(F_GUEST_CSUM)
    card.give()
    card.cable.send(header(2) + frame(60))
    assert card.received() == (header(2, n=1), frame(60))


@pytest.mark.parametrize("size", [0, 13, 65551])
def test_frame_of_impossible_length_is_dropped_and_counted(cards, size: int) -> None:
    card = cards()
    card.start()
    card.send(b"x" * size)
    card.send(frame(60))
    assert card.heard() == frame(60)
    assert card.counters.tx_bad_length == 1


def test_frame_over_the_ports_maximum_is_dropped_and_counted(cards) -> None:
    card = cards(max_frame=1514)
    card.start()
    card.send(frame(1515))
    card.send(frame(1514))
    assert card.heard() == frame(1514)
    assert card.counters.tx_bad_length == 1
