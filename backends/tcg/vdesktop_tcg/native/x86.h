/* SPDX-License-Identifier: GPL-2.0-only
 * What the files of the x86_64 part share. */
#ifndef X86_H
#define X86_H

#include "engine.h"
#include "priv.h"
#include "vdesktop/platform/x86_ports.h"
#include "x86_apic.h"

/* Ticks a second of the TSC, the APIC timers and their crystal: one a
 * nanosecond, so that the clock is exact on every host. */
#define X86_TSC_HZ 1000000000u

/* Offsets in CPUX86State of Unicorn 2.1.4, obtained as those of layout.c. */
enum x86_env {
    ENV_REGS = 0, /* 16 × u64, in the order of the encoding */
    ENV_EIP = 128,
    ENV_EFLAGS = 136,
    ENV_CC_SRC = 152,
    ENV_CC_OP = 168,
    ENV_DF = 172,
    ENV_HFLAGS = 176,
    ENV_HFLAGS2 = 180,
    ENV_SEGS = 184, /* ES CS SS DS FS GS */
    ENV_LDT = 328,
    ENV_TR = 352,
    ENV_GDT = 376,
    ENV_IDT = 400,
    ENV_CR = 424, /* 5 × u64 */
    ENV_EFER = 592,
    ENV_STAR = 4824,
    ENV_LSTAR = 4840,
    ENV_CSTAR = 4848,
    ENV_FMASK = 4856,
    ENV_TSC_AUX = 4896,
    ENV_MISC_ENABLE = 4920,
    ENV_ERROR_CODE = 5384,
    ENV_CPUID_LEVEL = 5604,
    ENV_CPUID_VENDOR = 5616, /* 3 × u32: EBX, EDX, ECX of leaf 0 */
    ENV_CPUID_VERSION = 5628,
    ENV_FEATURES = 5632, /* u64 a word, see enum x86_feature_word */
    ENV_MTRR_DEFTYPE = 6408,
    ENV_MCG_CAP = 6608,
};
#define X86_ENV(env, offset, type) TCG_FIELD(env, offset, type)

/* Order of the feature words the translator decides by. */
enum x86_feature_word {
    FEATURES_1_EDX = 0,
    FEATURES_1_ECX = 1,
    FEATURES_7_EBX = 2,
    FEATURES_7_ECX = 3,
    FEATURES_7_EDX = 4,
    FEATURES_81_EDX = 6,
    FEATURES_81_ECX = 7,
    FEATURE_WORDS = 34,
};

enum x86_register { R_AX, R_CX, R_DX, R_BX, R_SP, R_BP, R_SI, R_DI, R_8, R_11 = 11, R_COUNT = 16 };
enum x86_segment { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_COUNT };

struct x86_segment_cache {
    uint32_t selector;
    uint64_t base;
    uint32_t limit;
    uint32_t flags; /* the second word of a descriptor */
};

static inline uint64_t *x86_regs(void *env) {
    return &X86_ENV(env, ENV_REGS, uint64_t);
}

static inline struct x86_segment_cache *x86_segs(void *env) {
    return &X86_ENV(env, ENV_SEGS, struct x86_segment_cache);
}

static inline uint64_t *x86_cr(void *env) {
    return &X86_ENV(env, ENV_CR, uint64_t);
}

/* Bits of the second word of a descriptor. */
#define DESC_A      (1u << 8)
#define DESC_RW     (1u << 9)
#define DESC_CODE   (1u << 11)
#define DESC_S      (1u << 12)
#define DESC_DPL(n) ((uint32_t)(n) << 13)
#define DESC_P      (1u << 15)
#define DESC_L      (1u << 21)
#define DESC_B      (1u << 22)
#define DESC_G      (1u << 23)

#define FLAG_CC      0x08D5u /* OF SF ZF AF PF CF */
#define FLAG_ONE     (1u << 1)
#define FLAG_IF      (1u << 9)
#define FLAG_DF      (1u << 10)
#define FLAG_VM      (1u << 17)
#define FLAG_RF      (1u << 16)
#define CC_OP_EFLAGS 1u /* all flags are in cc_src */

#define HFLAG_CPL     3u
#define HFLAG_INHIBIT (1u << 3) /* interrupts, for one instruction */
#define HFLAG_LMA     (1u << 14)
#define HFLAG_CS64    (1u << 15)
#define HFLAG2_NMI    (1u << 2) /* NMIs are blocked until IRET */

#define CR4_TSD (1u << 2)
#define CR4_PAE (1u << 5)

#define EFER_SCE (1u << 0)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

#define EXCEPTION_UD 6
#define EXCEPTION_GP 13

#define INTERRUPT_HARD 0x0002u
#define INTERRUPT_NMI  0x0200u

/* Functions of the library. */
struct x86_fns {
    void (*do_interrupt)(void *cs);
    void (*do_hardirq)(void *env, int vector, int is_hw);
    int (*pending_interrupt)(void *cs, int request);
    void (*raise)(void *env, int exception, int error_code, uintptr_t host_pc)
        __attribute__((noreturn));
    void (*loop_exit)(void *cs) __attribute__((noreturn));
    uint32_t (*compute_flags)(void *env, int op);
    void (*update_hflags)(void *env);
    void (*update_cr0)(void *env, uint32_t value);
    void (*update_cr3)(void *env, uint64_t value);
    void (*update_cr4)(void *env, uint32_t value);
    void (*cpu_init)(void *cs);
};
extern struct x86_fns x86_fns;

/* The library's own versions of what is replaced. */
struct x86_stock {
    bool (*exec_interrupt)(void *cs, int request);
    void (*syscall)(void *env, int length);
    void (*hlt)(void *env, int length);
    void (*pause)(void *env, int length) __attribute__((noreturn));
    uint64_t (*read_cr)(void *env, int which);
    void (*write_cr)(void *env, int which, uint64_t value);
    void (*rdmsr)(void *env);
    void (*wrmsr)(void *env);
    void (*rdtsc)(void *env);
    void (*rdtscp)(void *env);
    void (*cpuid)(void *env, uint32_t leaf, uint32_t sub, uint32_t *eax, uint32_t *ebx,
                  uint32_t *ecx, uint32_t *edx);
    void (*outb)(void *env, uint32_t port, uint32_t value);
    void (*outw)(void *env, uint32_t port, uint32_t value);
    void (*outl)(void *env, uint32_t port, uint32_t value);
    uint64_t (*inb)(void *env, uint32_t port);
    uint64_t (*inw)(void *env, uint32_t port);
    uint64_t (*inl)(void *env, uint32_t port);
    void (*reset_request)(void *uc);
};
extern struct x86_stock x86_stock;

struct x86_vm {
    struct tcg_vm *vm;
    struct apic_bus bus;
    struct vd_io lapic_io, ioapic_io;
    struct vd_x86_ports ports;
    uint64_t paused_ns; /* since creation */
    struct {
        uint64_t *exceptions, *interrupts, *undefined, *msr_faults;
    } counter;
};

struct x86_vcpu {
    bool wait_for_sipi;
};

/* NULL: the engine is not ours. */
static inline struct tcg_vcpu *x86_vcpu_of_env(void *env) {
    return tcg_vcpu_of_cs((char *)env - tcg_layout_x86_64.env);
}

static inline struct x86_vm *x86_vm(struct tcg_vm *vm) {
    return tcg_vm_arch(vm);
}

/* The APIC bus of the VM a vCPU belongs to. */
static inline struct apic_bus *x86_bus(struct tcg_vcpu *vcpu) {
    return &x86_vm(vcpu->vm)->bus;
}

/* x86_cpuid.c: what the vCPU says it is. */
struct x86_leaf {
    uint32_t eax, ebx, ecx, edx;
};
/* Makes the translator accept exactly what CPUID offers. */
void x86_cpuid_reset(struct tcg_vcpu *vcpu);
void x86_cpuid(void *env, uint32_t leaf, uint32_t sub, uint32_t *eax, uint32_t *ebx, uint32_t *ecx,
               uint32_t *edx);

/* x86_msr.c: replacements of RDMSR, WRMSR, RDTSC, RDTSCP. */
void x86_rdmsr(void *env);
void x86_wrmsr(void *env);
void x86_rdtsc(void *env);
void x86_rdtscp(void *env);
/* Ticks of the vCPU's time-stamp counter. */
uint64_t x86_tsc(struct tcg_vcpu *vcpu);

/* x86.c: the clock of the APICs and, without an offset, of the TSC, ns. */
uint64_t x86_clock(struct tcg_vm *vm);
void x86_msr_reset(struct tcg_vcpu *vcpu);

/* x86_cpu.c: replacements of interrupts, halting and system calls. */
bool x86_exec_interrupt(void *cs, int request);
void x86_syscall(void *env, int length);
void x86_hlt(void *env, int length);
void x86_pause(void *env, int length);
uint64_t x86_read_cr(void *env, int which);
void x86_write_cr(void *env, int which, uint64_t value);
void x86_reset_request(void *uc);
void x86_set_flags(void *env, uint32_t flags);
void x86_describe(struct tcg_vcpu *vcpu, char *to, size_t size);

/* x86_state.c: reset states and entry. */
void x86_vcpu_reset(struct tcg_vcpu *vcpu);
void x86_vcpu_startup(struct tcg_vcpu *vcpu, uint8_t page);
int x86_set_register(struct tcg_vcpu *vcpu, const char *name, uint64_t value);

/* x86_port.c: replacements of IN and OUT. */
void x86_outb(void *env, uint32_t port, uint32_t value);
void x86_outw(void *env, uint32_t port, uint32_t value);
void x86_outl(void *env, uint32_t port, uint32_t value);
uint64_t x86_inb(void *env, uint32_t port);
uint64_t x86_inw(void *env, uint32_t port);
uint64_t x86_inl(void *env, uint32_t port);

#endif
