/* SPDX-License-Identifier: MIT
 *
 * The conformance guest, riscv64, in S-mode without paging. It executes the list
 * of records (layout in ../program.py) that a1 points to, on a started hart too.
 * sstatus.SIE stays clear: WFI wakes all the same, and the claim register tells. */
    .option norvc
    .option norelax
    .text
start:
    mv s0, a1
    li t0, 0x200                /* sie.SEIE */
    csrs sie, t0
next:
    lw a0, 0(s0)
    lw a1, 4(s0)
    ld a2, 8(s0)
    ld a3, 16(s0)
    ld a4, 24(s0)
    ld a5, 32(s0)
    li t0, 1
    beq a0, t0, read
    li t0, 2
    beq a0, t0, write
    li t0, 3
    beq a0, t0, until
    li t0, 4
    beq a0, t0, count
    li t0, 5
    beq a0, t0, acknowledge
    li t0, 6
    beq a0, t0, wait
    li t0, 7
    beq a0, t0, call
stop:
    wfi
    j stop
done:
    sd a0, 48(s0)
    li t0, 1
    fence rw, rw
    sd t0, 56(s0)
    addi s0, s0, 64
    j next

read:
    li t0, 1
    bltu a1, t0, 1f
    beq a1, t0, 2f
    li t0, 2
    beq a1, t0, 3f
    ld a0, 0(a2)
    j 4f
1:  lbu a0, 0(a2)
    j 4f
2:  lhu a0, 0(a2)
    j 4f
3:  lwu a0, 0(a2)
4:  add a2, a2, a5
    addi a4, a4, -1
    bnez a4, read
    j done

write:
    li t0, 1
    bltu a1, t0, 1f
    beq a1, t0, 2f
    li t0, 2
    beq a1, t0, 3f
    sd a3, 0(a2)
    j 4f
1:  sb a3, 0(a2)
    j 4f
2:  sh a3, 0(a2)
    j 4f
3:  sw a3, 0(a2)
4:  add a2, a2, a5
    addi a4, a4, -1
    bnez a4, write
    j done

until:
    ld a0, 0(a2)
    bne a0, a3, until
    j done

count:
    ld a0, 0(a2)
    addi a0, a0, 1
    sd a0, 0(a2)
    j count

acknowledge:
    lwu a0, 0(a2)
    j done

wait:
    wfi
    lwu a0, 0(a2)
    beqz a0, wait
    j done

    /* a: extension, b: function, c to e: arguments */
call:
    mv a7, a2
    mv a6, a3
    mv a0, a4
    mv a1, a5
    ld a2, 40(s0)
    ecall
    j done
