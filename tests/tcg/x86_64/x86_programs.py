# SPDX-License-Identifier: GPL-2.0-only
"""Bare-metal x86_64 programs: a memory layout, page tables, descriptor tables, and the host's assembler."""

from __future__ import annotations

import functools
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bare_metal import BareMetal

PML4, PDPT, PD, GDT, AP_ENTRY, AP_PAGE, IDT = 0x1000, 0x2000, 0x3000, 0x7000, 0x7FF8, 0x8000, 0x9000
RESULT, DATA, STACKS, CODE, FUNCTION, ALIAS_PT = 0x10000, 0x20000, 0x80000, 0x100000, 0x180000, 0x200000
#: 512 pages of 4 KiB here are mapped by ALIAS_PT; all else is the identity, in 2 MiB pages.
ALIAS = 0x4000_0000

NO_EXECUTE = 1 << 63

KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE = 0x10, 0x18, 0x20, 0x28
_DESCRIPTORS = (
    0,
    0,
    0x00AF_9B00_0000_FFFF,
    0x00CF_9300_0000_FFFF,
    0x00CF_F300_0000_FFFF,
    0x00AF_FB00_0000_FFFF,
)

#: Macros use rax, rbx, rdx and rbp as they please.
PRELUDE = f"""
.equ RESULT, {RESULT:#x}; .equ DATA, {DATA:#x}; .equ FUNCTION, {FUNCTION:#x}; .equ IDT, {IDT:#x}
.equ ALIAS, {ALIAS:#x}; .equ ALIAS_PT, {ALIAS_PT:#x}; .equ AP_ENTRY, {AP_ENTRY:#x}
.equ LAPIC, 0xfee00000; .equ IOAPIC, 0xfec00000

.macro power_off
    mov $0x600, %dx; mov $0x34, %al; out %al, %dx
    1: jmp 1b
.endm
.macro gate vector, handler
    lea \\handler(%rip), %rax; mov $(IDT + 16 * \\vector), %ebx
    mov %ax, (%rbx); movw $0x10, 2(%rbx); movw $0x8e00, 4(%rbx)
    shr $16, %rax; mov %ax, 6(%rbx); shr $16, %rax; mov %rax, 8(%rbx)
.endm
.macro load_idt
    lidt idt_pointer(%rip)
.endm
.macro lapic offset, value
    mov $(LAPIC + \\offset), %ebp; movl $\\value, (%rbp)
.endm
.macro lapic_on
    lapic 0xf0, 0x1ff
.endm
.macro eoi
    lapic 0xb0, 0
.endm
# pin: vector, flags in the low half; cpu: physical destination
.macro redirect pin, low, cpu
    mov $IOAPIC, %ebp; movl $(0x11 + 2 * \\pin), (%rbp); movl $(\\cpu << 24), 0x10(%rbp)
    movl $(0x10 + 2 * \\pin), (%rbp); movl $\\low, 0x10(%rbp)
.endm
.macro ipi low, cpu
    lapic 0x310, (\\cpu << 24); lapic 0x300, \\low
.endm
# All others: INIT, SIPI, to ap_main with the APIC id in edi.
.macro start_aps
    lea ap_main(%rip), %rax; mov %rax, AP_ENTRY
    lapic 0x300, 0xc4500; lapic 0x300, 0xc4608
.endm
# Page table entries may have NO_EXECUTE from here on.
.macro no_execute_on
    mov $0xc0000080, %ecx; rdmsr; or $0x800, %eax; wrmsr
.endm
    jmp start
idt_pointer: .word 4095; .quad IDT
"""

# Real mode at AP_PAGE, to 64-bit mode the short way.
_TRAMPOLINE = f"""
.code16
    cli; xor %ax, %ax; mov %ax, %ds; lgdtl gdt_pointer
    mov $0x20, %eax; mov %eax, %cr4; mov ${PML4:#x}, %eax; mov %eax, %cr3
    mov $0xc0000080, %ecx; mov $0x100, %eax; xor %edx, %edx; wrmsr
    mov $0x80000033, %eax; mov %eax, %cr0; ljmpl ${KERNEL_CODE:#x}, $long
gdt_pointer: .word {8 * len(_DESCRIPTORS) - 1}; .long {GDT:#x}
.code64
long:
    mov ${KERNEL_DATA:#x}, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss
    mov $0xfee00000, %ebp; mov 0x20(%rbp), %edi; shr $24, %edi
    mov %edi, %eax; shl $12, %eax; lea {STACKS:#x}(%rax), %rsp
    movl $0x1ff, 0xf0(%rbp); jmp *{AP_ENTRY:#x}
"""


@functools.cache
def assemble(source: str, origin: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "a.s").write_text(source + "\n")
        subprocess.run(["as", "--64", "-o", path / "a.o", path / "a.s"], check=True)
        link = ["ld", f"-Ttext={origin:#x}", "--oformat=binary", "-e", f"{origin:#x}"]
        subprocess.run([*link, "-o", path / "a.bin", path / "a.o"], check=True)
        return (path / "a.bin").read_bytes()


def function_returning(value: int) -> bytes:
    return b"\xb8" + struct.pack("<I", value) + b"\xc3"


def load(machine: BareMetal, source: str) -> dict[str, int]:
    """Put a program in memory; returns the entry registers. ``start`` is its first label."""
    machine.poke(PML4, PDPT | 7)
    for gibibyte in range(4):
        machine.poke(PDPT + 8 * gibibyte, PD + 4096 * gibibyte | 7)
        for large in range(512):
            machine.poke(PD + 4096 * gibibyte + 8 * large, gibibyte << 30 | large << 21 | 0x87)
    machine.poke(PD + 4096 * (ALIAS >> 30), ALIAS_PT | 7)
    machine.write(GDT, struct.pack(f"<{len(_DESCRIPTORS)}Q", *_DESCRIPTORS))
    machine.write(AP_PAGE, assemble(_TRAMPOLINE, AP_PAGE))
    machine.write(CODE, assemble(PRELUDE + source, CODE))
    return {"rip": CODE, "rsp": STACKS, "cr3": PML4, "gdt_base": GDT, "gdt_limit": 8 * len(_DESCRIPTORS) - 1}
