# SPDX-License-Identifier: MIT
"""The form of fuzz_control.py's inputs, and its seeds: what clients of a control socket do."""

from __future__ import annotations

import enum
import json
import struct
from typing import Any

#: Clients at a time: one more than a server has room for at the target.
CLIENTS = 4


class Op(enum.IntEnum):
    """An operation's first byte, modulo their number; the client's number and arguments come after it."""

    BYTES = 0  #: length (2 bytes), bytes as they are
    LINE = 1  #: length (2 bytes), bytes, to which a line feed is added
    FILL = 2  #: a byte, 16384 times
    READ = 3  #: the client reads what there is
    HALF = 4  #: the client closes its sending half
    LEAVE = 5  #: the client closes
    EVENT = 6  #: something happens to the machine, as often as the argument says
    TURN = 7  #: the control loop has its turn


def line(fields: Any, client: int = 0) -> bytes:
    """An operation: a request."""
    data = json.dumps(fields).encode()
    return struct.pack("<BBH", Op.LINE, client, len(data)) + data


def seeds() -> dict[str, bytes]:
    """Clients of each kind."""
    turn, read = bytes([Op.TURN, 0]), bytes([Op.READ, 0])
    verbs: list[dict[str, Any]] = [
        {"do": "status"},
        {"do": "stats"},
        {"do": "shutdown", "timeout": 3, "force": True},
        {"do": "reset"},
        {"do": "reset", "slot": "disk0"},
        {"do": "pause"},
        {"do": "resume"},
        {"do": "plug", "device": {"type": "blk", "path": "/absent", "queues": 2, "cache": "writeback"}},
        {"do": "plug", "device": {"type": "console", "ports": [{"backend": "null", "name": "x"}]}},
        {"do": "plug", "device": {"type": "net", "backend": "user,mtu=1"}},
        {"do": "plug", "device": {"type": "input", "kind": "keyboard"}},
        {"do": "unplug", "slot": 4, "timeout": 1.5},
        {"do": "unplug", "slot": "data", "force": True},
        {"do": "cpus", "count": 4},
        {"do": "screenshot", "path": "/tmp/x.png"},
        {"do": "events"},
    ]
    every = b"".join(line({"id": number, **verb}) + turn for number, verb in enumerate(verbs))
    event = bytes([Op.EVENT, 0, 3])
    return {
        "verbs": every + read,
        "together": b"".join(line({"id": n, "do": "stats"}, n % CLIENTS) for n in range(9)) + turn + read,
        "events": line({"id": 1, "do": "events"}) + turn + event + read + bytes([Op.LEAVE, 0]) + event,
        "deaf": line({"id": 1, "do": "events"}) + turn + bytes([Op.EVENT, 0, 255]) * 8 + turn + read,
        "half": line({"id": 1, "do": "status"}) + bytes([Op.HALF, 0]) + turn + read,
        "long": bytes([Op.FILL, 0, 0x20]) * 5 + turn + read + bytes([Op.TURN, 1]),
        "split": struct.pack("<BBH", Op.BYTES, 0, 9)
        + b'{"id":1,"'
        + turn
        + struct.pack("<BBH", Op.BYTES, 0, 13)
        + b'do":"pause"}\n\n',
        "crowd": b"".join(line({"id": 1, "do": "status"}, n) + bytes([Op.TURN, n]) for n in range(CLIENTS)),
    }


def words() -> list[bytes]:
    """What requests are made of."""
    verbs = "status stats shutdown reset pause resume plug unplug cpus screenshot events"
    keys = "id do slot timeout force device count path screen type name"
    return [f'"{word}"'.encode() for word in f"{verbs} {keys}".split()]
