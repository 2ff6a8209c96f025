/* SPDX-License-Identifier: MIT
 * Inside of the checked map, for the rings' inlined fast path. */
#ifndef VDESKTOP_MEM_MAP_H
#define VDESKTOP_MEM_MAP_H

#include "vdesktop/mem.h"

struct vd_mem_region {
    uint64_t gpa, len;
    uint8_t *base;
    uint32_t flags;
};

struct vd_mem {
    const struct vd_host *host;
    struct vd_written written; /* copied; fn NULL: nobody wants to know */
    uint32_t n;
    struct vd_mem_region region[VD_MEM_MAX_REGIONS]; /* by gpa, disjoint */
};

/* The region that holds gpa, or NULL. */
const struct vd_mem_region *vd_mem_find(const struct vd_mem *mem, uint64_t gpa);

/* Bytes of [gpa, gpa+len) in region r; 0 if gpa is outside or r is not writable
 * and write is asked for. Cannot overflow: offset < r->len first. */
static inline uint64_t vd_region_span(const struct vd_mem_region *r, uint64_t gpa, uint64_t len,
                                      bool write) {
    uint64_t offset = gpa - r->gpa; /* wraps to huge below the region */
    if (offset >= r->len || (write && (r->flags & VD_MEM_READONLY)))
        return 0;
    uint64_t room = r->len - offset;
    return len < room ? len : room;
}

#endif
