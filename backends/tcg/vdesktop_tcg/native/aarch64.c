/* SPDX-License-Identifier: GPL-2.0-only
 * aarch64: the CPU at its first instruction, exceptions, and what the other
 * files of this part supply, put together. */
#include "aarch64.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct tcg_layout tcg_layout_aarch64;

/* unicorn.h and arm64.h of 2.1.4 */
#define UC_ARCH_ARM64    2
#define UC_CPU_ARM64_A72 2

#define EXCP_HVC 11u
#define EXCP_SMC 13u

#define PSTATE_EL1H  0x5u
#define DAIF_MASKED  0x3c0u
#define SCR_EL3_INIT 0x531u       /* NS, RES1, HCE, RW */
#define HCR_EL2_INIT (1ull << 31) /* RW */
#define CNTHCTL_INIT 3u           /* EL1 may use the physical counter and timer */
#define MPIDR_RES1   (1ull << 31)

static void gic_output(void *opaque, uint32_t cpu, bool level) {
    tcg_vcpu_interrupt(tcg_vm_vcpu(opaque, cpu), A64_INTERRUPT_HARD, level);
}

static void gic_sgi_sent(void *opaque, uint32_t cpu) {
    tcg_vcpu_prefer(tcg_vm_vcpu(opaque, cpu));
}

static uint32_t gic_current(void *opaque) {
    return tcg_vm_current(opaque)->index;
}

static int vm_init(struct tcg_vm *vm) {
    struct a64_vm *a64 = tcg_vm_arch(vm);
    a64->gic.n_cpus = tcg_vm_vcpus(vm);
    a64->gic.opaque = vm;
    a64->gic.current = gic_current;
    a64->gic.output = gic_output;
    a64->gic.sgi_sent = gic_sgi_sent;
    a64->gic.n_acknowledged = tcg_vm_counter(vm, "irqs");
    a64->n_psci = tcg_vm_counter(vm, "firmware_calls");
    a64->n_timer_writes = tcg_vm_counter(vm, "timer_writes");
    gicv2_init(&a64->gic);
    int error = a64_timer_init(vm);
    if (!error)
        error = tcg_map_io(vm, A64_GICD_BASE, GICD_SIZE, &a64->gic.distributor);
    return error ? error : tcg_map_io(vm, A64_GICC_BASE, GICC_SIZE, &a64->gic.cpu_interface);
}

static void vm_reset(struct tcg_vm *vm) {
    struct a64_vm *a64 = tcg_vm_arch(vm);
    gicv2_reset(&a64->gic);
}

static void vcpu_reset(struct tcg_vcpu *vcpu) {
    void *env = vcpu->env;
    TCG_FIELD(env, A64_SCR_EL3, uint64_t) = SCR_EL3_INIT;
    TCG_FIELD(env, A64_HCR_EL2, uint64_t) = HCR_EL2_INIT;
    TCG_FIELD(env, A64_CNTHCTL_EL2, uint64_t) = CNTHCTL_INIT;
    TCG_FIELD(env, A64_CNTFRQ, uint64_t) = A64_CNTFRQ_HZ;
    TCG_FIELD(env, A64_CNTVOFF_EL2, uint64_t) = a64_offset(vcpu->vm);
    TCG_FIELD(env, A64_VMPIDR_EL2, uint64_t) = MPIDR_RES1 | vcpu->index;
    TCG_FIELD(vcpu->cs, A64_CPU_MP_AFFINITY, uint64_t) = vcpu->index;
    TCG_FIELD(env, A64_AARCH64, uint32_t) = 1;
    TCG_FIELD(env, A64_DAIF, uint64_t) = DAIF_MASKED;
    TCG_FIELD(env, A64_PSTATE, uint32_t) = PSTATE_EL1H;
    a64_fns.rebuild_hflags(env);
}

static int set_register(struct tcg_vcpu *vcpu, const char *name, uint64_t value) {
    char *end;
    if (strcmp(name, "pc") == 0) {
        TCG_FIELD(vcpu->env, tcg_layout_aarch64.pc, uint64_t) = value;
        return 0;
    }
    unsigned long n = strtoul(name + 1, &end, 10);
    if (name[0] != 'x' || end == name + 1 || *end || n > 30)
        return -ENOENT;
    (&TCG_FIELD(vcpu->env, A64_XREGS, uint64_t))[n] = value;
    return 0;
}

static void lines_changed(struct tcg_vm *vm, uint32_t word, uint64_t changed, uint64_t levels) {
    struct a64_vm *a64 = tcg_vm_arch(vm);
    for (; changed; changed &= changed - 1) {
        uint32_t bit = (uint32_t)__builtin_ctzll(changed);
        gicv2_spi(&a64->gic, word * 64 + bit, levels >> bit & 1u);
    }
}

static bool has_work(struct tcg_vcpu *vcpu) {
    return TCG_FIELD(vcpu->cs, tcg_layout_aarch64.cpu.interrupt_request, uint32_t) &
           A64_INTERRUPT_WAKES;
}

static void exception(struct tcg_vcpu *vcpu, uint32_t number) {
    if (number == EXCP_HVC || number == EXCP_SMC)
        a64_firmware_call(vcpu);
    else
        a64_fns.do_interrupt(vcpu->cs);
}

static void describe(struct tcg_vcpu *vcpu, char *to, size_t size) {
    const void *env = vcpu->env;
    snprintf(to, size, "pc=%#llx esr=%#llx far=%#llx elr=%#llx",
             (unsigned long long)TCG_FIELD(env, tcg_layout_aarch64.pc, uint64_t),
             (unsigned long long)(&TCG_FIELD(env, A64_ESR_EL, uint64_t))[1],
             (unsigned long long)(&TCG_FIELD(env, A64_FAR_EL, uint64_t))[1],
             (unsigned long long)(&TCG_FIELD(env, A64_ELR_EL, uint64_t))[1]);
}

static const struct tcg_symbol symbols[] = {
    {"arm_cpu_do_interrupt", offsetof(struct a64_fns, do_interrupt)},
    {"arm_rebuild_hflags", offsetof(struct a64_fns, rebuild_hflags)},
    {"get_arm_cp_reginfo", offsetof(struct a64_fns, get_cp_reginfo)},
    {"tlb_flush", offsetof(struct a64_fns, tlb_flush)},
    {"tlb_flush_by_mmuidx", offsetof(struct a64_fns, tlb_flush_by_mmuidx)},
    {"tlb_flush_page", offsetof(struct a64_fns, tlb_flush_page)},
    {"tlb_flush_page_by_mmuidx", offsetof(struct a64_fns, tlb_flush_page_by_mmuidx)},
    {NULL, 0},
};

const struct tcg_arch_ops tcg_arch_aarch64 = {
    .name = "aarch64",
    .suffix = "_aarch64",
    .uc_arch = UC_ARCH_ARM64,
    .uc_mode = 0,
    .cpu_model = UC_CPU_ARM64_A72,
    .page_size = 4096,
    .phys_bits = 44,
    .layout = &tcg_layout_aarch64,
    .symbols = symbols,
    .symbol_table = &a64_fns,
    .rebinds = a64_tlb_rebinds,
    .vm_size = sizeof(struct a64_vm),
    .vcpu_size = 0,
    .timer_hz = A64_CNTFRQ_HZ,
    .lines = GIC_SPIS,
    .vm_init = vm_init,
    .vm_reset = vm_reset,
    .vcpu_reset = vcpu_reset,
    .set_register = set_register,
    .lines_changed = lines_changed,
    .resumed = a64_resumed,
    .timers = a64_timers,
    .has_work = has_work,
    .exception = exception,
    .describe = describe,
};
