/* SPDX-License-Identifier: GPL-2.0-only
 * Firmware calls: PSCI 1.1 (Arm DEN 0022) over HVC or SMC (SMCCC, DEN 0028). */
#include "aarch64.h"

#define SMC64 0x40000000u
enum {
    SMCCC_VERSION = 0x80000000u,
    SMCCC_ARCH_FEATURES = 0x80000001u,
    PSCI_VERSION = 0x84000000u,
    PSCI_CPU_SUSPEND = 0x84000001u,
    PSCI_CPU_OFF = 0x84000002u,
    PSCI_CPU_ON = 0x84000003u,
    PSCI_AFFINITY_INFO = 0x84000004u,
    PSCI_MIGRATE_INFO_TYPE = 0x84000006u,
    PSCI_SYSTEM_OFF = 0x84000008u,
    PSCI_SYSTEM_RESET = 0x84000009u,
    PSCI_FEATURES = 0x8400000au,
};
enum {
    SUCCESS = 0,
    NOT_SUPPORTED = -1,
    INVALID_PARAMETERS = -2,
    ALREADY_ON = -4,
    INVALID_ADDRESS = -9
};
#define PSCI_1_1         0x10001
#define SMCCC_1_1        0x10001
#define NO_MIGRATION     2 /* MIGRATE_INFO_TYPE: no Trusted OS, or it needs none */
#define AFFINITY_ON      0
#define AFFINITY_OFF     1
#define AFFINITY_BITS    0xff00ffffffull
#define LOWEST_LEVEL_MAX 3

static uint64_t *x(struct tcg_vcpu *vcpu, unsigned n) {
    return &TCG_FIELD(vcpu->env, A64_XREGS, uint64_t) + n;
}

static struct tcg_vcpu *by_affinity(struct tcg_vm *vm, uint64_t mpidr) {
    return (mpidr & ~AFFINITY_BITS)
               ? NULL
               : tcg_vm_vcpu(vm, mpidr > UINT32_MAX ? UINT32_MAX : (uint32_t)mpidr);
}

static int64_t cpu_on(struct tcg_vcpu *caller, uint64_t mpidr, uint64_t entry, uint64_t context) {
    struct tcg_vcpu *target = by_affinity(caller->vm, mpidr);
    if (!target)
        return INVALID_PARAMETERS;
    if (entry & 3u)
        return INVALID_ADDRESS;
    if (target->power == TCG_ON)
        return ALREADY_ON;
    tcg_vcpu_on(target);
    TCG_FIELD(target->env, tcg_arch_aarch64.layout->pc, uint64_t) = entry;
    *x(target, 0) = context;
    return SUCCESS;
}

static int64_t affinity_info(struct tcg_vcpu *caller, uint64_t mpidr, uint64_t lowest_level) {
    struct tcg_vcpu *target = by_affinity(caller->vm, mpidr);
    if (lowest_level > LOWEST_LEVEL_MAX || !target)
        return INVALID_PARAMETERS;
    return target->power == TCG_ON ? AFFINITY_ON : AFFINITY_OFF;
}

static int64_t features(uint32_t function) {
    switch (function & ~SMC64) {
    case PSCI_VERSION:
    case PSCI_CPU_SUSPEND:
    case PSCI_CPU_OFF:
    case PSCI_CPU_ON:
    case PSCI_AFFINITY_INFO:
    case PSCI_MIGRATE_INFO_TYPE:
    case PSCI_SYSTEM_OFF:
    case PSCI_SYSTEM_RESET:
    case PSCI_FEATURES:
    case SMCCC_VERSION:
        return SUCCESS;
    default:
        return NOT_SUPPORTED;
    }
}

/* A standby: a wait for interrupt that the caller returns from. */
static int64_t suspend(struct tcg_vcpu *vcpu) {
    TCG_FIELD(vcpu->cs, tcg_arch_aarch64.layout->cpu.halted, uint32_t) = 1;
    tcg_vm_leave(vcpu->vm);
    return SUCCESS;
}

void a64_firmware_call(struct tcg_vcpu *vcpu) {
    struct tcg_vm *vm = vcpu->vm;
    struct a64_vm *a64 = tcg_vm_arch(vm);
    uint32_t function = (uint32_t)*x(vcpu, 0);
    uint64_t a = *x(vcpu, 1), b = *x(vcpu, 2), c = *x(vcpu, 3);
    int64_t result = NOT_SUPPORTED;
    ++*a64->n_psci;
    if (!(function & SMC64))
        a = (uint32_t)a, b = (uint32_t)b, c = (uint32_t)c;
    /* Every 64-bit function has a 32-bit twin; the others have no SMC64 form,
     * and answering it does no harm. */
    switch (function & ~SMC64) {
    case PSCI_VERSION:
        result = PSCI_1_1;
        break;
    case SMCCC_VERSION:
        result = SMCCC_1_1;
        break;
    case PSCI_CPU_SUSPEND:
        result = suspend(vcpu);
        break;
    case PSCI_CPU_OFF:
        tcg_vcpu_off(vcpu);
        return;
    case PSCI_CPU_ON:
        result = cpu_on(vcpu, a, b, c);
        break;
    case PSCI_AFFINITY_INFO:
        result = affinity_info(vcpu, a, b);
        break;
    case PSCI_MIGRATE_INFO_TYPE:
        result = NO_MIGRATION;
        break;
    case PSCI_SYSTEM_OFF:
        tcg_vm_exit(vm, TCG_EXIT_SHUTDOWN, "PSCI SYSTEM_OFF");
        return;
    case PSCI_SYSTEM_RESET:
        tcg_vm_exit(vm, TCG_EXIT_RESET, "PSCI SYSTEM_RESET");
        return;
    case PSCI_FEATURES:
        result = features((uint32_t)a);
        break;
    default:
        break;
    }
    *x(vcpu, 0) = (uint64_t)result;
}
