/* SPDX-License-Identifier: MIT
 * Where 3D plugs into virtio-gpu: what draws for the guest's contexts (virtio 1.4
 * §5.7.6.9), such as virglrenderer. Supplied by a plugin; without one, a gpu offers
 * no 3D, and 2D is the same with or without.
 *
 * The device checks everything that the specification has rules for before it calls:
 * ids are known or new as they must be, capsets are among those announced, sizes
 * within bounds, and all memory is the host's own copy or a checked piece of the
 * guest's. What commands mean is the renderer's to check. All functions but the
 * device's own vd_gpu_fence_done are called on one thread, the device's. Those that
 * return int: 0, or -errno, of which -ENOMEM and -EINVAL have replies of their own. */
#ifndef VDESKTOP_GPU_RENDERER_H
#define VDESKTOP_GPU_RENDERER_H

#include "vdesktop/display.h"
#include "vdesktop/ring.h"

#define VD_GPU_CAPSETS_MAX     8
#define VD_GPU_CAPSET_SIZE_MAX 4096
#define VD_GPU_CONTEXTS_MAX    256
#define VD_GPU_SUBMIT_MAX      1048576 /* bytes of one SUBMIT_3D */
#define VD_GPU_FENCE_PENDING   1

/* §5.7.6.8, GET_CAPSET_INFO */
struct vd_gpu_capset {
    uint32_t id, max_version, max_size;
};

/* §5.7.6.9, RESOURCE_CREATE_3D, as the driver wrote it but for sizes of 0. */
struct vd_gpu_resource_3d {
    uint32_t resource, target, format, bind;
    uint32_t width, height, depth, array_size, last_level, nr_samples, flags;
};

/* §5.7.6.9, TRANSFER_*_HOST_3D */
struct vd_gpu_transfer_3d {
    uint32_t x, y, z, width, height, depth;
    uint64_t offset;
    uint32_t resource, level, stride, layer_stride;
};

struct vd_gpu_renderer {
    void *opaque;
    uint32_t n_capsets; /* 1 .. VD_GPU_CAPSETS_MAX */
    struct vd_gpu_capset capsets[VD_GPU_CAPSETS_MAX];
    bool context_init; /* a context is made for one capset: VIRTIO_GPU_F_CONTEXT_INIT */

    /* Fills `size` bytes, the capset's max_size, zeroed. */
    int (*capset)(void *opaque, uint32_t id, uint32_t version, void *data, uint32_t size);
    /* capset 0: the driver named none. `name` is printable. */
    int (*context_create)(void *opaque, uint32_t context, uint32_t capset, const char *name);
    void (*context_destroy)(void *opaque, uint32_t context);
    int (*resource_create)(void *opaque, const struct vd_gpu_resource_3d *resource);
    void (*resource_destroy)(void *opaque, uint32_t resource);
    int (*context_attach)(void *opaque, uint32_t context, uint32_t resource, bool attached);
    /* Guest memory behind a resource, valid until it is called again; n 0: none any more. */
    int (*backing)(void *opaque, uint32_t resource, const struct vd_iov *iov, uint32_t n);
    int (*transfer)(void *opaque, uint32_t context, const struct vd_gpu_transfer_3d *transfer,
                    bool to_host);
    int (*submit)(void *opaque, uint32_t context, const void *commands, uint32_t size);
    /* When everything submitted so far on this ring of the context is done: 0: it is;
     * VD_GPU_FENCE_PENDING: vd_gpu_fence_done will say so. */
    int (*fence)(void *opaque, uint32_t context, uint8_t ring, uint64_t fence);
    /* Copies a part of a resource's picture, for viewers: rows of `stride` bytes, of the
     * format that the resource was made with. */
    int (*read)(void *opaque, uint32_t resource, const struct vd_rect *part, void *pixels,
                uint32_t stride);
    /* The driver is gone: so is every context, resource and fence. When it returns,
     * vd_gpu_fence_done is not called for any of them. */
    void (*reset)(void *opaque);
};

#endif
