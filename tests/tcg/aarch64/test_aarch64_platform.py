# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts, timers and firmware of the aarch64 machine, as a guest sees them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from a64 import A64, PSCI
from programs import CODE, DEVICE, GICC, GICD, RESULT, enable_gic, put, vectors

from vdesktop_core.hypervisor import ExitReason

if TYPE_CHECKING:
    from bare_metal import BareMetal

SPI = 8
INTID = 32 + SPI


def test_wfi_sleeps_until_a_line_is_raised_and_is_acknowledged(machine: BareMetal) -> None:
    """The guest waits with interrupts masked, 300 times; the host raises the line only when it sleeps."""
    rounds = 300
    code = enable_gic(A64(CODE), INTID).li(20, DEVICE).li(21, GICC).movz(22, rounds).li(23, RESULT)
    code.label("again").str32(22, 20).wfi()
    code.ldr32(1, 21, 0xC).str(1, 23).str32(1, 20, 4).str32(1, 21, 0x10)
    code.subs(22, 22, 1).b_ne("again")
    put(machine, code.power_off())

    def command(offset: int, width: int, value: int) -> None:
        machine.set_line(SPI, offset == 0)

    machine.device(DEVICE, write=command)
    machine.run(pc=CODE)
    assert machine.peek(RESULT) == INTID
    assert machine.vm.counters()["irqs"] == rounds


def test_irq_is_taken_through_the_vector_and_returns(machine: BareMetal) -> None:
    code = A64(CODE).b("start")
    vectors(code, irq="handler")
    code.label("handler").ldr32(5, 21, 0xC).str32(5, 20, 4).str32(5, 21, 0x10).add(6, 6, 1).eret()
    code.label("start").li(1, code.address("vectors")).msr("vbar_el1", 1)
    enable_gic(code, INTID).li(20, DEVICE).li(21, GICC).movz(6, 0).movz(7, 100).unmask_irq()
    code.label("again").str32(7, 20).label("wait").cmp_reg(6, 8).b_eq("wait").mov(8, 6)
    code.subs(7, 7, 1).b_ne("again").li(1, RESULT).str(6, 1)
    put(machine, code.power_off())
    machine.device(DEVICE, write=lambda offset, width, value: machine.set_line(SPI, offset == 0))
    machine.run(pc=CODE, x8=0)
    assert machine.peek(RESULT) == 100


@pytest.mark.parametrize(("timer", "intid"), [("cntv", 27), ("cntp", 30)])
def test_timer_wakes_wfi_and_sets_istatus(machine: BareMetal, timer: str, intid: int) -> None:
    code = enable_gic(A64(CODE), intid).li(21, GICC).li(23, RESULT).movz(22, 20)
    code.label("again").mrs(1, "cntvct_el0").li(2, 62500).add_reg(3, 1, 2)  # 1 ms
    code.msr(f"{timer}_cval_el0", 3).movz(4, 1).msr(f"{timer}_ctl_el0", 4).isb().wfi()
    code.mrs(5, "cntvct_el0").mrs(6, f"{timer}_ctl_el0").ldr32(7, 21, 0xC)
    code.msr(f"{timer}_ctl_el0", 31).str32(7, 21, 0x10)
    code.str(3, 23).str(5, 23, 8).str(6, 23, 16).str(7, 23, 24).subs(22, 22, 1).b_ne("again")
    put(machine, code.power_off())
    machine.run(pc=CODE)
    assert machine.peek(RESULT + 8) >= machine.peek(RESULT)
    assert machine.peek(RESULT + 16) == 5  # ENABLE, ISTATUS
    assert machine.peek(RESULT + 24) == intid


def test_timer_that_is_due_in_a_pause_fires_as_much_later(machine: BareMetal) -> None:
    code = enable_gic(A64(CODE), 27).mrs(1, "cntvct_el0").li(2, 62500 * 400).add_reg(3, 1, 2)
    code.msr("cntv_cval_el0", 3).movz(4, 1).msr("cntv_ctl_el0", 4).str(4, 0).wfi().mrs(5, "cntvct_el0")
    put(machine, code.str(5, 0, 8).str(3, 0, 16).power_off())
    machine.start(pc=CODE, x0=RESULT)
    while not machine.peek(RESULT):
        time.sleep(0.001)
    machine.vm.pause()
    time.sleep(0.6)
    machine.vm.resume()
    machine.wait()
    assert machine.peek(RESULT + 8) >= machine.peek(RESULT + 16), "woke before its time"


def test_sleeping_guest_costs_no_host_time(machine: BareMetal) -> None:
    code = enable_gic(A64(CODE), 27).li(1, 62500 * 50).msr("cntv_tval_el0", 1)
    put(machine, code.movz(1, 1).msr("cntv_ctl_el0", 1).wfi().power_off())
    machine.run(pc=CODE)
    counters = machine.vm.counters()
    assert counters["idle_ns"] > counters["run_ns"]
    assert counters["slices"] < 10


def test_masked_timer_does_not_interrupt(machine: BareMetal) -> None:
    code = enable_gic(A64(CODE), 27).li(21, GICC).msr("cntv_cval_el0", 31).movz(1, 3).msr("cntv_ctl_el0", 1)
    code.mrs(2, "cntv_ctl_el0").ldr32(3, 21, 0x18).li(4, RESULT).str(2, 4).str(3, 4, 8)
    put(machine, code.power_off())
    machine.run(pc=CODE)
    assert machine.peek(RESULT) == 7  # ENABLE, IMASK, ISTATUS
    assert machine.peek(RESULT + 8) == 1023


def test_gic_identifies_itself(machine: BareMetal) -> None:
    code = A64(CODE).li(1, GICD).li(2, RESULT)
    for i, register in enumerate((0x4, 0xFE8, 0x800)):
        code.ldr32(3, 1, register).str32(3, 2, 4 * i)
    put(machine, code.power_off())
    machine.run(pc=CODE)
    assert machine.peek(RESULT, 4) == 4  # 160 interrupts, 1 CPU
    assert machine.peek(RESULT + 4, 4) == 0x2B
    assert machine.peek(RESULT + 8, 4) == 0x01010101


def test_line_raised_before_start_is_seen(machine: BareMetal) -> None:
    machine.set_line(SPI, True)
    put(machine, enable_gic(A64(CODE), INTID).wfi().power_off())
    assert machine.run(pc=CODE).reason is ExitReason.SHUTDOWN


@pytest.mark.parametrize(
    ("call", "arguments", "result"),
    [
        ("version", (), 0x10001),
        ("features", (PSCI["cpu_on"],), 0),
        ("features", (0x84000123,), -1),
        ("cpu_on", (7, CODE, 0), -2),
        ("cpu_on", (0, CODE, 0), -4),
        ("cpu_on", (1, CODE + 2, 0), -9),
        ("affinity_info", (0, 0), 0),
        ("affinity_info", (1, 0), 1),
        ("affinity_info", (9, 0), -2),
        ("affinity_info", (0, 4), -2),
        ("affinity_info", (1 << 40, 0), -2),
    ],
)
def test_psci_answers(pair: BareMetal, call: str, arguments: tuple[int, ...], result: int) -> None:
    code = A64(CODE)
    for register, argument in enumerate(arguments, 1):
        code.li(register, argument)
    put(pair, code.psci(call).li(1, RESULT).str(0, 1).power_off())
    pair.run(pc=CODE)
    assert pair.peek(RESULT) == result & (1 << 64) - 1


def test_unknown_firmware_call_is_not_supported(machine: BareMetal) -> None:
    put(machine, A64(CODE).li(0, 0xDEADBEEF).hvc().li(1, RESULT).str(0, 1).power_off())
    machine.run(pc=CODE)
    assert machine.peek(RESULT) == (1 << 64) - 1
