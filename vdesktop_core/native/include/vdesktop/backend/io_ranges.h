/* SPDX-License-Identifier: MIT
 * For backends: who answers accesses that are not memory, by address. Header-only; no locks: the
 * caller sees to it that nobody looks while a range is added or removed. */
#ifndef VDESKTOP_IO_RANGES_H
#define VDESKTOP_IO_RANGES_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vdesktop/abi.h"

#define VD_IO_RANGES_MAX 128u
#define VD_IO_LAST_PORT  0xFFFFu /* of x86 */

struct vd_io_range {
    uint64_t base, size;
    struct vd_io io;
    bool internal; /* the backend's own: vd_io_ranges_remove leaves it */
};

/* All zero: empty. */
struct vd_io_ranges {
    struct vd_io_range range[VD_IO_RANGES_MAX]; /* ascending, disjoint */
    uint32_t count;
};

/* `range` is copied. -EINVAL: it is empty, or goes past the address `last`; -EEXIST: it overlaps
 * another; -ENOSPC: there are VD_IO_RANGES_MAX. */
static inline int vd_io_ranges_add(struct vd_io_ranges *ranges, const struct vd_io_range *range,
                                   uint64_t last) {
    uint32_t at = 0;

    if (range->size == 0 || range->base > last || range->size - 1 > last - range->base)
        return -EINVAL;
    while (at < ranges->count && ranges->range[at].base < range->base)
        at++;
    if (at > 0 && range->base - ranges->range[at - 1].base < ranges->range[at - 1].size)
        return -EEXIST;
    if (at < ranges->count && ranges->range[at].base - range->base < range->size)
        return -EEXIST;
    if (ranges->count == VD_IO_RANGES_MAX)
        return -ENOSPC;
    memmove(&ranges->range[at + 1], &ranges->range[at],
            (ranges->count - at) * sizeof ranges->range[0]);
    ranges->range[at] = *range;
    ranges->count++;
    return 0;
}

/* The range that begins at `base`. -ENOENT: there is none, or it is the backend's own. */
static inline int vd_io_ranges_remove(struct vd_io_ranges *ranges, uint64_t base) {
    for (uint32_t at = 0; at < ranges->count; at++)
        if (ranges->range[at].base == base && !ranges->range[at].internal) {
            ranges->count--;
            memmove(&ranges->range[at], &ranges->range[at + 1],
                    (ranges->count - at) * sizeof ranges->range[0]);
            return 0;
        }
    return -ENOENT;
}

/* The range that answers all `width` bytes at `address`, or NULL. Valid until a change. */
static inline const struct vd_io_range *vd_io_ranges_find(const struct vd_io_ranges *ranges,
                                                          uint64_t address, unsigned width) {
    uint32_t low = 0, high = ranges->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct vd_io_range *range = &ranges->range[middle];
        if (address < range->base)
            high = middle;
        else if (address - range->base >= range->size)
            low = middle + 1;
        else
            return range->size - (address - range->base) >= width ? range : NULL;
    }
    return NULL;
}

#endif
