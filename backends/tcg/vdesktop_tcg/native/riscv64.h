/* SPDX-License-Identifier: GPL-2.0-only
 * What the files of the riscv64 part share. */
#ifndef TCG_RISCV64_H
#define TCG_RISCV64_H

#include "engine.h"
#include "plic.h"
#include "sbi.h"

#define RV_TIMEBASE_HZ 10000000u /* of the time CSR */
#define RV_NS_PER_TICK (1000000000u / RV_TIMEBASE_HZ)
#define RV_PLIC_BASE   0x0c000000u

/* Offsets in CPURISCVState of Unicorn 2.1.4, obtained as those of layout.c. */
enum {
    RV_ENV_GPR = 0,
    RV_ENV_PC = 512,
    RV_ENV_PRIV = 592,
    RV_ENV_MHARTID = 616,
    RV_ENV_MSTATUS = 624,
    RV_ENV_MIP = 632,
    RV_ENV_MIE = 648,
    RV_ENV_MIDELEG = 656,
    RV_ENV_SATP = 672,
    RV_ENV_SBADADDR = 680,
    RV_ENV_MEDELEG = 696,
    RV_ENV_SEPC = 712,
    RV_ENV_SCAUSE = 720,
    RV_ENV_SCOUNTEREN = 952,
    RV_ENV_MCOUNTEREN = 960,
};

#define RV_CSR(env, name) TCG_FIELD(env, RV_ENV_##name, uint64_t)

enum { RV_PRV_U = 0, RV_PRV_S = 1 };

/* Bits of mip and mie. */
enum { RV_IP_SSIP = 1 << 1, RV_IP_STIP = 1 << 5, RV_IP_SEIP = 1 << 9 };

/* Bits of mstatus and its view sstatus (privileged architecture 1.11, 3.1.6). */
#define RV_STATUS_SIE  (1ull << 1)
#define RV_STATUS_SPIE (1ull << 5)
#define RV_STATUS_SPP  (1ull << 8)
#define RV_STATUS_FS   (3ull << 13)
#define RV_STATUS_XS   (3ull << 15)
#define RV_STATUS_SUM  (1ull << 18)
#define RV_STATUS_MXR  (1ull << 19)
#define RV_STATUS_SD   (1ull << 63)

/* As the library declares it; all members may be NULL. */
struct rv_csr_ops {
    int (*predicate)(void *env, int csr);
    int (*read)(void *env, int csr, uint64_t *value);
    int (*write)(void *env, int csr, uint64_t value);
    int (*op)(void *env, int csr, uint64_t *old, uint64_t value, uint64_t mask);
};

/* Functions of the library; process-wide, as it is. */
struct rv_library {
    void (*tlb_flush)(void *cs);
    void (*do_interrupt)(void *cs);
    void (*get_csr_ops)(int csr, struct rv_csr_ops *ops);
    void (*set_csr_ops)(int csr, struct rv_csr_ops *ops);
    int (*mmu_index)(void *env, bool fetch);
    bool (*tlb_fill)(void *cs, uint64_t address, int size, int access, int mmu_index, bool probe,
                     uintptr_t host_pc);
    void (*tlb_set_page)(void *cs, uint64_t vaddr, uint64_t paddr, int prot, int mmu_index,
                         uint64_t size);
    struct rv_csr_ops time, satp, sstatus; /* the library's own */
};
extern struct rv_library rv_library;

struct rv_vm {
    struct tcg_plic *plic;
    struct vd_io plic_io;
    struct tcg_sbi sbi;
    int console_fd;         /* of the SBI debug console; -1: none */
    uint64_t clock_base_ns; /* tcg_now() at which the time CSR was 0 */
    uint64_t *sbi_calls;
};

/* The time CSR of a VM. */
uint64_t rv_time(struct tcg_vm *vm);

/* CSRs and address translation where we differ from the library (riscv64_csr.c). */
extern const struct tcg_rebind rv_rebinds[];
/* Replaces CSRs in the library's table, once a process. */
void rv_csr_init(void);

/* Sets or clears bits of mip. */
void rv_interrupt(struct tcg_vcpu *vcpu, uint64_t bits, bool level);

/* Firmware calls (riscv64_sbi.c). */
void rv_sbi_init(struct tcg_vm *vm);
void rv_sbi_ecall(struct tcg_vcpu *vcpu);

#endif
