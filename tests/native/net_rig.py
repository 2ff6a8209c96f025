# SPDX-License-Identifier: MIT
"""A network card on a slot, the driver's side of its queues, and the host's end of its cable."""

from __future__ import annotations

import socket
import struct
from typing import Any

from split_driver import FREE, Rig, wait_for

from vdesktop_core._native import ffi, lib

MAC = bytes.fromhex("021122334455")
PEER = bytes.fromhex("02aabbccddee")
F_CSUM, F_GUEST_CSUM, F_TSO4, F_TSO6, F_USO = 1, 2, 1 << 11, 1 << 12, 1 << 56
F_MTU, F_MAC, F_MRG, F_STATUS = 1 << 3, 1 << 5, 1 << 15, 1 << 16
F_CTRL_VQ, F_CTRL_RX, F_CTRL_VLAN, F_CTRL_RX_EXTRA, F_CTRL_MAC = 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 23
F_MQ, F_CTRL_OFFLOADS = 1 << 22, 1 << 2
RX, TX, CTRL = 0, 1, 2
HDR = 12
PLACE = 68 << 10  # a frame of 64 KiB and its header
PLACES = 128


def header(
    flags: int = 0,
    gso: int = 0,
    hdr_len: int = 0,
    gso_size: int = 0,
    start: int = 0,
    offset: int = 0,
    n: int = 0,
) -> bytes:
    return struct.pack("<BBHHHHH", flags, gso, hdr_len, gso_size, start, offset, n)


def frame(size: int = 60, to: bytes = MAC, kind: bytes = b"\x08\x00", fill: bytes = b"") -> bytes:
    body = fill or bytes(i & 0xFF for i in range(size - 14))
    return (to + PEER + kind + body)[:size]


class Card:
    """A vd_net over one end of a socket pair; `cable` is the other."""

    def __init__(
        self, *, vnet: bool = False, offloads: int = 0, fds: list[int] | None = None, **options: Any
    ) -> None:
        self.rig = Rig()
        self.cable, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.cable.settimeout(60)
        values = {
            "mac": MAC,
            "pairs": len(fds) if fds else 1,
            "flags": lib.VD_NET_VNET_HDR if vnet else 0,
            "offloads": offloads,
            "fd": fds or [ours.fileno()],
        }
        error = ffi.new("int *")
        self.net = lib.vd_net_new(
            ffi.cast("struct vd_host *", self.rig.host.native),
            ffi.cast("struct vd_mem *", self.rig.memory.native),
            ffi.cast("struct vd_loop *", self.rig.thread.native),
            b"net",
            ffi.new("struct vd_net_config *", values | options),
            error,
        )
        ours.close()
        assert self.net != ffi.NULL, error[0]
        self.rig.attach(int(ffi.cast("uintptr_t", lib.vd_net_device(self.net))))
        self.vnet = vnet
        self._turn = 0
        self._buffers: dict[tuple[int, int], tuple[int, int]] = {}

    def start(self, features: int = 0, *, n_queues: int = 3) -> None:
        self._buffers.clear()
        self.rig.negotiate(features, n_queues=n_queues)

    def free(self) -> None:
        self.rig.close()
        lib.vd_net_free(self.net)
        self.rig.free()
        self.cable.close()

    def place(self) -> int:
        self._turn += 1
        return FREE + (self._turn % PLACES) * PLACE

    # The driver's side

    def send(self, data: bytes, hdr: bytes | None = None, *, parts: int = 1, queue: int = TX) -> None:
        data = (header() if hdr is None else hdr) + data
        at, step = self.place(), -(-len(data) // parts)
        self.rig.memory.write(at, data)
        out = [(at + i, min(step, len(data) - i)) for i in range(0, len(data), step)]
        self.rig.add(out, [], index=queue)
        self.rig.kick(queue)

    def give(self, size: int = 1526, n: int = 1, *, kick: bool = True) -> None:
        for _ in range(n):
            at = self.place()
            self._buffers[RX, self.rig.add([], [(at, size)], index=RX)] = (at, size)
        if kick:
            self.rig.kick(RX)

    def received(self) -> tuple[bytes, bytes]:
        """Wait for one frame: its header, and the frame from all its buffers."""
        first = self._buffer()
        hdr, data = first[:HDR], first[HDR:]
        for _ in range(struct.unpack("<H", hdr[10:12])[0] - 1):
            data += self._buffer()
        return hdr, data

    def _buffer(self) -> bytes:
        head, written = self.rig.wait_used(RX)
        at, size = self._buffers.pop((RX, head))
        assert 0 < written <= size
        return self.rig.memory.read(at, written)

    def command(self, cls: int, cmd: int, data: bytes = b"", *, queue: int = CTRL) -> int:
        """Send a control command; returns its ack."""
        at = self.place()
        self.rig.memory.write(at, bytes([cls, cmd]) + data)
        self.rig.memory.write(at + 65536, b"\xee")
        self.rig.add([(at, 2 + len(data))], [(at + 65536, 1)], index=queue)
        self.rig.kick(queue)
        self.rig.wait_used(queue)
        return self.rig.memory.read(at + 65536, 1)[0]

    # The host's side

    def wire(self, data: bytes) -> None:
        self.cable.send((header() if self.vnet else b"") + data)

    def heard(self) -> bytes:
        return self.cable.recv(70000)

    @property
    def counters(self) -> Any:
        counters = ffi.new("struct vd_net_counters *")
        lib.vd_net_counters(self.net, counters)
        return counters

    def wait_counter(self, name: str, value: int = 1) -> None:
        wait_for(lambda: getattr(self.counters, name) >= value, f"{name} {value}")
