/* SPDX-License-Identifier: MIT
 *
 * A domain that somebody else made, such as xl: we are one more device model of
 * it. Its memory has holes, and pages that cannot be mapped: what can be is served,
 * in runs. */
#include "priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define EMU_IOAPIC (1u << 4)
/* Where RAM of HVM domains stops below 4 GiB, unless they were told otherwise, and goes on. */
#define LOW_END    0xF0000ull
#define HIGH_START 0x100000ull
/* Holes among the RAM, for devices of old. */
#define SLACK 512u

static int keep(struct vx_vm *vm, uint64_t gpa, uint64_t size, void *host) {
    for (uint32_t i = 0; i < VX_REGIONS_MAX; i++) {
        if (!vm->region[i].used) {
            vm->region[i] = (struct vx_region){gpa, size, host, true};
            return vx_bus_add_memory(vm->bus, gpa, size, host);
        }
    }
    return -ENOSPC;
}

/* Keeps the runs of pages that were mapped; unmaps the rest. */
static int take(struct vx_vm *vm, uint64_t first, uint64_t count, uint8_t *host,
                const int *errors) {
    int result = 0;

    for (uint64_t start = 0, end; start < count; start = end) {
        end = start + 1;
        while (end < count && !errors[end] == !errors[start]) {
            end++;
        }
        uint8_t *run = host + start * VX_PAGE;
        uint64_t size = (end - start) * VX_PAGE;
        if (errors[start] || result) {
            munmap(run, size);
        } else {
            result = keep(vm, (first + start) * VX_PAGE, size, run);
        }
    }
    return result;
}

static int map_some(struct vx_vm *vm, uint64_t first, uint64_t count) {
    uint64_t *frames = calloc(count, sizeof *frames);
    int *errors = calloc(count, sizeof *errors), result = -ENOMEM;

    for (uint64_t i = 0; frames && i < count; i++) {
        frames[i] = first + i;
    }
    if (frames && errors) {
        void *host = vm->xen.lib.xenforeignmemory_map2(
            vm->xen.memory, vm->domain, NULL, PROT_READ | PROT_WRITE, 0, count, frames, errors);
        result = host ? take(vm, first, count, host, errors) : -errno;
    }
    free(frames);
    free(errors);
    return result;
}

static int map_all(struct vx_vm *vm, uint64_t pages) {
    uint64_t low = pages + SLACK < LOW_END ? pages + SLACK : LOW_END;
    int result = map_some(vm, 0, low);

    return result || pages <= LOW_END ? result : map_some(vm, HIGH_START, pages - LOW_END + SLACK);
}

struct vx_vm *vx_vm_attach(uint32_t domain, char *error, size_t size) {
    struct vx_vm *vm = vx_prepare(error, size);
    struct vx_domaininfo info;

    if (!vm) {
        return NULL;
    }
    vm->domain = domain;
    vm->attached = vm->created = true;
    if (vx_info(vm, &info) <= 0) {
        snprintf(error, size, "there is no domain %u: see 'xl list'", domain);
    } else if (!(info.flags & VX_DOMINF_HVM) || !(info.emulation_flags & EMU_IOAPIC)) {
        snprintf(error, size,
                 "domain %u is not an HVM one: devices need its I/O APIC, make it with "
                 "type=\"hvm\"",
                 domain);
    } else if (info.max_vcpu_id >= VX_VCPUS_MAX) {
        snprintf(error, size, "domain %u has more than %d vCPUs", domain, VX_VCPUS_MAX);
    } else {
        vm->vcpus = info.max_vcpu_id + 1;
        int result = map_all(vm, info.tot_pages);
        if (!result) {
            return vm;
        }
        vx_complain(error, size, "map the domain's memory", -result);
    }
    for (uint32_t i = 0; i < VX_REGIONS_MAX; i++) {
        if (vm->region[i].used) {
            munmap(vm->region[i].host, vm->region[i].size);
        }
    }
    vx_vm_free(vm);
    return NULL;
}
