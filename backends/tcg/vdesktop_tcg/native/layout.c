/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Offsets in Unicorn 2.1.4's structures. Obtained with gdb's `ptype /o` from a
 * build of the tag 2.1.4 with debug information (gcc, x86-64 host, default
 * options), of the object translate-all.c.o of each target; the release wheel
 * agrees. library.c checks them against the running library. */
#include "priv.h"

#define COMMON_UC                                                                                  \
    { .cpu = 440, .nested_level = 14840, .invalid_error = 1424, .icache_linesize = 2008 }
#define COMMON_CPU                                                                                 \
    {                                                                                              \
        .exit_request = 21, .cflags_next_tb = 24, .interrupt_request = 28, .env_ptr = 296,         \
        .icount_decr_ptr = 304, .tb_jmp_cache = 312, .breakpoints = 33096, .watchpoints = 33112,   \
        .opaque = 33136, .cpu_index = 33168, .halted = 33176, .exception_index = 33184,            \
        .uc = 33192, .cc = 33200                                                                   \
    }

const struct tcg_layout tcg_layout_aarch64 = {
    .uc = COMMON_UC,
    .cpu = COMMON_CPU,
    .neg = 33216,
    .env = 41808,
    .cpu_size = 55312,
    .tcg_uc = 43376,
    .tcg_cpu_env = 43248,
    .tlb_f = 8384,
    .mmu_modes = 12,
    .page_bits_min = 10,
    .pc = 320,
};

const struct tcg_layout tcg_layout_x86_64 = {
    .uc = COMMON_UC,
    .cpu = COMMON_CPU,
    .neg = 33216,
    .env = 35408,
    .cpu_size = 42976,
    .tcg_uc = 39280,
    .tcg_cpu_env = 39152,
    .tlb_f = 2128,
    .mmu_modes = 3,
    .page_bits_min = 12,
    .pc = 128,
};

const struct tcg_layout tcg_layout_riscv64 = {
    .uc = COMMON_UC,
    .cpu = COMMON_CPU,
    .neg = 33216,
    .env = 36112,
    .cpu_size = 37904,
    .tcg_uc = 35184,
    .tcg_cpu_env = 35056,
    .tlb_f = 2816,
    .mmu_modes = 4,
    .page_bits_min = 12,
    .pc = 512,
};
