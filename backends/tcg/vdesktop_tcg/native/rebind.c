/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The wheel's library calls its own global functions through its procedure
 * linkage table, and keeps pointers to them in tables, all filled by the
 * dynamic loader from relocations that name the function. So a function is
 * replaced by writing our address where those relocations point.
 *
 * The other way, to define the same names in an object that is loaded
 * RTLD_GLOBAL first, depends on load order, cannot tell whether it worked, and
 * gives every later library of the process our names to bind to. */
#define _GNU_SOURCE
#include "rebind.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#define R_SLOT R_X86_64_JUMP_SLOT
#define R_GLOB R_X86_64_GLOB_DAT
#define R_WORD R_X86_64_64
#elif defined(__aarch64__)
#define R_SLOT R_AARCH64_JUMP_SLOT
#define R_GLOB R_AARCH64_GLOB_DAT
#define R_WORD R_AARCH64_ABS64
#else
#define R_SLOT 0xffffffffu
#define R_GLOB 0xffffffffu
#define R_WORD 0xffffffffu
#endif

struct object {
    ElfW(Addr) base;
    const ElfW(Sym) * symbols;
    const ElfW(Rela) * tables[2];
    size_t counts[2];
    bool relro;
    ElfW(Addr) relro_start, relro_end;
};

/* glibc has relocated these pointers in place; a loader that has not leaves
 * them below the load address. */
static uintptr_t pointer_of(const struct link_map *map, ElfW(Addr) value) {
    return value < map->l_addr ? map->l_addr + value : value;
}

static int find_relro(struct dl_phdr_info *info, size_t size, void *opaque) {
    struct object *object = opaque;
    (void)size;
    if (info->dlpi_addr != object->base)
        return 0;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO) {
            object->relro = true;
            object->relro_start = (object->base + info->dlpi_phdr[i].p_vaddr) & ~(page - 1);
            object->relro_end =
                (object->base + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz) &
                ~(page - 1);
        }
    }
    return 1;
}

static int open_object(void *handle, struct object *object) {
    struct link_map *map = NULL;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || !map)
        return -EINVAL;
    object->base = map->l_addr;
    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        switch (d->d_tag) {
        case DT_SYMTAB:
            object->symbols = (const ElfW(Sym) *)pointer_of(map, d->d_un.d_ptr);
            break;
        case DT_RELA:
            object->tables[0] = (const ElfW(Rela) *)pointer_of(map, d->d_un.d_ptr);
            break;
        case DT_RELASZ:
            object->counts[0] = d->d_un.d_val / sizeof(ElfW(Rela));
            break;
        case DT_JMPREL:
            object->tables[1] = (const ElfW(Rela) *)pointer_of(map, d->d_un.d_ptr);
            break;
        case DT_PLTRELSZ:
            object->counts[1] = d->d_un.d_val / sizeof(ElfW(Rela));
            break;
        default:
            break;
        }
    }
    if (!object->symbols || !object->tables[0] || !object->tables[1])
        return -ENOEXEC;
    dl_iterate_phdr(find_relro, object);
    return 0;
}

static int write_slot(const struct object *object, void **slot, void *to) {
    uintptr_t at = (uintptr_t)slot;
    if (!object->relro || at < object->relro_start || at >= object->relro_end) {
        __atomic_store_n(slot, to, __ATOMIC_RELEASE);
        return 0;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *start = (void *)(at & ~(uintptr_t)(page - 1));
    if (mprotect(start, page, PROT_READ | PROT_WRITE) != 0)
        return -errno;
    __atomic_store_n(slot, to, __ATOMIC_RELEASE);
    return mprotect(start, page, PROT_READ) != 0 ? -errno : 0;
}

/* Which replacement a function has. One pass over 80 000 relocations serves
 * all: most are told apart by a byte of the function's address. */
struct index {
    bool maybe[256];
    struct tcg_replacement *all;
    size_t n;
};

static bool *bucket(struct index *index, uintptr_t function) {
    return &index->maybe[(function >> 4) % 256];
}

static struct tcg_replacement *find(struct index *index, uintptr_t function) {
    if (!*bucket(index, function))
        return NULL;
    for (size_t i = 0; i < index->n; i++)
        if ((uintptr_t)index->all[i].from == function)
            return &index->all[i];
    return NULL;
}

static int rebind_table(const struct object *object, const ElfW(Rela) * table, size_t count,
                        struct index *index) {
    for (const ElfW(Rela) *r = table; r < table + count; r++) {
        unsigned type = (unsigned)ELF64_R_TYPE(r->r_info);
        if (type != R_SLOT && type != R_GLOB && !(type == R_WORD && r->r_addend == 0))
            continue;
        const ElfW(Sym) *symbol = &object->symbols[ELF64_R_SYM(r->r_info)];
        struct tcg_replacement *found =
            symbol->st_value ? find(index, object->base + symbol->st_value) : NULL;
        if (!found)
            continue;
        int error = write_slot(object, (void **)(object->base + r->r_offset), found->to);
        if (error)
            return error;
        found->bound++;
    }
    return 0;
}

int tcg_rebind_functions(void *handle, struct tcg_replacement *replacements, size_t n) {
    struct object object = {0};
    struct index index = {.all = replacements, .n = n};
    for (size_t i = 0; i < n; i++)
        *bucket(&index, (uintptr_t)replacements[i].from) = true;
    int error = open_object(handle, &object);
    for (int t = 0; t < 2 && !error; t++)
        error = rebind_table(&object, object.tables[t], object.counts[t], &index);
    return error;
}

static int drop_segments(struct dl_phdr_info *info, size_t size, void *opaque) {
    const struct object *object = opaque;
    (void)size;
    if (info->dlpi_addr != object->base)
        return 0;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || p->p_flags != PF_R)
            continue;
        uintptr_t start = (object->base + p->p_vaddr) & ~(page - 1);
        uintptr_t end = (object->base + p->p_vaddr + p->p_memsz + page - 1) & ~(page - 1);
        madvise((void *)start, end - start, MADV_DONTNEED); /* advice: no harm where it fails */
    }
    return 1;
}

void tcg_drop_tables(void *handle) {
    struct object object = {0};
    if (open_object(handle, &object) == 0)
        dl_iterate_phdr(drop_segments, &object);
}
