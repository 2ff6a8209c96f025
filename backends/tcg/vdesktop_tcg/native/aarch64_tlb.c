/* SPDX-License-Identifier: GPL-2.0-only
 * TLB maintenance for all CPUs: the library flushes the caller alone. The
 * others are not running (one thread runs all), so it can be done at once;
 * `synced` makes no difference. Functions of the family that nothing in the
 * library calls are not here. */
#include "aarch64.h"

struct a64_fns a64_fns;

static struct {
    void (*all)(void *cs);
    void (*modes)(void *cs, uint16_t modes), (*modes_synced)(void *cs, uint16_t modes);
    void (*page)(void *cs, uint64_t page);
    void (*page_modes)(void *cs, uint64_t page, uint16_t modes);
    void (*page_modes_synced)(void *cs, uint64_t page, uint16_t modes);
} stock;

#define EVERY_VCPU(caller, other)                                                                  \
    for (uint32_t i_ = 0; i_ < tcg_vm_vcpus((caller)->vm); i_++)                                   \
        for (struct tcg_vcpu *other = tcg_vm_vcpu((caller)->vm, i_); other; other = NULL)

#define BROADCAST(name, stock_fn, local, params, args, rest)                                       \
    static void name params {                                                                      \
        struct tcg_vcpu *caller = tcg_vcpu_of_cs(cs);                                              \
        if (!caller) {                                                                             \
            stock_fn args;                                                                         \
            return;                                                                                \
        }                                                                                          \
        EVERY_VCPU(caller, v) local rest;                                                          \
    }

BROADCAST(flush_all, stock.all, a64_fns.tlb_flush, (void *cs), (cs), (v->cs))
BROADCAST(flush_modes, stock.modes, a64_fns.tlb_flush_by_mmuidx, (void *cs, uint16_t modes),
          (cs, modes), (v->cs, modes))
BROADCAST(flush_page, stock.page, a64_fns.tlb_flush_page, (void *cs, uint64_t page), (cs, page),
          (v->cs, page))
BROADCAST(flush_page_modes, stock.page_modes, a64_fns.tlb_flush_page_by_mmuidx,
          (void *cs, uint64_t page, uint16_t modes), (cs, page, modes), (v->cs, page, modes))

const struct tcg_rebind a64_tlb_rebinds[] = {
    {"tlb_flush_all_cpus_synced", (void *)flush_all, (void **)&stock.all},
    {"tlb_flush_by_mmuidx_all_cpus", (void *)flush_modes, (void **)&stock.modes},
    {"tlb_flush_by_mmuidx_all_cpus_synced", (void *)flush_modes, (void **)&stock.modes_synced},
    {"tlb_flush_page_all_cpus_synced", (void *)flush_page, (void **)&stock.page},
    {"tlb_flush_page_by_mmuidx_all_cpus", (void *)flush_page_modes, (void **)&stock.page_modes},
    {"tlb_flush_page_by_mmuidx_all_cpus_synced", (void *)flush_page_modes,
     (void **)&stock.page_modes_synced},
    {NULL, NULL, NULL},
};
