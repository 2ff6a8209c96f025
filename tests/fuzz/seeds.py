# SPDX-License-Identifier: MIT
"""Seed inputs for the fuzz targets: valid input, from which the fuzzer goes astray.

``seeds.py TARGET FOLDER`` writes those of one target; a target without any is no error.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

GPA, DRIVER, HEADER, STATUS, DATA = 0x1000, 0x400, 0x720, 0x730, 0x740
NEXT, WRITE, AVAIL = 1, 2, 1 << 7
IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13


def blk_memory(kind: int, payload: bytes, *, into: int, packed: bool) -> bytes:
    """Guest memory with one request in a ring of the given layout."""
    parts = [(HEADER, 16, 0)]
    if payload:
        parts.append((DATA, len(payload), 0))
    if into:
        parts.append((DATA, into, WRITE))
    parts.append((STATUS, 1, WRITE))
    memory = bytearray(DATA + max(len(payload), into))
    for i, (address, length, flags) in enumerate(parts):
        if i < len(parts) - 1:
            flags |= NEXT
        entry = (
            struct.pack("<QIHH", GPA + address, length, 0, flags | AVAIL)
            if packed
            else struct.pack("<QIHH", GPA + address, length, flags, i + 1)
        )
        memory[16 * i : 16 * i + 16] = entry
    if not packed:
        memory[DRIVER : DRIVER + 6] = struct.pack("<HHH", 0, 1, 0)
    memory[HEADER : HEADER + 16] = struct.pack("<IIQ", kind, 0, 3 if kind in (IN, OUT) else 0)
    memory[DATA : DATA + len(payload)] = payload
    return bytes(memory)


def write_blk(folder: Path) -> None:
    """Write every request type, on split and on packed rings."""
    ranges = struct.pack("<QII", 8, 16, 0)
    requests = {
        "in": (IN, b"", 1024),
        "out": (OUT, bytes(range(256)) * 4, 0),
        "flush": (FLUSH, b"", 0),
        "get-id": (GET_ID, b"", 20),
        "discard": (DISCARD, ranges * 2, 0),
        "write-zeroes": (WRITE_ZEROES, ranges, 0),
        "unknown": (99, b"?", 8),
    }
    for name, (kind, payload, into) in requests.items():
        for packed in (False, True):
            memory = blk_memory(kind, payload, into=into, packed=packed)
            start = bytes([4 | (1 if packed else 0), 1])
            layout = "packed" if packed else "split"
            (folder / f"{name}-{layout}").write_bytes((start + memory).rstrip(b"\0"))


def main(target: str, folder: Path) -> None:
    writer = globals().get(f"write_{target}")
    if writer:
        writer(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
