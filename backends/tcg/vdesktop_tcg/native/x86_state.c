/* SPDX-License-Identifier: GPL-2.0-only
 *
 * States a vCPU starts from: the boot one in 64-bit mode, as
 * docs/spec/machine.md has it, the others in real mode by a start-up IPI. */
#include "x86.h"

#include <errno.h>
#include <string.h>

#define CR0_LONG 0x80050033u /* PG AM WP NE ET MP PE */

/* Selectors of the 64-bit entry, and the GDT that has them. */
#define ENTRY_CS        0x10u
#define ENTRY_DS        0x18u
#define ENTRY_GDT_LIMIT 0x1Fu

/* Firmware's part, as it were: MTRRs on, everything write-back. */
#define MTRR_DEFAULT 0x806u

/* Fast strings off: an unrolled loop of MOVs is twice as fast here as REP STOS
 * and REP MOVS, and Linux chooses by this bit. */
#define MISC_ENABLE 0u

static struct x86_segment_cache *table(void *env, enum x86_env which) {
    return &X86_ENV(env, which, struct x86_segment_cache);
}

static void common_reset(struct tcg_vcpu *vcpu) {
    void *env = vcpu->env;

    x86_cpuid_reset(vcpu);
    x86_fns.cpu_init(vcpu->cs);
    x86_fns.update_cr4(env, 0); /* the library turns on what user programs like */
    X86_ENV(env, ENV_MTRR_DEFTYPE, uint64_t) = MTRR_DEFAULT;
    X86_ENV(env, ENV_MISC_ENABLE, uint64_t) = MISC_ENABLE;
}

static void long_mode(struct tcg_vcpu *vcpu) {
    void *env = vcpu->env;
    struct x86_segment_cache *segs = x86_segs(env);
    uint32_t flat = DESC_G | DESC_P | DESC_S | DESC_RW | DESC_A;

    x86_fns.update_cr4(env, CR4_PAE);
    X86_ENV(env, ENV_EFER, uint64_t) = EFER_LME;
    x86_fns.update_cr0(env, CR0_LONG); /* sets LMA */
    for (int i = 0; i < SEG_COUNT; i++) {
        segs[i] = (struct x86_segment_cache){ENTRY_DS, 0, 0xFFFFFFFFu, flat | DESC_B};
    }
    segs[SEG_CS] = (struct x86_segment_cache){ENTRY_CS, 0, 0xFFFFFFFFu, flat | DESC_CODE | DESC_L};
    table(env, ENV_GDT)->limit = ENTRY_GDT_LIMIT;
    table(env, ENV_IDT)->limit = 0;
    x86_fns.update_hflags(env);
}

void x86_vcpu_reset(struct tcg_vcpu *vcpu) {
    struct x86_vcpu *own = vcpu->arch;

    own->wait_for_sipi = vcpu->index != 0;
    common_reset(vcpu);
    if (vcpu->index == 0) {
        long_mode(vcpu);
    }
}

void x86_vcpu_startup(struct tcg_vcpu *vcpu, uint8_t page) {
    struct x86_vcpu *own = vcpu->arch;

    tcg_vcpu_on(vcpu);
    own->wait_for_sipi = false;
    struct x86_segment_cache *cs = x86_segs(vcpu->env) + SEG_CS;
    cs->selector = (uint32_t)page << 8;
    cs->base = (uint64_t)page << 12;
    X86_ENV(vcpu->env, ENV_EIP, uint64_t) = 0;
}

static bool set_general(void *env, const char *name, uint64_t value) {
    static const char *const names[R_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                               "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                               "r12", "r13", "r14", "r15"};

    for (int i = 0; i < R_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            x86_regs(env)[i] = value;
            return true;
        }
    }
    return false;
}

/* Selectors: the hidden parts stay the flat ones of the entry. */
static bool set_selector(void *env, const char *name, uint64_t value) {
    static const char *const names[SEG_COUNT] = {"es", "cs", "ss", "ds", "fs", "gs"};

    for (int i = 0; i < SEG_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            x86_segs(env)[i].selector = (uint32_t)value & 0xFFFF;
            return true;
        }
    }
    return false;
}

int x86_set_register(struct tcg_vcpu *vcpu, const char *name, uint64_t value) {
    void *env = vcpu->env;

    if (set_general(env, name, value) || set_selector(env, name, value)) {
        return 0;
    }
    if (strcmp(name, "rip") == 0) {
        X86_ENV(env, ENV_EIP, uint64_t) = value;
    } else if (strcmp(name, "rflags") == 0) {
        x86_set_flags(env, (uint32_t)value);
    } else if (strcmp(name, "cr0") == 0) {
        x86_fns.update_cr0(env, (uint32_t)value);
    } else if (strcmp(name, "cr3") == 0) {
        x86_fns.update_cr3(env, value);
    } else if (strcmp(name, "cr4") == 0) {
        x86_fns.update_cr4(env, (uint32_t)value);
    } else if (strcmp(name, "efer") == 0) {
        X86_ENV(env, ENV_EFER, uint64_t) = value;
    } else if (strcmp(name, "gdt_base") == 0) {
        table(env, ENV_GDT)->base = value;
    } else if (strcmp(name, "gdt_limit") == 0) {
        table(env, ENV_GDT)->limit = (uint32_t)value & 0xFFFF;
    } else {
        return -ENOENT;
    }
    x86_fns.update_hflags(env);
    return 0;
}
