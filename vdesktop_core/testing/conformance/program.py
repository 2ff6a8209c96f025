# SPDX-License-Identifier: MIT
"""What the conformance guest executes: lists of records, the same for every architecture.

The guest is a few hundred bytes of machine code (``guest/*.S``, kept here as
bytes in :mod:`.blobs` so that no assembler is needed). It takes one record of
64 bytes after another::

    u32 kind; u32 width (log2 of bytes); u64 a, b, c, d, e; u64 result; u64 done
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

RECORD = struct.Struct("<II7Q")
RESULT_OFFSET, DONE_OFFSET = 48, 56

_LOG2 = {1: 0, 2: 1, 4: 2, 8: 3}


class Kind(enum.IntEnum):
    """What a record does. Kinds that an architecture lacks stop the CPU."""

    STOP = 0  #: sleep for ever
    READ = 1  #: ``c`` reads of ``width`` from ``a``, which moves by ``d``; result: the last
    WRITE = 2  #: ``c`` writes of ``b``, likewise
    UNTIL = 3  #: read 8 bytes at ``a``, busily, until they are ``b``
    COUNT = 4  #: add one to the 8 bytes at ``a``, for ever
    ACKNOWLEDGE = 5  #: take a pending interrupt; result: its number, 0: none
    WAIT = 6  #: sleep until there is one, and take it
    CALL = 7  #: firmware: PSCI with ``a`` to ``d`` (width 2: by SMC), SBI: extension ``a``, function ``b``
    GICV3_ON = 8  #: this CPU's interface
    GICV3_END = 9  #: of interrupt ``b``
    IN = 10  #: x86: as READ, from ports
    OUT = 11  #: x86: as WRITE, to ports
    CRASH = 12  #: x86: an exception that has no handler


@dataclass(frozen=True, slots=True)
class Record:
    """One record, before the guest has executed it."""

    kind: Kind
    width: int = 8
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0

    def pack(self) -> bytes:
        """Return its 64 bytes."""
        return RECORD.pack(
            self.kind, _LOG2[self.width], self.a, self.b & (1 << 64) - 1, self.c, self.d, self.e, 0, 0
        )


STOP = Record(Kind.STOP)


def read(address: int, width: int = 8, *, times: int = 1, stride: int = 0) -> Record:
    """Read memory or MMIO: 1, 2, 4 or 8 bytes, aligned."""
    return Record(Kind.READ, width, address, c=times, d=stride)


def write(address: int, value: int, width: int = 8, *, times: int = 1, stride: int = 0) -> Record:
    """Write memory or MMIO: 1, 2, 4 or 8 bytes, aligned."""
    return Record(Kind.WRITE, width, address, value, times, stride)


def port_in(port: int, width: int = 1, *, times: int = 1, stride: int = 0) -> Record:
    """Read an x86 port: 1, 2 or 4 bytes."""
    return Record(Kind.IN, width, port, c=times, d=stride)


def port_out(port: int, value: int, width: int = 1, *, times: int = 1, stride: int = 0) -> Record:
    """Write an x86 port: 1, 2 or 4 bytes."""
    return Record(Kind.OUT, width, port, value, times, stride)


def until(address: int, value: int) -> Record:
    """Wait, busily, until memory has this value."""
    return Record(Kind.UNTIL, a=address, b=value)


def count(address: int) -> Record:
    """Count in memory for ever."""
    return Record(Kind.COUNT, a=address)
