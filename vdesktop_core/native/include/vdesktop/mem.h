/* SPDX-License-Identifier: MIT
 * The checked map of guest-physical memory. */
#ifndef VDESKTOP_MEM_H
#define VDESKTOP_MEM_H

#include "vdesktop/abi.h"

#define VD_MEM_MAX_REGIONS 64
#define VD_MEM_READONLY    1u

struct vd_mem;

struct vd_mem *vd_mem_new(const struct vd_host *host);
void vd_mem_free(struct vd_mem *mem);

/* Adds [gpa, gpa+len), backed by `base`. 0, or -EEXIST (overlap), -EINVAL
 * (zero, wrap-around), -ENOSPC. Regions change only while no queue is live. */
int vd_mem_add(struct vd_mem *mem, uint64_t gpa, uint64_t len, void *base, uint32_t flags);
int vd_mem_remove(struct vd_mem *mem, uint64_t gpa);
void vd_mem_on_written(struct vd_mem *mem, const struct vd_written *hook);

/* The host address of [gpa, gpa+len) if it lies whole in one region (writable
 * if `write`), else NULL. len 0 is refused. The only way from a guest address
 * to a host address. */
void *vd_mem_ptr(const struct vd_mem *mem, uint64_t gpa, uint64_t len, bool write);
/* As vd_mem_ptr, but returns how many bytes are contiguous at gpa (0: none). */
uint64_t vd_mem_span(const struct vd_mem *mem, uint64_t gpa, uint64_t len, bool write, void **base);
/* Copies across region borders. 0 or -EFAULT (nothing copied past the hole). */
int vd_mem_read(const struct vd_mem *mem, uint64_t gpa, void *to, uint64_t len);
int vd_mem_write(struct vd_mem *mem, uint64_t gpa, const void *from, uint64_t len);
void vd_mem_written(struct vd_mem *mem, uint64_t gpa, uint64_t len);

#endif
