/* SPDX-License-Identifier: GPL-2.0-only
 *
 * riscv64: a SiFive U54 (RV64GC, Sv39) entered in S-mode, with a PLIC, and
 * with the firmware it would have in M-mode done here: an SBI (sbi.c), the
 * delegation of traps, the timer. */
#include "riscv64.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { UC_ARCH_RISCV = 8, UC_MODE_RISCV64 = 8, UC_CPU_RISCV64_SIFIVE_U54 = 3 };
enum { CPU_INTERRUPT_HARD = 2 };

/* The library raises this for an ECALL of any privilege level. */
enum { EXCP_BREAKPOINT = 3, EXCP_ECALL = 8 };
enum { ECALL_SIZE = 4 };

/* All exceptions go to S-mode but its own ECALLs, which are ours. */
#define MEDELEG_RESET 0xb1ffu
#define MIDELEG_RESET (RV_IP_SSIP | RV_IP_STIP | RV_IP_SEIP)
/* cycle, time and instret may be read by user space, as firmware leaves it. */
#define COUNTEREN_RESET 7u

struct rv_library rv_library;

static const struct tcg_symbol symbols[] = {
    {"tlb_flush", offsetof(struct rv_library, tlb_flush)},
    {"riscv_cpu_do_interrupt", offsetof(struct rv_library, do_interrupt)},
    {"riscv_get_csr_ops", offsetof(struct rv_library, get_csr_ops)},
    {"riscv_set_csr_ops", offsetof(struct rv_library, set_csr_ops)},
    {NULL, 0},
};

void rv_interrupt(struct tcg_vcpu *vcpu, uint64_t bits, bool level) {
    uint64_t *mip = &RV_CSR(vcpu->env, MIP);

    *mip = level ? *mip | bits : *mip & ~bits;
    tcg_vcpu_interrupt(vcpu, CPU_INTERRUPT_HARD, *mip != 0);
}

uint64_t rv_time(struct tcg_vm *vm) {
    const struct rv_vm *rv = tcg_vm_arch(vm);

    return (tcg_now() - rv->clock_base_ns) / RV_NS_PER_TICK;
}

static void plic_output(void *opaque, unsigned context, bool level) {
    rv_interrupt(tcg_vm_vcpu(opaque, context), RV_IP_SEIP, level);
}

static uint64_t plic_read(void *opaque, uint64_t offset, unsigned width) {
    return tcg_plic_read(opaque, offset, width);
}

static void plic_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    tcg_plic_write(opaque, offset, width, value);
}

/* The offsets of riscv64.h against what the library itself reads, by its public
 * register numbers (riscv.h of 2.1.4). */
static int check_env(struct tcg_vm *vm) {
    static const struct {
        int id;
        uint32_t offset;
        uint64_t value;
    } fields[] = {
        {2, RV_ENV_GPR + 8, 1},     {190, RV_ENV_PC, 2},         {191, RV_ENV_PRIV, RV_PRV_S},
        {115, RV_ENV_MHARTID, 4},   {116, RV_ENV_MSTATUS, 2},    {131, RV_ENV_MIP, 0x20},
        {120, RV_ENV_MIE, 0x200},   {119, RV_ENV_MIDELEG, 2},    {146, RV_ENV_SATP, 9},
        {144, RV_ENV_SBADADDR, 10}, {118, RV_ENV_MEDELEG, 11},   {140, RV_ENV_SEPC, 12},
        {141, RV_ENV_SCAUSE, 13},   {138, RV_ENV_SCOUNTEREN, 5}, {122, RV_ENV_MCOUNTEREN, 6},
    };
    char *env = tcg_vm_vcpu(vm, 0)->env;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        uint64_t *field = (uint64_t *)(env + fields[i].offset), old = *field, seen = 0;
        int error;

        *field = fields[i].value;
        error = tcg_uc()->reg_read(tcg_vm_uc(vm), fields[i].id, &seen);
        *field = old;
        if (error || seen != fields[i].value)
            return -EPROTO;
    }
    return 0;
}

static int vm_init(struct tcg_vm *vm) {
    struct rv_vm *rv = tcg_vm_arch(vm);
    const struct tcg_plic_output output = {plic_output, vm};

    if (check_env(vm) != 0)
        return -EPROTO;
    rv_csr_init();
    rv->plic = tcg_plic_new(tcg_vm_vcpus(vm), &output);
    if (!rv->plic)
        return -ENOMEM;
    rv->plic_io = (struct vd_io){plic_read, plic_write, rv->plic};
    rv_sbi_init(vm);
    return tcg_map_io(vm, RV_PLIC_BASE, TCG_PLIC_SIZE, &rv->plic_io);
}

static void vm_fini(struct tcg_vm *vm) {
    struct rv_vm *rv = tcg_vm_arch(vm);

    tcg_plic_free(rv->plic);
}

static void vm_reset(struct tcg_vm *vm) {
    struct rv_vm *rv = tcg_vm_arch(vm);

    rv->clock_base_ns = tcg_now();
    tcg_sbi_reset(&rv->sbi, 0);
    tcg_plic_reset(rv->plic);
}

static void resumed(struct tcg_vm *vm, uint64_t paused_ns) {
    struct rv_vm *rv = tcg_vm_arch(vm);

    rv->clock_base_ns += paused_ns;
    for (uint32_t i = 0; i < tcg_vm_vcpus(vm); i++) {
        struct tcg_vcpu *vcpu = tcg_vm_vcpu(vm, i);
        if (vcpu->deadline < TCG_NEVER - paused_ns)
            vcpu->deadline += paused_ns;
    }
}

static void vcpu_reset(struct tcg_vcpu *vcpu) {
    const struct rv_vm *rv = tcg_vm_arch(vcpu->vm);
    void *env = vcpu->env;

    vcpu->deadline = TCG_NEVER;
    RV_CSR(env, MHARTID) = vcpu->index;
    RV_CSR(env, PRIV) = RV_PRV_S;
    RV_CSR(env, MEDELEG) = MEDELEG_RESET;
    RV_CSR(env, MIDELEG) = MIDELEG_RESET;
    RV_CSR(env, SCOUNTEREN) = COUNTEREN_RESET;
    RV_CSR(env, MCOUNTEREN) = COUNTEREN_RESET;
    /* The one bit of mip that is a wire: the PLIC does not tell it again. */
    rv_interrupt(vcpu, RV_IP_SEIP, tcg_plic_output_level(rv->plic, vcpu->index));
}

static int set_register(struct tcg_vcpu *vcpu, const char *name, uint64_t value) {
    static const struct {
        const char *name;
        uint32_t offset;
    } registers[] = {
        {"pc", RV_ENV_PC},           {"satp", RV_ENV_SATP},       {"a0", RV_ENV_GPR + 8 * 10},
        {"a1", RV_ENV_GPR + 8 * 11}, {"a2", RV_ENV_GPR + 8 * 12}, {"a3", RV_ENV_GPR + 8 * 13},
        {"a4", RV_ENV_GPR + 8 * 14}, {"a5", RV_ENV_GPR + 8 * 15}, {"a6", RV_ENV_GPR + 8 * 16},
        {"a7", RV_ENV_GPR + 8 * 17},
    };

    for (unsigned i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
        if (strcmp(name, registers[i].name) == 0) {
            TCG_FIELD(vcpu->env, registers[i].offset, uint64_t) = value;
            return 0;
        }
    }
    return -ENOENT;
}

static void lines_changed(struct tcg_vm *vm, uint32_t word, uint64_t changed, uint64_t levels) {
    struct rv_vm *rv = tcg_vm_arch(vm);

    for (; changed; changed &= changed - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(changed);

        tcg_plic_set(rv->plic, word * 64 + bit, levels >> bit & 1);
    }
}

static uint64_t timers(struct tcg_vcpu *vcpu, uint64_t now) {
    if (vcpu->deadline <= now) {
        vcpu->deadline = TCG_NEVER;
        rv_interrupt(vcpu, RV_IP_STIP, true);
    }
    return vcpu->deadline;
}

static bool has_work(struct tcg_vcpu *vcpu) {
    return (RV_CSR(vcpu->env, MIP) & RV_CSR(vcpu->env, MIE)) != 0;
}

static void exception(struct tcg_vcpu *vcpu, uint32_t number) {
    void *env = vcpu->env;

    if (number == EXCP_ECALL && RV_CSR(env, PRIV) == RV_PRV_S) {
        rv_sbi_ecall(vcpu);
        return;
    }
    /* The library went past the instruction before it told us. */
    RV_CSR(env, PC) -= ECALL_SIZE;
    rv_library.do_interrupt(vcpu->cs);
}

/* EBREAK comes this way, with pc on it. */
static bool invalid_instruction(struct tcg_vcpu *vcpu) {
    const struct tcg_layout *layout = tcg_arch_riscv64.layout;

    if (TCG_FIELD(vcpu->cs, layout->cpu.exception_index, int32_t) != EXCP_BREAKPOINT)
        return false;
    TCG_FIELD(tcg_vm_uc(vcpu->vm), layout->uc.invalid_error, int) = 0;
    rv_library.do_interrupt(vcpu->cs);
    return true;
}

static void describe(struct tcg_vcpu *vcpu, char *to, size_t size) {
    const void *env = vcpu->env;

    snprintf(to, size, "hart %u: pc %#llx priv %llu sepc %#llx scause %#llx stval %#llx satp %#llx",
             vcpu->index, (unsigned long long)RV_CSR(env, PC),
             (unsigned long long)RV_CSR(env, PRIV), (unsigned long long)RV_CSR(env, SEPC),
             (unsigned long long)RV_CSR(env, SCAUSE), (unsigned long long)RV_CSR(env, SBADADDR),
             (unsigned long long)RV_CSR(env, SATP));
}

extern const struct tcg_layout tcg_layout_riscv64;

const struct tcg_arch_ops tcg_arch_riscv64 = {
    .name = "riscv64",
    .suffix = "_riscv64",
    .uc_arch = UC_ARCH_RISCV,
    .uc_mode = UC_MODE_RISCV64,
    .cpu_model = UC_CPU_RISCV64_SIFIVE_U54,
    .phys_bits = 56, /* 44-bit page numbers (Sv39) */
    .layout = &tcg_layout_riscv64,
    .symbols = symbols,
    .symbol_table = &rv_library,
    .rebinds = rv_rebinds,
    .vm_size = sizeof(struct rv_vm),
    .timer_hz = RV_TIMEBASE_HZ,
    .lines = TCG_PLIC_SOURCES,
    .vm_init = vm_init,
    .vm_fini = vm_fini,
    .vm_reset = vm_reset,
    .vcpu_reset = vcpu_reset,
    .set_register = set_register,
    .lines_changed = lines_changed,
    .resumed = resumed,
    .timers = timers,
    .has_work = has_work,
    .exception = exception,
    .invalid_instruction = invalid_instruction,
    .describe = describe,
};
