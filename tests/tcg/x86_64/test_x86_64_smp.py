# SPDX-License-Identifier: GPL-2.0-only
"""Several vCPUs on one thread: start-up, inter-processor interrupts, each other's TLBs and code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from x86_programs import ALIAS_PT, DATA, FUNCTION, NO_EXECUTE, RESULT, function_returning, load

from vdesktop_core.hypervisor import ExitReason

if TYPE_CHECKING:
    from bare_metal import BareMetal

#: `count` is what the others add themselves to when they are up.
COUNT = DATA + 0x1000
WAIT_FOR_ALL = f"1: pause; cmpl $3, {COUNT:#x}; jb 1b;"
SIGN_IN = f"lock incl {COUNT:#x};"


def test_all_cpus_start_in_real_mode_and_reach_64_bits(four: BareMetal) -> None:
    four.run(
        **load(
            four,
            f"""ap_main: mov %edi, RESULT(, %edi, 4); mov $1, %eax; cpuid; shr $24, %ebx
        mov %ebx, RESULT + 16(, %edi, 4); mov $0x1b, %ecx; rdmsr; mov %eax, RESULT + 32(, %edi, 4)
        mov $11, %eax; mov $1, %ecx; cpuid; mov %edx, RESULT + 48(, %edi, 4); mov %ebx, RESULT + 64(, %edi, 4)
        {SIGN_IN} 1: hlt; jmp 1b
    start: lapic_on; start_aps; {WAIT_FOR_ALL} power_off""",
        )
    )
    words = [[four.peek(RESULT + 16 * row + 4 * cpu, 4) for cpu in (1, 2, 3)] for row in range(5)]
    assert words == [[1, 2, 3], [1, 2, 3], [0xFEE00800] * 3, [1, 2, 3], [4] * 3]


def test_second_startup_ipi_is_ignored(four: BareMetal) -> None:
    four.run(
        **load(
            four,
            f"""ap_main: {SIGN_IN} 1: pause; jmp 1b
    start: lapic_on; start_aps; {WAIT_FOR_ALL} lapic 0x300, 0xc4608
        mov $3000000, %ecx; 1: dec %ecx; jnz 1b; mov {COUNT:#x}, %eax; mov %eax, RESULT; power_off""",
        )
    )
    assert four.peek(RESULT, 4) == 3


def test_init_stops_a_cpu_and_startup_runs_it_again(four: BareMetal) -> None:
    rounds = 20
    four.run(
        **load(
            four,
            f"""ap_main: {SIGN_IN} sti; 1: incl DATA; jmp 1b
    start: lapic_on; lea ap_main(%rip), %rax; mov %rax, AP_ENTRY; xor %r8d, %r8d
    again: inc %r8d; ipi 0x4500, 1
        mov DATA, %eax; mov $2000, %ecx; 1: pause; dec %ecx; jnz 1b; cmp DATA, %eax; je 2f; incl RESULT + 4
    2:  ipi 0x4608, 1
    1:  pause; cmp %r8d, {COUNT:#x}; jb 1b
        mov DATA, %eax; 1: pause; cmp DATA, %eax; je 1b
        cmp ${rounds}, %r8d; jb again; mov %r8d, RESULT; power_off""",
        )
    )
    assert (four.peek(RESULT, 4), four.peek(RESULT + 4, 4)) == (rounds, 0)


def test_locked_increments_of_all_cpus_are_all_kept(four: BareMetal) -> None:
    rounds = 300000
    increments = f"mov ${rounds}, %ecx; 1: lock incl DATA; lock addl $2, DATA + 64; dec %ecx; jnz 1b;"
    four.run(
        **load(
            four,
            f"""ap_main: {increments} {SIGN_IN} 1: hlt; jmp 1b
    start: lapic_on; start_aps; {increments} {WAIT_FOR_ALL} power_off""",
        )
    )
    assert (four.peek(DATA, 4), four.peek(DATA + 64, 4)) == (4 * rounds, 8 * rounds)


def test_time_never_runs_backwards_from_cpu_to_cpu(four: BareMetal) -> None:
    """Each takes the time under a lock and compares it with what the one before took."""
    take = """mov $30000, %r8d
    2:  mov $1, %eax; xchg %eax, DATA; test %eax, %eax; jz 3f; pause; jmp 2b
    3:  rdtsc; shl $32, %rdx; or %rdx, %rax; cmp DATA + 64, %rax; jae 4f; lock incl RESULT
    4:  mov %rax, DATA + 64; movl $0, DATA; dec %r8d; jnz 2b;"""
    four.run(
        **load(
            four,
            f"""ap_main: {take} {SIGN_IN} 1: hlt; jmp 1b
    start: lapic_on; start_aps; {take} {WAIT_FOR_ALL} power_off""",
        )
    )
    assert four.peek(RESULT, 4) == 0


def test_ipi_ping_pong_between_halted_cpus_loses_none(four: BareMetal) -> None:
    rounds = 2000
    four.run(
        **load(
            four,
            f"""ping: incl RESULT; eoi; iretq
    pong: incl RESULT + 4; eoi; ipi 0x4050, 0; iretq
    ap_main: cmp $1, %edi; jne 2f; load_idt; sti
    2:  {SIGN_IN} 1: hlt; jmp 1b
    start: load_idt; gate 0x50, ping; gate 0x51, pong; lapic_on; start_aps; {WAIT_FOR_ALL}
        xor %r8d, %r8d
    again: cli; ipi 0x4051, 1
    1:  cmp RESULT, %r8d; jne 2f; sti; hlt; cli; jmp 1b
    2:  mov RESULT, %r8d; cmp ${rounds}, %r8d; jb again; power_off""",
        )
    )
    assert four.peek(RESULT + 4, 4) == rounds


def test_halted_cpus_with_interrupts_on_sleep(four: BareMetal) -> None:
    source = f"""tick: power_off
    ap_main: {SIGN_IN} sti; 1: hlt; jmp 1b
    start: load_idt; gate 0xec, tick; lapic_on; start_aps; {WAIT_FOR_ALL}
        lapic 0x3e0, 0xb; lapic 0x320, 0xec; lapic 0x380, 50000000; sti; 1: hlt; jmp 1b"""
    assert four.run(**load(four, source)).reason is ExitReason.SHUTDOWN
    counters = four.vm.counters()
    assert counters["idle_ns"] >= 40_000_000
    assert counters["slices"] < 1000


def test_all_cpus_halted_for_good_is_a_crash(four: BareMetal) -> None:
    event = four.run(
        **load(
            four,
            f"""ap_main: {SIGN_IN} cli; 1: hlt; jmp 1b
    start: lapic_on; start_aps; {WAIT_FOR_ALL} cli; hlt""",
        )
    )
    assert event.reason is ExitReason.CRASH
    assert "halted with interrupts off" in event.detail


def test_nmi_to_a_halted_cpu_wakes_it(four: BareMetal) -> None:
    four.run(
        **load(
            four,
            f"""handler: incl RESULT; {SIGN_IN} iretq
    ap_main: load_idt; cli; lock incl DATA; 1: hlt; jmp 1b
    start: load_idt; gate 2, handler; lapic_on; start_aps; 1: pause; cmpl $3, DATA; jb 1b
        lapic 0x300, 0xc4400; {WAIT_FOR_ALL} power_off""",
        )
    )
    assert four.peek(RESULT, 4) == 3


def test_tlb_shootdown_by_ipi_reaches_each_cpus_own_tlb(four: BareMetal) -> None:
    """CPUs 1 to 3 read a page that CPU 0 keeps remapping; once they answered its IPI the old page is gone."""
    rounds = 150
    for page in range(2):
        four.poke(FUNCTION + 4096 * page, page)
    four.poke(ALIAS_PT, FUNCTION | 3)
    four.run(
        **load(
            four,
            f"""flush: invlpg ALIAS; lock incl DATA + 64; eoi; iretq
    ap_main: load_idt; {SIGN_IN} sti
    1:  mov DATA, %r8d; mov ALIAS, %eax; cmp DATA, %r8d; jne 1b
        cmp %r8d, DATA + 128; jne 1b
        mov %r8d, %r9d; and $1, %r9d; cmp %r9d, %eax; je 1b; cmp DATA, %r8d; jne 1b; lock incl RESULT; jmp 1b
    start: load_idt; gate 0x60, flush; lapic_on; start_aps; {WAIT_FOR_ALL} xor %ecx, %ecx
    again: inc %ecx; mov %ecx, DATA; movl $0, DATA + 64
        mov %ecx, %eax; and $1, %eax; shl $12, %eax; lea FUNCTION + 3(%rax), %eax; mov %eax, ALIAS_PT
        lapic 0x300, 0xc4060
    1:  pause; cmpl $3, DATA + 64; jb 1b
        mov %ecx, DATA + 128; mov $2, %edx; 1: pause; dec %edx; jnz 1b
        cmp ${rounds}, %ecx; jb again; mov %ecx, RESULT + 8; power_off""",
        )
    )
    assert (four.peek(RESULT, 4), four.peek(RESULT + 8, 4)) == (0, rounds)


def test_a_cpus_own_tlb_is_not_flushed_by_others(four: BareMetal) -> None:
    """The converse, which shows that the test above can fail: no IPI, and the stale entry lives on."""
    for page in range(2):
        four.poke(FUNCTION + 4096 * page, page)
    four.poke(ALIAS_PT, FUNCTION | 3)
    four.run(
        **load(
            four,
            """ap_main: cmp $1, %edi; jne 2f; mov ALIAS, %eax; movl $1, DATA
    1:  pause; cmpl $2, DATA; jne 1b; mov ALIAS, %eax; mov %eax, RESULT
        invlpg ALIAS; mov ALIAS, %eax; mov %eax, RESULT + 4; movl $3, DATA
    2:  hlt; jmp 2b
    start: lapic_on; start_aps; 1: pause; cmpl $1, DATA; jne 1b
        movl $(FUNCTION + 4096 + 3), ALIAS_PT; invlpg ALIAS; movl $2, DATA; 1: pause; cmpl $3, DATA; jne 1b
        power_off""",
        )
    )
    assert (four.peek(RESULT, 4), four.peek(RESULT + 4, 4)) == (0, 1)


def test_code_rewritten_by_another_cpu_is_not_run_stale(four: BareMetal) -> None:
    """CPU 0 rewrites, through a mapping for data, what all others run, one version after the other."""
    rounds = 1000
    four.poke(ALIAS_PT, FUNCTION | 3 | NO_EXECUTE)
    four.write(FUNCTION, function_returning(0))
    four.run(
        **load(
            four,
            f"""ap_main: mov $FUNCTION, %r11d; {SIGN_IN} xor %r8d, %r8d
    1:  call *%r11; pause; cmp DATA, %r8d; je 1b
        mov DATA, %r8d; call *%r11; cmp %eax, %r8d; je 2f; lock incl RESULT
    2:  lock incl DATA + 64; jmp 1b
    start: no_execute_on; lapic_on; start_aps; {WAIT_FOR_ALL} xor %ecx, %ecx
    again: inc %ecx; movl $0, DATA + 64; mov %ecx, ALIAS + 1; mov %ecx, DATA
    1:  pause; cmpl $3, DATA + 64; jb 1b
        cmp ${rounds}, %ecx; jb again; mov %ecx, RESULT + 8; power_off""",
        )
    )
    assert (four.peek(RESULT, 4), four.peek(RESULT + 8, 4)) == (0, rounds)


def test_triple_fault_of_one_cpu_ends_the_machine(four: BareMetal) -> None:
    event = four.run(
        **load(
            four,
            """ap_main: lidt nothing(%rip); ud2
    nothing: .word 0; .quad 0
    start: lapic_on; start_aps; 1: pause; jmp 1b""",
        )
    )
    assert event.reason is ExitReason.CRASH
    assert event.detail.startswith("triple fault: vCPU ")
    assert "vCPU 0" not in event.detail


def test_init_to_the_boot_cpu_is_a_reset(four: BareMetal) -> None:
    event = four.run(**load(four, "ap_main: start: lapic_on; ipi 0x4500, 0; 1: jmp 1b"))
    assert event.reason is ExitReason.RESET


def test_reset_takes_other_cpus_back_to_waiting(four: BareMetal) -> None:
    entry = load(
        four,
        f"""ap_main: {SIGN_IN} 1: pause; jmp 1b
    start: lapic_on; movl $0, {COUNT:#x}; mov $100000, %ecx; 1: pause; dec %ecx; jnz 1b
        mov {COUNT:#x}, %eax; add %eax, RESULT; start_aps; {WAIT_FOR_ALL}
        mov $0x602, %dx; mov $1, %al; out %al, %dx; 1: jmp 1b""",
    )
    for _ in range(3):
        assert four.run(**entry).reason is ExitReason.RESET
    assert four.peek(RESULT, 4) == 0, "a CPU of the run before was still running"
