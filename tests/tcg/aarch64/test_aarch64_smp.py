# SPDX-License-Identifier: GPL-2.0-only
"""Two vCPUs on one thread: atomicity, inter-processor interrupts, and each other's TLBs and code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a64 import A64, function_returning
from programs import CODE, DATA, FUNCTION, GICC, GICD, PAGE_TABLE, RAM, RESULT, enable_gic, mmu_on, put

from vdesktop_core.hypervisor import ExitReason

if TYPE_CHECKING:
    from bare_metal import BareMetal

CODE1 = RAM + 0x8000
FLAG = RESULT + 0x100


def start_second(code: A64, entry: int = CODE1, context: int = 0) -> A64:
    return code.movz(1, 1).li(2, entry).li(3, context).psci("cpu_on")


def test_second_cpu_starts_with_its_context_and_id(pair: BareMetal) -> None:
    code = start_second(A64(CODE), context=0x1234).li(1, FLAG).label("wait").ldr(2, 1).cbz(2, "wait")
    put(pair, code.power_off())
    second = A64(CODE1).li(1, RESULT).str(0, 1).mrs(2, "mpidr_el1").str(2, 1, 8).movz(3, 1).str(3, 1, 0x100)
    put(pair, second.label("spin").b("spin"))
    assert pair.run(pc=CODE).reason is ExitReason.SHUTDOWN
    assert pair.peek(RESULT) == 0x1234
    assert pair.peek(RESULT + 8) == 0x80000001


def test_exclusive_increments_of_two_cpus_are_all_kept(pair: BareMetal) -> None:
    rounds = 200000

    def increments(code: A64) -> A64:
        code.li(1, DATA).li(4, rounds).label("again").ldxr(2, 1).add(2, 2, 1).stxr(3, 2, 1).cbnz(3, "again")
        return code.subs(4, 4, 1).b_ne("again").li(5, FLAG)

    code = increments(start_second(A64(CODE)))
    put(pair, code.label("wait").ldr(6, 5).cbz(6, "wait").power_off())
    put(pair, increments(A64(CODE1)).movz(6, 1).str(6, 5).psci("cpu_off"))
    pair.run(pc=CODE)
    assert pair.peek(DATA) == 2 * rounds


def test_cpu_that_switched_itself_off_can_be_started_again(pair: BareMetal) -> None:
    rounds = 20
    code = A64(CODE).movz(20, rounds).label("again").movz(1, 1).li(2, CODE1).psci("cpu_on").cbnz(0, "again")
    code.label("wait").movz(1, 1).movz(2, 0).psci("affinity_info").cbz(0, "wait")
    put(pair, code.subs(20, 20, 1).b_ne("again").power_off())
    put(pair, A64(CODE1).li(1, RESULT).ldr(2, 1).add(2, 2, 1).str(2, 1).psci("cpu_off"))
    pair.run(pc=CODE)
    assert pair.peek(RESULT) == rounds


def test_sgi_wakes_the_other_cpu_and_names_its_sender(pair: BareMetal) -> None:
    """Both sleep in WFI in turn; each wakes the other with SGI 5."""
    rounds = 200

    def player(code: A64, me: int) -> A64:
        enable_gic(code).li(20, GICD).li(21, GICC).li(22, 1 << 16 + (1 - me) | 5).movz(23, rounds)
        return code

    def receive(code: A64) -> A64:
        code.label("asleep").wfi().ldr32(1, 21, 0xC).li(2, 1023).cmp_reg(1, 2).b_eq("asleep")
        return code.str32(1, 21, 0x10)

    code = player(A64(CODE), 0)
    start_second(code)
    receive(code.label("again").str32(22, 20, 0xF00)).li(3, RESULT).str(1, 3)
    put(pair, code.subs(23, 23, 1).b_ne("again").power_off())
    second = receive(player(A64(CODE1), 1).label("again"))
    second.li(3, RESULT).str(1, 3, 8).str32(22, 20, 0xF00).b("again")
    put(pair, second)
    pair.run(pc=CODE)
    assert pair.peek(RESULT) == 5 | 1 << 10
    assert pair.peek(RESULT + 8) == 5
    assert pair.vm.counters()["irqs"] == 2 * rounds


def test_broadcast_tlb_invalidation_reaches_the_other_cpu(pair: BareMetal) -> None:
    """CPU 0 moves a page between two frames that CPU 1 reads all the time: no stale read after the TLBI."""
    rounds, page, table, frames = 200, 3 << 30, PAGE_TABLE + 0x1000, (DATA, DATA + 0x1000)
    descriptor = 0x403 | 3 << 8
    code = mmu_on(pair, A64(CODE))
    pair.poke(PAGE_TABLE + 8 * 3, table | 3)
    pair.poke(table, table + 0x1000 | 3)
    pair.poke(table + 0x1000, frames[0] | descriptor)
    pair.poke(frames[0], 0)
    # A round: write its number to the other frame, map that, invalidate, tell CPU 1, wait for its answer.
    start_second(code).li(20, RESULT).li(21, table + 0x1000).movz(22, 0).li(24, frames[0]).li(25, frames[1])
    code.label("again").add(22, 22, 1).mov(26, 24).mov(24, 25).mov(25, 26).str(22, 24)
    code.li(1, descriptor).add_reg(1, 1, 24).str(1, 21).dsb().li(2, page >> 12).tlbi_vae1is(2).dsb().isb()
    code.str(22, 20, 0x100).label("wait").wfe().ldr(3, 20, 0x108).cmp_reg(3, 22).b_ne("wait")
    put(pair, code.li(4, rounds).cmp_reg(22, 4).b_ne("again").power_off())
    second = mmu_on(pair, A64(CODE1)).li(20, RESULT).li(21, page).movz(22, 0).movz(23, 0)
    second.label("read").wfe().ldr(1, 21).ldr(2, 20, 0x100).cmp_reg(2, 22).b_eq("read")
    second.ldr(1, 21).mov(22, 2).cmp_reg(1, 22).b_eq("fresh").add(23, 23, 1)
    second.label("fresh").str(23, 20).str(22, 20, 0x108).b("read")
    put(pair, second)
    pair.run(pc=CODE)
    assert pair.peek(RESULT + 0x108) in (rounds, rounds - 1)
    assert pair.peek(RESULT) == 0


def test_code_rewritten_by_one_cpu_is_seen_by_the_other(pair: BareMetal) -> None:
    """CPU 0 rewrites a function, in a page CPU 1 executes and both write data in; CPU 1 calls it."""
    rounds = 1000
    code = mmu_on(pair, A64(CODE))
    alias = FUNCTION + 0x40000000
    start_second(code).li(20, RESULT).li(21, alias).movz(22, 0)
    code.label("again").add(22, 22, 1).str(22, 21, 0x800)
    code.li(1, 0xD2800000).word(0xAA161421).str32(1, 21).dsb().ic_ivau(21).dsb().isb()
    code.str(22, 20, 0x100).label("wait").wfe().ldr(3, 20, 0x108).cmp_reg(3, 22).b_ne("wait")
    put(pair, code.li(4, rounds).cmp_reg(22, 4).b_ne("again").power_off())
    second = mmu_on(pair, A64(CODE1)).li(20, RESULT).li(21, FUNCTION).movz(22, 0).movz(23, 0)
    second.label("call").wfe().blr(21).str(22, 21, 0x900).ldr(2, 20, 0x100).cmp_reg(2, 22).b_eq("call")
    second.mov(22, 2).isb().blr(21).cmp_reg(0, 22).b_eq("fresh").add(23, 23, 1)
    second.label("fresh").str(23, 20).str(22, 20, 0x108).b("call")
    put(pair, second)
    pair.write(FUNCTION, function_returning(0))
    pair.run(pc=CODE)
    assert pair.peek(RESULT) == 0
