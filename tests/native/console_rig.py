# SPDX-License-Identifier: MIT
"""A console on a slot, and the driver's side of its ports."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

from split_driver import FREE, Rig, wait_for

from vdesktop_core._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable

F_SIZE, F_MULTIPORT, F_EMERG_WRITE = 1, 2, 4
READY, ADD, REMOVE, PORT_READY, CONSOLE, RESIZE, OPEN, NAME = range(8)
CONTROL_RX, CONTROL_TX = 2, 3
#: Every queue has its own half megabyte of buffers, in 32 places.
PLACE = 16 << 10
PLACES = 32


def rx(port: int) -> int:
    return 2 * port + 2 if port else 0


def tx(port: int) -> int:
    return rx(port) + 1


class Console:
    """A vd_console, driven message by message."""

    def __init__(self, max_ports: int = 2) -> None:
        self.rig = Rig()
        self.console = lib.vd_console_new(
            ffi.cast("struct vd_host *", self.rig.host.native),
            ffi.cast("struct vd_mem *", self.rig.memory.native),
            ffi.cast("struct vd_loop *", self.rig.thread.native),
            b"console",
            max_ports,
        )
        assert self.console != ffi.NULL
        self.rig.attach(int(ffi.cast("uintptr_t", lib.vd_console_device(self.console))))
        self.n_queues = max(4, tx(max_ports - 1) + 1)
        self._turn = dict.fromkeys(range(self.n_queues), 0)
        self._lengths: dict[tuple[int, int], tuple[int, int]] = {}

    def add_port(self, number: int = 0, in_fd: int = -1, out_fd: int = -1, **options: Any) -> int:
        name = ffi.new("char[]", options.pop("name", "").encode())
        values = {"id": number, "in_fd": in_fd, "out_fd": out_fd, "listen_fd": -1, "escape_fd": -1}
        values |= {"flags": lib.VD_CONSOLE_IS_CONSOLE, "name": name} | options
        return int(lib.vd_console_add_port(self.console, ffi.new("struct vd_console_port_config *", values)))

    def start(self, features: int | None = None) -> None:
        self.rig.negotiate(features, n_queues=self.n_queues)

    def free(self) -> None:
        self.rig.close()
        lib.vd_console_free(self.console)
        self.rig.free()

    def place(self, queue: int) -> int:
        self._turn[queue] += 1
        return FREE + (queue << 19) + (self._turn[queue] % PLACES) * PLACE

    # The driver's side

    def send(self, data: bytes, port: int = 0, *, queue: int | None = None) -> None:
        queue = tx(port) if queue is None else queue
        at = self.place(queue)
        self.rig.memory.write(at, data)
        self.rig.add([(at, len(data))], [], index=queue)
        self.rig.kick(queue)

    def give(self, port: int = 0, size: int = 4096, *, queue: int | None = None) -> None:
        """Give the device a buffer to receive into."""
        queue = rx(port) if queue is None else queue
        at = self.place(queue)
        head = self.rig.add([], [(at, size)], index=queue)
        self._lengths[queue, head] = (at, size)
        self.rig.kick(queue)

    def received(self, port: int = 0, *, queue: int | None = None) -> bytes:
        """Wait for one filled buffer."""
        queue = rx(port) if queue is None else queue
        head, written = self.rig.wait_used(queue)
        at, size = self._lengths.pop((queue, head))
        assert written <= size
        return self.rig.memory.read(at, written)

    def control(self, port: int, event: int, value: int = 1) -> None:
        self.send(struct.pack("<IHH", port, event, value), queue=CONTROL_TX)

    def heard(self, n: int) -> list[tuple[int, int, int, bytes]]:
        """Wait for n control messages: port, event, value, what follows."""
        found = []
        for _ in range(n):
            self.give(queue=CONTROL_RX)
            message = self.received(queue=CONTROL_RX)
            found.append((*struct.unpack("<IHH", message[:8]), message[8:]))
        return found

    def silent(self, queue: int) -> bool:
        """Whether the device has nothing for a queue once it has done all it was asked so far."""
        self.counters(0)
        return self.rig.poll_used(queue) is None

    def counters(self, port: int = 0) -> Any:
        counters = ffi.new("struct vd_console_counters *")
        lib.vd_console_port_counters(self.console, port, counters)
        return counters

    def wait_counter(self, name: str, value: int, port: int = 0) -> None:
        wait_for(lambda: getattr(self.counters(port), name) >= value, f"{name} {value}")


def pipe() -> tuple[int, int]:
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


def read_all(fd: int, size: int) -> bytes:
    """Read exactly size bytes of a non-blocking descriptor."""
    data = bytearray()

    def more() -> bool:
        try:
            data.extend(os.read(fd, size - len(data)))
        except BlockingIOError:
            return False
        return len(data) == size

    wait_for(more, f"{size} bytes")
    return bytes(data)


def multiport(
    consoles: Callable[..., Console], pipes: Callable[[], tuple[int, int]], n: int = 2
) -> tuple[Console, list[int], list[int]]:
    """A running multiport console: port 0 a console, the others byte streams, all open on both sides."""
    console, say, hear = consoles(n), [], []
    for number in range(n):
        (guest_in, host_out), (host_in, guest_out) = pipes(), pipes()
        say.append(host_out)
        hear.append(host_in)
        flags = lib.VD_CONSOLE_IS_CONSOLE if number == 0 else 0
        assert console.add_port(number, guest_in, guest_out, flags=flags, name=f"port.{number}") == 0
    console.start()
    console.control(0, READY)
    assert [m[:2] for m in console.heard(n)] == [(i, ADD) for i in range(n)]
    for number in range(n):
        console.control(number, PORT_READY)
        console.heard(3 if number == 0 else 2)
        console.control(number, OPEN)
    return console, say, hear
