/* SPDX-License-Identifier: MIT
 * virtio-gpu (virtio 1.4 §5.7): resources, scanouts, hardware cursors; and 3D
 * where there is a renderer. */
#ifndef VDESKTOP_GPU_H
#define VDESKTOP_GPU_H

#include "vdesktop/device.h"
#include "vdesktop/display.h"
#include "vdesktop/gpu_renderer.h"
#include "vdesktop/loop.h"

#define VD_GPU_ID           16
#define VD_GPU_SCANOUTS_MAX 16
/* Pixels a side, of what a scanout can be asked to show: the 12 bits of an EDID's detailed timing.
 */
#define VD_GPU_SIZE_MIN 64
#define VD_GPU_SIZE_MAX 4095
/* Resources of one device, and those among them with memory of the host, a descriptor each. */
#define VD_GPU_RESOURCES_MAX      1024
#define VD_GPU_HOST_RESOURCES_MAX 256
/* Pieces of guest memory behind one resource. */
#define VD_GPU_ENTRIES_MAX 16384
/* Pieces of guest memory that are shown where they are, a mapping each; the rest is copied. */
#define VD_GPU_VIEWED_MAX 8192

struct vd_gpu_options {
    uint32_t scanouts;      /* 1 .. VD_GPU_SCANOUTS_MAX; only the first is connected at first */
    uint32_t width, height; /* of the first, VD_GPU_SIZE_MIN .. VD_GPU_SIZE_MAX */
    uint64_t max_memory;    /* bytes of the host's memory that the guest may take, in all */
    const struct vd_gpu_renderer *renderer; /* copied; NULL: 2D only */
};

struct vd_gpu_counters {
    uint64_t commands, errors; /* of the control queue; those answered with an error */
    uint64_t flushes, cursor_commands;
    uint64_t copied_bytes; /* out of guest memory */
    uint64_t memory_bytes; /* of the host's, now; not monotonic */
};

struct vd_gpu;

/* NULL and *error = -errno. */
struct vd_gpu *vd_gpu_new(const struct vd_host *host, struct vd_mem *mem, struct vd_loop *loop,
                          const char *name, const struct vd_gpu_options *options, int *error);
/* The device must be detached, and its scanouts without viewers. NULL is allowed. */
void vd_gpu_free(struct vd_gpu *gpu);
struct vd_device *vd_gpu_device(struct vd_gpu *gpu);
struct vd_scanout *vd_gpu_scanout(struct vd_gpu *gpu, uint32_t index); /* NULL: none */
/* Asks the guest to drive a scanout at this size; 0 x 0 unplugs the monitor. 0 or -EINVAL. Any
 * thread. */
int vd_gpu_request_size(struct vd_gpu *gpu, uint32_t index, uint32_t width, uint32_t height);
/* What vd_gpu_renderer.fence said was pending is done. Any thread. */
void vd_gpu_fence_done(struct vd_gpu *gpu, uint32_t context, uint8_t ring, uint64_t fence);
void vd_gpu_counters(const struct vd_gpu *gpu, struct vd_gpu_counters *counters);

#endif
