/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Model-specific registers. The library has those that are part of the CPU's
 * own state; the rest is here. What neither has raises #GP, as on hardware
 * (the library would read 0 and ignore writes). */
#include "x86.h"

enum x86_msr {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1B,
    MSR_TSC_ADJUST = 0x3B,
    MSR_MICROCODE = 0x8B,
    MSR_TSC_DEADLINE = 0x6E0,
};

#define APIC_BASE_BOOT   (1u << 8)
#define APIC_BASE_ENABLE (1u << 11)

/* Registers the library implements and CPUID offers. */
static const struct {
    uint32_t first, last;
    bool writable;
} known[] = {
    {0x0FE, 0x0FE, false},          /* MTRRcap */
    {0x174, 0x176, true},           /* SYSENTER_CS, _ESP, _EIP */
    {0x179, 0x179, false},          /* MCG_CAP: no banks */
    {0x1A0, 0x1A0, true},           /* MISC_ENABLE */
    {0x200, 0x20F, true},           /* variable MTRRs */
    {0x250, 0x250, true},           /* fixed MTRRs */
    {0x258, 0x259, true},           /**/
    {0x268, 0x26F, true},           /**/
    {0x277, 0x277, true},           /* PAT */
    {0x2FF, 0x2FF, true},           /* MTRRdefType */
    {0xC0000080, 0xC0000084, true}, /* EFER, STAR, LSTAR, CSTAR, FMASK */
    {0xC0000100, 0xC0000103, true}, /* FSBASE, GSBASE, KERNELGSBASE, TSC_AUX */
};

static bool is_known(uint32_t msr, bool write) {
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (msr >= known[i].first && msr <= known[i].last) {
            return known[i].writable || !write;
        }
    }
    return false;
}

/* Holds canonical addresses only. */
static bool is_address(uint32_t msr) {
    return msr == 0x175 || msr == 0x176 || msr == 0xC0000082 || msr == 0xC0000083 ||
           (msr >= 0xC0000100 && msr <= 0xC0000102);
}

static bool canonical(uint64_t address) {
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* The TSC is the host's monotonic clock, so it is the same on all vCPUs. */
uint64_t x86_tsc(struct tcg_vcpu *vcpu) {
    return x86_clock(vcpu->vm) + (uint64_t)lapic_tsc_offset(x86_bus(vcpu), vcpu->index);
}

static uint64_t apic_base(struct tcg_vcpu *vcpu) {
    return LAPIC_BASE | (vcpu->index == 0 ? APIC_BASE_BOOT : 0) |
           (x86_bus(vcpu)->lapic[vcpu->index].enabled ? APIC_BASE_ENABLE : 0);
}

/* The page does not move, and there is no x2APIC mode. */
static bool set_apic_base(struct tcg_vcpu *vcpu, uint64_t value) {
    if ((value ^ apic_base(vcpu)) & ~(uint64_t)APIC_BASE_ENABLE) {
        return false;
    }
    lapic_enable(x86_bus(vcpu), vcpu->index, value & APIC_BASE_ENABLE);
    return true;
}

/* 1: *value is the register; 0: not one of ours. */
static int read_own(struct tcg_vcpu *vcpu, uint32_t msr, uint64_t *value) {
    switch (msr) {
    case MSR_TSC:
        *value = x86_tsc(vcpu);
        return 1;
    case MSR_APIC_BASE:
        *value = apic_base(vcpu);
        return 1;
    case MSR_TSC_ADJUST:
        *value = (uint64_t)lapic_tsc_offset(x86_bus(vcpu), vcpu->index);
        return 1;
    case MSR_MICROCODE:
        *value = 1ull << 32;
        return 1;
    case MSR_TSC_DEADLINE:
        *value = lapic_tsc_deadline(x86_bus(vcpu), vcpu->index);
        return 1;
    default:
        return 0;
    }
}

/* 1: written; 0: not one of ours; -1: #GP. */
static int write_own(struct tcg_vcpu *vcpu, uint32_t msr, uint64_t value) {
    struct apic_bus *bus = x86_bus(vcpu);

    switch (msr) {
    case MSR_TSC:
        lapic_set_tsc_offset(bus, vcpu->index, (int64_t)(value - x86_clock(vcpu->vm)));
        return 1;
    case MSR_APIC_BASE:
        return set_apic_base(vcpu, value) ? 1 : -1;
    case MSR_TSC_ADJUST:
        lapic_set_tsc_offset(bus, vcpu->index, (int64_t)value);
        return 1;
    case MSR_MICROCODE:
        return 1; /* SDM: written 0 before CPUID loads it; there is nothing to load */
    case MSR_TSC_DEADLINE:
        lapic_set_tsc_deadline(bus, vcpu->index, value);
        return 1;
    default:
        return 0;
    }
}

static _Noreturn void fault(struct tcg_vcpu *vcpu, uintptr_t host_pc) {
    ++*x86_vm(vcpu->vm)->counter.msr_faults;
    x86_fns.raise(vcpu->env, EXCEPTION_GP, 0, host_pc);
}

void x86_rdmsr(void *env) {
    struct tcg_vcpu *vcpu = x86_vcpu_of_env(env);
    uint64_t *regs = x86_regs(env), value;

    if (!vcpu) {
        x86_stock.rdmsr(env);
        return;
    }
    if (read_own(vcpu, (uint32_t)regs[R_CX], &value)) {
        regs[R_AX] = (uint32_t)value;
        regs[R_DX] = value >> 32;
    } else if (is_known((uint32_t)regs[R_CX], false)) {
        x86_stock.rdmsr(env);
    } else {
        fault(vcpu, (uintptr_t)__builtin_return_address(0));
    }
}

void x86_wrmsr(void *env) {
    struct tcg_vcpu *vcpu = x86_vcpu_of_env(env);
    const uint64_t *regs = x86_regs(env);

    if (!vcpu) {
        x86_stock.wrmsr(env);
        return;
    }
    uint32_t msr = (uint32_t)regs[R_CX];
    uint64_t value = (uint32_t)regs[R_AX] | regs[R_DX] << 32;
    int own = write_own(vcpu, msr, value);
    if (own > 0) {
        return;
    }
    if (own < 0 || !is_known(msr, true) || (is_address(msr) && !canonical(value))) {
        fault(vcpu, (uintptr_t)__builtin_return_address(0));
    }
    x86_stock.wrmsr(env);
}

/* CR4.TSD: user code may not read the time. */
static void check_tsd(void *env, uintptr_t host_pc) {
    if (x86_cr(env)[4] & CR4_TSD && X86_ENV(env, ENV_HFLAGS, uint32_t) & HFLAG_CPL) {
        x86_fns.raise(env, EXCEPTION_GP, 0, host_pc);
    }
}

static void read_tsc(struct tcg_vcpu *vcpu) {
    uint64_t *regs = x86_regs(vcpu->env), value = x86_tsc(vcpu);

    regs[R_AX] = (uint32_t)value;
    regs[R_DX] = value >> 32;
}

void x86_rdtsc(void *env) {
    struct tcg_vcpu *vcpu = x86_vcpu_of_env(env);

    if (!vcpu) {
        x86_stock.rdtsc(env);
        return;
    }
    check_tsd(env, (uintptr_t)__builtin_return_address(0));
    read_tsc(vcpu);
}

void x86_rdtscp(void *env) {
    struct tcg_vcpu *vcpu = x86_vcpu_of_env(env);

    if (!vcpu) {
        x86_stock.rdtscp(env);
        return;
    }
    check_tsd(env, (uintptr_t)__builtin_return_address(0));
    read_tsc(vcpu);
    x86_regs(env)[R_CX] = X86_ENV(env, ENV_TSC_AUX, uint32_t);
}
