# SPDX-License-Identifier: GPL-2.0-only
"""What the engine must get right whatever the guest does: each test fails on a naive use of the library."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from a64 import A64, function_returning
from bare_metal import BareMetal
from pausing import seconds_across_a_pause
from programs import CODE, DATA, DEVICE, FUNCTION, RAM, RESULT, mmu_on, put, vectors

from vdesktop_core.hypervisor import Arch, ExitReason

LINE = 40


def test_guest_that_powers_off_reports_shutdown(machine: BareMetal) -> None:
    put(machine, A64(CODE).power_off())
    assert machine.run(pc=CODE).reason is ExitReason.SHUTDOWN


def test_guest_that_resets_reports_reset(machine: BareMetal) -> None:
    put(machine, A64(CODE).psci("reset"))
    assert machine.run(pc=CODE).reason is ExitReason.RESET


def test_entry_registers_reach_the_guest(machine: BareMetal) -> None:
    put(machine, A64(CODE).str(7, 1).str(30, 1, 8).power_off())
    machine.run(pc=CODE, x1=RESULT, x7=0xFEDCBA9876543210, x30=5)
    assert (machine.peek(RESULT), machine.peek(RESULT + 8)) == (0xFEDCBA9876543210, 5)


def test_pointer_chase_under_asynchronous_stops_loads_once(machine: BareMetal) -> None:
    """A load that is its own input must not run twice when the vCPU is stopped after it."""
    nodes = 1021
    for i in range(nodes):
        machine.poke(DATA + 8 * i, DATA + 8 * ((i + 1) % nodes))
    code = A64(CODE).label("chase")
    code.ldr(0, 0).add(1, 1, 1).str(1, 3, 24).ldr(2, 3).cbz(2, "chase")
    put(machine, code.str(0, 3, 8).str(1, 3, 16).power_off())
    machine.start(pc=CODE, x0=DATA, x1=0, x3=RESULT)
    for i in range(1500):
        machine.set_line(LINE, i % 2 == 0)
        if i % 10 == 0:
            machine.vm.pause()
            loads = machine.peek(RESULT + 24)
            machine.vm.resume()
            while machine.peek(RESULT + 24) == loads:
                pass
    machine.poke(RESULT, 1)
    machine.wait()
    assert machine.vm.counters()["kicks"] > 100
    position = (machine.peek(RESULT + 8) - DATA) // 8
    assert machine.peek(RESULT + 16) % nodes == position


def test_paused_guest_does_not_run(machine: BareMetal) -> None:
    put(machine, A64(CODE).label("count").add(1, 1, 1).str(1, 0).b("count"))
    machine.start(pc=CODE, x0=RESULT)
    for _ in range(500):
        machine.vm.pause()
        before = machine.peek(RESULT)
        assert machine.peek(RESULT) == before
        machine.vm.resume()
    machine.vm.stop()


def test_clock_stands_still_while_paused(machine: BareMetal) -> None:
    put(machine, A64(CODE).label("again").mrs(1, "cntvct_el0").str(1, 0).b("again"))
    machine.start(pc=CODE, x0=RESULT)
    excess = seconds_across_a_pause(
        machine.vm, lambda: machine.peek(RESULT) / 62.5e6, lambda: machine.poke(RESULT, 0)
    )
    machine.vm.stop()
    assert excess <= 0


def test_thousands_of_starts_and_stops_lose_no_request(machine: BareMetal) -> None:
    put(machine, A64(CODE).label("spin").b("spin"))
    for _ in range(1000):
        machine.start(pc=CODE)
        machine.vm.stop()


def test_stop_is_idempotent_and_legal_in_any_state(machine: BareMetal) -> None:
    machine.vm.stop()
    put(machine, A64(CODE).label("spin").b("spin"))
    machine.start(pc=CODE)
    machine.vm.pause()
    machine.vm.stop()
    machine.vm.stop()


def test_code_written_through_an_alias_is_seen(machine: BareMetal) -> None:
    """A function is rewritten through a second mapping and called, each time with a new result."""
    rounds = 20000
    code = mmu_on(machine, A64(CODE))
    # x20: rounds left, x21: stale results, x22: the function, x23: its alias, x24: expected
    code.li(20, rounds).movz(21, 0).li(22, FUNCTION).li(23, FUNCTION + 0x40000000).movz(24, 0)
    code.label("round")
    code.add(24, 24, 1).li(1, 0xFFF).word(0x8A010318)  # and x24, x24, x1
    code.li(1, 0xD2800000).word(0xAA181421)  # orr x1, x1, x24, lsl #5: movz x0, #x24
    code.str32(1, 23).dsb().ic_ivau(23).dsb().isb().blr(22)
    code.cmp_reg(0, 24).b_eq("fresh").add(21, 21, 1)
    code.label("fresh").subs(20, 20, 1).b_ne("round")
    put(machine, code.li(1, RESULT).str(21, 1).str(24, 1, 8).power_off())
    machine.write(FUNCTION, function_returning(0))
    machine.run(pc=CODE)
    assert machine.peek(RESULT + 8) == rounds & 0xFFF
    assert machine.peek(RESULT) == 0


def _caller(machine: BareMetal, rounds: int) -> None:
    """Tell the device the round, call FUNCTION, count results that are not the round."""
    code = A64(CODE).li(20, rounds).movz(21, 0).li(22, FUNCTION).li(23, DEVICE)
    code.label("round").str32(20, 23).blr(22).cmp_reg(0, 20).b_eq("fresh").add(21, 21, 1)
    code.label("fresh").subs(20, 20, 1).b_ne("round")
    put(machine, code.li(1, RESULT).str(21, 1).power_off())
    machine.write(FUNCTION, function_returning(0))


def test_dma_into_code_from_an_mmio_handler_is_seen(machine: BareMetal) -> None:
    _caller(machine, 2000)
    machine.device(
        DEVICE,
        write=lambda offset, width, value: machine.device_wrote(FUNCTION, function_returning(value)),
    )
    machine.run(pc=CODE)
    assert machine.peek(RESULT) == 0
    assert machine.vm.counters()["dma_invalidations"] >= 1999


def test_dma_into_code_from_a_thread_that_mmio_waits_for_is_seen(machine: BareMetal) -> None:
    """The vCPU thread waits for the I/O thread, which calls the hook: neither may wait for the other."""
    _caller(machine, 500)

    def reset(offset: int, width: int, value: int) -> None:
        data = function_returning(value)
        writer = threading.Thread(target=machine.device_wrote, args=(FUNCTION, data))
        writer.start()
        writer.join()

    machine.device(DEVICE, write=reset)
    machine.run(pc=CODE)
    assert machine.peek(RESULT) == 0


def test_dma_into_code_of_a_running_guest_is_seen(machine: BareMetal) -> None:
    """The guest spins on a word that the I/O thread sets after the code: it must then run the new code."""
    rounds = 100
    # x20: last round seen, x21: stale, x22: function, x23: the word
    code = A64(CODE).movz(20, 0).movz(21, 0).li(22, FUNCTION).li(23, RESULT)
    code.label("wait").blr(22).ldr(1, 23).cmp_reg(1, 20).b_eq("wait")
    code.mov(20, 1).blr(22).cmp_reg(0, 20).b_eq("fresh").add(21, 21, 1)
    code.label("fresh").str(20, 23, 8).li(2, rounds).cmp_reg(20, 2).b_ne("wait")
    put(machine, code.str(21, 23, 16).power_off())
    machine.write(FUNCTION, function_returning(0))
    machine.start(pc=CODE)
    for i in range(1, rounds + 1):
        machine.device_wrote(FUNCTION, function_returning(i))
        machine.poke(RESULT, i)
        while machine.peek(RESULT + 8) != i and machine.peek(RESULT + 16) == 0:
            pass
    machine.wait()
    assert machine.peek(RESULT + 16) == 0


@pytest.mark.parametrize("address", [0x20000000, 0x0B000000, RAM + (4 << 20), (1 << 44) - 8])
def test_access_to_nothing_reads_all_ones_and_is_counted(machine: BareMetal, address: int) -> None:
    put(machine, A64(CODE).ldr(1, 0).str(1, 2).str(1, 0).ldr32(1, 0).str(1, 2, 8).power_off())
    machine.run(pc=CODE, x0=address, x2=RESULT)
    assert (machine.peek(RESULT), machine.peek(RESULT + 8)) == ((1 << 64) - 1, (1 << 32) - 1)
    assert machine.vm.counters()["unassigned"] >= 3


def test_mmio_handler_gets_offset_width_and_value(machine: BareMetal) -> None:
    seen: list[tuple[int, ...]] = []
    machine.device(
        DEVICE,
        read=lambda offset, width: 0x11223344 + offset,
        write=lambda offset, width, value: seen.append((offset, width, value)),
    )
    code = A64(CODE).ldr32(1, 0, 8).str(1, 2).str32(1, 0, 0x20).strb(1, 0, 0x31)
    put(machine, code.power_off())
    machine.run(pc=CODE, x0=DEVICE, x2=RESULT)
    assert machine.peek(RESULT) == 0x1122334C
    assert seen == [(0x20, 4, 0x1122334C), (0x31, 1, 0x4C)]


def test_mmio_range_added_to_a_running_machine_answers(machine: BareMetal) -> None:
    code = A64(CODE).label("wait").ldr32(1, 0).li(2, 7).cmp_reg(1, 2).b_ne("wait")
    put(machine, code.power_off())
    machine.start(pc=CODE, x0=DEVICE)
    machine.device(DEVICE, read=lambda offset, width: 7)
    assert machine.wait().reason is ExitReason.SHUTDOWN


def test_fetch_from_nothing_is_an_undefined_instruction(machine: BareMetal) -> None:
    code = A64(CODE).b("start")
    vectors(code, sync="trap").label("trap").mrs(1, "esr_el1").mrs(2, "elr_el1")
    code.li(3, RESULT).str(1, 3).str(2, 3, 8).power_off()
    code.label("start").li(1, code.address("vectors")).msr("vbar_el1", 1).li(1, 0x20000000).blr(1)
    put(machine, code)
    machine.run(pc=CODE)
    assert machine.peek(RESULT) >> 26 == 0  # ESR_EL1.EC: unknown reason
    assert machine.peek(RESULT + 8) == 0x20000000


def test_machines_one_after_the_other_leak_nothing() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    def once() -> None:
        with BareMetal(Arch.AARCH64, vcpus=4) as machine:
            put(machine, A64(CODE).power_off())
            machine.run(pc=CODE)

    for _ in range(5):
        once()
    before, threads = resident(), threading.active_count()
    for _ in range(60):
        once()
    assert resident() - before < 1024  # pages: 4 MiB, far below one machine's each
    assert threading.active_count() == threads
