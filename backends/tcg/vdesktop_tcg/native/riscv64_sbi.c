/* SPDX-License-Identifier: GPL-2.0-only
 * What the SBI asks of the machine. All on the vCPU thread. */
#include <unistd.h>

#include "riscv64.h"

static struct tcg_vcpu *hart_of(void *opaque, unsigned hart) {
    return tcg_vm_vcpu(opaque, hart);
}

static void set_timer(void *opaque, unsigned hart, uint64_t time) {
    const struct rv_vm *rv = tcg_vm_arch(opaque);
    struct tcg_vcpu *vcpu = hart_of(opaque, hart);
    uint64_t limit = (TCG_NEVER - rv->clock_base_ns) / RV_NS_PER_TICK;

    rv_interrupt(vcpu, RV_IP_STIP, false);
    /* Beyond what the host's clock can count: as good as never, which is also
     * how a kernel switches the timer off. */
    vcpu->deadline = time < limit ? rv->clock_base_ns + time * RV_NS_PER_TICK : TCG_NEVER;
    tcg_vcpu_timer(vcpu, vcpu->deadline);
}

static void send_ipi(void *opaque, unsigned hart) {
    struct tcg_vcpu *vcpu = hart_of(opaque, hart);

    rv_interrupt(vcpu, RV_IP_SSIP, true);
    /* The sender is going to spin for an answer: let the target give it. */
    if (vcpu != tcg_vm_current(opaque))
        tcg_vcpu_prefer(vcpu);
}

static void fence(void *opaque, unsigned hart, enum tcg_sbi_fence kind) {
    /* FENCE.I: translations of code that changed were dropped at the write,
     * for all vCPUs. SFENCE.VMA: everything, whatever the range, as the
     * library's own instruction does: its TLB splits superpages and does not
     * know which of its entries came from the same one. */
    if (kind == TCG_SBI_FENCE_VMA)
        rv_library.tlb_flush(hart_of(opaque, hart)->cs);
}

static void start(void *opaque, unsigned hart, uint64_t pc, uint64_t argument) {
    struct tcg_vcpu *vcpu = hart_of(opaque, hart);

    tcg_vcpu_on(vcpu);
    RV_CSR(vcpu->env, PC) = pc;
    TCG_FIELD(vcpu->env, RV_ENV_GPR + 10 * 8, uint64_t) = hart;
    TCG_FIELD(vcpu->env, RV_ENV_GPR + 11 * 8, uint64_t) = argument;
}

static void stop(void *opaque, unsigned hart) {
    struct tcg_vcpu *vcpu = hart_of(opaque, hart);

    vcpu->deadline = TCG_NEVER;
    tcg_vcpu_off(vcpu);
}

static void suspend(void *opaque, unsigned hart) {
    struct tcg_vcpu *vcpu = hart_of(opaque, hart);

    TCG_FIELD(vcpu->cs, tcg_arch_riscv64.layout->cpu.halted, uint32_t) = 1;
    tcg_vm_leave(opaque);
}

static bool asleep(void *opaque, unsigned hart) {
    const struct tcg_vcpu *vcpu = hart_of(opaque, hart);

    return TCG_FIELD(vcpu->cs, tcg_arch_riscv64.layout->cpu.halted, uint32_t) != 0;
}

static void shutdown(void *opaque, bool failure) {
    tcg_vm_exit(opaque, TCG_EXIT_SHUTDOWN, failure ? "the guest reports a system failure" : "");
}

static void reboot(void *opaque) {
    tcg_vm_exit(opaque, TCG_EXIT_RESET, "");
}

static void *ram(void *opaque, uint64_t gpa, uint64_t len) {
    return tcg_vm_ram(opaque, gpa, len);
}

static uint64_t console(void *opaque, const void *bytes, uint64_t len) {
    const struct rv_vm *rv = tcg_vm_arch(opaque);
    ssize_t n = write(rv->console_fd, bytes, len);

    return n > 0 ? (uint64_t)n : 0;
}

void rv_sbi_init(struct tcg_vm *vm) {
    struct rv_vm *rv = tcg_vm_arch(vm);

    rv->console_fd = (int)tcg_vm_option(vm, "sbi_console_fd", -1);
    rv->sbi_calls = tcg_vm_counter(vm, "sbi-calls");
    rv->sbi.host = (struct tcg_sbi_host){
        .harts = tcg_vm_vcpus(vm),
        .set_timer = set_timer,
        .send_ipi = send_ipi,
        .fence = fence,
        .start = start,
        .stop = stop,
        .suspend = suspend,
        .asleep = asleep,
        .shutdown = shutdown,
        .reboot = reboot,
        .ram = ram,
        .console = rv->console_fd >= 0 ? console : NULL,
        .opaque = vm,
    };
}

void rv_sbi_ecall(struct tcg_vcpu *vcpu) {
    struct rv_vm *rv = tcg_vm_arch(vcpu->vm);
    uint64_t *x = &TCG_FIELD(vcpu->env, RV_ENV_GPR, uint64_t);
    struct tcg_sbi_args args = {
        .a = {x[10], x[11], x[12], x[13], x[14], x[15]}, .function = x[16], .extension = x[17]};
    struct tcg_sbi_ret ret = tcg_sbi_call(&rv->sbi, vcpu->index, &args);

    ++*rv->sbi_calls;
    if (ret.returns) {
        x[10] = (uint64_t)ret.error;
        x[11] = ret.value;
    }
}
