# SPDX-License-Identifier: GPL-2.0-only
"""A two-pass assembler for the part of RV64 that bare-metal tests need.

    >>> code = Assembler(0x80000000)
    >>> code.label("loop").addi("a0", "a0", -1).bne("a0", "zero", "loop")
    >>> code.assemble().hex()
    '1305f5ffe31e05fe'

Instructions are methods, by their mnemonic; a target is a label. Formats and
encodings are those of the RISC-V unprivileged specification, chapter 24.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_ABI = "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
_REGISTERS = {name: number for number, name in enumerate(_ABI.split())}

CSRS = {
    "sstatus": 0x100,
    "sie": 0x104,
    "stvec": 0x105,
    "sscratch": 0x140,
    "sepc": 0x141,
    "scause": 0x142,
    "stval": 0x143,
    "sip": 0x144,
    "satp": 0x180,
    "cycle": 0xC00,
    "time": 0xC01,
}

#: mnemonic: (format, opcode, funct3, funct7)
_ENCODINGS = {
    "addi": ("I", 0x13, 0, 0),
    "andi": ("I", 0x13, 7, 0),
    "ori": ("I", 0x13, 6, 0),
    "xori": ("I", 0x13, 4, 0),
    "slli": ("I", 0x13, 1, 0),
    "srli": ("I", 0x13, 5, 0),
    "sll": ("R", 0x33, 1, 0),
    "jalr": ("I", 0x67, 0, 0),
    "add": ("R", 0x33, 0, 0),
    "sub": ("R", 0x33, 0, 0x20),
    "and_": ("R", 0x33, 7, 0),
    "or_": ("R", 0x33, 6, 0),
    "xor": ("R", 0x33, 4, 0),
    "mul": ("R", 0x33, 0, 1),
    "remu": ("R", 0x33, 7, 1),
    "lw": ("L", 0x03, 2, 0),
    "ld": ("L", 0x03, 3, 0),
    "lwu": ("L", 0x03, 6, 0),
    "sw": ("S", 0x23, 2, 0),
    "sd": ("S", 0x23, 3, 0),
    "beq": ("B", 0x63, 0, 0),
    "bne": ("B", 0x63, 1, 0),
    "blt": ("B", 0x63, 4, 0),
    "bltu": ("B", 0x63, 6, 0),
    "bgeu": ("B", 0x63, 7, 0),
    "jal": ("J", 0x6F, 0, 0),
    "csrrw": ("C", 0x73, 1, 0),
    "csrrs": ("C", 0x73, 2, 0),
    "csrrc": ("C", 0x73, 3, 0),
    "amoadd_d": ("R", 0x2F, 3, 0),
}

_FIXED = {
    "ecall": 0x00000073,
    "ebreak": 0x00100073,
    "sret": 0x10200073,
    "wfi": 0x10500073,
    "sfence_vma": 0x12000073,
    "fence_i": 0x0000100F,
    "nop": 0x00000013,
    "illegal": 0x00000000,
}


def _bits(value: int, high: int, low: int) -> int:
    return value >> low & (1 << high - low + 1) - 1


def addi(rd: str, rs: str, value: int) -> int:
    """Return the word of an ``addi``, for programs that write programs."""
    return int.from_bytes(Assembler(0).addi(rd, rs, value).assemble(), "little")


class Assembler:
    """Collects a program; every method returns the assembler itself."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.labels: dict[str, int] = {}
        self._words: list[Callable[[int], int]] = []

    @property
    def here(self) -> int:
        return self.base + 4 * len(self._words)

    def label(self, name: str) -> Self:
        assert name not in self.labels, name
        self.labels[name] = self.here
        return self

    def assemble(self) -> bytes:
        words = (word(self.base + 4 * i) for i, word in enumerate(self._words))
        return b"".join(w.to_bytes(4, "little") for w in words)

    def __getattr__(self, name: str) -> Callable[..., Self]:
        if name in _FIXED:
            return lambda: self._put(lambda _: _FIXED[name])
        if name not in _ENCODINGS:
            raise AttributeError(name)
        return lambda *operands: self._put(lambda at: self._encode(at, _ENCODINGS[name], operands))

    def li(self, rd: str, value: int) -> Self:
        """Load a 64-bit constant: always eleven instructions, so that labels stay put."""
        self.addi(rd, "zero", _bits(value, 63, 55))
        for low in (44, 33, 22, 11, 0):
            self.slli(rd, rd, 11).ori(rd, rd, _bits(value, low + 10, low))
        return self

    def la(self, rd: str, label: str) -> Self:
        """Load the address of a label (within 2 KiB)."""
        here = self.here
        self._put(lambda _: 0x17 | _REGISTERS[rd] << 7)
        return self._put(lambda at: self._encode(at, _ENCODINGS["addi"], (rd, rd, self.labels[label] - here)))

    def j(self, label: str) -> Self:
        return self.jal("zero", label)

    def mv(self, rd: str, rs: str) -> Self:
        return self.addi(rd, rs, 0)

    def csrr(self, rd: str, csr: str) -> Self:
        return self.csrrs(rd, csr, "zero")

    def csrw(self, csr: str, rs: str) -> Self:
        return self.csrrw("zero", csr, rs)

    def sbi(self, extension: int, function: int) -> Self:
        """An SBI call; arguments are in a0 … a5, a7 and a6 are overwritten."""
        return self.li("a7", extension).li("a6", function).ecall()

    def _put(self, word: Callable[[int], int]) -> Self:
        self._words.append(word)
        return self

    def _encode(self, at: int, encoding: tuple[str, int, int, int], operands: tuple[Any, ...]) -> int:
        form, opcode, funct3, funct7 = encoding
        word = opcode | funct3 << 12
        match form, operands:
            case "R", (rd, rs1, rs2):
                return word | funct7 << 25 | self._reg(rd, 7) | self._reg(rs1, 15) | self._reg(rs2, 20)
            case "I", (rd, rs1, value):
                return word | self._reg(rd, 7) | self._reg(rs1, 15) | self._signed(value, 12) << 20
            case "L", (rd, value, rs1):
                return word | self._reg(rd, 7) | self._reg(rs1, 15) | self._signed(value, 12) << 20
            case "S", (rs2, value, rs1):
                imm = self._signed(value, 12)
                word |= self._reg(rs1, 15) | self._reg(rs2, 20)
                return word | _bits(imm, 11, 5) << 25 | _bits(imm, 4, 0) << 7
            case "B", (rs1, rs2, label):
                imm = self._signed(self.labels[label] - at, 13)
                word |= self._reg(rs1, 15) | self._reg(rs2, 20) | _bits(imm, 12, 12) << 31
                return word | _bits(imm, 10, 5) << 25 | _bits(imm, 4, 1) << 8 | _bits(imm, 11, 11) << 7
            case "J", (rd, label):
                imm = self._signed(self.labels[label] - at, 21)
                word = opcode | self._reg(rd, 7) | _bits(imm, 20, 20) << 31
                return word | _bits(imm, 10, 1) << 21 | _bits(imm, 11, 11) << 20 | _bits(imm, 19, 12) << 12
            case "C", (rd, csr, rs1):
                return word | self._reg(rd, 7) | self._reg(rs1, 15) | CSRS[csr] << 20
        raise ValueError(f"operands {operands} do not fit format {form}")

    @staticmethod
    def _reg(name: str, shift: int) -> int:
        return _REGISTERS[name] << shift

    @staticmethod
    def _signed(value: int, bits: int) -> int:
        assert -(1 << bits - 1) <= value < 1 << bits - 1, value
        return value & (1 << bits) - 1
