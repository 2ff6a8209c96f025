/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Loads Unicorn and refuses every library but the one whose insides we know.
 * This is the backend's only process-wide state: a library is a process-wide
 * thing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "priv.h"
#include "rebind.h"

#define VERSION_MAJOR 2u
#define VERSION_MINOR 1u
#define VERSION_PATCH 4u

static struct {
    pthread_mutex_t lock;
    void *handle;
    struct tcg_uc_api uc;
    struct {
        bool done;
        struct tcg_fns fns;
    } arch[TCG_ARCHES_MAX];
} library = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct tcg_symbol uc_symbols[] = {
    {"uc_reg_read", offsetof(struct tcg_uc_api, reg_read)},
    {"uc_reg_write", offsetof(struct tcg_uc_api, reg_write)},
    {"uc_hook_add", offsetof(struct tcg_uc_api, hook_add)},
    {"uc_mem_map_ptr", offsetof(struct tcg_uc_api, mem_map_ptr)},
    {"uc_mem_unmap", offsetof(struct tcg_uc_api, mem_unmap)},
    {"uc_mmio_map", offsetof(struct tcg_uc_api, mmio_map)},
    {"uc_open", offsetof(struct tcg_uc_api, open)},
    {"uc_close", offsetof(struct tcg_uc_api, close)},
    {"uc_ctl", offsetof(struct tcg_uc_api, ctl)},
    {"uc_version", offsetof(struct tcg_uc_api, version)},
    {"uc_strerror", offsetof(struct tcg_uc_api, strerror)},
    {NULL, 0},
};

static const struct tcg_symbol fns_symbols[] = {
    {"cpu_exec", offsetof(struct tcg_fns, cpu_exec)},
    {"tb_invalidate_phys_range", offsetof(struct tcg_fns, tb_invalidate_phys_range)},
    {"tlb_init", offsetof(struct tcg_fns, tlb_init)},
    {"tlb_flush", offsetof(struct tcg_fns, tlb_flush)},
    {"qemu_ram_addr_from_host", offsetof(struct tcg_fns, qemu_ram_addr_from_host)},
    {NULL, 0},
};

static void *find(const char *name, const char *suffix, char *error, size_t size) {
    char full[128];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    void *p = dlsym(library.handle, full);
    if (!p) /* one for all architectures */
        p = dlsym(library.handle, name);
    if (!p)
        snprintf(error, size,
                 "this libunicorn has no function %s: install the pinned wheel (pip install "
                 "unicorn==2.1.4)",
                 full);
    return p;
}

static int find_all(const struct tcg_symbol *symbols, const char *suffix, void *table, char *error,
                    size_t size) {
    for (const struct tcg_symbol *s = symbols; s && s->name; s++) {
        void *p = find(s->name, suffix, error, size);
        if (!p)
            return -1;
        memcpy((char *)table + s->offset, &p, sizeof p);
    }
    return 0;
}

static int load_locked(const char *path, char *error, size_t size) {
    if (library.handle)
        return 0;
#if !defined(__x86_64__) || !defined(__linux__)
    (void)path;
    snprintf(error, size,
             "the tcg backend knows libunicorn's insides on x86-64 Linux hosts only: use another "
             "backend here");
    return -1;
#else
    library.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library.handle) {
        snprintf(error, size, "cannot load %s: %s", path, dlerror());
        return -1;
    }
    unsigned major = 0, minor = 0, packed = 0;
    if (find_all(uc_symbols, "", &library.uc, error, size) != 0)
        goto refuse;
    packed = library.uc.version(&major, &minor);
    if (major != VERSION_MAJOR || minor != VERSION_MINOR ||
        ((packed >> 8) & 0xffu) != VERSION_PATCH) {
        snprintf(
            error, size,
            "%s is Unicorn %u.%u.%u, and only 2.1.4 will do: install the pinned wheel (pip install "
            "unicorn==2.1.4)",
            path, major, minor, (packed >> 8) & 0xffu);
        goto refuse;
    }
    return 0;
refuse:
    dlclose(library.handle);
    library.handle = NULL;
    return -1;
#endif
}

int tcg_library_load(const char *path, char *error, size_t size) {
    pthread_mutex_lock(&library.lock);
    int result = load_locked(path, error, size);
    pthread_mutex_unlock(&library.lock);
    return result;
}

const struct tcg_uc_api *tcg_uc(void) {
    return &library.uc;
}

/* What one architecture replaces: the engine's, the exit check's, the part's own. */
struct replacements {
    struct tcg_replacement item[TCG_REBINDS_MAX];
    const char *name[TCG_REBINDS_MAX];
    size_t n;
};

static int collect(struct replacements *to, const struct tcg_rebind *rebinds, const char *suffix,
                   char *error, size_t size) {
    for (const struct tcg_rebind *r = rebinds; r && r->name; r++) {
        void *stock = find(r->name, suffix, error, size);
        if (!stock)
            return -1;
        if (to->n == TCG_REBINDS_MAX) {
            snprintf(error, size, "the tcg backend replaces more functions than it has room for");
            return -1;
        }
        memcpy(r->stock, &stock, sizeof stock);
        to->name[to->n] = r->name;
        to->item[to->n++] = (struct tcg_replacement){.from = stock, .to = r->replacement};
    }
    return 0;
}

static int rebind_all(struct replacements *all, const char *suffix, char *error, size_t size) {
    int failed = tcg_rebind_functions(library.handle, all->item, all->n);
    for (size_t i = 0; i < all->n; i++) {
        if (!failed && all->item[i].bound > 0)
            continue;
        snprintf(error, size,
                 "%s%s of this libunicorn cannot be replaced (%s): install the pinned wheel",
                 all->name[i], suffix,
                 failed ? strerror(-failed) : "nothing calls it through a table");
        return -1;
    }
    return 0;
}

static int bind_arch(const struct tcg_arch_ops *ops, uint32_t index, char *error, size_t size) {
    struct tcg_fns *fns = &library.arch[index].fns;
    struct tcg_rebind rebinds[TCG_ENGINE_REBINDS];
    struct replacements all = {.n = 0};
    void *emitter;
    const struct tcg_symbol *emitter_symbols = tcg_exit_check_symbols(index, ops->layout, &emitter);
    fns->layout = ops->layout;
    tcg_engine_rebinds(index, fns, rebinds);
    if (find_all(fns_symbols, ops->suffix, fns, error, size) != 0 ||
        find_all(emitter_symbols, ops->suffix, emitter, error, size) != 0 ||
        find_all(ops->symbols, ops->suffix, ops->symbol_table, error, size) != 0 ||
        collect(&all, rebinds, ops->suffix, error, size) != 0 ||
        collect(&all, tcg_exit_check_rebinds(index), ops->suffix, error, size) != 0 ||
        collect(&all, tcg_blocks_rebinds(index, ops->layout), ops->suffix, error, size) != 0 ||
        collect(&all, ops->rebinds, ops->suffix, error, size) != 0 ||
        rebind_all(&all, ops->suffix, error, size) != 0)
        return -1;
    library.arch[index].done = true;
    tcg_drop_tables(library.handle);
    return 0;
}

const struct tcg_fns *tcg_library_arch(const struct tcg_arch_ops *ops, char *error, size_t size) {
    const struct tcg_fns *result = NULL;
    uint32_t index = 0;
    while (tcg_arches[index] != ops)
        index++;
    pthread_mutex_lock(&library.lock);
    if (!library.handle)
        snprintf(error, size, "libunicorn is not loaded");
    else if (library.arch[index].done || bind_arch(ops, index, error, size) == 0)
        result = &library.arch[index].fns;
    pthread_mutex_unlock(&library.lock);
    return result;
}

static bool is_cache_line(int bytes) {
    return bytes >= 16 && bytes <= 256 && (bytes & (bytes - 1)) == 0;
}

int tcg_library_check_layout(const struct tcg_arch_ops *ops, struct uc_struct *uc, char *error,
                             size_t size) {
    const struct tcg_layout *l = ops->layout;
    char *cs = TCG_FIELD(uc, l->uc.cpu, char *);
    const char *what = NULL;
    if (!cs || TCG_FIELD(cs, l->cpu.uc, void *) != (void *)uc)
        what = "CPUState.uc";
    else if (TCG_FIELD(cs, l->cpu.env_ptr, char *) != cs + l->env)
        what = "CPUState.env_ptr";
    else if (TCG_FIELD(cs, l->cpu.icount_decr_ptr, char *) <= cs + l->neg ||
             TCG_FIELD(cs, l->cpu.icount_decr_ptr, char *) >= cs + l->env)
        what = "CPUState.icount_decr_ptr";
    else if (!TCG_FIELD(cs, l->cpu.cc, void *))
        what = "CPUState.cc";
    else if (TCG_FIELD(uc, l->uc.nested_level, int) != 0)
        what = "uc_struct.nested_level";
    else if (!is_cache_line(TCG_FIELD(uc, l->uc.icache_linesize, int)))
        what = "uc_struct.qemu_icache_linesize";
    if (!what)
        return 0;
    snprintf(error, size,
             "this libunicorn lays out %s differently: install the pinned wheel (pip install "
             "unicorn==2.1.4)",
             what);
    return -EPROTO;
}
