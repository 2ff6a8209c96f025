# SPDX-License-Identifier: MIT
"""The console plane, by a driver that says what real ones say, and what hostile ones do."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from console_rig import (
    ADD,
    CONSOLE,
    CONTROL_RX,
    CONTROL_TX,
    F_EMERG_WRITE,
    F_SIZE,
    NAME,
    OPEN,
    PORT_READY,
    READY,
    REMOVE,
    RESIZE,
    multiport,
    read_all,
    tx,
)
from split_driver import FREE, wait_for

from vdesktop_core._native import ffi, lib

if TYPE_CHECKING:
    from pathlib import Path


# Without MULTIPORT


def test_output_plain_reaches_the_descriptor(consoles, pipes) -> None:
    host, guest = pipes()
    console = consoles()
    console.add_port(out_fd=guest)
    console.start(0)
    console.send(b"hello ")
    console.send(b"world")
    assert read_all(host, 11) == b"hello world"
    assert console.rig.wait_used(1)[1] == 0
    assert console.counters().tx_bytes == 11


def test_input_plain_fills_the_buffers_in_order(consoles, pipes) -> None:
    guest, host = pipes()
    console = consoles()
    console.add_port(in_fd=guest)
    console.start(0)
    os.write(host, b"abcdef")
    console.give(size=4)
    console.give(size=4)
    assert console.received() + console.received() == b"abcdef"
    wait_for(lambda: console.rig.levels[-1:] == [True], "the interrupt")


def test_input_without_buffers_waits_in_the_host(consoles, pipes) -> None:
    guest, host = pipes()
    console = consoles()
    console.add_port(in_fd=guest)
    console.start(0)
    os.write(host, b"early")
    assert console.silent(0)
    console.give()
    assert console.received() == b"early"


def test_output_scattered_over_segments_arrives_whole(consoles, pipes) -> None:
    host, guest = pipes()
    console = consoles()
    console.add_port(out_fd=guest)
    console.start(0)
    parts = [(FREE + 100 * i, 7) for i in range(20)]
    for i, (at, n) in enumerate(parts):
        console.rig.memory.write(at, bytes([65 + i]) * n)
    console.rig.add(parts, [], index=1)
    console.rig.kick(1)
    assert read_all(host, 140) == b"".join(bytes([65 + i]) * 7 for i in range(20))


def test_output_to_nobody_is_dropped_and_counted(consoles) -> None:
    console = consoles()
    console.add_port()
    console.start(0)
    console.send(b"x" * 100)
    console.rig.wait_used(1)
    assert console.counters().tx_dropped_bytes == 100


def test_slow_reader_makes_the_guest_wait_and_loses_nothing(consoles, pipes) -> None:
    host, guest = pipes()
    console = consoles()
    console.add_port(out_fd=guest)
    console.start(0)
    data = bytes(range(256)) * 64
    for _ in range(20):  # 320 KiB into a pipe of 64 KiB
        console.send(data)
    console.wait_counter("tx_stalls", 1)
    assert console.rig.used_index(1) < 20
    assert read_all(host, 20 * len(data)) == 20 * data
    wait_for(lambda: console.rig.used_index(1) == 20, "all chains")
    assert console.counters().tx_dropped_bytes == 0


def test_absent_reader_of_a_lossy_port_stalls_the_guest_once_and_may_come_back(consoles, pipes) -> None:
    host, guest = pipes()
    console = consoles()
    console.add_port(out_fd=guest, flags=lib.VD_CONSOLE_IS_CONSOLE | lib.VD_CONSOLE_LOSSY)
    console.start(0)
    for _ in range(20):
        console.send(b"x" * (16 << 10))
    wait_for(lambda: console.rig.used_index(1) == 20, "all chains")
    counters = console.counters()
    assert counters.tx_dropped_bytes + counters.tx_bytes == 20 * (16 << 10)
    assert counters.tx_dropped_bytes > 0
    assert counters.tx_stalls == 1
    read_all(host, counters.tx_bytes)
    sent = 20
    while console.counters().tx_bytes == counters.tx_bytes:  # until the plane has noticed
        console.send(b"!")
        sent += 1
        wait_for(lambda: console.rig.used_index(1) == sent, "the chain")  # noqa: B023 - called at once
    assert read_all(host, 1) == b"!"


def test_end_of_input_leaves_output_alive(consoles, pipes) -> None:
    (guest_in, host_out), (host_in, guest_out) = pipes(), pipes()
    console = consoles()
    console.add_port(in_fd=guest_in, out_fd=guest_out)
    console.start(0)
    console.give()
    os.close(guest_in)
    os.close(host_out)
    console.wait_counter("disconnects", 1)
    console.send(b"still here")
    assert read_all(host_in, 10) == b"still here"


def test_reader_that_goes_is_noticed_and_output_dropped(consoles, pipes) -> None:
    host, guest = pipes()
    console = consoles()
    console.add_port(out_fd=guest)
    console.start(0)
    os.close(host)
    console.send(b"lost")
    console.send(b"lost")
    wait_for(lambda: console.rig.used_index(1) == 2, "both chains")
    assert console.counters().tx_dropped_bytes == 8
    assert console.counters().disconnects == 1


def test_full_disk_drops_counts_and_logs_once(consoles, caplog: pytest.LogCaptureFixture) -> None:
    console = consoles()
    full = os.open("/dev/full", os.O_WRONLY)
    console.add_port(out_fd=full)
    os.close(full)
    console.start(0)
    for _ in range(3):
        console.send(b"lost")
    wait_for(lambda: console.rig.used_index(1) == 3, "all chains")
    assert console.counters().tx_dropped_bytes == 12
    with caplog.at_level("ERROR"):
        console.rig.host.drain_log()
    assert [r.getMessage() for r in caplog.records] == ["port 0: output is lost: No space left on device"]


def test_regular_file_as_input_is_read_to_its_end(consoles, tmp_path: Path) -> None:
    path = tmp_path / "typed"
    path.write_bytes(b"y" * 10000)
    fd = os.open(path, os.O_RDONLY)
    console = consoles()
    console.add_port(in_fd=fd)
    os.close(fd)
    console.start(0)
    got = b""
    while len(got) < 10000:
        console.give()
        got += console.received()
    assert got == b"y" * 10000


def test_escape_typed_signals_and_never_reaches_the_guest(consoles, pipes) -> None:
    guest, host = pipes()
    told = os.eventfd(0, os.EFD_NONBLOCK)
    console = consoles()
    console.add_port(in_fd=guest, escape_fd=told, escape=0x1D, escape_then=ord("q"))
    console.start(0)
    os.write(host, b"a\x03\x1d")
    console.give()
    assert console.received() == b"a\x03"  # Ctrl-C is the guest's
    console.give()
    os.write(host, b"qb")
    assert console.received() == b"b"
    assert os.eventfd_read(told) == 1
    console.give()
    os.write(host, b"\x1d\x1d\x1dc")
    assert console.received() == b"\x1dc"  # twice: itself; before another key: dropped
    with pytest.raises(BlockingIOError):
        os.eventfd_read(told)
    os.close(told)


# Config space


def test_size_without_multiport_is_in_config_space_and_interrupts(consoles) -> None:
    console = consoles()
    console.add_port(cols=80, rows=25)
    assert (console.rig.config(0, 2), console.rig.config(2, 2)) == (80, 25)
    console.start(F_SIZE)
    lib.vd_console_resize(console.console, 0, 132, 43)
    assert (console.rig.config(0, 2), console.rig.config(2, 2)) == (132, 43)
    assert console.rig.read(0x60) & 2


def test_emergency_write_before_any_queue_is_written(consoles, pipes) -> None:
    host, guest = pipes()
    console = consoles()
    console.add_port(out_fd=guest)
    for byte in b"oops":
        console.rig.write(0x108, byte)
    assert read_all(host, 4) == b"oops"
    assert console.rig.offered() & F_EMERG_WRITE


def test_emergency_flood_is_bounded_and_never_blocks(consoles, pipes) -> None:
    host, guest = pipes()
    with contextlib.suppress(BlockingIOError):
        while os.write(guest, b"x" * 4096):
            pass
    console = consoles()
    console.add_port(out_fd=guest)
    for _ in range(5000):
        console.rig.write(0x108, 65)
    wait_for(
        lambda: (
            console.counters().tx_dropped_bytes + lib.vd_console_emergency_dropped(console.console) == 5000
        ),
        "every byte's end",
    )
    os.close(host)


# MULTIPORT


def test_multiport_handshake_says_what_linux_needs_in_its_order(consoles, pipes) -> None:
    (guest_in, _), (_, guest_out) = pipes(), pipes()
    console = consoles(2)
    console.add_port(0, guest_in, guest_out, cols=80, rows=25, name="main")
    console.add_port(1, guest_in, guest_out, flags=0, name="com.redhat.spice.0")
    console.start()
    assert console.rig.config(4, 4) == 2
    console.control(0, READY)
    assert console.heard(2) == [(0, ADD, 0, b""), (1, ADD, 0, b"")]
    console.control(0, PORT_READY)
    assert console.heard(4) == [
        (0, CONSOLE, 1, b""),
        (0, NAME, 1, b"main"),
        (0, OPEN, 1, b""),
        (0, RESIZE, 0, struct.pack("<HH", 25, 80)),
    ]
    console.control(1, PORT_READY)
    assert console.heard(2) == [(1, NAME, 1, b"com.redhat.spice.0"), (1, OPEN, 1, b"")]


def test_multiport_ports_carry_their_own_bytes(consoles, pipes) -> None:
    console, say, hear = multiport(consoles, pipes, 31)
    for number in (0, 1, 17, 30):
        console.send(f"from {number}".encode(), number)
        assert read_all(hear[number], len(f"from {number}")) == f"from {number}".encode()
        os.write(say[number], f"to {number}".encode())
        console.give(number)
        assert console.received(number) == f"to {number}".encode()


def test_port_that_stalls_leaves_the_others_running(consoles, pipes) -> None:
    console, _, hear = multiport(consoles, pipes)
    for _ in range(10):
        console.send(b"x" * (16 << 10), 1)
    console.wait_counter("tx_stalls", 1, 1)
    console.send(b"alive", 0)
    assert read_all(hear[0], 5) == b"alive"


def test_port_that_the_guest_has_not_opened_keeps_its_input(consoles, pipes) -> None:
    console, say, _ = multiport(consoles, pipes)
    console.control(1, OPEN, 0)
    console.give(1)
    wait_for(lambda: console.rig.used_index(CONTROL_TX) == 6, "all messages")
    os.write(say[1], b"later")
    assert console.silent(4)
    console.control(1, OPEN, 1)
    assert console.received(1) == b"later"


def test_session_of_a_port_says_which_opening_and_where_its_bytes_begin(consoles, pipes) -> None:
    console, _, hear = multiport(consoles, pipes)
    told = os.eventfd(0, os.EFD_NONBLOCK)
    assert lib.vd_console_watch_port(console.console, 1, told) == 0
    session = ffi.new("struct vd_console_session *")

    def now(port: int = 1) -> tuple[bool, int, int]:
        console.counters(0)
        assert lib.vd_console_port_session(console.console, port, session) == 0
        return session.open, session.openings, session.start

    assert now() == (True, 1, 0)
    console.send(b"first", 1)
    assert read_all(hear[1], 5) == b"first"
    assert now() == (True, 1, 0)
    console.control(1, OPEN, 0)
    wait_for(lambda: not now()[0], "closed")
    assert now() == (False, 1, 0)
    console.control(1, OPEN)
    wait_for(lambda: now()[0], "opened")
    console.control(1, OPEN)  # open as it is: no news
    console.send(b"second", 1)
    assert read_all(hear[1], 6) == b"second"
    assert now() == (True, 2, 5)
    assert os.eventfd_read(told) == 2
    assert now(0) == (True, 1, 0)
    console.rig.write(0x70, 0)
    assert now() == (False, 2, 5)
    assert os.eventfd_read(told) == 1
    assert lib.vd_console_watch_port(console.console, 1, -1) == 0
    for port in (7, 99):
        assert lib.vd_console_watch_port(console.console, port, told) == -errno.ENOENT
    assert lib.vd_console_port_session(console.console, 99, session) == -errno.ENOENT
    os.close(told)


def test_resize_is_told_as_it_is_when_a_buffer_comes(consoles, pipes) -> None:
    console, _, _ = multiport(consoles, pipes)
    for columns in range(100, 200):  # coalesces: 100 sizes, one message
        lib.vd_console_resize(console.console, 0, columns, 50)
    assert console.heard(1) == [(0, RESIZE, 0, struct.pack("<HH", 50, 199))]
    assert console.silent(CONTROL_RX)


def test_port_hot_plugged_and_unplugged_is_told(consoles, pipes) -> None:
    console = consoles(3)
    console.add_port(0)
    console.start()
    console.control(0, READY)
    assert console.heard(1) == [(0, ADD, 0, b"")]
    assert console.add_port(0) == -17  # EEXIST
    assert console.add_port(2) == 0
    assert console.heard(1) == [(2, ADD, 0, b"")]
    assert lib.vd_console_remove_port(console.console, 2) == 0
    assert console.heard(1) == [(2, REMOVE, 0, b"")]
    assert lib.vd_console_remove_port(console.console, 2) == -2  # ENOENT


def test_port_removed_in_flight_gives_its_chains_back(consoles, pipes) -> None:
    console, _, _ = multiport(consoles, pipes)
    for _ in range(10):
        console.send(b"x" * (16 << 10), 1)
    console.wait_counter("tx_stalls", 1, 1)
    assert lib.vd_console_remove_port(console.console, 1) == 0
    wait_for(lambda: console.rig.used_index(tx(1)) == 10, "the chains")


def test_socket_clients_take_turns(consoles, tmp_path: Path) -> None:
    path = tmp_path / "console"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(str(path))
    listener.listen()
    console = consoles()
    console.add_port(listen_fd=listener.fileno(), flags=lib.VD_CONSOLE_IS_CONSOLE | lib.VD_CONSOLE_LOSSY)
    console.start(0)
    for turn in range(1, 4):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(60)
            client.connect(str(path))
            console.wait_counter("connections", turn)
            client.sendall(b"hi")
            console.give()
            assert console.received() == b"hi"
            console.send(b"there")
            assert client.recv(100) == b"there"
        console.give()
        console.wait_counter("disconnects", turn)
    listener.close()


def test_socket_client_of_a_guest_that_listens_not_makes_room(consoles, tmp_path: Path) -> None:
    path = tmp_path / "console"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(str(path))
    listener.listen()
    console = consoles()
    console.add_port(listen_fd=listener.fileno())
    for turn in range(1, 3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
            console.wait_counter("connections", turn)
        console.wait_counter("disconnects", turn)
    listener.close()
