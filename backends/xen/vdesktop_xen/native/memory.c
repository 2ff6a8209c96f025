/* SPDX-License-Identifier: MIT
 *
 * A domain's memory, and this process' mappings of it. A mapping holds its pages:
 * what a guest gives back or moves stays readable here, and is not what the guest
 * sees any more. vx_memory_renew brings the two together again. */
#include "priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LARGE_ORDER 9u /* 2 MiB */
#define LARGE_PAGES (1ull << LARGE_ORDER)
#define BATCH       1024u
/* For XenStore's page, and for what else a guest is given, such as its shared page. */
#define SPARE_KIB 2048u

/* Fills frames [first, first + count) in extents of one order, as far as Xen has memory.
 * The number of frames that are filled, or -errno: none is. */
static int64_t populate(struct vx_vm *vm, uint64_t first, uint64_t count, unsigned order) {
    uint64_t frames[BATCH], step = 1ull << order, done = 0;

    while (done < count) {
        unsigned long n = 0;
        for (uint64_t at = done; n < BATCH && at < count; at += step) {
            frames[n++] = first + at;
        }
        int filled =
            vm->xen.lib.xc_domain_populate_physmap(vm->xen.ctrl, vm->domain, n, order, 0, frames);
        if (filled < 0) {
            return done ? (int64_t)done : -errno;
        }
        done += (uint64_t)filled * step;
        if ((unsigned long)filled < n) {
            break;
        }
    }
    return (int64_t)done;
}

/* Takes frames away; passes over those that are not there. */
static void depopulate(struct vx_vm *vm, uint64_t first, uint64_t count) {
    uint64_t frames[BATCH];

    for (uint64_t done = 0; done < count;) {
        unsigned long n = 0;
        while (n < BATCH && done + n < count) {
            frames[n] = first + done + n;
            n++;
        }
        int taken =
            vm->xen.lib.xc_domain_decrease_reservation(vm->xen.ctrl, vm->domain, n, 0, frames);
        if (taken < 0) {
            return; /* the domain is gone */
        }
        done += (unsigned long)taken < n ? (uint64_t)taken + 1 : n;
    }
}

/* Large pages where they fit, small ones before and after, and where Xen has no large ones
 * left. `done`: how many frames are filled, also where not all could be. */
static int fill(struct vx_vm *vm, uint64_t first, uint64_t count, uint64_t *done) {
    bool large = true;

    for (*done = 0; *done < count;) {
        uint64_t left = count - *done, to_edge = -(first + *done) & (LARGE_PAGES - 1);
        bool try_large = large && to_edge == 0 && left >= LARGE_PAGES;
        uint64_t wanted = try_large ? left & ~(LARGE_PAGES - 1) : to_edge ? to_edge : LARGE_PAGES;
        wanted = wanted < left ? wanted : left;
        int64_t filled = populate(vm, first + *done, wanted, try_large ? LARGE_ORDER : 0);
        if (filled < 0) {
            return (int)filled;
        }
        *done += (uint64_t)filled;
        if ((uint64_t)filled < wanted && !try_large) {
            return -ENOMEM;
        }
        /* After a large page that there was not, one's worth of small ones. */
        large = !try_large || (uint64_t)filled == wanted;
    }
    return 0;
}

/* Maps frames at `address`, or where it likes; errors[] says which could not be. */
static void *map(struct vx_vm *vm, void *address, uint64_t first, uint64_t count, bool readonly,
                 int *errors) {
    uint64_t *frames = malloc(count * sizeof *frames);

    if (!frames) {
        errno = ENOMEM;
        return NULL;
    }
    for (uint64_t i = 0; i < count; i++) {
        frames[i] = first + i;
    }
    void *host = vm->xen.lib.xenforeignmemory_map2(vm->xen.memory, vm->domain, address,
                                                   PROT_READ | (readonly ? 0 : PROT_WRITE),
                                                   address ? MAP_FIXED : 0, count, frames, errors);
    int code = errno;
    free(frames);
    errno = code;
    return host;
}

static int first_error(const int *errors, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        if (errors[i]) {
            return errors[i] < 0 ? -errors[i] : errors[i];
        }
    }
    return 0;
}

static bool overlaps(const struct vx_region *r, uint64_t gpa, uint64_t size) {
    return r->used && gpa < r->gpa + r->size && r->gpa < gpa + size;
}

int vx_memory_limit(struct vx_vm *vm) {
    uint64_t kib = vm->pages * (VX_PAGE / 1024) + SPARE_KIB;
    return vm->xen.lib.xc_domain_setmaxmem(vm->xen.ctrl, vm->domain, kib) ? -errno : 0;
}

static int allocate(struct vx_vm *vm, struct vx_region *region, char *error, size_t size) {
    uint64_t first = region->gpa / VX_PAGE, count = region->size / VX_PAGE;
    int *errors = calloc(count, sizeof *errors);

    if (!errors) {
        return vx_complain(error, size, "map the domain's memory", ENOMEM);
    }
    vm->pages += count;
    uint64_t filled = 0;
    int result = vx_memory_limit(vm);
    if (!result) {
        result = fill(vm, first, count, &filled);
    }
    bool given = result == 0;
    if (given) {
        region->host = map(vm, NULL, first, count, false, errors);
        result = region->host ? -first_error(errors, count) : -errno;
        if (region->host && result) {
            munmap(region->host, region->size);
        }
    }
    free(errors);
    if (result) {
        depopulate(vm, first, filled);
        vm->pages -= count;
        vx_memory_limit(vm);
        if (given && result == -ENOMEM) {
            snprintf(error, size,
                     "xen cannot map the domain's memory: this host (dom0) is out of memory: end "
                     "something in it, or give it more");
            return result;
        }
        return vx_complain(error, size, "give the domain its memory", -result);
    }
    return 0;
}

int vx_vm_allocate(struct vx_vm *vm, uint64_t gpa, uint64_t size, bool readonly, void **host,
                   char *error, size_t error_size) {
    struct vx_region *place = NULL;

    if (readonly || vm->attached) {
        snprintf(error, error_size,
                 readonly ? "xen cannot give a domain read-only memory: make it writable"
                          : "the domain is somebody else's: it has its memory");
        return -EOPNOTSUPP;
    }
    if ((gpa | size) % VX_PAGE || size == 0 || gpa + size < gpa) {
        return vx_complain(error, error_size, "map what is no whole pages", EINVAL);
    }
    for (uint32_t i = 0; i < VX_REGIONS_MAX; i++) {
        if (overlaps(&vm->region[i], gpa, size)) {
            return vx_complain(error, error_size, "map over other memory", EEXIST);
        }
        if (!vm->region[i].used && !place) {
            place = &vm->region[i];
        }
    }
    if (!place) {
        return vx_complain(error, error_size, "map more regions", ENOSPC);
    }
    *place = (struct vx_region){.gpa = gpa, .size = size};
    int result = allocate(vm, place, error, error_size);
    if (!result) {
        result = vx_bus_add_memory(vm->bus, gpa, size, place->host);
        place->used = result == 0;
        *host = place->host;
    }
    return result;
}

int vx_vm_unmap(struct vx_vm *vm, uint64_t gpa) {
    for (uint32_t i = 0; i < VX_REGIONS_MAX; i++) {
        struct vx_region *region = &vm->region[i];
        if (!region->used || region->gpa != gpa || vm->attached) {
            continue;
        }
        vx_bus_remove_memory(vm->bus, gpa);
        region->used = false;
        vm->pages -= region->size / VX_PAGE;
        depopulate(vm, gpa / VX_PAGE, region->size / VX_PAGE);
        return vx_memory_limit(vm);
    }
    return -ENOENT;
}

void vx_release(void *host, uint64_t size) {
    munmap(host, size);
}

bool vx_vm_region(struct vx_vm *vm, uint32_t index, uint64_t *gpa, uint64_t *size, void **host) {
    if (index >= VX_REGIONS_MAX || !vm->region[index].used) {
        return false;
    }
    *gpa = vm->region[index].gpa;
    *size = vm->region[index].size;
    *host = vm->region[index].host;
    return true;
}

void vx_memory_forget(struct vx_vm *vm) {
    for (uint32_t i = 0; vm->bus && i < VX_REGIONS_MAX; i++) {
        if (vm->region[i].used) {
            vx_bus_remove_memory(vm->bus, vm->region[i].gpa);
            vm->region[i].used = false;
        }
    }
}

/* A page for a hole. What a living domain gave back has its contents still, and may be it. */
static int replace(struct vx_vm *vm, uint64_t frame) {
    int64_t filled = populate(vm, frame, 1, 0);

    if (filled != 1) {
        return filled < 0 ? (int)filled : -ENOMEM;
    }
    return vm->xen.lib.xc_clear_domain_pages(vm->xen.ctrl, vm->domain, frame, 1) ? -errno : 0;
}

/* Puts pages where the guest left holes, and maps all of a region again at the same
 * address. Nothing may touch it meanwhile. */
static int renew(struct vx_vm *vm, struct vx_region *region) {
    uint64_t first = region->gpa / VX_PAGE, count = region->size / VX_PAGE;
    int *errors = calloc(count, sizeof *errors), result = 0;

    if (!errors) {
        return -ENOMEM;
    }
    if (!map(vm, region->host, first, count, false, errors)) {
        result = -errno;
    } else if (first_error(errors, count)) {
        for (uint64_t i = 0; !result && i < count; i++) {
            result = errors[i] ? replace(vm, first + i) : 0;
        }
        memset(errors, 0, count * sizeof *errors);
        if (!result) {
            result = map(vm, region->host, first, count, false, errors)
                         ? -first_error(errors, count)
                         : -errno;
        }
    }
    free(errors);
    return result;
}

int vx_memory_renew(struct vx_vm *vm) {
    int result = 0;

    for (uint32_t i = 0; !result && i < VX_REGIONS_MAX; i++) {
        result = vm->region[i].used ? renew(vm, &vm->region[i]) : 0;
    }
    return result;
}
