/* SPDX-License-Identifier: GPL-2.0-only
 * The aarch64 part. */
#ifndef TCG_AARCH64_H
#define TCG_AARCH64_H

#include "engine.h"
#include "gicv2.h"

/* The machine's map (docs/spec/machine.md). */
#define A64_GICD_BASE 0x08000000u
#define A64_GICC_BASE 0x08010000u

/* Fields of CPUARMState and, where marked, offsets in ARMCPU; Unicorn 2.1.4,
 * obtained as layout.c says. */
enum {
    A64_XREGS = 64,
    A64_PSTATE = 328,
    A64_AARCH64 = 332,
    A64_DAIF = 560,
    A64_HCR_EL2 = 952,
    A64_SCR_EL3 = 960,
    A64_ESR_EL = 984,  /* [4] */
    A64_FAR_EL = 1048, /* [4] */
    A64_CNTFRQ = 1360,
    A64_CNTHCTL_EL2 = 1376,
    A64_CNTVOFF_EL2 = 1384,
    A64_C14_TIMER = 1392, /* {cval, ctl} by timer */
    A64_VMPIDR_EL2 = 2832,
    A64_ELR_EL = 568,            /* [4] */
    A64_CPU_CP_REGS = 54544,     /* ARMCPU */
    A64_CPU_MP_AFFINITY = 54888, /* ARMCPU */
    A64_CPREG_WRITEFN = 88,      /* ARMCPRegInfo */
};

#define A64_INTERRUPT_HARD  0x2u
#define A64_INTERRUPT_WAKES 0x0252u /* FIQ, HARD, VIRQ and VFIQ wake WFI */
#define A64_CNTFRQ_HZ       62500000u
#define A64_NS_PER_TICK     16u

enum a64_timer { A64_TIMER_PHYS, A64_TIMER_VIRT, A64_TIMERS };

struct a64_vm {
    struct gicv2 gic;
    uint64_t paused_ns; /* since creation */
    uint64_t *n_psci, *n_timer_writes;
};

/* Functions of the library this part calls. */
struct a64_fns {
    void (*do_interrupt)(void *cs);
    void (*rebuild_hflags)(void *env);
    void *(*get_cp_reginfo)(void *cp_regs, uint32_t encoded);
    void (*tlb_flush)(void *cs);
    void (*tlb_flush_by_mmuidx)(void *cs, uint16_t modes);
    void (*tlb_flush_page)(void *cs, uint64_t page);
    void (*tlb_flush_page_by_mmuidx)(void *cs, uint64_t page, uint16_t modes);
};
extern struct a64_fns a64_fns;
extern const struct tcg_rebind a64_tlb_rebinds[];

/* aarch64_timer.c */
int a64_timer_init(struct tcg_vm *vm);
uint64_t a64_timers(struct tcg_vcpu *vcpu, uint64_t now);
uint64_t a64_offset(struct tcg_vm *vm); /* CNTVOFF_EL2 */
void a64_resumed(struct tcg_vm *vm, uint64_t paused_ns);
/* aarch64_psci.c */
void a64_firmware_call(struct tcg_vcpu *vcpu);

#endif
