# SPDX-License-Identifier: MIT
"""A guest of a user network, down to its Ethernet frames: ARP, DHCP's first word, UDP and one TCP connection.

The socket pair loses and reorders nothing, so neither does this.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple

GUEST_MAC, BROADCAST = bytes.fromhex("021122334455"), b"\xff" * 6
GUEST, HOST, DNS = (int(ipaddress.IPv4Address(a)) for a in ("10.0.2.15", "10.0.2.2", "10.0.2.3"))
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
HDR = 12
WINDOW = 60000


def ones_sum(data: bytes, start: int = 0) -> int:
    data += b"\0" * (len(data) % 2)
    total = start + sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Segment(NamedTuple):
    source: int
    target: int
    seq: int
    ack: int
    flags: int
    data: bytes


class Guest:
    """The card's end of a user network."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)
        self.socket.settimeout(60)
        self.host_mac = b""

    def send(self, frame: bytes, header: bytes = bytes(HDR)) -> None:
        self.socket.send(header + frame)

    def receive(self) -> tuple[bytes, bytes]:
        """One frame that is not ARP, which is answered: header and frame."""
        while True:
            message = self.socket.recv(70000)
            header, frame = message[:HDR], message[HDR:]
            if frame[12:14] != b"\x08\x06":
                return header, frame
            if frame[20:22] == b"\0\1" and frame[38:42] == struct.pack(">I", GUEST):
                self._arp(2, frame[22:28], frame[28:32])
            elif frame[20:22] == b"\0\2":
                self.host_mac = frame[22:28]

    def _arp(self, operation: int, mac: bytes, address: bytes) -> None:
        body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation)
        body += GUEST_MAC + struct.pack(">I", GUEST) + (mac if operation == 2 else bytes(6)) + address
        self.send((mac if operation == 2 else BROADCAST) + GUEST_MAC + b"\x08\x06" + body)

    def resolve(self) -> None:
        """Learn the gateway's address, and be known to it."""
        self._arp(1, bytes(6), struct.pack(">I", HOST))
        self.socket.settimeout(60)
        while not self.host_mac:
            frame = self.socket.recv(70000)[HDR:]
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2":
                self.host_mac = frame[22:28]

    def ipv4(self, protocol: int, target: int, payload: bytes) -> bytes:
        head = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, GUEST, target)
        head = head[:10] + struct.pack(">H", ones_sum(head) ^ 0xFFFF) + head[12:]
        return self.host_mac + GUEST_MAC + b"\x08\x00" + head + payload

    def packet(self, protocol: int) -> tuple[bytes, int, bytes]:
        """Wait for a packet of a protocol: virtio header, source address, payload. Checks checksums."""
        while True:
            header, frame = self.receive()
            if frame[12:14] != b"\x08\x00" or frame[23] != protocol:
                continue
            head = frame[14 : 14 + (frame[14] & 15) * 4]
            assert ones_sum(head) == 0xFFFF
            payload = frame[14 + len(head) : 14 + struct.unpack(">H", head[2:4])[0]]
            pseudo = head[12:20] + struct.pack(">HH", protocol, len(payload)) if protocol != 1 else b""
            assert ones_sum(pseudo + payload) == 0xFFFF
            return header, struct.unpack(">I", head[12:16])[0], payload

    def udp(self, target: int, port: int, data: bytes, source: int = 4000) -> None:
        self.send(self.ipv4(17, target, struct.pack(">HHHH", source, port, 8 + len(data), 0) + data))


class Tcp:
    """One connection. With `offload` the checksum, and of long segments the cutting, is left to the host."""

    def __init__(self, guest: Guest, *, offload: bool = False, mss: int = 1460) -> None:
        self.guest, self.offload, self.mss = guest, offload, mss
        self.seq, self.ack = 1000, 0
        self.sent_to = 0
        self.eof = False
        self.inbox = bytearray()
        self.biggest = 0

    def _send(self, flags: int, data: bytes = b"", options: bytes = b"") -> None:
        head = struct.pack(
            ">HHIIBBHHH",
            self.port, self.peer, self.seq, self.ack, (20 + len(options)) << 2, flags, WINDOW, 0, 0,
        ) + options  # fmt: skip
        length = len(head) + len(data)
        pseudo = ones_sum(struct.pack(">IIHH", GUEST, HOST, 6, length))
        if self.offload:
            gso = (1, 54, 1460) if len(data) > 1460 else (0, 0, 0)
            virtio = struct.pack("<BBHHHHH", 1, *gso, 34, 16, 0)
            head = head[:16] + struct.pack(">H", pseudo) + head[18:]
        else:
            virtio = bytes(HDR)
            head = head[:16] + struct.pack(">H", ones_sum(head + data, pseudo) ^ 0xFFFF) + head[18:]
        self.guest.send(self.guest.ipv4(6, HOST, head + data), virtio)
        self.seq = self.seq + len(data) + bool(flags & (SYN | FIN)) & 0xFFFFFFFF

    def _receive(self) -> Segment:
        _, _, payload = self.guest.packet(6)
        source, target, seq, ack, offset, flags, self.window = struct.unpack(">HHIIBBH", payload[:16])
        segment = Segment(source, target, seq, ack, flags, payload[(offset >> 4) * 4 :])
        self.sent_to = ack
        if self.ack and segment.seq == self.ack and (segment.data or flags & FIN):
            self.inbox += segment.data
            self.biggest = max(self.biggest, len(segment.data))
            self.eof = self.eof or bool(flags & FIN)
            self.ack = self.ack + len(segment.data) + bool(flags & FIN) & 0xFFFFFFFF
            self._send(ACK)
        return segment

    def connect(self, port: int) -> None:
        """To a port of the host's 127.0.0.1."""
        self.port, self.peer = 5000, port
        self._send(SYN, options=struct.pack(">BBH", 2, 4, self.mss))
        answer = self._receive()
        assert answer.flags & (SYN | RST) == SYN, "refused"
        self.ack = answer.seq + 1
        self._send(ACK)

    def accept(self, port: int) -> None:
        """From the host, through a forwarded port."""
        self.port = port
        asked = self._receive()
        assert asked.flags & SYN
        assert asked.target == port
        self.peer, self.ack = asked.source, asked.seq + 1
        self._send(SYN | ACK, options=struct.pack(">BBH", 2, 4, self.mss))
        while self.sent_to != self.seq:
            self._receive()

    def send(self, data: bytes, step: int) -> None:
        """Send all, in segments of `step` bytes, each acknowledged before the next."""
        for i in range(0, len(data), step):
            self._send(ACK | PSH, data[i : i + step])
            while self.sent_to != self.seq:
                self._receive()

    def read(self, size: int) -> bytes:
        while len(self.inbox) < size and not self.eof:
            self._receive()
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    def finish(self) -> None:
        self._send(FIN | ACK)
        while self.sent_to != self.seq:
            self._receive()
