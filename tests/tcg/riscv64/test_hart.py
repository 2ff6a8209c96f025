# SPDX-License-Identifier: GPL-2.0-only
"""One hart: what firmware promises, traps, translation, waiting, and being interrupted from outside."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from assembler import Assembler
from bare import RAM, BareGuest
from interpreter import HSM, SRST, returns
from pausing import seconds_across_a_pause

from vdesktop_core.hypervisor import ExitReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIME = 0x54494D45
TIMEBASE_HZ = 10_000_000
DBCN = 0x4442434E
PLIC = 0x0C00_0000

BOX = RAM + 0x20000  #: where host and guest talk
ROOT = RAM + 0x30000
CODE = RAM + 0x40000
_V, _R, _W, _X, _U, _A, _D = 1, 2, 4, 8, 0x10, 0x40, 0x80


@pytest.fixture
def guest() -> Iterator[BareGuest]:
    guest = BareGuest()
    yield guest
    guest.close()


def program() -> Assembler:
    """Begin a program with s1 = BOX."""
    return Assembler(RAM).li("s1", BOX)


def power_off(a: Assembler) -> Assembler:
    return a.li("a0", 0).li("a1", 0).sbi(SRST, 0)


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll. The limit is for a guest that hangs."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the guest hangs"
        time.sleep(0.0005)


def test_reset_asks_the_core_for_a_reset(guest: BareGuest) -> None:
    guest.load(Assembler(RAM).li("a0", 1).li("a1", 0).sbi(SRST, 0))
    assert guest.run().reason is ExitReason.RESET


def test_restart_begins_with_pristine_registers(guest: BareGuest) -> None:
    a = program().csrr("t0", "satp").csrr("t1", "sscratch").csrr("t2", "sie")
    a.or_("t0", "t0", "t1").or_("t0", "t0", "t2").or_("t0", "t0", "s11").sd("t0", 0, "s1")
    a.li("s11", 77).csrw("sscratch", "s11").csrw("sie", "s11")
    guest.load(power_off(a))
    for _ in range(3):
        guest.write(BOX, 99)
        assert guest.run().reason is ExitReason.SHUTDOWN
        assert guest.read(BOX) == 0


@pytest.mark.parametrize(
    ("instruction", "cause"), [("ebreak", 3), ("illegal", 2), ("nop", 0)], ids=["ebreak", "illegal", "none"]
)
def test_trap_reaches_the_guest_with_its_cause_and_pc(guest: BareGuest, instruction: str, cause: int) -> None:
    a = program().la("t0", "handler").csrw("stvec", "t0").li("a1", 0)
    getattr(a.label("at"), instruction)()
    power_off(a.label("after").addi("a1", "a1", 1).sd("a1", 0, "s1"))
    while a.here % 4:
        a.nop()
    a.label("handler").csrr("t1", "scause").sd("t1", 8, "s1").csrr("t1", "sepc").sd("t1", 16, "s1")
    a.addi("t1", "t1", 4).csrw("sepc", "t1").sret()
    guest.load(a)
    assert guest.run().reason is ExitReason.SHUTDOWN
    assert guest.read(BOX) == 1
    assert guest.read(BOX + 8) == cause
    assert guest.read(BOX + 16) == (a.labels["at"] if cause else 0)


@pytest.mark.parametrize(("mode", "taken"), [(8, True), (9, False), (10, False), (1, False), (15, False)])
def test_satp_takes_sv39_only(guest: BareGuest, mode: int, taken: bool) -> None:
    guest.write(ROOT + 8 * 2, RAM >> 12 << 10 | _V | _R | _W | _X | _A | _D)
    satp = mode << 60 | ROOT >> 12
    guest.load(power_off(program().li("t0", satp).csrw("satp", "t0").csrr("t1", "satp").sd("t1", 0, "s1")))
    assert guest.run().reason is ExitReason.SHUTDOWN
    assert guest.read(BOX) == (satp if taken else 0)


def test_sum_alone_decides_whether_s_mode_reads_user_pages(guest: BareGuest) -> None:
    """Setting and clearing SUM flushes no TLB; each state must still see its own permissions."""
    user = 0xC000_0000
    for index, flags in ((2, _X), (3, _U)):
        guest.write(ROOT + 8 * index, RAM >> 12 << 10 | _V | _R | _W | _A | _D | flags)
    guest.write(CODE, 0x1234)
    a = program().la("t0", "handler").csrw("stvec", "t0").li("t0", 8 << 60 | ROOT >> 12).csrw("satp", "t0")
    a.sfence_vma().li("s2", user + CODE - RAM).li("s3", 1 << 18).li("s4", BOX + 64)
    for _ in range(3):
        for allow in ("csrrc", "csrrs"):
            getattr(a, allow)("zero", "sstatus", "s3").li("t1", 0).ld("t1", 0, "s2")
            a.sd("t1", 0, "s4").addi("s4", "s4", 8)
    power_off(a)
    a.label("handler").ld("t2", 0, "s1").addi("t2", "t2", 1).sd("t2", 0, "s1").csrr("t2", "scause")
    a.sd("t2", 8, "s1").csrr("t2", "sepc").addi("t2", "t2", 4).csrw("sepc", "t2").sret()
    guest.load(a)
    assert guest.run().reason is ExitReason.SHUTDOWN
    assert guest.read(BOX) == 3
    assert guest.read(BOX + 8) == 13
    assert [guest.read(BOX + 64 + 8 * i) for i in range(6)] == [0, 0x1234] * 3


def test_timer_wakes_wfi_no_earlier_than_asked_with_interrupts_masked(guest: BareGuest) -> None:
    naps, ticks = 20, 20_000
    a = program().addi("t0", "zero", 1 << 5).csrw("sie", "t0").li("s2", naps).li("s4", ticks)
    a.label("nap").csrr("s3", "time").add("s3", "s3", "s4").mv("a0", "s3").sbi(TIME, 0)
    a.label("sleep").wfi().csrr("t0", "sip").andi("t0", "t0", 1 << 5).beq("t0", "zero", "sleep")
    a.csrr("t1", "time").bgeu("t1", "s3", "late").ld("t0", 0, "s1").addi("t0", "t0", 1).sd("t0", 0, "s1")
    a.label("late").addi("s2", "s2", -1).bne("s2", "zero", "nap")
    guest.load(power_off(a))
    assert guest.run().reason is ExitReason.SHUTDOWN
    assert guest.read(BOX) == 0
    # A sleeping guest leaves the host's CPU alone: all naps but their ends were idle.
    assert guest.vm.counters()["idle_ns"] >= naps * ticks * 100 // 2


def test_wfi_with_an_interrupt_pending_goes_on(guest: BareGuest) -> None:
    a = program().addi("t0", "zero", 1 << 1).csrw("sie", "t0").csrrs("zero", "sip", "t0").wfi()
    guest.load(power_off(a.li("t0", 1).sd("t0", 0, "s1")))
    assert guest.run().reason is ExitReason.SHUTDOWN
    assert guest.read(BOX) == 1


def test_suspend_retentive_returns_when_an_interrupt_is_pending(guest: BareGuest) -> None:
    a = program().addi("t0", "zero", 1 << 5).csrw("sie", "t0").csrr("s3", "time").li("t0", 20_000)
    a.add("s3", "s3", "t0").mv("a0", "s3").sbi(TIME, 0).li("a0", 0).li("a1", 0).li("a2", 0).sbi(HSM, 3)
    a.sd("a0", 8, "s1").csrr("t0", "time").sub("t0", "t0", "s3").sd("t0", 0, "s1")
    guest.load(power_off(a))
    assert guest.run().reason is ExitReason.SHUTDOWN
    assert guest.read(BOX + 8) == 0
    assert guest.read(BOX) < 1 << 63, "woke before its time"


def test_line_raised_by_the_host_wakes_wfi_and_is_claimed(guest: BareGuest) -> None:
    line, rounds = 33, 200
    a = program().li("s2", PLIC).li("t0", 1).sw("t0", 4 * line, "s2").li("t1", PLIC + 0x2000)
    a.li("t0", 1 << line % 32).sw("t0", 4 * (line // 32), "t1").li("s3", PLIC + 0x200000)
    a.li("t0", 1 << 9).csrw("sie", "t0").li("s4", rounds).li("s5", 0)
    a.label("loop").wfi().csrr("t0", "sip").li("t1", 1 << 9).and_("t0", "t0", "t1").beq("t0", "zero", "loop")
    a.lwu("t0", 4, "s3").beq("t0", "zero", "loop").sd("t0", 8, "s1").addi("s5", "s5", 1).sd("s5", 0, "s1")
    a.label("lowered").ld("t1", 16, "s1").bne("t1", "s5", "lowered").sw("t0", 4, "s3").bne("s5", "s4", "loop")
    guest.load(power_off(a))
    guest.start()
    for number in range(1, rounds + 1):
        guest.set_line(line, True)
        wait_for(lambda number=number: guest.read(BOX) == number)
        assert guest.read(BOX + 8) == line
        guest.set_line(line, False)
        guest.write(BOX + 16, number)
    assert guest.wait().reason is ExitReason.SHUTDOWN


def test_debug_console_writes_to_the_descriptor_of_the_option() -> None:
    reader, writer = os.pipe()
    guest = BareGuest(sbi_console_fd=writer)
    try:
        guest.device_write(BOX + 64, b"early words")
        a = program().li("a0", 11).li("a1", BOX + 64).li("a2", 0).sbi(DBCN, 0).sd("a1", 0, "s1")
        a.li("a0", ord("!")).sbi(DBCN, 2)
        # An address that is no memory, and a length that runs out of it.
        a.li("a0", 1).li("a1", PLIC).li("a2", 0).sbi(DBCN, 0).sd("a0", 8, "s1")
        a.li("a0", 2**63).li("a1", BOX).li("a2", 0).sbi(DBCN, 0).sd("a0", 16, "s1")
        guest.load(power_off(a))
        assert guest.run().reason is ExitReason.SHUTDOWN
        assert guest.read(BOX) == 11
        assert os.read(reader, 100) == b"early words!"
        assert guest.read(BOX + 8) == guest.read(BOX + 16) == 2**64 - 3
    finally:
        guest.close()
        os.close(reader)
        os.close(writer)


def test_hart_started_while_its_plic_context_interrupts_finds_the_interrupt_pending() -> None:
    line, guest = 33, BareGuest(2)
    a = program().bne("a0", "zero", "second").li("s2", PLIC).li("t0", 1).sw("t0", 4 * line, "s2")
    a.li("t1", PLIC + 0x2080).li("t0", 1 << line % 32).sw("t0", 4 * (line // 32), "t1")
    a.li("a0", 1).li("a1", RAM).li("a2", 0).sbi(HSM, 0)
    a.label("wait").ld("t0", 8, "s1").beq("t0", "zero", "wait")
    power_off(a).label("second").csrr("t0", "sip").sd("t0", 0, "s1").sd("a0", 8, "s1").sbi(HSM, 1)
    guest.load(a)
    try:
        guest.set_line(line, True)
        assert guest.run().reason is ExitReason.SHUTDOWN
        assert guest.read(BOX) == 1 << 9
    finally:
        guest.close()


def test_stop_from_outside_under_load_runs_no_instruction_twice(guest: BareGuest) -> None:
    """`ld a0, 0(a0)` around a ring: were it ever run twice, position and count would part."""
    nodes, ring = 64, RAM + 0x50000
    for node in range(nodes):
        guest.write(ring + 16 * node, ring + 16 * ((node + 1) % nodes))
    a = program().li("a0", ring).li("s2", 0)
    a.label("loop").ld("a0", 0, "a0").addi("s2", "s2", 1).ld("t0", 0, "s1").beq("t0", "zero", "loop")
    guest.load(power_off(a.sd("a0", 8, "s1").sd("s2", 16, "s1")))
    guest.start()
    for _ in range(500):
        guest.vm.pause()
        guest.vm.resume()
    guest.write(BOX, 1)
    assert guest.wait().reason is ExitReason.SHUTDOWN
    assert guest.read(BOX + 16) > 0
    assert guest.read(BOX + 8) == ring + 16 * (guest.read(BOX + 16) % nodes)


def test_clock_stands_still_while_paused(guest: BareGuest) -> None:
    guest.load(program().label("loop").csrr("t0", "time").sd("t0", 0, "s1").j("loop"))
    guest.start()
    excess = seconds_across_a_pause(
        guest.vm, lambda: guest.read(BOX) / TIMEBASE_HZ, lambda: guest.write(BOX, 0)
    )
    guest.vm.stop()
    assert excess <= 0


def test_timer_that_is_due_in_a_pause_fires_as_much_later(guest: BareGuest) -> None:
    a = program().addi("t0", "zero", 1 << 5).csrw("sie", "t0").csrr("s3", "time")
    a.li("t0", TIMEBASE_HZ * 2 // 5).add("s3", "s3", "t0").mv("a0", "s3").sbi(TIME, 0).addi(
        "t0", "zero", 1
    ).sd("t0", 0, "s1").wfi()
    guest.load(power_off(a.csrr("t1", "time").sub("t1", "t1", "s3").sd("t1", 8, "s1")))
    guest.start()
    wait_for(lambda: guest.read(BOX) == 1)
    guest.vm.pause()
    time.sleep(0.6)
    guest.vm.resume()
    assert guest.wait().reason is ExitReason.SHUTDOWN
    assert guest.read(BOX + 8) < 1 << 63, "woke before its time"


def test_stop_right_after_start_is_never_lost(guest: BareGuest) -> None:
    guest.load(program().label("loop").ld("t0", 0, "s1").addi("t0", "t0", 1).sd("t0", 0, "s1").j("loop"))
    for _ in range(200):
        guest.start()
        guest.vm.stop()
    assert guest.events == []
    guest.start()
    before = guest.read(BOX)
    wait_for(lambda: guest.read(BOX) > before)
    guest.vm.stop()


@pytest.mark.parametrize("told", [True, False], ids=["told", "not-told"])
def test_device_write_into_code_is_executed_if_the_backend_was_told(guest: BareGuest, told: bool) -> None:
    """Not told, the guest runs what it has translated: which shows that telling is what does it."""
    rounds = 300
    guest.device_write(CODE, returns(0))
    a = program().li("s2", CODE).li("s3", rounds)
    a.label("loop").ld("t0", 0, "s1").ld("t1", 8, "s1").beq("t0", "t1", "loop").mv("s4", "t0")
    a.fence_i().jalr("ra", "s2", 0).sd("a0", 16, "s1").sd("s4", 8, "s1").bne("s4", "s3", "loop")
    guest.load(power_off(a))
    guest.start()
    stale = 0
    for number in range(1, rounds + 1):
        guest.device_write(CODE, returns(number), tell=told or number == 1)
        guest.write(BOX, number)
        wait_for(lambda number=number: guest.read(BOX + 8) == number)
        stale += guest.read(BOX + 16) != number
    assert guest.wait().reason is ExitReason.SHUTDOWN
    assert bool(stale) != told
