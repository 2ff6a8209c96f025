# SPDX-License-Identifier: MIT
"""The network card on a real TAP interface, in a network namespace of its own."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from net_rig import (
    CTRL,
    F_CSUM,
    F_CTRL_VQ,
    F_GUEST_CSUM,
    F_MQ,
    F_MRG,
    F_STATUS,
    F_TSO4,
    F_USO,
    MAC,
    Card,
    header,
)
from split_driver import NEEDS_RESET, wait_for

from vdesktop_core._native import lib
from vdesktop_core.devices.net import NET_BACKENDS
from vdesktop_core.devices.net.port import Offload
from vdesktop_core.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdesktop_core.devices.net.port import NetPort

pytestmark = pytest.mark.host("root: network namespaces and TAP interfaces")

CLONE_NEWNET = 0x40000000
TAP = next(backend for backend in NET_BACKENDS if backend.name == "tap")
F_GUEST_TSO4, F_CTRL_OFFLOADS = 1 << 7, 1 << 2
HOST_IP, GUEST_IP = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def carrier() -> bool:
    """Whether the kernel has noticed that the interface is open: before, it drops all it should send."""
    shown = subprocess.run(["ip", "link", "show", "dev", "vdt0"], check=True, capture_output=True, text=True)
    return "LOWER_UP" in shown.stdout and "qdisc noop" not in shown.stdout


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if _libc.unshare(CLONE_NEWNET) or not os.access("/dev/net/tun", os.W_OK):
        os.close(before)
        pytest.skip(f"no network namespace or TAP: {os.strerror(ctypes.get_errno())}")
    ip("link", "set", "lo", "up")
    yield
    assert _libc.setns(before, CLONE_NEWNET) == 0
    os.close(before)


@pytest.fixture
def plug() -> Iterator[Callable[..., tuple[Card, NetPort]]]:
    made: list[tuple[Card, NetPort]] = []

    def new(queues: int = 1, **options: Any) -> tuple[Card, NetPort]:
        multi = ["multi_queue"] if queues > 1 else []
        ip("tuntap", "add", "dev", "vdt0", "mode", "tap", "vnet_hdr", *multi)
        ip("address", "add", "192.0.2.1/24", "dev", "vdt0")
        ip("link", "set", "vdt0", "up")
        ip("neighbour", "add", "192.0.2.2", "lladdr", MAC.hex(":"), "dev", "vdt0")
        port = TAP.open("vdt0", [("queues", str(queues))])
        card = Card(
            vnet=True,
            fds=list(port.fds),
            offloads=int(port.offloads),
            mtu=port.mtu,
            flags=lib.VD_NET_VNET_HDR | lib.VD_NET_TAP,
            **options,
        )
        made.append((card, port))
        wait_for(carrier, "the interface's carrier")
        return card, port

    yield new
    for card, port in made:
        card.free()
        port.close()
        port.close()


def ones_sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def host_address() -> bytes:
    with socket.socket() as control:
        return fcntl.ioctl(control, 0x8927, struct.pack("256s", b"vdt0"))[18:24]  # SIOCGIFHWADDR


def udp_frame(port: int, data: bytes) -> tuple[bytes, bytes]:
    """Virtio header and frame of a datagram whose checksum is left to the host."""
    length = 8 + len(data)
    pseudo = ones_sum(GUEST_IP + HOST_IP + struct.pack(">HH", 17, length))
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, 17, 0, GUEST_IP, HOST_IP)
    head = head[:10] + struct.pack(">H", ones_sum(head) ^ 0xFFFF) + head[12:]
    udp = struct.pack(">HHHH", 4000, port, length, pseudo) + data
    return header(1, 0, 0, 0, 34, 6), host_address() + MAC + b"\x08\x00" + head + udp


def test_guest_frame_with_its_checksum_left_to_the_host_reaches_a_socket(plug) -> None:
    card, _ = plug()
    card.start(F_CSUM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("192.0.2.1", 0))
        server.settimeout(60)
        hdr, data = udp_frame(server.getsockname()[1], b"from the guest" * 50)
        card.send(data, hdr)
        assert server.recv(4096) == b"from the guest" * 50


def test_segmentation_left_to_the_host_gives_as_many_datagrams(plug) -> None:
    card, port = plug()
    if not port.offloads & Offload.HOST_USO:
        pytest.skip("this kernel's TAP knows no UDP segmentation (Linux 6.2)")
    card.start(F_CSUM | F_USO)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("192.0.2.1", 0))
        server.settimeout(60)
        _, data = udp_frame(server.getsockname()[1], b"a" * 500 + b"b" * 500 + b"c" * 200)
        card.send(data, header(1, 5, 42, 500, 34, 6))
        assert [server.recv(4096) for _ in range(3)] == [b"a" * 500, b"b" * 500, b"c" * 200]


def receive_udp(card: Card, data: bytes) -> tuple[bytes, bytes]:
    """Header and frame of the datagram, among what else the host's stack says."""
    card.give(1536, 40)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(data, ("192.0.2.2", 9))
    while True:
        hdr, got = card.received()
        card.give(1536, 1)
        if got[12:14] == b"\x08\x00" and got[23] == 17 and got.endswith(data):
            return hdr, got


@pytest.mark.parametrize("features", [0, F_MRG, F_GUEST_CSUM | F_MRG])
def test_host_datagram_reaches_the_guest_with_what_was_negotiated(plug, features: int) -> None:
    card, _ = plug()
    card.start(features)
    hdr, got = receive_udp(card, b"from the host")
    pseudo = got[26:34] + struct.pack(">HH", 17, len(got) - 34)
    if features & F_GUEST_CSUM:
        assert hdr[0] == 1  # the checksum is the guest's to finish, or to trust
        assert struct.unpack("<HH", hdr[6:10]) == (34, 6)
    else:
        assert hdr[0] == 0
        assert ones_sum(pseudo + got[34:]) == 0xFFFF


def test_offloads_offered_are_the_kernels(plug) -> None:
    card, port = plug()
    assert port.offloads & Offload.HOST_TSO4
    assert card.rig.offered() & F_TSO4
    assert card.rig.offered() & F_CTRL_OFFLOADS
    assert port.mtu == 1500


def test_guest_offloads_are_switched_at_run_time(plug) -> None:
    card, _ = plug()
    card.start(F_GUEST_CSUM | F_GUEST_TSO4 | F_CTRL_VQ | F_CTRL_OFFLOADS | F_MRG)
    assert receive_udp(card, b"one")[0][0] == 1
    assert card.command(5, 0, struct.pack("<Q", 0)) == 0
    assert receive_udp(card, b"two")[0][0] == 0
    assert card.command(5, 0, struct.pack("<Q", F_GUEST_CSUM | F_GUEST_TSO4)) == 0
    assert card.command(5, 0, struct.pack("<Q", 1 << 8)) == 1  # not negotiated
    assert receive_udp(card, b"three")[0][0] == 1


def test_queues_are_attached_as_the_driver_asks(plug) -> None:
    card, _ = plug(queues=3)
    assert card.rig.config(8, 2) == 3
    card.start(F_MQ | F_CTRL_VQ | F_CSUM, n_queues=7)
    for pairs in (3, 1, 2):
        assert card.command(4, 0, struct.pack("<H", pairs), queue=6) == 0
    for pairs in (0, 4, 0x8000):
        assert card.command(4, 0, struct.pack("<H", pairs), queue=6) == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("192.0.2.1", 0))
        server.settimeout(60)
        hdr, data = udp_frame(server.getsockname()[1], b"second pair")
        card.send(data, hdr, queue=3)
        assert server.recv(4096) == b"second pair"


def test_queues_without_multiqueue_driver_leave_control_at_two(plug) -> None:
    card, _ = plug(queues=2)
    card.start(F_CTRL_VQ, n_queues=3)
    assert card.command(4, 0, struct.pack("<H", 2), queue=CTRL) == 1


def test_interface_removed_takes_the_link_down(plug) -> None:
    card, _ = plug()
    card.start(F_STATUS)
    card.give(1536, 10)
    ip("link", "delete", "vdt0")
    wait_for(lambda: card.rig.config(6, 2) == 0, "link down")
    card.send(bytes(60))
    card.wait_counter("tx_refused")
    assert not card.rig.status & NEEDS_RESET


def test_interface_down_refuses_frames_and_counts(plug) -> None:
    card, _ = plug()
    card.start()
    ip("link", "set", "vdt0", "down")
    card.send(bytes(60))
    card.wait_counter("tx_refused")
    assert not card.rig.status & NEEDS_RESET


def test_flood_of_a_guest_without_buffers_is_bounded_by_the_interface(plug) -> None:
    card, _ = plug()
    card.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(5000):
            select.select([], [client], [], 1)
            client.sendto(b"x" * 1000, ("192.0.2.2", 9))
    card.give(1536, 1)
    card.received()
    assert card.counters.rx_frames == 1


def test_interface_in_use_is_told_in_one_line(plug) -> None:
    plug()
    with pytest.raises(DeviceError, match="vdt0: it is in use by another machine"):
        TAP.open("vdt0", [])


@pytest.mark.parametrize(
    ("argument", "options", "message"),
    [
        ("", [], "no interface name"),
        ("x" * 16, [], "no interface name"),
        ("a/b", [], "no interface name"),
        ("vdt0", [("queues", "0")], "queues=1"),
        ("vdt0", [("queues", "17")], "queues=1"),
        ("vdt0", [("script", "/bin/true")], "queues=1"),
    ],
)
def test_option_malformed_is_refused_in_one_line(
    argument: str, options: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TAP.open(argument, options)


def test_queue_counts_that_differ_are_told_how_to_create(plug) -> None:
    ip("tuntap", "add", "dev", "vdt1", "mode", "tap")
    with pytest.raises(DeviceError, match="multi_queue"):
        TAP.open("vdt1", [("queues", "2")])
