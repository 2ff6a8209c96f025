/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Which translated block an address of the host's code belongs to. The library
 * asks whenever an access of the guest faults or ends a block, and keeps a
 * balanced tree for it: an allocation of 64 bytes a block, 4 MB for a booted
 * kernel. Blocks are made at rising addresses and dropped all at once, so an
 * array of their addresses, always in order, answers too. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "priv.h"

/* struct TranslationBlock of 2.1.4, the same on all architectures. The block's
 * code follows it. */
#define TB_SIZE    160u
#define TB_TC_PTR  32u
#define TB_TC_SIZE 40u

int tcg_blocks_create(struct tcg_vm *vm, size_t buffer) {
    /* No block is smaller than its own description. Pages that are never used cost nothing. */
    vm->blocks.limit = buffer / TB_SIZE + 1;
    vm->blocks.at = malloc(vm->blocks.limit * sizeof *vm->blocks.at);
    return vm->blocks.at ? 0 : -ENOMEM;
}

void tcg_blocks_destroy(struct tcg_vm *vm) {
    free(vm->blocks.at);
}

void tcg_blocks_forget(struct tcg_vm *vm) {
    vm->blocks.n = 0;
}

/* How many blocks begin at or below an address. */
static size_t count_to(const struct tcg_vm *vm, uintptr_t address) {
    size_t low = 0, high = vm->blocks.n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (vm->blocks.at[middle] <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void insert(struct tcg_vm *vm, uintptr_t block) {
    size_t at = vm->blocks.n;
    if (at > 0 && vm->blocks.at[at - 1] >= block) { /* a block that was given up and made again */
        at = count_to(vm, block);
        if (at > 0 && vm->blocks.at[at - 1] == block)
            return;
    }
    if (vm->blocks.n == vm->blocks.limit)
        return; /* as said above: there is no room for so many */
    memmove(&vm->blocks.at[at + 1], &vm->blocks.at[at],
            (vm->blocks.n - at) * sizeof *vm->blocks.at);
    vm->blocks.at[at] = block;
    vm->blocks.n++;
}

static void remove_block(struct tcg_vm *vm, uintptr_t block) {
    size_t at = count_to(vm, block);
    if (at == 0 || vm->blocks.at[at - 1] != block)
        return;
    vm->blocks.n--;
    memmove(&vm->blocks.at[at - 1], &vm->blocks.at[at],
            (vm->blocks.n + 1 - at) * sizeof *vm->blocks.at);
}

static void *lookup(const struct tcg_vm *vm, uintptr_t code) {
    size_t at = count_to(vm, code);
    if (at == 0)
        return NULL;
    char *block = (char *)vm->blocks.at[at - 1];
    uintptr_t start = TCG_FIELD(block, TB_TC_PTR, uintptr_t);
    return code - start < TCG_FIELD(block, TB_TC_SIZE, size_t) ? block : NULL;
}

/* The replacements, one set an architecture, as in code.c. */
struct stock {
    const struct tcg_layout *layout;
    void (*insert)(void *tcg_ctx, void *block);
    void (*remove)(void *tcg_ctx, void *block);
    void *(*lookup)(void *tcg_ctx, uintptr_t code);
};
static struct stock stock_of[TCG_ARCHES_MAX];

static struct tcg_vm *vm_of_context(const struct stock *stock, const void *tcg_ctx) {
    return tcg_vm_of_uc(TCG_FIELD(tcg_ctx, stock->layout->tcg_uc, void *));
}

#define REPLACEMENTS(N)                                                                            \
    static void tb_insert_##N(void *tcg_ctx, void *block) {                                        \
        struct tcg_vm *vm = vm_of_context(&stock_of[N], tcg_ctx);                                  \
        if (vm)                                                                                    \
            insert(vm, (uintptr_t)block);                                                          \
        else                                                                                       \
            stock_of[N].insert(tcg_ctx, block);                                                    \
    }                                                                                              \
    static void tb_remove_##N(void *tcg_ctx, void *block) {                                        \
        struct tcg_vm *vm = vm_of_context(&stock_of[N], tcg_ctx);                                  \
        if (vm)                                                                                    \
            remove_block(vm, (uintptr_t)block);                                                    \
        else                                                                                       \
            stock_of[N].remove(tcg_ctx, block);                                                    \
    }                                                                                              \
    static void *tb_lookup_##N(void *tcg_ctx, uintptr_t code) {                                    \
        struct tcg_vm *vm = vm_of_context(&stock_of[N], tcg_ctx);                                  \
        return vm ? lookup(vm, code) : stock_of[N].lookup(tcg_ctx, code);                          \
    }

REPLACEMENTS(0)
REPLACEMENTS(1)
REPLACEMENTS(2)

#define TABLE(N)                                                                                   \
    {                                                                                              \
        {"tcg_tb_insert", (void *)tb_insert_##N, (void **)&stock_of[N].insert},                    \
            {"tcg_tb_remove", (void *)tb_remove_##N, (void **)&stock_of[N].remove},                \
            {"tcg_tb_lookup", (void *)tb_lookup_##N, (void **)&stock_of[N].lookup}, {              \
            NULL, NULL, NULL                                                                       \
        }                                                                                          \
    }

static const struct tcg_rebind rebinds[TCG_ARCHES_MAX][4] = {TABLE(0), TABLE(1), TABLE(2)};

const struct tcg_rebind *tcg_blocks_rebinds(uint32_t arch_index, const struct tcg_layout *layout) {
    stock_of[arch_index].layout = layout;
    return rebinds[arch_index];
}
