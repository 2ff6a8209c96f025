# SPDX-License-Identifier: MIT
"""The console plane and drivers that break the rules, or stop in the middle."""

from __future__ import annotations

import contextlib
import os
import random
import struct

import pytest
from console_rig import (
    ADD,
    CONSOLE,
    CONTROL_RX,
    CONTROL_TX,
    F_EMERG_WRITE,
    F_MULTIPORT,
    F_SIZE,
    NAME,
    OPEN,
    PORT_READY,
    READY,
    REMOVE,
    RESIZE,
    Console,
    multiport,
    read_all,
)
from split_driver import FREE, NEEDS_RESET, wait_for

from vdesktop_core._native import ffi, lib


@pytest.mark.parametrize("port", [2, 31, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("event", [PORT_READY, OPEN])
def test_control_port_out_of_range_is_refused_and_counted(consoles, pipes, port: int, event: int) -> None:
    console, _, hear = multiport(consoles, pipes)
    console.control(port, event)
    wait_for(lambda: lib.vd_console_bad_controls(console.console) == 1, "the refusal")
    console.send(b"fine")
    assert read_all(hear[0], 4) == b"fine"


def test_control_event_unknown_is_refused_and_counted(consoles, pipes) -> None:
    console, _, _ = multiport(consoles, pipes)
    for event in (ADD, REMOVE, CONSOLE, RESIZE, NAME, 8, 0xFFFF):
        console.control(0, event)
    wait_for(lambda: lib.vd_console_bad_controls(console.console) == 7, "the refusals")
    assert not console.rig.status & NEEDS_RESET


@pytest.mark.parametrize("size", [1, 7])
def test_control_message_truncated_needs_reset(consoles, pipes, size: int) -> None:
    console, _, _ = multiport(consoles, pipes)
    console.send(b"\0" * size, queue=CONTROL_TX)
    wait_for(lambda: console.rig.status & NEEDS_RESET, "NEEDS_RESET")


def test_control_message_oversized_is_read_to_its_length(consoles, pipes) -> None:
    console, _, hear = multiport(consoles, pipes)
    console.send(struct.pack("<IHH", 0, OPEN, 1) + b"\xff" * 8000, queue=CONTROL_TX)
    console.send(b"fine")
    assert read_all(hear[0], 4) == b"fine"
    assert lib.vd_console_bad_controls(console.console) == 0


def test_control_buffer_too_small_needs_reset(consoles, pipes) -> None:
    console = consoles()
    console.add_port()
    console.start()
    console.give(size=7, queue=CONTROL_RX)
    console.control(0, READY)
    wait_for(lambda: console.rig.status & NEEDS_RESET, "NEEDS_RESET")


def test_control_ready_flood_without_buffers_makes_nothing_grow(consoles, pipes) -> None:
    console, _, _ = multiport(consoles, pipes)
    for _ in range(1000):
        console.control(0, READY)
        console.rig.wait_used(CONTROL_TX) if console.rig.queues[CONTROL_TX].next_avail > 100 else None
    assert [m[:2] for m in console.heard(2)] == [(0, ADD), (1, ADD)]
    assert console.silent(CONTROL_RX)


@pytest.mark.parametrize(("queue", "out", "into"), [(0, 8, 0), (0, 8, 8), (1, 0, 8), (1, 8, 8)])
def test_buffer_of_the_wrong_direction_needs_reset_and_reset_heals(
    consoles, pipes, queue: int, out: int, into: int
) -> None:
    (guest, host_out), (host_in, guest_out) = pipes(), pipes()
    console = consoles()
    console.add_port(in_fd=guest, out_fd=guest_out)
    console.start(0)
    os.write(host_out, b"typed")
    at = console.place(queue)
    console.rig.add([(at, out)] if out else [], [(at + 64, into)] if into else [], index=queue)
    console.rig.kick(queue)
    wait_for(lambda: console.rig.status & NEEDS_RESET, "NEEDS_RESET")
    console.start(0)
    console.send(b"fine")
    assert read_all(host_in, 4) == b"fine"
    console.give()
    assert console.received() == b"typed"


def test_descriptor_outside_memory_needs_reset(consoles, pipes) -> None:
    _, guest = pipes()
    console = consoles()
    console.add_port(out_fd=guest)
    console.start(0)
    console.rig.add([(0x1000, 16)], [], index=1)
    console.rig.kick(1)
    wait_for(lambda: console.rig.status & NEEDS_RESET, "NEEDS_RESET")


def test_reset_under_traffic_never_touches_memory_again(consoles, pipes) -> None:
    (guest, host_out), (_, guest_out) = pipes(), pipes()
    console = consoles()
    console.add_port(in_fd=guest, out_fd=guest_out, flags=lib.VD_CONSOLE_IS_CONSOLE | lib.VD_CONSOLE_LOSSY)
    for turn in range(50):
        console.start(0)
        for _ in range(8):
            console.send(b"x" * 4096)
            console.give()
        with contextlib.suppress(BlockingIOError):
            os.write(host_out, b"y" * 8192)
        console.rig.write(0x70, 0)
        before = console.rig.memory.read(FREE, 64 << 10)
        assert console.rig.memory.read(FREE, 64 << 10) == before, turn
        assert console.rig.status == 0


def test_queue_reset_of_a_stalled_port_starts_clean(consoles, pipes) -> None:
    host, guest = pipes()
    console = consoles()
    console.add_port(out_fd=guest)
    console.start(1 << 40)
    for _ in range(10):
        console.send(b"x" * (16 << 10))
    console.wait_counter("tx_stalls", 1)
    console.rig.write(0x30, 1)
    console.rig.write(0xC0, 1)
    assert console.rig.read(0xC0) == 0
    read_all(host, 64 << 10)
    console.rig.queues[1] = console.rig.queue(1, 128)
    console.send(b"after")
    wait_for(lambda: console.rig.used_index(1) == 1, "the chain")
    assert read_all(host, 5) == b"after"


def test_random_control_messages_leave_the_device_usable(consoles, pipes) -> None:
    console, _, hear = multiport(consoles, pipes)
    source = random.Random(5)
    for turn in range(300):
        console.send(
            struct.pack("<IHH", source.choice([0, 1, 2, 1 << 31]), source.randrange(10), source.randrange(3)),
            queue=CONTROL_TX,
        )
        console.rig.wait_used(CONTROL_TX)
        if turn < 100:
            console.give(queue=CONTROL_RX)
    assert not console.rig.status & NEEDS_RESET
    console.send(b"fine")
    assert read_all(hear[0], 4) == b"fine"


def test_features_offered_are_those_of_the_specification(consoles) -> None:
    assert consoles().rig.offered() & 0xFFFFFF == F_SIZE | F_MULTIPORT | F_EMERG_WRITE


def test_multiport_is_offered_only_with_room_for_several_ports() -> None:
    for max_ports, offered in ((1, False), (2, True)):
        console = Console(max_ports)
        device = lib.vd_console_device(console.console)
        assert bool(device.offered & 2) is offered
        console.free()


def test_size_of_a_single_port_reaches_config_space_columns_first() -> None:
    console = Console(1)
    console.add_port(cols=110, rows=35)
    device = lib.vd_console_device(console.console)
    assert bytes(ffi.buffer(device.config, 4)) == b"\x6e\x00\x23\x00"
    console.free()
