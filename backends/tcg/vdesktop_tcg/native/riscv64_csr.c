/* SPDX-License-Identifier: GPL-2.0-only
 *
 * CSRs and address translation where the machine differs from the library:
 *
 * - time is the VM's own clock (the library's callback cannot tell VMs apart);
 * - satp takes what a U54 has: Bare and Sv39. The library's model also takes
 *   Sv48 and Sv57, and a kernel that finds them walks five levels a TLB miss;
 * - sstatus.SUM is part of the MMU index, so that setting it, which a kernel
 *   does around every copy from or to user space, flushes no TLB: the index
 *   that no privilege level uses caches S-mode's translations under SUM. */
#include <stddef.h>

#include "riscv64.h"

enum { CSR_SSTATUS = 0x100, CSR_SATP = 0x180, CSR_TIME = 0xc01 };

/* MMU indices are privilege levels; 2 is a level that does not exist. */
enum { MMU_S = RV_PRV_S, MMU_S_SUM = 2 };

#define SATP_MODE_SHIFT 60
enum { SATP_BARE = 0, SATP_SV39 = 8 };

/* UIE and UPIE, of an extension that the model does not have, stay 0. */
#define SSTATUS_WRITABLE                                                                           \
    (RV_STATUS_SIE | RV_STATUS_SPIE | RV_STATUS_SPP | RV_STATUS_FS | RV_STATUS_SUM | RV_STATUS_MXR)

static int time_read(void *env, int csr, uint64_t *value) {
    struct tcg_vcpu *vcpu = tcg_vcpu_of_env(env);

    if (!vcpu)
        return rv_library.time.read(env, csr, value);
    *value = rv_time(vcpu->vm);
    return 0;
}

static int satp_write(void *env, int csr, uint64_t value) {
    uint64_t mode = value >> SATP_MODE_SHIFT;

    /* Privileged architecture 1.11, 4.1.12: a write with an unsupported mode
     * has no effect on any field. */
    if (tcg_vcpu_of_env(env) && mode != SATP_BARE && mode != SATP_SV39)
        return 0;
    return rv_library.satp.write(env, csr, value);
}

static int sstatus_write(void *env, int csr, uint64_t value) {
    struct tcg_vcpu *vcpu = tcg_vcpu_of_env(env);
    uint64_t old = RV_CSR(env, MSTATUS), status;

    if (!vcpu)
        return rv_library.sstatus.write(env, csr, value);
    status = (old & ~(SSTATUS_WRITABLE | RV_STATUS_SD)) | (value & SSTATUS_WRITABLE);
    if ((status & RV_STATUS_FS) == RV_STATUS_FS || (status & RV_STATUS_XS) == RV_STATUS_XS)
        status |= RV_STATUS_SD;
    if ((old ^ status) & RV_STATUS_MXR)
        rv_library.tlb_flush(vcpu->cs);
    RV_CSR(env, MSTATUS) = status;
    return 0;
}

void rv_csr_init(void) {
    struct rv_csr_ops ops;

    if (rv_library.time.read)
        return;
    rv_library.get_csr_ops(CSR_SATP, &rv_library.satp);
    rv_library.get_csr_ops(CSR_SSTATUS, &rv_library.sstatus);
    rv_library.get_csr_ops(CSR_TIME, &rv_library.time);
    ops = rv_library.satp;
    ops.write = satp_write;
    rv_library.set_csr_ops(CSR_SATP, &ops);
    ops = rv_library.sstatus;
    ops.write = sstatus_write;
    rv_library.set_csr_ops(CSR_SSTATUS, &ops);
    ops = rv_library.time;
    ops.read = time_read;
    rv_library.set_csr_ops(CSR_TIME, &ops);
}

static bool under_sum(const void *env) {
    return RV_CSR(env, PRIV) == RV_PRV_S && RV_CSR(env, MSTATUS) & RV_STATUS_SUM;
}

static int mmu_index(void *env, bool fetch) {
    (void)fetch;
    return under_sum(env) ? MMU_S_SUM : (int)RV_CSR(env, PRIV);
}

/* The library walks the page tables as S-mode, with the SUM that is in mstatus
 * by then, and puts the result under S-mode's index: tlb_set_page moves it. */
static bool tlb_fill(void *cs, uint64_t address, int size, int access, int index, bool probe,
                     uintptr_t host_pc) {
    return rv_library.tlb_fill(cs, address, size, access, index == MMU_S_SUM ? MMU_S : index, probe,
                               host_pc);
}

static void tlb_set_page(void *cs, uint64_t vaddr, uint64_t paddr, int prot, int index,
                         uint64_t size) {
    const void *env = (char *)cs + tcg_arch_riscv64.layout->env;

    if (index == MMU_S && under_sum(env))
        index = MMU_S_SUM;
    rv_library.tlb_set_page(cs, vaddr, paddr, prot, index, size);
}

const struct tcg_rebind rv_rebinds[] = {
    {"riscv_cpu_mmu_index", mmu_index, (void **)&rv_library.mmu_index},
    {"riscv_cpu_tlb_fill", tlb_fill, (void **)&rv_library.tlb_fill},
    {"tlb_set_page", tlb_set_page, (void **)&rv_library.tlb_set_page},
    {NULL, NULL, NULL},
};
