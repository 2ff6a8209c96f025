# SPDX-License-Identifier: GPL-2.0-only
"""Pieces that several bare-metal programs share, and where they keep their things."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from a64 import A64
    from bare_metal import BareMetal

RAM = 0x40000000
CODE = RAM
DATA = RAM + 0x100000
RESULT = RAM + 0x10000
FUNCTION = RAM + 0x20000
PAGE_TABLE = RAM + 0x30000
DEVICE = 0x0A000000
GICD = 0x08000000
GICC = 0x08010000

#: Registers the pieces use, besides those they are given.
SCRATCH = 9


def put(machine: BareMetal, code: A64) -> None:
    machine.write(code.base, code.assemble())


def enable_gic(code: A64, *intids: int) -> A64:
    """Distributor and CPU interface on, all priorities let through, these interrupts enabled for CPU 0."""
    code.li(SCRATCH, GICD).movz(SCRATCH + 1, 1).str32(SCRATCH + 1, SCRATCH)
    for intid in intids:
        code.li(SCRATCH + 1, 1 << intid % 32).str32(SCRATCH + 1, SCRATCH, 0x100 + intid // 32 * 4)
        if intid >= 32:
            code.movz(SCRATCH + 1, 1).strb(SCRATCH + 1, SCRATCH, 0x800 + intid)
    code.li(SCRATCH, GICC).movz(SCRATCH + 1, 1).str32(SCRATCH + 1, SCRATCH)
    return code.movz(SCRATCH + 1, 0xF0).str32(SCRATCH + 1, SCRATCH, 4)


def vectors(code: A64, irq: str | None = None, sync: str | None = None) -> A64:
    """An exception table: handlers at current EL with SP_ELx; call it ``vectors``."""
    code.align(0x800).label("vectors")
    base = code.here
    for offset, target in ((0x200, sync), (0x280, irq)):
        while code.here < base + offset:
            code.nop()
        if target:
            code.b(target)
    while code.here < base + 0x800:
        code.nop()
    return code


def mmu_on(machine: BareMetal, code: A64, aliases: tuple[int, ...] = (2,)) -> A64:
    """4 KiB granule, 39-bit addresses: devices at GiB 0, RAM at GiB 1, and again at each of ``aliases``.

    Aliases are not executable, as a JIT's writable mapping is not: writes through an executable
    mapping take the library's slow path anyway.
    """
    block, device, normal = 0x401, 1 << 2, 0 << 2
    machine.poke(PAGE_TABLE, block | device)
    machine.poke(PAGE_TABLE + 8, RAM | block | normal | 3 << 8)
    for index in aliases:
        machine.poke(PAGE_TABLE + 8 * index, RAM | block | normal | 3 << 8 | 3 << 53)  # UXN, PXN
    code.li(SCRATCH, 0x00FF).msr("mair_el1", SCRATCH)
    code.li(SCRATCH, 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32).msr("tcr_el1", SCRATCH)
    code.li(SCRATCH, PAGE_TABLE).msr("ttbr0_el1", SCRATCH).isb()
    code.mrs(SCRATCH, "sctlr_el1").li(SCRATCH + 1, 0x1005)
    code.word(0xAA000000 | (SCRATCH + 1) << 16 | SCRATCH << 5 | SCRATCH)  # orr
    return code.msr("sctlr_el1", SCRATCH).isb()
