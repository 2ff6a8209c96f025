/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The check at the start of a translation block: has somebody asked the vCPU
 * to leave guest code? The library emits a call for it, which costs a guest's
 * tight loop or shell a third of its time. We emit what the call does: load
 * the counter that a kick makes negative and, if it is, branch to the block's
 * end, where an exit names the block; the run loop takes the pc from it.
 *
 * The library emits the call through tcg_gen_callN, and ends every block with
 * tcg_gen_exit_tb(TB_EXIT_REQUESTED): these two are where we come in. */
#include "priv.h"

/* Values of the library's tcg.h and tcg-opc.h, the same on all architectures. */
enum { TCG_TYPE_I32 = 0, TCG_COND_LT = 2, OP_SET_LABEL = 1, OP_LD_I32 = 13 };
enum { TB_EXIT_REQUESTED = 3 };
#define LABEL_PRESENT 1u /* in the first word of a TCGLabel */

struct emitter {
    const struct tcg_layout *layout;
    void (*op1)(void *ctx, int op, uintptr_t arg);
    void (*op3)(void *ctx, int op, uintptr_t arg1, uintptr_t arg2, uintptr_t arg3);
    void (*brcondi)(void *ctx, int condition, uintptr_t temp, int32_t value, void *label);
    void *(*new_label)(void *ctx);
    void *(*new_temp)(void *ctx, int type, bool local);
    void (*free_temp)(void *ctx, void *temp);
    void *helper;
    struct {
        void (*call)(void *ctx, void *function, void *ret, int n, void **args);
        void (*exit_tb)(void *ctx, void *block, unsigned index);
    } stock;
};

static const struct tcg_symbol symbols[] = {
    {"tcg_gen_op1", offsetof(struct emitter, op1)},
    {"tcg_gen_op3", offsetof(struct emitter, op3)},
    {"tcg_gen_brcondi_i32", offsetof(struct emitter, brcondi)},
    {"gen_new_label", offsetof(struct emitter, new_label)},
    {"tcg_temp_new_internal", offsetof(struct emitter, new_temp)},
    {"tcg_temp_free_internal", offsetof(struct emitter, free_temp)},
    {"helper_check_exit_request", offsetof(struct emitter, helper)},
    {NULL, 0},
};

static struct emitter emitters[TCG_ARCHES_MAX];

/* The exit of the block that this thread translates; NULL: none of ours. */
static _Thread_local uint32_t *exit_label;

static void emit_check(const struct emitter *e, void *ctx, const void *cs) {
    const struct tcg_layout *l = e->layout;
    /* A temporary is named by its offset in the context; operations take its address. */
    uintptr_t env = (uintptr_t)ctx + TCG_FIELD(ctx, l->tcg_cpu_env, uintptr_t);
    uintptr_t counter = TCG_FIELD(cs, l->cpu.icount_decr_ptr, uintptr_t) - ((uintptr_t)cs + l->env);
    void *value = e->new_temp(ctx, TCG_TYPE_I32, false);
    exit_label = e->new_label(ctx);
    e->op3(ctx, OP_LD_I32, (uintptr_t)value, env, counter);
    e->brcondi(ctx, TCG_COND_LT, (uintptr_t)value - (uintptr_t)ctx, 0, exit_label);
    e->free_temp(ctx, value);
}

static void emit_call(const struct emitter *e, void *ctx, void *function, void *ret, int n,
                      void **args) {
    struct tcg_vm *vm =
        function == e->helper ? tcg_vm_of_uc(TCG_FIELD(ctx, e->layout->tcg_uc, void *)) : NULL;
    if (vm)
        emit_check(e, ctx, vm->vcpu[0].cs);
    else
        e->stock.call(ctx, function, ret, n, args);
}

static void emit_exit(const struct emitter *e, void *ctx, void *block, unsigned index) {
    if (index == TB_EXIT_REQUESTED && exit_label) {
        *exit_label |= LABEL_PRESENT;
        e->op1(ctx, OP_SET_LABEL, (uintptr_t)exit_label);
        exit_label = NULL;
    }
    e->stock.exit_tb(ctx, block, index);
}

#define REPLACEMENTS(N)                                                                            \
    static void tcg_gen_callN_##N(void *ctx, void *function, void *ret, int n, void **args) {      \
        emit_call(&emitters[N], ctx, function, ret, n, args);                                      \
    }                                                                                              \
    static void tcg_gen_exit_tb_##N(void *ctx, void *block, unsigned index) {                      \
        emit_exit(&emitters[N], ctx, block, index);                                                \
    }

REPLACEMENTS(0)
REPLACEMENTS(1)
REPLACEMENTS(2)

#define TABLE(N)                                                                                   \
    {                                                                                              \
        {"tcg_gen_callN", (void *)tcg_gen_callN_##N, (void **)&emitters[N].stock.call},            \
            {"tcg_gen_exit_tb", (void *)tcg_gen_exit_tb_##N, (void **)&emitters[N].stock.exit_tb}, \
        {                                                                                          \
            NULL, NULL, NULL                                                                       \
        }                                                                                          \
    }

static const struct tcg_rebind rebinds[TCG_ARCHES_MAX][3] = {TABLE(0), TABLE(1), TABLE(2)};

const struct tcg_rebind *tcg_exit_check_rebinds(uint32_t arch_index) {
    return rebinds[arch_index];
}

const struct tcg_symbol *tcg_exit_check_symbols(uint32_t arch_index,
                                                const struct tcg_layout *layout, void **table) {
    emitters[arch_index].layout = layout;
    *table = &emitters[arch_index];
    return symbols;
}
