/* SPDX-License-Identifier: GPL-2.0-only
 * The architectures this backend was built with. */
#include "priv.h"

const struct tcg_arch_ops *const tcg_arches[] = {
    &tcg_arch_aarch64,
    &tcg_arch_riscv64,
    &tcg_arch_x86_64,
    NULL,
};
