# SPDX-License-Identifier: MIT
"""User networking: real sockets of the host's on one side, a guest of Ethernet frames on the other."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from tiny_tcp import DNS, GUEST_MAC, HDR, HOST, Guest, Tcp
from vdesktop_usernet.backend import UserBackend, UserPort
from vdesktop_usernet.options import Options, parse_forward, parse_options

from vdesktop_core.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdesktop_core.devices.net.port import NetPort

DATA = bytes(range(256)) * 2048  # 512 KiB


@pytest.fixture
def network() -> Iterator[Callable[..., tuple[UserPort, Guest]]]:
    opened: list[UserPort] = []

    def new(*options: tuple[str, str]) -> tuple[UserPort, Guest]:
        port: NetPort = UserBackend().open("", options)
        assert isinstance(port, UserPort)
        opened.append(port)
        guest = Guest(os.dup(port.fds[0]))
        guests.append(guest)
        guest.resolve()
        return port, guest

    guests: list[Guest] = []
    yield new
    for guest in guests:
        guest.socket.close()
    for port in opened:
        port.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


def in_background(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def say(server: socket.socket, data: bytes) -> None:
    """Serve one client: say something and hang up."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(60)
        connection.sendall(data)


@pytest.mark.parametrize(("offload", "step"), [(False, 1460), (True, 1460), (True, 32000), (True, 60000)])
def test_tcp_out_carries_data_both_ways(network, server, offload: bool, step: int) -> None:
    port, guest = network()
    digests = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            got = b""
            while len(got) < len(DATA):
                got += connection.recv(1 << 20)
            digests.append(hashlib.sha256(got).digest())
            connection.sendall(got[::-1])

    thread = in_background(serve)
    tcp = Tcp(guest, offload=offload)
    tcp.connect(server.getsockname()[1])
    tcp.send(DATA, step)
    assert tcp.read(len(DATA)) == DATA[::-1]
    tcp.finish()
    thread.join(60)
    assert digests == [hashlib.sha256(DATA).digest()]
    assert port.counters()["rx_dropped"] == 0


def test_tcp_in_through_a_forwarded_port_carries_data_both_ways(network) -> None:
    port, guest = network(("hostfwd", "tcp::0-:22"))
    (forward,) = port.forwards
    assert forward.host_port > 0
    results = []

    def connect() -> None:
        with socket.create_connection(("127.0.0.1", forward.host_port), 20) as client:
            client.sendall(DATA)
            client.shutdown(socket.SHUT_WR)
            got = b""
            while piece := client.recv(1 << 20):
                got += piece
            results.append(got)

    thread = in_background(connect)
    tcp = Tcp(guest)
    tcp.accept(22)
    assert tcp.read(len(DATA)) == DATA
    tcp.send(DATA[::-1], 1460)
    tcp.finish()
    thread.join(60)
    assert results == [DATA[::-1]]


def test_long_frames_reach_a_guest_that_can_take_them(network, server) -> None:
    _, guest = network()
    tcp = Tcp(guest, mss=40000)
    thread = in_background(lambda: say(server, DATA))
    tcp.connect(server.getsockname()[1])
    assert tcp.read(len(DATA)) == DATA
    assert tcp.biggest > 1460
    thread.join(60)


def test_frames_to_the_guest_say_that_their_checksums_are_right(network) -> None:
    _, guest = network()
    guest.send(guest.ipv4(1, HOST, b"\x08\0\xf7\xff\0\0\0\0"))
    header, _, payload = guest.packet(1)
    assert header[0] == 2
    assert payload[0] == 0  # echo reply


def test_udp_reaches_the_host_and_back(network) -> None:
    _, guest = network()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        guest.udp(HOST, server.getsockname()[1], b"ping" * 100)
        data, client = server.recvfrom(65536)
        assert data == b"ping" * 100
        server.sendto(b"pong", client)
        _, source, payload = guest.packet(17)
        assert (source, payload[8:]) == (HOST, b"pong")


def test_dhcp_offers_the_documented_addresses(network) -> None:
    _, guest = network(("hostname", "box"))
    discover = struct.pack(">BBBBIHHIIII", 1, 1, 6, 0, 7, 0, 0, 0, 0, 0, 0) + GUEST_MAC + bytes(10 + 192)
    discover += bytes.fromhex("63825363") + b"\x35\x01\x01\xff"
    guest.udp(0xFFFFFFFF, 67, discover, 68)
    _, _, payload = guest.packet(17)
    reply = payload[8:]
    assert socket.inet_ntoa(reply[16:20]) == "10.0.2.15"
    assert struct.pack(">BBI", 6, 4, DNS) in reply[240:]
    assert b"\x0c\x03box" in reply[240:]


def test_restricted_guest_reaches_nothing(network, server) -> None:
    _, guest = network(("restrict", "on"))
    server.settimeout(0.5)
    tcp = Tcp(guest)
    guest.socket.settimeout(1)
    with pytest.raises((TimeoutError, AssertionError)):
        tcp.connect(server.getsockname()[1])
    with pytest.raises(TimeoutError):
        server.accept()


def test_restricted_guest_answers_what_was_forwarded_to_it(network) -> None:
    port, guest = network(("restrict", "on"), ("hostfwd", "tcp::0-:7"))
    results = []

    def connect() -> None:
        with socket.create_connection(("127.0.0.1", port.forwards[0].host_port), 20) as client:
            results.append(client.recv(5))

    thread = in_background(connect)
    tcp = Tcp(guest)
    tcp.accept(7)
    tcp.send(b"hello", 5)
    thread.join(60)
    assert results == [b"hello"]


def test_slow_guest_is_bounded_and_loses_no_tcp_data(network, server) -> None:
    port, guest = network()
    tcp = Tcp(guest)
    thread = in_background(lambda: say(server, DATA * 8))
    tcp.connect(server.getsockname()[1])
    for i in range(20000):  # a flood of echo requests, whose answers nobody takes
        try:
            guest.socket.setblocking(False)
            guest.send(guest.ipv4(1, HOST, struct.pack(">BBHHH", 8, 0, 0xF7FF - i & 0xFFFF, 0, i)))
        except BlockingIOError:
            guest.socket.settimeout(0.05)
            guest.socket.recv(70000)
    guest.socket.settimeout(60)
    assert tcp.read(8 * len(DATA)) == DATA * 8
    thread.join(60)
    assert port.counters()["tx_frames"] > 0


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 11,
        b"\0" * HDR,
        b"\0" * (HDR + 1),
        b"\1" + b"\0" * 5 + b"\xff\xff\xff\xff" + b"\0" * 60,
        b"\1" + b"\0" * 5 + struct.pack("<HH", 59, 0) + b"\0" * 62,
        b"\0" * HDR + b"\xff" * 12 + b"\x08\x00" + b"\x4f" * 40,
        b"\0" * HDR + b"\xff" * 12 + b"\x86\xdd" + b"\x60" * 40,
        b"\0" * HDR + b"\xff" * 12 + b"\x08\x06" + b"\xff" * 3,
    ],
)
def test_malformed_frame_leaves_the_network_usable(network, message: bytes) -> None:
    _, guest = network()
    if message:
        guest.socket.send(message)
    guest.host_mac = b""
    guest.resolve()


def test_random_frames_leave_the_network_usable(network) -> None:
    _, guest = network()
    seed = hashlib.sha256(b"frames")
    for _ in range(2000):
        seed.update(b".")
        noise = seed.digest() * 3
        kind = (b"\x08\x00\x45", b"\x86\xdd\x60", b"\x08\x06\x00")[noise[0] % 3]
        try:
            guest.socket.setblocking(False)
            guest.send(guest.host_mac + GUEST_MAC + kind + noise[: noise[1] % 90])
        except BlockingIOError:
            guest.socket.settimeout(5)
            guest.socket.recv(70000)
    guest.socket.settimeout(60)
    guest.host_mac = b""
    guest.resolve()


def test_port_taken_is_told_in_one_line(server) -> None:
    taken = server.getsockname()[1]
    with pytest.raises(DeviceError, match=rf"127\.0\.0\.1:{taken} \(tcp\): Address already in use"):
        UserBackend().open("", [("hostfwd", f"tcp:127.0.0.1:{taken}-:22")])


def test_close_twice_and_many_networks() -> None:
    ports = [UserPort(Options()) for _ in range(4)]
    for port in ports * 2:
        port.close()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hostfwd", "tcp::22", "write tcp|udp"),
        ("hostfwd", "sctp::1-:2", "write tcp|udp"),
        ("hostfwd", "tcp::70000-:2", "1 to 65535"),
        ("hostfwd", "tcp::1-:0", "1 to 65535"),
        ("hostfwd", "tcp:nowhere:1-:2", "not an IPv4 address"),
        ("restrict", "yes", "neither on nor off"),
        ("mtu", "65522", "576 to 65521"),
        ("hostname", "a b", "letters"),
        ("smb", "/", "no option 'smb'"),
    ],
)
def test_option_malformed_is_refused_in_one_line(key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_options([(key, value)])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_forward_without_a_host_address_is_local_only() -> None:
    assert str(parse_forward("tcp::2222-:22").host) == "127.0.0.1"
    assert str(parse_forward("udp:0.0.0.0:1-10.0.2.16:2").guest) == "10.0.2.16"
