# SPDX-License-Identifier: MIT
"""The form of fuzz_power.py's inputs, and its seeds: what the Linux driver and a host do."""

from __future__ import annotations

import enum
import struct

from vdesktop_core.devices.power import wire
from vdesktop_core.devices.power.wire import RequestType

#: What a payload of each request needs, as the Linux driver sends it.
LAYOUTS = {
    RequestType.REGIONS: wire.RANGE,
    RequestType.CPUS: wire.RANGE,
    RequestType.SLOTS: wire.RANGE,
    RequestType.CRASH: wire.CRASH,
    RequestType.ACKNOWLEDGE: wire.ACKNOWLEDGE,
    RequestType.RESET_SLOT: wire.RESET_SLOT,
    RequestType.CPU_STATE: wire.CPU_STATE,
}


class Op(enum.IntEnum):
    """An operation's first byte, modulo their number; its arguments come after it."""

    REQUEST = 0  #: room for the reply / 16, length, bytes: a request as it is
    FRAMED = 1  #: type, room for the reply / 16, length, payload: a request with its header
    BUFFER = 2  #: bytes to read, bytes to write: a buffer for an event
    KICK = 3  #: the device serves both queues
    START = 4  #: features: a reset, and DRIVER_OK
    EMERGENCY = 5  #: 4 bytes into the configuration
    PLUG = 6  #: slot
    UNPLUG = 7  #: slot, by force
    LOSE = 8  #: slot
    EJECT = 9  #: slot: the host asks
    CPU = 10  #: CPU, online or not: the host asks
    MACHINE = 11  #: action: the host asks
    ANSWER = 12  #: verdict, reason: to the last event that asked
    TURN = 13  #: the control loop has its turn


def framed(kind: int, payload: bytes = b"", room: int = 256) -> bytes:
    """An operation: a request that is framed by the target."""
    return bytes([Op.FRAMED, kind, room // 16, len(payload)]) + payload


def raw(data: bytes, room: int = 256) -> bytes:
    """An operation: a request as it is."""
    return bytes([Op.REQUEST, room // 16, len(data)]) + data


def seeds() -> dict[str, bytes]:
    """A driver's life, and the host's requests."""
    kick, turn = bytes([Op.KICK]), bytes([Op.TURN])
    start = bytes([Op.START, 0xFF]) + bytes([Op.BUFFER, 0, 32]) * 8 + kick
    every = wire.RANGE.pack(first=0, count=99)
    lists = framed(RequestType.MACHINE) + b"".join(
        framed(kind, every, room=room) + kick
        for kind in (RequestType.REGIONS, RequestType.CPUS, RequestType.SLOTS)
        for room in (0, 16, 64, 2048)
    )
    crash = wire.CRASH.pack(text_size=12) + b"panic\x1b[2J\n\xff!"
    words = (
        framed(RequestType.CRASH, crash)
        + framed(RequestType.CPU_STATE, wire.CPU_STATE.pack(cpu=1, state=1))
        + framed(RequestType.RESET_SLOT, wire.RESET_SLOT.pack(slot=1, generation=0))
        + framed(RequestType.SHUTDOWN)
        + framed(RequestType.RESET)
        + kick
        + turn
    )
    asked = b"".join(
        ask + kick + bytes([Op.ANSWER, verdict, 1]) + kick + turn
        for ask in (bytes([Op.EJECT, 1]), bytes([Op.CPU, 2, 1]), bytes([Op.MACHINE, 1]))
        for verdict in (1, 2, 3)
    )
    changes = bytes(
        [Op.PLUG, 5, Op.KICK, Op.LOSE, 5, Op.KICK, Op.UNPLUG, 5, Op.KICK, Op.EJECT, 2, Op.UNPLUG, 2]
    )
    header = struct.pack("<HHI", RequestType.CPUS, 0, 16)
    return {
        "lists": start + lists,
        "words": start + words,
        "asked": start + asked + bytes([Op.EJECT, 2]) + bytes([Op.START, 0]) + asked,
        "changes": start + changes + kick + turn + lists,
        "raw": start + raw(header + every) + raw(header) + raw(header[:7]) + raw(b"", 0) + kick,
        "emergency": b"".join(bytes([Op.EMERGENCY, code, 0, 0, 0]) + turn for code in range(5)),
        "buffers": start + bytes([Op.BUFFER, 1, 32, Op.KICK, Op.START, 0xFF, Op.BUFFER, 0, 31, Op.KICK]),
    }


def words() -> list[bytes]:
    """Headers that a fuzzer takes long to find."""
    return [
        wire.REQUEST_HEADER.pack(type=kind, size=8 + (LAYOUTS[kind].size if kind in LAYOUTS else 0))
        for kind in RequestType
    ]
