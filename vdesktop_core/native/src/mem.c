/* SPDX-License-Identifier: MIT
 * The checked map of guest-physical memory: a sorted table. */
#include <errno.h>
#include <string.h>

#include "mem_map.h"

struct vd_mem *vd_mem_new(const struct vd_host *host) {
    struct vd_mem *mem = host->alloc(host->opaque, sizeof *mem);
    if (mem)
        mem->host = host;
    return mem;
}

void vd_mem_free(struct vd_mem *mem) {
    if (mem)
        mem->host->free(mem->host->opaque, mem);
}

int vd_mem_add(struct vd_mem *mem, uint64_t gpa, uint64_t len, void *base, uint32_t flags) {
    /* The last byte must have an address, in the guest and in the host. */
    if (!len || !base || len - 1 > UINT64_MAX - gpa || len - 1 > UINTPTR_MAX - (uintptr_t)base)
        return -EINVAL;
    if (flags & ~VD_MEM_READONLY)
        return -EINVAL;
    uint32_t at = 0;
    while (at < mem->n && mem->region[at].gpa < gpa)
        at++;
    if (at < mem->n && mem->region[at].gpa - gpa < len)
        return -EEXIST;
    if (at > 0 && gpa - mem->region[at - 1].gpa < mem->region[at - 1].len)
        return -EEXIST;
    if (mem->n == VD_MEM_MAX_REGIONS)
        return -ENOSPC;
    memmove(&mem->region[at + 1], &mem->region[at], (mem->n - at) * sizeof mem->region[0]);
    mem->region[at] = (struct vd_mem_region){.gpa = gpa, .len = len, .base = base, .flags = flags};
    mem->n++;
    return 0;
}

int vd_mem_remove(struct vd_mem *mem, uint64_t gpa) {
    for (uint32_t i = 0; i < mem->n; i++) {
        if (mem->region[i].gpa != gpa)
            continue;
        mem->n--;
        memmove(&mem->region[i], &mem->region[i + 1], (mem->n - i) * sizeof mem->region[0]);
        /* A stale cached index of a ring then finds an empty region. */
        memset(&mem->region[mem->n], 0, sizeof mem->region[0]);
        return 0;
    }
    return -ENOENT;
}

void vd_mem_on_written(struct vd_mem *mem, const struct vd_written *hook) {
    mem->written = hook ? *hook : (struct vd_written){0};
}

const struct vd_mem_region *vd_mem_find(const struct vd_mem *mem, uint64_t gpa) {
    uint32_t low = 0, high = mem->n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        const struct vd_mem_region *r = &mem->region[mid];
        if (gpa < r->gpa)
            high = mid;
        else if (gpa - r->gpa >= r->len)
            low = mid + 1;
        else
            return r;
    }
    return NULL;
}

uint64_t vd_mem_span(const struct vd_mem *mem, uint64_t gpa, uint64_t len, bool write,
                     void **base) {
    const struct vd_mem_region *r = vd_mem_find(mem, gpa);
    uint64_t span = r ? vd_region_span(r, gpa, len, write) : 0;
    if (span)
        *base = r->base + (gpa - r->gpa);
    return span;
}

void *vd_mem_ptr(const struct vd_mem *mem, uint64_t gpa, uint64_t len, bool write) {
    void *base;
    return len && vd_mem_span(mem, gpa, len, write, &base) == len ? base : NULL;
}

/* Copies one way or the other, region by region. */
static int copy(const struct vd_mem *mem, uint64_t gpa, uint8_t *host, uint64_t len, bool write) {
    while (len) {
        void *base;
        uint64_t span = vd_mem_span(mem, gpa, len, write, &base);
        if (!span)
            return -EFAULT;
        if (write)
            memcpy(base, host, span);
        else
            memcpy(host, base, span);
        host += span;
        len -= span;
        if (len && gpa > UINT64_MAX - span) /* the range goes round the end */
            return -EFAULT;
        gpa += span;
    }
    return 0;
}

int vd_mem_read(const struct vd_mem *mem, uint64_t gpa, void *to, uint64_t len) {
    return copy(mem, gpa, to, len, false);
}

int vd_mem_write(struct vd_mem *mem, uint64_t gpa, const void *from, uint64_t len) {
    int error = copy(mem, gpa, (uint8_t *)(uintptr_t)from, len, true);
    if (!error && len)
        vd_mem_written(mem, gpa, len);
    return error;
}

void vd_mem_written(struct vd_mem *mem, uint64_t gpa, uint64_t len) {
    if (mem->written.fn)
        mem->written.fn(mem->written.opaque, gpa, len);
}
