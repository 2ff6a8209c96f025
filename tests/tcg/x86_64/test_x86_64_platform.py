# SPDX-License-Identifier: GPL-2.0-only
"""The x86_64 vCPU and what is around it, by programs that run on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from x86_programs import DATA, PDPT, RESULT, USER_CODE, USER_DATA, load

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import ExitReason
from vdesktop_core.memory import MemoryRegion

if TYPE_CHECKING:
    from bare_metal import BareMetal

#: Records the vector and stops, for programs that expect an exception or none.
TRAP = """
.macro expect vector, label
    gate \\vector, 98f
    jmp 97f
98: movl $\\vector, RESULT + \\label; power_off
97:
.endm
"""


@pytest.mark.parametrize(
    ("port", "value", "reason"),
    [
        (0x600, 0x34, ExitReason.SHUTDOWN),
        (0x602, 1, ExitReason.RESET),
        (0x64, 0xFE, ExitReason.RESET),
    ],
)
def test_power_ports_end_the_run(machine: BareMetal, port: int, value: int, reason: ExitReason) -> None:
    entry = load(machine, f"start: mov ${port}, %dx; mov ${value}, %al; out %al, %dx; 1: jmp 1b")
    assert machine.run(**entry).reason is reason


def test_sleep_types_other_than_s5_do_nothing(machine: BareMetal) -> None:
    entry = load(
        machine,
        """start: mov $0x600, %dx
        mov $0x24, %al; out %al, %dx; mov $0x14, %al; out %al, %dx; in %dx, %al
        movzbl %al, %eax; mov %eax, RESULT; movl $1, RESULT + 4; power_off""",
    )
    assert machine.run(**entry).reason is ExitReason.SHUTDOWN
    assert (machine.peek(RESULT, 4), machine.peek(RESULT + 4, 4)) == (0, 1)


def test_halt_with_interrupts_off_is_a_crash_that_says_where(machine: BareMetal) -> None:
    event = machine.run(**load(machine, "start: cli; hlt; power_off"))
    assert event.reason is ExitReason.CRASH
    assert "halted with interrupts off" in event.detail
    assert "rip=0x10" in event.detail


def test_triple_fault_is_a_crash_that_says_where(machine: BareMetal) -> None:
    event = machine.run(**load(machine, "start: lidt nothing(%rip); ud2\nnothing: .word 0; .quad 0"))
    assert event.reason is ExitReason.CRASH
    assert event.detail.startswith("triple fault: ")
    assert "rip=0x10" in event.detail


def test_double_fault_is_delivered(machine: BareMetal) -> None:
    """A #PF whose gate is not present gives #NP, and so #DF."""
    entry = load(machine, TRAP + "start: load_idt; expect 8, 0; movl $1, ALIAS")
    machine.run(**entry)
    assert machine.peek(RESULT, 4) == 8


def test_ports_nobody_owns_read_all_ones_and_are_counted(machine: BareMetal) -> None:
    entry = load(
        machine,
        """start: mov $0x5678, %dx; xor %eax, %eax; in %dx, %al; mov %eax, RESULT
        xor %eax, %eax; in %dx, %ax; mov %eax, RESULT + 4; in %dx, %eax; mov %eax, RESULT + 8
        out %eax, %dx; power_off""",
    )
    machine.run(**entry)
    assert [machine.peek(RESULT + 4 * i, 4) for i in range(3)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    assert machine.vm.counters()["unassigned"] == 4


def test_ports_reach_their_handler_with_offset_and_width(machine: BareMetal) -> None:
    seen: list[tuple[int, ...]] = []
    machine.device(
        0x300,
        size=8,
        port=True,
        read=lambda offset, width: 0x1122334455667788 >> 8 * offset,
        write=lambda *access: seen.append(access),
    )
    entry = load(
        machine,
        """start: mov $0x302, %dx; mov $0xaabbccdd, %eax; out %al, %dx; out %ax, %dx; out %eax, %dx
        xor %eax, %eax; in %dx, %ax; mov %eax, RESULT; power_off""",
    )
    machine.run(**entry)
    assert seen == [(2, 1, 0xDD), (2, 2, 0xCCDD), (2, 4, 0xAABBCCDD)]
    assert machine.peek(RESULT, 4) == 0x5566


#: CPUID (leaf, register, bit) and an instruction that it stands for.
OFFERED = {
    "sse3": "haddps %xmm0, %xmm1",
    "pclmulqdq": "pclmulqdq $0, %xmm0, %xmm1",
    "ssse3": "pabsb %xmm0, %xmm1",
    "cx16": "mov $DATA, %esi; cmpxchg16b (%rsi)",
    "sse4.1": "pmulld %xmm0, %xmm1",
    "sse4.2": "crc32l %eax, %ebx",
    "movbe": "movbe DATA, %eax",
    "popcnt": "popcnt %eax, %ebx",
    "aes": "aesenc %xmm0, %xmm1",
    "rdrand": "rdrand %eax",
    "fsgsbase": "rdfsbase %rax",
    "bmi1": "andn %eax, %ebx, %ecx",
    "bmi2": "mulx %eax, %ebx, %ecx",
    "adx": "adcx %eax, %ebx",
    "clflushopt": "clflushopt DATA",
    "clwb": "clwb DATA",
    "rdtscp": "rdtscp",
    "lzcnt": "lzcnt %eax, %ebx",
    "lahf": "lahf",
    "sysenter vendor": "mov $0x174, %ecx; rdmsr",
}
REFUSED = {
    "smap": "stac",
    "xsave": "xgetbv",
    "monitor": "monitor",
    "svm": "vmload",
    "3dnow": "pfadd %mm0, %mm1",
    "vmx": "vmcall",
    "invpcid": "invpcid DATA, %rax",
    "avx": "vaddps %ymm0, %ymm1, %ymm2",
}
_SSE_ON = """
    mov %cr4, %rax; or $0x10600, %eax; mov %rax, %cr4; xor %ecx, %ecx; xor %eax, %eax; xor %edx, %edx
"""


@pytest.mark.parametrize("what", OFFERED)
def test_cpuid_offers_what_executes(machine: BareMetal, what: str) -> None:
    machine.run(**load(machine, f"{TRAP}start: load_idt; expect 6, 0; {_SSE_ON}; {OFFERED[what]}; power_off"))
    assert machine.peek(RESULT, 4) == 0


@pytest.mark.parametrize("what", REFUSED)
def test_cpuid_hides_what_raises_invalid_opcode(machine: BareMetal, what: str) -> None:
    machine.run(**load(machine, f"{TRAP}start: load_idt; expect 6, 0; {_SSE_ON}; {REFUSED[what]}; power_off"))
    assert machine.peek(RESULT, 4) == 6


def cpuid(machine: BareMetal, leaf: int, sub: int = 0) -> tuple[int, ...]:
    machine.run(
        **load(
            machine,
            f"""start: mov ${leaf}, %eax; mov ${sub}, %ecx; cpuid
            mov %eax, RESULT; mov %ebx, RESULT + 4; mov %ecx, RESULT + 8; mov %edx, RESULT + 12; power_off""",
        )
    )
    return tuple(machine.peek(RESULT + 4 * i, 4) for i in range(4))


def test_cpuid_tells_the_rate_of_the_tsc(machine: BareMetal) -> None:
    denominator, numerator, crystal, _ = cpuid(machine, 0x15)
    assert crystal * numerator // denominator == machine.vm.platform().timer_hz
    assert cpuid(machine, 0x16)[0] == machine.vm.platform().timer_hz // 10**6
    assert cpuid(machine, 0x80000007)[3] >> 8 & 1, "invariant"


def test_cpuid_features_match_the_lists_above(machine: BareMetal) -> None:
    _, _, ecx, edx = cpuid(machine, 1)
    assert ecx == 0xC3D8_2203
    assert not edx >> 28 & 1
    assert cpuid(machine, 7)[1] == 0x0188_018B
    assert cpuid(machine, 0x80000001)[2:] == (0x21, 0x2C10_0800)
    assert cpuid(machine, 0x12345678) == cpuid(machine, 0x16)


@pytest.mark.parametrize(
    "access",
    [
        "mov $0x1234, %ecx; rdmsr",
        "mov $0x1234, %ecx; wrmsr",
        "mov $0xfe, %ecx; wrmsr",  # MTRRcap is read-only
        "mov $0xc0000082, %ecx; mov $0x8000, %edx; wrmsr",  # LSTAR, not canonical
        "mov $0x1b, %ecx; mov $0xfef00800, %eax; wrmsr",  # the APIC page does not move
        "mov $0x1b, %ecx; mov $0xfee00d00, %eax; wrmsr",  # no x2APIC
        "mov $0x800, %ecx; rdmsr",
        "mov $0x10, %eax; mov %rax, %cr8",
    ],
)
def test_registers_that_do_not_exist_raise_general_protection(machine: BareMetal, access: str) -> None:
    source = f"{TRAP}start: load_idt; expect 13, 0; xor %eax, %eax; xor %edx, %edx; {access}; power_off"
    machine.run(**load(machine, source))
    assert machine.peek(RESULT, 4) == 13


def test_registers_read_back(machine: BareMetal) -> None:
    names = {0x1A0: 0, 0x277: 0x0007040600070406, 0x2FF: 0x806, 0x1B: 0xFEE00900, 0x3B: 0, 0x6E0: 0}
    source = "".join(
        f"mov ${msr}, %ecx; rdmsr; mov %eax, RESULT + {8 * i}; mov %edx, RESULT + {8 * i + 4};"
        for i, msr in enumerate(names)
    )
    machine.run(**load(machine, f"start: {source} power_off"))
    assert [machine.peek(RESULT + 8 * i) for i in range(len(names))] == list(names.values())


def test_tsc_runs_at_its_rate_and_adjusts(machine: BareMetal) -> None:
    source = """start: rdtsc; mov %eax, RESULT; mov %edx, RESULT + 4
        mov $0x3b, %ecx; mov $0, %eax; mov $0x100, %edx; wrmsr
        rdtsc; mov %eax, RESULT + 8; mov %edx, RESULT + 12
        mov $0x10, %ecx; mov $5, %eax; xor %edx, %edx; wrmsr
        rdtsc; mov %eax, RESULT + 16; mov %edx, RESULT + 20; power_off"""
    before = time.monotonic_ns()
    machine.run(**load(machine, source))
    after = time.monotonic_ns()
    first, adjusted, written = (machine.peek(RESULT + 8 * i) for i in range(3))
    assert before <= first <= after
    assert 0 <= adjusted - first - (0x100 << 32) <= after - before
    assert 5 <= written <= after - before


def test_clock_registers_tell_the_time(machine: BareMetal) -> None:
    source = "".join(
        f"mov ${index}, %al; out %al, $0x70; in $0x71, %al; mov %al, RESULT + {i};"
        for i, index in enumerate((9, 8, 7, 4, 2, 0x0A, 0x0B))
    )
    before = time.gmtime()
    machine.run(**load(machine, f"start: {source} power_off"))
    after = time.gmtime()
    told = [f"{machine.peek(RESULT + i, 1):02x}" for i in range(5)]
    assert told in (time.strftime("%y %m %d %H %M", at).split() for at in (before, after))
    assert machine.peek(RESULT + 5, 1) & 0x80 == 0, "no update in progress"
    assert machine.peek(RESULT + 6, 1) & 2, "24 hours"


def test_syscall_and_sysret_follow_the_manual(machine: BareMetal) -> None:
    """Ring 3 with odd flags, SYSCALL, look at everything, SYSRET, SYSCALL again to end."""
    source = f"""start:
        mov $0xc0000081, %ecx; xor %eax, %eax; mov ${(USER_DATA - 8) << 16 | 0x10}, %edx; wrmsr
        mov $0xc0000082, %ecx; lea kernel(%rip), %rax; xor %edx, %edx; wrmsr
        mov $0xc0000084, %ecx; mov $0x401, %eax; xor %edx, %edx; wrmsr
        mov $0xc0000080, %ecx; rdmsr; or $1, %eax; wrmsr
        pushq ${USER_DATA | 3}; pushq $0x70000; pushq $0xed5; pushq ${USER_CODE | 3}
        lea user(%rip), %rax; push %rax; iretq
    user: xor %r8d, %r8d; stc; std; syscall
    next: pushfq; pop %r9; mov %cs, %r10d; mov %ss, %r12d; inc %r8d; syscall
    kernel:
        pushfq; pop %rax; mov %rax, RESULT + 32(, %r8, 8)
        test %r8d, %r8d; jnz second
        mov %rcx, RESULT; mov %r11, RESULT + 8
        mov %cs, %eax; mov %eax, RESULT + 16; mov %ss, %eax; mov %eax, RESULT + 20
        lea next(%rip), %rax; mov %rax, RESULT + 24
        or $0x100000, %r11; sysretq
    second: mov %r9, RESULT + 64; mov %r10d, RESULT + 72; mov %r12d, RESULT + 76; power_off"""
    machine.run(**load(machine, source))
    assert machine.peek(RESULT) == machine.peek(RESULT + 24), "rcx: the next instruction"
    flags = machine.peek(RESULT + 8)
    assert flags & 0xED5 == 0x401 | flags & 0xED5 & ~0x401
    assert flags & 0x401 == 0x401, "r11: the flags of ring 3"
    assert machine.peek(RESULT + 32) & 0x401 == 0, "masked by FMASK"
    assert (machine.peek(RESULT + 16, 4), machine.peek(RESULT + 20, 4)) == (0x10, 0x18)
    assert machine.peek(RESULT + 64) & 0x401 == 0x401, "SYSRET brought them back"
    assert (machine.peek(RESULT + 72, 4), machine.peek(RESULT + 76, 4)) == (USER_CODE | 3, USER_DATA | 3)


def test_syscall_without_its_enable_bit_is_an_invalid_opcode(machine: BareMetal) -> None:
    machine.run(**load(machine, f"{TRAP}start: load_idt; expect 6, 0; syscall; power_off"))
    assert machine.peek(RESULT, 4) == 6


COUNT_TICKS = """
tick: incl RESULT; eoi; iretq
"""


def test_timer_in_deadline_mode_wakes_from_halt_not_early(machine: BareMetal) -> None:
    source = f"""{COUNT_TICKS}
    start: load_idt; gate 0xec, tick; lapic_on; lapic 0x320, 0x400ec
        rdtsc; shl $32, %rdx; or %rdx, %rax; add $3000000, %rax; mov %rax, %r8; mov %rax, %rdx; shr $32, %rdx
        mov $0x6e0, %ecx; wrmsr; sti; hlt; cli
        rdtsc; shl $32, %rdx; or %rdx, %rax; sub %r8, %rax; mov %rax, RESULT + 8
        mov $0x6e0, %ecx; rdmsr; mov %eax, RESULT + 16; power_off"""
    machine.run(**load(machine, source))
    assert machine.peek(RESULT, 4) == 1
    assert 0 <= machine.peek(RESULT + 8) < 2**63, "not before its time"
    assert machine.peek(RESULT + 16, 4) == 0
    assert machine.vm.counters()["idle_ns"] > 1_000_000, "slept, not spun"


def test_timer_periodic_ticks_as_often_as_asked(machine: BareMetal) -> None:
    source = f"""{COUNT_TICKS}
    start: load_idt; gate 0xec, tick; lapic_on; lapic 0x3e0, 0xb; lapic 0x320, 0x200ec
        rdtsc; mov %eax, %r8d; lapic 0x380, 1000000; sti
    wait: hlt; cmpl $20, RESULT; jb wait; cli
        rdtsc; sub %r8d, %eax; mov %eax, RESULT + 8; power_off"""
    machine.run(**load(machine, source))
    assert machine.peek(RESULT + 8, 4) >= 20_000_000


def test_level_line_interrupts_until_the_device_lowers_it(machine: BareMetal) -> None:
    """The device lowers its line at the third acknowledgement, a write to its port."""
    writes = 0

    def acknowledge(offset: int, width: int, value: int) -> None:
        nonlocal writes
        writes += 1
        if writes == 3:
            machine.set_line(20, False)

    machine.device(0x300, size=1, port=True, write=acknowledge)
    source = """
    handler: incl RESULT; mov $0x300, %dx; out %al, %dx; eoi; iretq
    start: load_idt; gate 0x50, handler; lapic_on; redirect 20, 0x8050, 0; sti
    wait: cmpl $3, RESULT; jb wait
        mov $2000000, %ecx; 1: loop 1b; power_off"""
    machine.set_line(20, True)
    machine.run(**load(machine, source))
    assert machine.peek(RESULT, 4) == 3


def test_line_wakes_a_halted_guest(machine: BareMetal) -> None:
    source = """
    handler: power_off
    start: load_idt; gate 0x50, handler; lapic_on; redirect 47, 0x8050, 0
        movl $1, RESULT; sti; 1: hlt; jmp 1b"""
    machine.start(**load(machine, source))
    while not machine.peek(RESULT, 4):
        time.sleep(0.001)
    machine.set_line(47, True)
    assert machine.wait().reason is ExitReason.SHUTDOWN


def test_interrupt_waits_for_the_instruction_after_sti(machine: BareMetal) -> None:
    source = """
    handler: mov %rcx, RESULT; power_off
    start: load_idt; gate 0x50, handler; lapic_on; xor %ecx, %ecx
        ipi 0x44050, 0; sti; inc %ecx; inc %ecx; nop; 1: jmp 1b"""
    machine.run(**load(machine, source))
    assert machine.peek(RESULT) >= 1


def test_task_priority_in_cr8_holds_interrupts_back(machine: BareMetal) -> None:
    source = """
    handler: incl RESULT; eoi; iretq
    start: load_idt; gate 0x50, handler; lapic_on; mov $5, %eax; mov %rax, %cr8; sti
        lapic 0x300, 0x44050; mov $1000, %ecx; 1: loop 1b; mov RESULT, %eax; mov %eax, RESULT + 4
        mov $(LAPIC + 0x80), %ebp; mov (%rbp), %eax; mov %eax, RESULT + 8
        xor %eax, %eax; mov %rax, %cr8; mov $1000, %ecx; 1: loop 1b; power_off"""
    machine.run(**load(machine, source))
    assert [machine.peek(RESULT + 4 * i, 4) for i in range(3)] == [1, 0, 0x50]


def test_nmi_comes_with_interrupts_off_and_not_twice_at_once(machine: BareMetal) -> None:
    """The second NMI, sent by the handler of the first, waits for its IRET."""
    source = """
    handler: incl RESULT; cmpl $2, RESULT; je 2f
        lapic 0x300, 0x44400; mov $1000, %edx; 1: dec %edx; jnz 1b; mov RESULT, %eax; mov %eax, RESULT + 4
    2:  iretq
    start: load_idt; gate 2, handler; lapic_on; cli; lapic 0x300, 0x44400
        mov $100000, %ecx; 1: loop 1b; power_off"""
    machine.run(**load(machine, source))
    assert (machine.peek(RESULT, 4), machine.peek(RESULT + 4, 4)) == (2, 1)


def test_page_fault_reports_address_and_error_code(machine: BareMetal) -> None:
    source = """
    handler: mov %cr2, %rax; mov %rax, RESULT; pop %rax; mov %rax, RESULT + 8; power_off
    start: load_idt; gate 14, handler; movl $1, ALIAS + 0x1234"""
    machine.run(**load(machine, source))
    assert (machine.peek(RESULT), machine.peek(RESULT + 8)) == (0x4000_1234, 2)


def test_registers_of_the_entry_reach_the_guest(machine: BareMetal) -> None:
    entry = load(machine, "start: mov %rsi, RESULT; pushfq; pop %rax; mov %rax, RESULT + 8; power_off")
    machine.run(**entry, rsi=0x1122334455667788, rflags=0x202)
    assert (machine.peek(RESULT), machine.peek(RESULT + 8)) == (0x1122334455667788, 0x202)


def test_memory_above_4_gib_is_mapped_and_unmapped_in_no_time(machine: BareMetal) -> None:
    """What is no memory is one window up to 2^40; a change of the map must not walk its pages."""
    high = MemoryRegion("high", 2 << 20)
    machine.vm.map_memory(4 << 30, high)
    entry = load(
        machine,
        """start: mov $0x100000000, %rsi; mov (%rsi), %rax; mov %rax, RESULT; movl $7, 8(%rsi)
        mov $0x100200000, %rsi; mov (%rsi), %rax; mov %rax, RESULT + 8; power_off""",
    )
    machine.poke(PDPT + 8 * 4, 4 << 30 | 0x87)
    high.view[:4] = b"high"
    machine.run(**entry)
    assert machine.peek(RESULT) == int.from_bytes(b"high", "little")
    assert machine.peek(RESULT + 8) == 2**64 - 1
    assert high.view[8] == 7
    machine.vm.unmap_memory(4 << 30)
    machine.run(**entry)
    assert machine.peek(RESULT) == 2**64 - 1
    high.close()


def test_unknown_entry_register_is_refused(machine: BareMetal) -> None:
    with pytest.raises(BackendError, match="set register x0 of x86_64"):
        machine.start(x0=1)


def test_machine_can_be_started_again_after_reset(machine: BareMetal) -> None:
    entry = load(
        machine,
        "start: incl DATA; lapic_on; lapic 0x320, 0x200ec; lapic 0x380, 100; movw $0x602, %dx;"
        "mov $1, %al; out %al, %dx; 1: jmp 1b",
    )
    for _ in range(3):
        assert machine.run(**entry).reason is ExitReason.RESET
    assert machine.peek(DATA, 4) == 3
