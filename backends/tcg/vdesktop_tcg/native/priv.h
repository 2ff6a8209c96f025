/* SPDX-License-Identifier: GPL-2.0-only
 * What the engine's own files share. Architecture parts include engine.h only,
 * but for the layout tables below. */
#ifndef TCG_PRIV_H
#define TCG_PRIV_H

#include <pthread.h>

#include "engine.h"

extern const struct tcg_layout tcg_layout_aarch64, tcg_layout_riscv64, tcg_layout_x86_64;

/* Internal functions of the library, of one architecture. */
struct tcg_fns {
    int (*cpu_exec)(void *uc, void *cs);
    void (*cpu_loop_exit_restore)(void *cs, uintptr_t host_pc);
    void *(*tcg_tb_lookup)(void *tcg_ctx, uintptr_t host_pc);
    void (*tb_invalidate_phys_range)(void *uc, uint64_t start, uint64_t end);
    void (*tlb_init)(void *cs);
    void (*tlb_flush)(void *cs);
    uint64_t (*qemu_ram_addr_from_host)(void *uc, void *host);
    /* The library's own versions of what we replace. */
    struct {
        void (*check_exit_request)(void *tcg_ctx);
        void (*helper_check_exit_request)(void *uc, uint32_t delay_slot);
        void (*tlb_protect_code)(void *uc, uint64_t ram_addr);
        void (*tlb_unprotect_code)(void *uc, uint64_t ram_addr);
        void (*tlb_set_dirty)(void *cs, uint64_t vaddr);
        void (*tlb_reset_dirty_by_vaddr)(void *cs, uint64_t start, uint64_t length);
        void (*tb_flush)(void *cs);
    } stock;
};

/* The functions of an architecture; looks them up, and rebinds what the engine
 * and the part replace, at the first call. NULL and a line in `error` if the
 * library is not one we can work with. */
const struct tcg_fns *tcg_library_arch(const struct tcg_arch_ops *ops, char *error, size_t size);
/* Checks ops->layout against a live engine. 0, or -EPROTO and a line in `error`. */
int tcg_library_check_layout(const struct tcg_arch_ops *ops, struct uc_struct *uc, char *error, size_t size);
/* The engine's own replacements (code.c, run.c), by uc_arch. */
const struct tcg_rebind *tcg_engine_rebinds(const struct tcg_arch_ops *ops, struct tcg_fns *fns);

#endif
