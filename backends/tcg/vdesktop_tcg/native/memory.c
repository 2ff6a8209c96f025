/* SPDX-License-Identifier: GPL-2.0-only
 * What is at which guest-physical address: memory, and ranges that others serve. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "priv.h"

#define UC_PROT_ALL 7u

static bool quiet(const struct tcg_vm *vm) {
    return !vm->thread_live || vm->state == TCG_STATE_PAUSED || vm->state == TCG_STATE_ENDED;
}

/* The library tells CPU 0 alone that the map changed. */
static void map_changed(struct tcg_vm *vm) {
    for (uint32_t i = 1; i < vm->n_vcpus; i++)
        vm->fns->tlb_flush(vm->vcpu[i].cs);
}

static int place_region(struct tcg_vm *vm, uint64_t gpa, uint64_t size, void *host) {
    uint32_t at = 0;
    while (at < vm->n_regions && vm->region[at].gpa < gpa)
        at++;
    if ((at > 0 && vm->region[at - 1].gpa + vm->region[at - 1].size > gpa) ||
        (at < vm->n_regions && gpa + size > vm->region[at].gpa))
        return -EEXIST;
    if (vm->n_regions == TCG_REGIONS_MAX)
        return -ENOSPC;
    struct tcg_region r = {.gpa = gpa, .size = size, .host = host};
    r.code = calloc((size / TCG_PAGE_SIZE + 63) / 64, sizeof *r.code);
    if (!r.code)
        return -ENOMEM;
    if (tcg_uc()->mem_map_ptr(vm->uc, gpa, size, UC_PROT_ALL, host) != 0) {
        free((void *)r.code);
        return -ENOMEM;
    }
    r.ram_addr = vm->fns->qemu_ram_addr_from_host(vm->uc, host);
    memmove(&vm->region[at + 1], &vm->region[at], (vm->n_regions - at) * sizeof r);
    vm->region[at] = r;
    vm->n_regions++;
    return 0;
}

int tcg_vm_map(struct tcg_vm *vm, uint64_t gpa, uint64_t size, void *host, bool readonly) {
    if (readonly)
        return -ENOTSUP;
    if (!quiet(vm))
        return -EBUSY;
    if (size == 0 || (gpa | size | (uintptr_t)host) & (TCG_PAGE_SIZE - 1) ||
        gpa + size > 1ull << vm->ops->phys_bits)
        return -EINVAL;
    tcg_windows_unmap(vm);
    int error = place_region(vm, gpa, size, host);
    int again = tcg_windows_map(vm);
    map_changed(vm);
    return error ? error : again;
}

void *tcg_vm_ram(struct tcg_vm *vm, uint64_t gpa, uint64_t len) {
    for (uint32_t i = 0; i < vm->n_regions; i++) {
        const struct tcg_region *r = &vm->region[i];
        uint64_t offset = gpa - r->gpa;
        if (gpa >= r->gpa && offset < r->size)
            return len && len <= r->size - offset ? r->host + offset : NULL;
    }
    return NULL;
}

int tcg_vm_unmap(struct tcg_vm *vm, uint64_t gpa) {
    if (!quiet(vm))
        return -EBUSY;
    for (uint32_t i = 0; i < vm->n_regions; i++) {
        if (vm->region[i].gpa != gpa)
            continue;
        tcg_windows_unmap(vm);
        tcg_uc()->mem_unmap(vm->uc, gpa, vm->region[i].size);
        free((void *)vm->region[i].code);
        vm->n_regions--;
        memmove(&vm->region[i], &vm->region[i + 1], (vm->n_regions - i) * sizeof vm->region[0]);
        int error = tcg_windows_map(vm);
        map_changed(vm);
        return error;
    }
    return -ENOENT;
}

int tcg_vm_add_io(struct tcg_vm *vm, bool port, uint64_t base, uint64_t size,
                  const struct vd_io *io) {
    struct vd_io_range range = {.base = base, .size = size, .io = *io};
    return quiet(vm) ? tcg_ranges_add(port ? &vm->pio : &vm->mmio, &range) : -EBUSY;
}

int tcg_vm_remove_io(struct tcg_vm *vm, bool port, uint64_t base) {
    return quiet(vm) ? tcg_ranges_remove(port ? &vm->pio : &vm->mmio, base) : -EBUSY;
}
