/* SPDX-License-Identifier: MIT
 *
 * The conformance guest, x86_64. It executes the list of records (layout in
 * ../program.py) that rdi points to; the stack is the end of the list's 64 KiB.
 *
 * Placed at 0x8000: a start-up IPI with vector 8 enters at offset 0, the boot
 * CPU at offset 0x80, vector 0x40 at offset 0x100. What the trampoline loads is in memory:
 * GDTR at 0x7fd0, IDTR at 0x7fe0, the list of a started CPU at 0x7f08.
 * The flag at 0x7f00 tells that the interrupt was taken. */
    .text
    .code16
trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl 0x7fd0
    movl $0x20, %eax            /* PAE */
    movl %eax, %cr4
    movl $0x1000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      /* EFER.LME */
    movl $0x100, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80000033, %eax      /* PG, NE, ET, MP, PE */
    movl %eax, %cr0
    ljmpl $0x10, $(0x8000 + long_mode - trampoline)
    .code64
long_mode:
    movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movq 0x7f08, %rdi
    jmp start
    .org 0x80
start:
    movq %rdi, %r15
    leaq 0x10000(%rdi), %rsp
    lidt 0x7fe0
next:
    movl (%r15), %eax
    movl 4(%r15), %ecx
    movq 8(%r15), %rbx
    movq 16(%r15), %rdx
    movq 24(%r15), %rsi
    movq 32(%r15), %rdi
    jmp dispatch
    .org 0x100
interrupt:
    movq $1, 0x7f00
    andl $0xfffffdff, 16(%rsp)  /* return with interrupts off; the list does the EOI */
    cmpq $(0x8000 + sleep - trampoline), (%rsp)
    jne 1f
    incq (%rsp)                 /* taken before the hlt after sti, as some emulated CPUs do: it would */
1:  iretq                       /* sleep for ever */
dispatch:
    cmpl $1, %eax
    je read
    cmpl $2, %eax
    je write
    cmpl $3, %eax
    je until
    cmpl $4, %eax
    je count
    cmpl $5, %eax
    je acknowledge
    cmpl $6, %eax
    je wait
    cmpl $10, %eax
    je input
    cmpl $11, %eax
    je output
    cmpl $12, %eax
    je crash
stop:                           /* with interrupts on: a CPU that nothing can wake is a crash */
    sti
    hlt
    jmp stop
done:
    movq %rax, 48(%r15)
    movq $1, 56(%r15)
    addq $64, %r15
    jmp next

read:
    cmpl $1, %ecx
    jb 1f
    je 2f
    cmpl $2, %ecx
    je 3f
    movq (%rbx), %rax
    jmp 4f
1:  movzbl (%rbx), %eax
    jmp 4f
2:  movzwl (%rbx), %eax
    jmp 4f
3:  movl (%rbx), %eax
4:  addq %rdi, %rbx
    decq %rsi
    jnz read
    jmp done

write:
    cmpl $1, %ecx
    jb 1f
    je 2f
    cmpl $2, %ecx
    je 3f
    movq %rdx, (%rbx)
    jmp 4f
1:  movb %dl, (%rbx)
    jmp 4f
2:  movw %dx, (%rbx)
    jmp 4f
3:  movl %edx, (%rbx)
4:  addq %rdi, %rbx
    decq %rsi
    jnz write
    jmp done

until:
    cmpq %rdx, (%rbx)
    jne until
    jmp done

count:
    incq (%rbx)
    jmp count

acknowledge:
    sti
    nop
    cli
    movq 0x7f00, %rax
    movq $0, 0x7f00
    jmp done

wait:
    sti
sleep:
    hlt
    cli
    movq 0x7f00, %rax
    testq %rax, %rax
    jz wait
    movq $0, 0x7f00
    jmp done

input:
    xorl %eax, %eax
    movl %ebx, %edx
    cmpl $1, %ecx
    jb 1f
    je 2f
    inl %dx, %eax
    jmp 4f
1:  inb %dx, %al
    jmp 4f
2:  inw %dx, %ax
4:  addq %rdi, %rbx
    decq %rsi
    jnz input
    jmp done

output:
    movq %rdx, %rax
5:  movl %ebx, %edx
    cmpl $1, %ecx
    jb 1f
    je 2f
    outl %eax, %dx
    jmp 4f
1:  outb %al, %dx
    jmp 4f
2:  outw %ax, %dx
4:  addq %rdi, %rbx
    decq %rsi
    jnz 5b
    jmp done

crash:
    ud2
