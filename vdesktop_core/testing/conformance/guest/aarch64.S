/* SPDX-License-Identifier: MIT
 *
 * The conformance guest, aarch64, at EL1 with the MMU off. It executes the list
 * of records (layout in ../program.py) that x0 points to, on a started CPU too.
 * Interrupts stay masked: WFI wakes all the same, and the acknowledge register tells. */
    .text
start:
    mov x19, x0
next:
    ldr w0, [x19]
    ldr w1, [x19, #4]
    ldp x2, x3, [x19, #8]
    ldp x4, x5, [x19, #24]
    cmp w0, #1
    b.eq read
    cmp w0, #2
    b.eq write
    cmp w0, #3
    b.eq until
    cmp w0, #4
    b.eq count
    cmp w0, #5
    b.eq acknowledge
    cmp w0, #6
    b.eq wait
    cmp w0, #7
    b.eq call
    cmp w0, #8
    b.eq gicv3_on
    cmp w0, #9
    b.eq gicv3_end
stop:
    wfi
    b stop
done:
    str x0, [x19, #48]
    mov x1, #1
    dmb sy
    str x1, [x19, #56]
    add x19, x19, #64
    b next

read:
    cbz w1, 1f
    cmp w1, #2
    b.lo 2f
    b.eq 3f
    ldr x0, [x2]
    b 4f
1:  ldrb w0, [x2]
    b 4f
2:  ldrh w0, [x2]
    b 4f
3:  ldr w0, [x2]
4:  add x2, x2, x5
    subs x4, x4, #1
    b.ne read
    b done

write:
    cbz w1, 1f
    cmp w1, #2
    b.lo 2f
    b.eq 3f
    str x3, [x2]
    b 4f
1:  strb w3, [x2]
    b 4f
2:  strh w3, [x2]
    b 4f
3:  str w3, [x2]
4:  add x2, x2, x5
    subs x4, x4, #1
    b.ne write
    b done

until:
    ldr x0, [x2]
    cmp x0, x3
    b.ne until
    b done

count:
    ldr x0, [x2]
    add x0, x0, #1
    str x0, [x2]
    b count

    /* x2: the GICv2 acknowledge register, or 0: GICv3's system register. 0: none */
iar:
    cbz x2, 1f
    ldr w0, [x2]
    b 2f
1:  mrs x0, S3_0_C12_C12_0      /* ICC_IAR1_EL1 */
    dsb sy
2:  and x0, x0, #0xffffff
    cmp x0, #1020
    b.lo 3f
    mov x0, #0
3:  ret

acknowledge:
    bl iar
    b done

wait:
    wfi
    bl iar
    cbz x0, wait
    b done

    /* width 0: HVC, 1: SMC */
call:
    mov w6, w1
    mov x0, x2
    mov x1, x3
    mov x2, x4
    mov x3, x5
    cbnz w6, 1f
    hvc #0
    b done
1:  smc #0
    b done

gicv3_on:
    mov x0, #7
    msr S3_0_C12_C12_5, x0      /* ICC_SRE_EL1 */
    isb
    mov x0, #0xf0
    msr S3_0_C4_C6_0, x0        /* ICC_PMR_EL1 */
    mov x0, #1
    msr S3_0_C12_C12_7, x0      /* ICC_IGRPEN1_EL1 */
    isb
    b done

gicv3_end:
    msr S3_0_C12_C12_1, x3      /* ICC_EOIR1_EL1 */
    isb
    b done
