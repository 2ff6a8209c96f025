# SPDX-License-Identifier: GPL-2.0-only
"""A bare-metal guest that runs a list of small operations, each on a hart of its own.

The host writes the list (who does what, in which order) and reads the results,
so that a test is a list of :class:`Op` and what it expects. Harts hand the turn
to each other by SBI IPI and WFI. Paging is on (Sv39): guest RAM is mapped twice,
executable at its own address and writable at :data:`ALIAS` above it.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assembler import Assembler, addi

if TYPE_CHECKING:
    from collections.abc import Sequence

RAM = 0x8000_0000
RAM_SIZE = 32 << 20
#: Added to an address of RAM: the same memory, writable and not executable.
ALIAS = 0x4000_0000
#: A page mapped by a page table entry of its own, at :data:`PTE`.
WINDOW = 0x4000_0000

ROOT = RAM + 0x30000
_LEVEL1, _LEVEL0 = ROOT + 0x1000, ROOT + 0x2000
PTE = _LEVEL0
_TURN = RAM + 0x20000
CODE = RAM + 0x40000  #: free for the test, up to DATA
DATA = RAM + 0x80000  #: free for the test, up to _RESULTS
_RESULTS = RAM + 0x100000
_OPS = RAM + 0x400000

_V, _R, _W, _X, _A, _D = 1, 2, 4, 8, 0x40, 0x80
RET = 0x00008067

HSM, IPI, RFENCE, SRST = 0x48534D, 0x735049, 0x52464E43, 0x53525354


class Kind(enum.IntEnum):
    NOTHING = 0
    WRITE32 = 1  #: value to address
    WRITE64 = 2
    LOAD = 3  #: result: the 64-bit value at address
    EXECUTE = 4  #: FENCE.I, call address; result: its a0
    FENCE = 5  #: SFENCE.VMA on this hart
    REMOTE_FENCE = 6  #: SBI remote sfence.vma of the page at address, on the harts of the mask `value`


@dataclass(frozen=True, slots=True)
class Op:
    hart: int
    kind: Kind
    address: int = 0
    value: int = 0


def leaf(address: int) -> int:
    """Return a page table entry that maps a page of RAM read-only."""
    return address >> 12 << 10 | _V | _R | _A | _D


def returns(value: int) -> bytes:
    """Return a function that returns a value under 2048."""
    return addi("a0", "zero", value).to_bytes(4, "little") + RET.to_bytes(4, "little")


def _program(harts: int, operations: int) -> bytes:
    a = Assembler(RAM)
    a.label("entry").mv("s0", "a0")
    a.li("s1", _TURN).li("s2", _OPS).li("s3", operations).li("s4", _RESULTS)
    a.li("t0", 8 << 60 | ROOT >> 12).csrw("satp", "t0").sfence_vma()
    a.addi("t0", "zero", 2).csrw("sie", "t0")  # SSIE: an IPI ends WFI
    a.bne("s0", "zero", "turn")
    for hart in range(1, harts):
        a.li("a0", hart).la("a1", "entry").li("a2", 0).sbi(HSM, 0)
    a.label("turn").ld("t0", 0, "s1").beq("t0", "s3", "end")
    a.slli("s8", "t0", 5).add("s8", "s8", "s2")
    a.ld("t2", 8, "s8").bne("t2", "s0", "wait")
    a.mv("s7", "t0").slli("s6", "t0", 3).add("s6", "s6", "s4")
    a.ld("t2", 0, "s8").ld("s9", 16, "s8").ld("s10", 24, "s8")
    for kind in Kind:
        a.addi("t5", "zero", kind).beq("t2", "t5", kind.name)
    a.label("NOTHING").j("next")
    a.label("WRITE32").sw("s10", 0, "s9").j("next")
    a.label("WRITE64").sd("s10", 0, "s9").j("next")
    a.label("LOAD").ld("a0", 0, "s9").j("result")
    a.label("EXECUTE").fence_i().addi("a0", "zero", 0).jalr("ra", "s9", 0).j("result")
    a.label("FENCE").sfence_vma().j("next")
    a.label("REMOTE_FENCE").mv("a0", "s10").li("a1", 0).mv("a2", "s9").li("a3", 4096).sbi(RFENCE, 1).j("next")
    a.label("result").sd("a0", 0, "s6")
    a.label("next").addi("s7", "s7", 1).sd("s7", 0, "s1").beq("s7", "s3", "turn")
    a.ld("t2", 40, "s8").beq("t2", "s0", "turn")
    a.addi("a0", "zero", 1).sll("a0", "a0", "t2").li("a1", 0).sbi(IPI, 0).j("turn")
    a.label("wait").addi("t2", "zero", 2).csrrc("zero", "sip", "t2")
    a.ld("t1", 0, "s1").bne("t1", "t0", "turn").wfi().j("turn")
    a.label("end").bne("s0", "zero", "stop").li("a0", 0).li("a1", 0).sbi(SRST, 0)
    a.label("stop").sbi(HSM, 1)
    return a.assemble()


def load(view: memoryview, harts: int, operations: Sequence[Op]) -> None:
    """Write the guest, its page tables and the list into RAM."""

    def put(address: int, data: bytes) -> None:
        view[address - RAM : address - RAM + len(data)] = data

    everything = [*operations, Op(0, Kind.NOTHING)]  # hart 0 has the last turn: it powers off
    assert _OPS + 32 * len(everything) <= RAM + RAM_SIZE
    assert _RESULTS + 8 * len(everything) <= _OPS
    put(RAM, _program(harts, len(everything)))
    root = {
        WINDOW >> 30: _LEVEL1 >> 12 << 10 | _V,
        RAM >> 30: RAM >> 12 << 10 | _V | _R | _W | _X | _A | _D,
        RAM + ALIAS >> 30: RAM >> 12 << 10 | _V | _R | _W | _A | _D,
    }
    for index, entry in root.items():
        put(ROOT + 8 * index, entry.to_bytes(8, "little"))
    put(_LEVEL1, (_LEVEL0 >> 12 << 10 | _V).to_bytes(8, "little"))
    put(_OPS, b"".join(struct.pack("<4Q", op.kind, op.hart, op.address, op.value) for op in everything))


def results(view: memoryview, count: int) -> tuple[int, ...]:
    """Return the results of the first ``count`` operations."""
    return struct.unpack_from(f"<{count}Q", view, _RESULTS - RAM)
