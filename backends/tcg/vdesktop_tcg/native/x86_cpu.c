/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the library leaves to its embedder: taking interrupts from the local
 * APIC, halting, system calls, the task priority in CR8. */
#include "x86.h"

#include <inttypes.h>
#include <stdio.h>

struct x86_fns x86_fns;
struct x86_stock x86_stock;

bool x86_exec_interrupt(void *cs, int request) {
    struct tcg_vcpu *vcpu = tcg_vcpu_of_cs(cs);

    if (!vcpu) {
        return x86_stock.exec_interrupt(cs, request);
    }
    switch ((uint32_t)x86_fns.pending_interrupt(cs, request)) {
    case INTERRUPT_NMI:
        tcg_vcpu_interrupt(vcpu, INTERRUPT_NMI, false);
        X86_ENV(vcpu->env, ENV_HFLAGS2, uint32_t) |= HFLAG2_NMI;
        x86_fns.do_hardirq(vcpu->env, 2, 1);
        return true;
    case INTERRUPT_HARD: {
        int vector = lapic_acknowledge(x86_bus(vcpu), vcpu->index);
        if (vector < 0) {
            return false;
        }
        ++*x86_vm(vcpu->vm)->counter.interrupts;
        x86_fns.do_hardirq(vcpu->env, vector, 1);
        return true;
    }
    default:
        return false;
    }
}

void x86_set_flags(void *env, uint32_t flags) {
    X86_ENV(env, ENV_CC_SRC, uint64_t) = flags & FLAG_CC;
    X86_ENV(env, ENV_CC_OP, uint32_t) = CC_OP_EFLAGS;
    X86_ENV(env, ENV_DF, int32_t) = flags & FLAG_DF ? -1 : 1;
    X86_ENV(env, ENV_EFLAGS, uint64_t) = (flags & ~(FLAG_CC | FLAG_DF)) | FLAG_ONE;
}

static uint32_t get_flags(void *env) {
    return (uint32_t)X86_ENV(env, ENV_EFLAGS, uint64_t) |
           x86_fns.compute_flags(env, (int)X86_ENV(env, ENV_CC_OP, uint32_t)) |
           (X86_ENV(env, ENV_DF, uint32_t) & FLAG_DF);
}

/* AMD64 Architecture Programmer's Manual, vol. 3, SYSCALL. */
void x86_syscall(void *env, int length) {
    if (!x86_vcpu_of_env(env)) {
        x86_stock.syscall(env, length);
        return;
    }
    if (!(X86_ENV(env, ENV_EFER, uint64_t) & EFER_SCE)) {
        x86_fns.raise(env, EXCEPTION_UD, 0, (uintptr_t)__builtin_return_address(0));
    }
    uint64_t *regs = x86_regs(env);
    uint64_t star = X86_ENV(env, ENV_STAR, uint64_t);
    uint64_t next = X86_ENV(env, ENV_EIP, uint64_t) + (uint64_t)length;
    uint32_t hflags = X86_ENV(env, ENV_HFLAGS, uint32_t), flags = get_flags(env);
    uint32_t selector = (uint32_t)(star >> 32) & 0xFFFC;
    bool long_mode = hflags & HFLAG_LMA;
    uint32_t size = long_mode ? DESC_L : DESC_B;

    if (long_mode) {
        regs[R_CX] = next;
        regs[R_11] = flags & ~FLAG_RF;
        x86_set_flags(env, flags & ~(uint32_t)X86_ENV(env, ENV_FMASK, uint64_t) & ~FLAG_RF);
        X86_ENV(env, ENV_EIP, uint64_t) =
            X86_ENV(env, hflags & HFLAG_CS64 ? ENV_LSTAR : ENV_CSTAR, uint64_t);
    } else {
        regs[R_CX] = (uint32_t)next;
        x86_set_flags(env, flags & ~(FLAG_VM | FLAG_IF | FLAG_RF));
        X86_ENV(env, ENV_EIP, uint64_t) = (uint32_t)star;
    }
    x86_segs(env)[SEG_CS] = (struct x86_segment_cache){
        selector, 0, 0xFFFFFFFFu, DESC_G | DESC_P | DESC_S | DESC_CODE | DESC_RW | DESC_A | size};
    x86_segs(env)[SEG_SS] = (struct x86_segment_cache){
        selector + 8, 0, 0xFFFFFFFFu, DESC_G | DESC_B | DESC_P | DESC_S | DESC_RW | DESC_A};
    x86_fns.update_hflags(env);
}

static bool interruptible(const struct tcg_vcpu *vcpu) {
    return X86_ENV(vcpu->env, ENV_EFLAGS, uint64_t) & FLAG_IF;
}

static bool halted(const struct tcg_vcpu *vcpu) {
    return TCG_FIELD(vcpu->cs, tcg_layout_x86_64.cpu.halted, uint32_t);
}

/* HLT with interrupts off waits for an NMI, an INIT or a reset; only another
 * vCPU could send one. */
static bool nobody_left(struct tcg_vm *vm, const struct tcg_vcpu *halting) {
    for (uint32_t i = 0; i < tcg_vm_vcpus(vm); i++) {
        const struct tcg_vcpu *vcpu = tcg_vm_vcpu(vm, i);
        if (vcpu == halting || vcpu->power == TCG_OFF) {
            continue;
        }
        if (!halted(vcpu) || interruptible(vcpu)) {
            return false;
        }
    }
    return true;
}

void x86_hlt(void *env, int length) {
    struct tcg_vcpu *vcpu = x86_vcpu_of_env(env);

    if (vcpu && !interruptible(vcpu) && nobody_left(vcpu->vm, vcpu)) {
        char detail[TCG_DETAIL_MAX];
        int n = snprintf(detail, sizeof detail, "halted with interrupts off: ");
        x86_describe(vcpu, detail + n, sizeof detail - (size_t)n);
        tcg_vm_exit(vcpu->vm, TCG_EXIT_CRASH, detail);
    }
    x86_stock.hlt(env, length);
}

/* A vCPU that says PAUSE waits for another one, which cannot run before this
 * one leaves guest code: the stock function does. With one vCPU there is nobody
 * to give way to. Neither may return: nothing follows in the block. */
void x86_pause(void *env, int length) {
    struct tcg_vcpu *vcpu = x86_vcpu_of_env(env);

    if (!vcpu || tcg_vm_vcpus(vcpu->vm) > 1) {
        x86_stock.pause(env, length);
    }
    X86_ENV(env, ENV_EIP, uint64_t) += (uint64_t)length;
    TCG_FIELD(vcpu->cs, tcg_layout_x86_64.cpu.exception_index, int32_t) = -1;
    x86_fns.loop_exit(vcpu->cs);
}

uint64_t x86_read_cr(void *env, int which) {
    struct tcg_vcpu *vcpu = x86_vcpu_of_env(env);

    if (vcpu && which == 8) {
        return lapic_task_priority(x86_bus(vcpu), vcpu->index);
    }
    return x86_stock.read_cr(env, which);
}

void x86_write_cr(void *env, int which, uint64_t value) {
    struct tcg_vcpu *vcpu = x86_vcpu_of_env(env);

    if (vcpu && which == 8) {
        if (value & ~0xFull) {
            x86_fns.raise(env, EXCEPTION_GP, 0, (uintptr_t)__builtin_return_address(0));
        }
        lapic_set_task_priority(x86_bus(vcpu), vcpu->index, (uint32_t)value);
        return;
    }
    x86_stock.write_cr(env, which, value);
}

/* The library asks for a reset in one case: an exception while it delivered a
 * double fault. */
void x86_reset_request(void *uc) {
    struct tcg_vm *vm = tcg_vm_of_uc(uc);

    if (vm) {
        char detail[TCG_DETAIL_MAX];
        int n = snprintf(detail, sizeof detail, "triple fault: ");
        x86_describe(tcg_vm_current(vm), detail + n, sizeof detail - (size_t)n);
        tcg_vm_exit(vm, TCG_EXIT_CRASH, detail);
    }
    x86_stock.reset_request(uc);
}

void x86_describe(struct tcg_vcpu *vcpu, char *to, size_t size) {
    void *env = vcpu->env;
    const uint64_t *cr = x86_cr(env);

    snprintf(to, size,
             "vCPU %" PRIu32 " rip=%#" PRIx64 " rsp=%#" PRIx64 " rflags=%#" PRIx32 " cs=%#" PRIx32
             " cr0=%#" PRIx64 " cr2=%#" PRIx64 " cr3=%#" PRIx64 " cr4=%#" PRIx64,
             vcpu->index, X86_ENV(env, ENV_EIP, uint64_t), x86_regs(env)[R_SP], get_flags(env),
             x86_segs(env)[SEG_CS].selector, cr[0], cr[2], cr[3], cr[4]);
}
