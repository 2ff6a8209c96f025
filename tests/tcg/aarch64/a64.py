# SPDX-License-Identifier: GPL-2.0-only
"""An assembler for the part of A64 that bare-metal tests need (Arm DDI 0487, C6).

Instructions are methods, registers are numbers (31: zero, or sp), a target is a label.

    >>> code = A64(0x40000000)
    >>> code.label("spin").subs(0, 0, 1).b_ne("spin").assemble().hex()
    '000400f1e1ffff54'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

XZR = 31


def _system(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    return op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5


#: System registers by name, as the fields of MRS and MSR.
SYSTEM = {
    "mpidr_el1": _system(3, 0, 0, 0, 5),
    "sctlr_el1": _system(3, 0, 1, 0, 0),
    "ttbr0_el1": _system(3, 0, 2, 0, 0),
    "tcr_el1": _system(3, 0, 2, 0, 2),
    "spsr_el1": _system(3, 0, 4, 0, 0),
    "elr_el1": _system(3, 0, 4, 0, 1),
    "esr_el1": _system(3, 0, 5, 2, 0),
    "far_el1": _system(3, 0, 6, 0, 0),
    "mair_el1": _system(3, 0, 10, 2, 0),
    "vbar_el1": _system(3, 0, 12, 0, 0),
    "cntfrq_el0": _system(3, 3, 14, 0, 0),
    "cntvct_el0": _system(3, 3, 14, 0, 2),
    "cntp_ctl_el0": _system(3, 3, 14, 2, 1),
    "cntp_cval_el0": _system(3, 3, 14, 2, 2),
    "cntv_tval_el0": _system(3, 3, 14, 3, 0),
    "cntv_ctl_el0": _system(3, 3, 14, 3, 1),
    "cntv_cval_el0": _system(3, 3, 14, 3, 2),
}

PSCI = {
    "off": 0x84000008,
    "reset": 0x84000009,
    "cpu_off": 0x84000002,
    "cpu_on": 0xC4000003,
    "affinity_info": 0xC4000004,
    "version": 0x84000000,
    "features": 0x8400000A,
}


class A64:
    """Collects instructions from ``base`` on."""

    def __init__(self, base: int) -> None:
        self.base = base
        self._words: list[Callable[[int], int]] = []
        self._labels: dict[str, int] = {}

    @property
    def here(self) -> int:
        return self.base + 4 * len(self._words)

    def assemble(self) -> bytes:
        words = (word(self.base + 4 * i) for i, word in enumerate(self._words))
        return b"".join(word.to_bytes(4, "little") for word in words)

    def word(self, value: int) -> Self:
        self._words.append(lambda pc: value)
        return self

    def label(self, name: str) -> Self:
        self._labels[name] = self.here
        return self

    def address(self, name: str) -> int:
        return self._labels[name]

    def align(self, size: int) -> Self:
        while self.here % size:
            self.nop()
        return self

    def _branch(self, opcode: int, target: str, bits: int, shift: int) -> Self:
        def encode(pc: int) -> int:
            return opcode | ((self._labels[target] - pc) // 4 & ((1 << bits) - 1)) << shift

        self._words.append(encode)
        return self

    def li(self, rd: int, value: int) -> Self:
        """Load a constant: MOVZ and MOVKs."""
        self.word(0xD2800000 | (value & 0xFFFF) << 5 | rd)
        for half in (1, 2, 3):
            if part := value >> 16 * half & 0xFFFF:
                self.word(0xF2800000 | half << 21 | part << 5 | rd)
        return self

    def movz(self, rd: int, value: int) -> Self:
        return self.word(0xD2800000 | value << 5 | rd)

    def mov(self, rd: int, rn: int) -> Self:
        return self.word(0xAA0003E0 | rn << 16 | rd)

    def add(self, rd: int, rn: int, imm: int) -> Self:
        return self.word(0x91000000 | imm << 10 | rn << 5 | rd)

    def add_reg(self, rd: int, rn: int, rm: int) -> Self:
        return self.word(0x8B000000 | rm << 16 | rn << 5 | rd)

    def subs(self, rd: int, rn: int, imm: int) -> Self:
        return self.word(0xF1000000 | imm << 10 | rn << 5 | rd)

    def cmp_reg(self, rn: int, rm: int) -> Self:
        return self.word(0xEB00001F | rm << 16 | rn << 5)

    def ldr(self, rt: int, rn: int, offset: int = 0) -> Self:
        return self.word(0xF9400000 | offset // 8 << 10 | rn << 5 | rt)

    def str(self, rt: int, rn: int, offset: int = 0) -> Self:
        return self.word(0xF9000000 | offset // 8 << 10 | rn << 5 | rt)

    def ldr32(self, rt: int, rn: int, offset: int = 0) -> Self:
        return self.word(0xB9400000 | offset // 4 << 10 | rn << 5 | rt)

    def str32(self, rt: int, rn: int, offset: int = 0) -> Self:
        return self.word(0xB9000000 | offset // 4 << 10 | rn << 5 | rt)

    def strb(self, rt: int, rn: int, offset: int = 0) -> Self:
        return self.word(0x39000000 | offset << 10 | rn << 5 | rt)

    def ldxr(self, rt: int, rn: int) -> Self:
        return self.word(0xC85F7C00 | rn << 5 | rt)

    def stxr(self, rs: int, rt: int, rn: int) -> Self:
        return self.word(0xC8007C00 | rs << 16 | rn << 5 | rt)

    def b(self, target: str) -> Self:
        return self._branch(0x14000000, target, 26, 0)

    def bl(self, target: str) -> Self:
        return self._branch(0x94000000, target, 26, 0)

    def b_eq(self, target: str) -> Self:
        return self._branch(0x54000000, target, 19, 5)

    def b_ne(self, target: str) -> Self:
        return self._branch(0x54000001, target, 19, 5)

    def cbz(self, rt: int, target: str) -> Self:
        return self._branch(0xB4000000 | rt, target, 19, 5)

    def cbnz(self, rt: int, target: str) -> Self:
        return self._branch(0xB5000000 | rt, target, 19, 5)

    def blr(self, rn: int) -> Self:
        return self.word(0xD63F0000 | rn << 5)

    def ret(self) -> Self:
        return self.word(0xD65F03C0)

    def eret(self) -> Self:
        return self.word(0xD69F03E0)

    def nop(self) -> Self:
        return self.word(0xD503201F)

    def wfi(self) -> Self:
        return self.word(0xD503207F)

    def wfe(self) -> Self:
        return self.word(0xD503205F)

    def isb(self) -> Self:
        return self.word(0xD5033FDF)

    def dsb(self) -> Self:
        return self.word(0xD5033B9F)  # ish

    def ic_ivau(self, rt: int) -> Self:
        return self.word(0xD50B7520 | rt)

    def tlbi_vae1is(self, rt: int) -> Self:
        return self.word(0xD5088320 | rt)

    def unmask_irq(self) -> Self:
        return self.word(0xD50342FF)  # msr daifclr, #2

    def mrs(self, rt: int, register: str) -> Self:
        return self.word(0xD5300000 & ~(3 << 19) | SYSTEM[register] | rt)

    def msr(self, register: str, rt: int) -> Self:
        return self.word(0xD5100000 & ~(3 << 19) | SYSTEM[register] | rt)

    def hvc(self) -> Self:
        return self.word(0xD4000002)

    def svc(self, imm: int = 0) -> Self:
        return self.word(0xD4000001 | imm << 5)

    def psci(self, call: str) -> Self:
        return self.li(0, PSCI[call]).hvc()

    def power_off(self) -> Self:
        return self.psci("off")


def function_returning(value: int) -> bytes:
    """``movz x0, #value; ret``."""
    return A64(0).movz(0, value).ret().assemble()
