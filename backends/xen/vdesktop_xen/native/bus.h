/* SPDX-License-Identifier: MIT
 *
 * What answers a domain's accesses: ranges of devices, doorbells, and the memory
 * that string instructions work on. Knows nothing of Xen but the form of a
 * request. All functions are thread-safe; after a remove returns, nothing of
 * what was removed is in use. */
#ifndef VX_BUS_H
#define VX_BUS_H

#include "abi.h"
#include "vdesktop/abi.h"

#define VX_DOORBELLS_MAX 512u
#define VX_MEMORY_MAX    64u

struct vx_bus;

enum vx_count {
    VX_COUNT_MMIO,
    VX_COUNT_PORT,
    VX_COUNT_INVALIDATE,
    VX_COUNT_OTHER,
    VX_COUNT_UNASSIGNED,
    VX_COUNT_DOORBELL,
    VX_COUNTS
};

struct vx_bus *vx_bus_new(void); /* NULL: no memory */
void vx_bus_free(struct vx_bus *bus);

/* 0, -EEXIST (overlap), -ENOSPC, -EINVAL; -ENOENT. */
int vx_bus_add_io(struct vx_bus *bus, bool port, uint64_t base, uint64_t size,
                  const struct vd_io *io);
int vx_bus_remove_io(struct vx_bus *bus, bool port, uint64_t base, uint64_t *size);
int vx_bus_add_memory(struct vx_bus *bus, uint64_t gpa, uint64_t size, void *host);
int vx_bus_remove_memory(struct vx_bus *bus, uint64_t gpa);
int vx_bus_add_doorbell(struct vx_bus *bus, uint64_t address, uint32_t width, bool match,
                        uint64_t value, int fd);
int vx_bus_remove_doorbell(struct vx_bus *bus, uint64_t address, uint32_t width, bool match,
                           uint64_t value, int fd);

/* The index'th run of ranges that touch, ascending; false: there are no more. */
bool vx_bus_run(struct vx_bus *bus, bool port, uint32_t index, uint64_t *base, uint64_t *size);

/* Carries out a request. Reads leave their result in the request, or in memory. */
void vx_bus_serve(struct vx_bus *bus, struct vx_ioreq *request);

uint64_t vx_bus_count(const struct vx_bus *bus, uint32_t which);

#endif
