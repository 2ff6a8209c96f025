# SPDX-License-Identifier: MIT
"""The form of fuzz_vdagent.py's inputs, and its seeds: what Debian's spice-vdagent and viewers do."""

from __future__ import annotations

import enum
import struct

from vdesktop_core.devices.agent.wire import CHUNK, MESSAGE, PROTOCOL, DataType, FileResult, Kind

#: What spice-vdagentd 0.22 announces.
CAPABILITIES = sum(1 << bit for bit in (0, 1, 2, 5, 6, 7, 8, 10, 11, 15, 16, 17))


class Option(enum.IntFlag):
    """The first byte: the host's policy, and whether the agent has greeted."""

    TO_GUEST = 1
    TO_HOST = 2
    FILES = 4
    GREETED = 8


class Op(enum.IntEnum):
    """An operation's first byte, modulo their number; its arguments come after it."""

    BYTES = 0  #: length (2 bytes), bytes from the guest as they are
    MESSAGE = 1  #: kind, length (2 bytes), data: a message in one chunk
    OFFER = 2  #: a viewer copies something: what
    READ = 3  #: a viewer pastes: 1, a picture; else, text
    DROP = 4  #: length (2 bytes), name: a viewer drops a file
    WRITE = 5  #: ... and sends what is left of it
    END = 6  #: the guest closes the port
    SENT = 7  #: the guest reads what waits for it


def message(kind: int, data: bytes = b"") -> bytes:
    """An operation: a message that is framed by the target."""
    return struct.pack("<BBH", Op.MESSAGE, kind, len(data)) + data


def raw(data: bytes) -> bytes:
    """An operation: bytes as they are."""
    return struct.pack("<BH", Op.BYTES, len(data)) + data


def framed(kind: int, data: bytes = b"", port: int = 1) -> bytes:
    """A message in one chunk."""
    whole = MESSAGE.pack(PROTOCOL, kind, 0, len(data)) + data
    return CHUNK.pack(port, len(whole)) + whole


def greeting(request: int) -> bytes:
    """Data of ANNOUNCE_CAPABILITIES."""
    return struct.pack("<II", request, CAPABILITIES)


def seeds() -> dict[str, bytes]:
    """Sessions of each kind."""
    everything = Option.TO_GUEST | Option.TO_HOST | Option.FILES
    greet = message(Kind.ANNOUNCE_CAPABILITIES, greeting(1)) + message(
        Kind.ANNOUNCE_CAPABILITIES, greeting(0)
    )
    read, sent, end = bytes([Op.READ, 0]), bytes([Op.SENT]), bytes([Op.END])
    to_guest = b"".join(
        bytes([Op.OFFER, what])
        + sent
        + message(Kind.CLIPBOARD_REQUEST, struct.pack("<II", 0, kind))
        + message(Kind.CLIPBOARD_REQUEST, struct.pack("<II", 1, kind))
        + sent
        for what, kind in ((4, DataType.UTF8_TEXT), (5, DataType.IMAGE_PNG), (2, 99), (3, DataType.NONE))
    )
    to_host = b"".join(
        message(Kind.CLIPBOARD_GRAB, struct.pack("<III", 0, serial, kind))
        + bytes([Op.READ, what])
        + sent
        + message(Kind.CLIPBOARD, struct.pack("<II", 0, kind) + data)
        for serial, kind, what, data in (
            (0, DataType.UTF8_TEXT, 0, b"text\xff\0"),
            (1, DataType.IMAGE_PNG, 1, b"\x89PNG"),
            (2, DataType.UTF8_TEXT, 0, bytes(1001)),
        )
    )
    drop = struct.pack("<BH", Op.DROP, 9) + "../ä.bin".encode() + sent
    answers = b"".join(
        message(Kind.FILE_XFER_STATUS, struct.pack("<II", number, result)) + bytes([Op.WRITE])
        for number in (1, 2)
        for result in (FileResult.CAN_SEND_DATA, FileResult.SUCCESS, FileResult.NOT_ENOUGH_SPACE)
    )
    stream = b"".join(
        (
            framed(Kind.ANNOUNCE_CAPABILITIES, greeting(0)),
            framed(Kind.CLIPBOARD_GRAB, struct.pack("<III", 0, 0, 1)),
            framed(5, b"for the server", port=2),
            framed(Kind.CLIPBOARD_RELEASE, b"\0"),
        )
    )
    bodies = {
        "greeting": greet,
        "to-guest": to_guest,
        "to-host": to_host + read + message(Kind.CLIPBOARD_RELEASE, bytes(4)),
        "files": drop + drop + answers,
        "stream": raw(stream) + raw(stream[:50]) + raw(stream[50:]) + read,
        "again": to_host[:60] + end + greet + to_guest + raw(b"\xff" * 30) + greet,
    }
    flagged = {
        name: bytes([everything | (Option.GREETED if name != "greeting" else 0)]) + body
        for name, body in bodies.items()
    }
    return flagged | {"policy-off": bytes([Option.GREETED]) + to_host + to_guest + drop}


def words() -> list[bytes]:
    """Headers and numbers that a fuzzer takes long to find."""
    return [
        CHUNK.pack(1, MESSAGE.size),
        CHUNK.pack(2, MESSAGE.size),
        *(MESSAGE.pack(PROTOCOL, kind, 0, 8) for kind in Kind),
        MESSAGE.pack(PROTOCOL, Kind.CLIPBOARD, 0, 0xFFFFFFFF),
        greeting(1),
        greeting(0),
    ]
