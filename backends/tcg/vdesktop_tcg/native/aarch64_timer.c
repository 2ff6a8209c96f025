/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The generic timer (Arm DDI 0487, D11). The library implements the counter,
 * but its timers do nothing: a write of CTL is dropped and nothing compares. We
 * put our own functions where the library's register table has its write
 * functions, so a timer access costs what any system register access does. */
#include <errno.h>

#include "aarch64.h"

#define CTL_ENABLE  1u
#define CTL_IMASK   2u
#define CTL_ISTATUS 4u

/* ENCODE_AA64_CP_REG(0x13, crn, crm, op0, op1, op2), and CP_REG_AA64_MASK. */
#define CP_REG(op0, op1, crn, crm, op2)                                                            \
    (1u << 28 | 0x13u << 16 | (op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))
enum { OP2_TVAL, OP2_CTL, OP2_CVAL, OP2_COUNT };

struct timer {
    uint64_t cval, ctl;
};

static const struct {
    uint32_t crm, intid;
} timers[A64_TIMERS] = {
    [A64_TIMER_PHYS] = {.crm = 2, .intid = 30},
    [A64_TIMER_VIRT] = {.crm = 3, .intid = 27},
};

static struct timer *timer_of(struct tcg_vcpu *vcpu, enum a64_timer which) {
    return &TCG_FIELD(vcpu->env, A64_C14_TIMER, struct timer) + which;
}

/* The virtual count stands still while the machine does, which is what
 * CNTVOFF_EL2 is for; the physical one, which no guest's clock uses, goes on. */
uint64_t a64_offset(struct tcg_vm *vm) {
    return ((struct a64_vm *)tcg_vm_arch(vm))->paused_ns / A64_NS_PER_TICK;
}

void a64_resumed(struct tcg_vm *vm, uint64_t paused_ns) {
    ((struct a64_vm *)tcg_vm_arch(vm))->paused_ns += paused_ns;
    for (uint32_t i = 0; i < tcg_vm_vcpus(vm); i++)
        TCG_FIELD(tcg_vm_vcpu(vm, i)->env, A64_CNTVOFF_EL2, uint64_t) = a64_offset(vm);
}

static uint64_t offset_of(const struct tcg_vcpu *vcpu, enum a64_timer which) {
    return which == A64_TIMER_VIRT ? a64_offset(vcpu->vm) : 0;
}

static uint64_t count(const struct tcg_vcpu *vcpu, enum a64_timer which, uint64_t now) {
    return now / A64_NS_PER_TICK - offset_of(vcpu, which);
}

/* Sets ISTATUS and the interrupt; returns when that changes by itself. */
static uint64_t evaluate(struct tcg_vcpu *vcpu, enum a64_timer which, uint64_t now) {
    struct a64_vm *a64 = tcg_vm_arch(vcpu->vm);
    struct timer *t = timer_of(vcpu, which);
    bool met = (t->ctl & CTL_ENABLE) && count(vcpu, which, now) >= t->cval;
    t->ctl = met ? t->ctl | CTL_ISTATUS : t->ctl & ~(uint64_t)CTL_ISTATUS;
    gicv2_ppi(&a64->gic, vcpu->index, timers[which].intid, met && !(t->ctl & CTL_IMASK));
    uint64_t offset = offset_of(vcpu, which);
    if (met || !(t->ctl & CTL_ENABLE) || t->cval > TCG_NEVER / A64_NS_PER_TICK - offset)
        return TCG_NEVER;
    return (t->cval + offset) * A64_NS_PER_TICK;
}

uint64_t a64_timers(struct tcg_vcpu *vcpu, uint64_t now) {
    uint64_t phys = evaluate(vcpu, A64_TIMER_PHYS, now), virt = evaluate(vcpu, A64_TIMER_VIRT, now);
    return phys < virt ? phys : virt;
}

static void timer_write(void *env, enum a64_timer which, uint32_t op2, uint64_t value) {
    struct tcg_vcpu *vcpu = tcg_vcpu_of_env(env);
    if (!vcpu)
        return; /* an engine of somebody else's: its timers do nothing anyway */
    struct a64_vm *a64 = tcg_vm_arch(vcpu->vm);
    struct timer *t = timer_of(vcpu, which);
    uint64_t now = tcg_now();
    ++*a64->n_timer_writes;
    switch (op2) {
    case OP2_TVAL:
        t->cval = count(vcpu, which, now) + (uint64_t)(int64_t)(int32_t)value;
        break;
    case OP2_CTL:
        t->ctl = (t->ctl & CTL_ISTATUS) | (value & (CTL_ENABLE | CTL_IMASK));
        break;
    default:
        t->cval = value;
        break;
    }
    tcg_vcpu_timer(vcpu, a64_timers(vcpu, now));
}

#define WRITE_FN(timer, op2)                                                                       \
    static void write_##timer##_##op2(void *env, const void *info, uint64_t value) {               \
        (void)info;                                                                                \
        timer_write(env, timer, op2, value);                                                       \
    }
WRITE_FN(A64_TIMER_PHYS, OP2_TVAL)
WRITE_FN(A64_TIMER_PHYS, OP2_CTL)
WRITE_FN(A64_TIMER_PHYS, OP2_CVAL)
WRITE_FN(A64_TIMER_VIRT, OP2_TVAL)
WRITE_FN(A64_TIMER_VIRT, OP2_CTL)
WRITE_FN(A64_TIMER_VIRT, OP2_CVAL)

typedef void (*write_fn)(void *env, const void *info, uint64_t value);
static const write_fn write_fns[A64_TIMERS][OP2_COUNT] = {
    {write_A64_TIMER_PHYS_OP2_TVAL, write_A64_TIMER_PHYS_OP2_CTL, write_A64_TIMER_PHYS_OP2_CVAL},
    {write_A64_TIMER_VIRT_OP2_TVAL, write_A64_TIMER_VIRT_OP2_CTL, write_A64_TIMER_VIRT_OP2_CVAL},
};

/* All vCPUs share the register table of the first. */
int a64_timer_init(struct tcg_vm *vm) {
    void *registers = TCG_FIELD(tcg_vm_vcpu(vm, 0)->cs, A64_CPU_CP_REGS, void *);
    for (uint32_t t = 0; t < A64_TIMERS; t++) {
        for (uint32_t op2 = 0; op2 < OP2_COUNT; op2++) {
            void *info = a64_fns.get_cp_reginfo(registers, CP_REG(3u, 3u, 14u, timers[t].crm, op2));
            if (!info || !TCG_FIELD(info, A64_CPREG_WRITEFN, write_fn))
                return -EPROTO;
            TCG_FIELD(info, A64_CPREG_WRITEFN, write_fn) = write_fns[t][op2];
        }
    }
    return 0;
}
