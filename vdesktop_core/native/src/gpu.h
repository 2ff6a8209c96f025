/* SPDX-License-Identifier: MIT
 * Inside of the gpu plane: gpu.c (the device), gpu_command.c (commands and
 * replies), gpu_resource.c (resources), gpu_backing.c (guest memory behind them),
 * gpu_scanout.c (what is shown), gpu_edid.c; gpu_3d.c (what goes to a renderer),
 * gpu_fence.c (what waits for it). All of it runs on the loop's thread, but for what
 * gpu.c and gpu_fence.c say. */
#ifndef VD_GPU_PRIVATE_H
#define VD_GPU_PRIVATE_H

#include "gpu_wire.h"
#include "lock.h"
#include "plane.h"
#include "vdesktop/gpu.h"

#define GPU_BYTES_PER_PIXEL 4u     /* of every format there is */
#define GPU_SIDE_MAX        16384u /* pixels a side of a resource or framebuffer */
#define GPU_BUCKETS         256u

/* Guest memory behind a resource: pieces in order, `start` bytes into it. */
struct gpu_piece {
    uint64_t start, len;
    const uint8_t *base;
};
struct gpu_backing {
    struct gpu_piece *pieces; /* NULL: none attached */
    uint32_t n;
    uint64_t size, charged;
};

struct gpu_resource {
    struct gpu_resource *next;
    uint32_t id;
    bool blob, render;              /* neither: 2D; render: the renderer's */
    uint32_t width, height, format; /* not of a blob; VD_FORMAT_*, 0: none that can be shown */
    struct vd_pixels *pixels; /* 2D: memory of the host's; a blob: a view of its backing, or NULL */
    uint32_t viewed;          /* pieces of that view */
    uint64_t size;            /* bytes of content */
    struct gpu_backing backing;
    struct vd_iov *iov; /* the same for the renderer */
    bool has_uuid;
    uint8_t uuid[16];
};

/* How a blob's bytes are a picture. */
struct gpu_framebuffer {
    uint32_t width, height, stride, format;
    uint64_t offset;
};

struct gpu_head {
    struct vd_scanout *out;
    uint32_t resource; /* id of what is shown; 0: nothing */
    struct vd_rect rect;
    struct gpu_framebuffer framebuffer; /* of a blob */
    struct vd_pixels *shadow; /* pixels of `rect` that cannot be shown where they are, as of the
                               * last flush; NULL: those can */
    uint32_t width, height;   /* asked for; 0: no monitor. Under gpu->sizes */
};

struct vd_gpu {
    struct vd_plane plane; /* first */
    struct vd_gpu_options options;
    struct gpu_resource *bucket[GPU_BUCKETS];
    uint32_t n_resources, n_host_resources, n_viewed;
    uint64_t memory; /* charged to the guest */
    struct gpu_head head[VD_GPU_SCANOUTS_MAX];
    struct vd_cursor cursor; /* scratch */
    struct vd_lock sizes;
    /* How often sizes changed: ever, when the event was raised last. Under `sizes`. */
    uint64_t changes, raised;
    struct vd_gpu_counters counters; /* atomic */
    bool has_renderer;
    struct vd_gpu_renderer renderer;
    uint32_t contexts[VD_GPU_CONTEXTS_MAX], n_contexts;
    struct vd_lock fences;
    struct gpu_fence *pending; /* under `fences` */
};

/* A command, and what to reply. */
struct gpu_request {
    struct vd_gpu *gpu;
    const struct vd_chain *chain;
    union gpu_command command; /* our own copy */
    uint32_t reply_len;
    void *long_reply; /* in the place of `reply`; freed */
    union gpu_reply reply;
};

static inline void gpu_count(uint64_t *counter, uint64_t n) {
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* gpu_command.c */
void gpu_serve(struct vd_gpu *gpu, uint16_t queue);

/* Handlers return an enum gpu_type: the reply's. */
uint32_t gpu_get_display_info(struct gpu_request *request);
uint32_t gpu_get_edid(struct gpu_request *request);

/* gpu_resource.c. Takes memory from the guest's allowance; false: used up. */
bool gpu_charge(struct vd_gpu *gpu, uint64_t bytes);
void gpu_release(struct vd_gpu *gpu, uint64_t bytes);
struct gpu_resource *gpu_find(const struct vd_gpu *gpu, uint32_t id);
/* VD_FORMAT_* of a format of §5.7.6.8, 0: unknown */
uint32_t gpu_format(uint32_t wire);
void gpu_drop_resources(struct vd_gpu *gpu);
uint32_t gpu_create_2d(struct gpu_request *request);
uint32_t gpu_create_blob(struct gpu_request *request);
uint32_t gpu_unref(struct gpu_request *request);
uint32_t gpu_attach(struct gpu_request *request);
uint32_t gpu_detach(struct gpu_request *request);
uint32_t gpu_transfer(struct gpu_request *request);
uint32_t gpu_assign_uuid(struct gpu_request *request);
/* Whether rect is inside of width x height and not empty. */
bool gpu_rect_inside(const struct gpu_rect *rect, uint32_t width, uint32_t height);

/* A new resource: 0 and *made, or an error. */
uint32_t gpu_create(struct vd_gpu *gpu, uint32_t id, struct gpu_resource **made);
void gpu_destroy(struct vd_gpu *gpu, struct gpu_resource *resource);

/* gpu_3d.c */
uint32_t gpu_get_capset_info(struct gpu_request *request);
uint32_t gpu_get_capset(struct gpu_request *request);
uint32_t gpu_ctx_create(struct gpu_request *request);
uint32_t gpu_ctx_destroy(struct gpu_request *request);
uint32_t gpu_ctx_attach(struct gpu_request *request); /* and detach */
uint32_t gpu_create_3d(struct gpu_request *request);
uint32_t gpu_transfer_3d(struct gpu_request *request); /* both ways */
uint32_t gpu_submit(struct gpu_request *request);
/* The resource's backing is there, or about to go. An error, or 0. */
uint32_t gpu_render_backing(struct vd_gpu *gpu, struct gpu_resource *resource);
void gpu_render_no_backing(struct vd_gpu *gpu, struct gpu_resource *resource);
void gpu_render_reset(struct vd_gpu *gpu);

/* gpu_fence.c. Whether the answered chain waits for the renderer; if not, it is to be pushed. */
bool gpu_fence_waits(const struct gpu_request *request, uint32_t written);
void gpu_fence_serve(struct vd_gpu *gpu); /* pushes what waits no longer */
void gpu_fence_drop(struct vd_gpu *gpu);

/* gpu_backing.c. Reads `entries` entries that follow the first `skip` bytes of the chain. 0, or
 * an error of enum gpu_type. */
uint32_t gpu_backing_attach(struct vd_gpu *gpu, struct gpu_backing *backing,
                            const struct vd_chain *chain, size_t skip, uint32_t entries);
void gpu_backing_detach(struct vd_gpu *gpu, struct gpu_backing *backing);
/* A view of a blob's backing, if there can be one; the resource's until it is dropped. */
struct vd_pixels *gpu_view(struct vd_gpu *gpu, struct gpu_resource *resource);
void gpu_view_drop(struct vd_gpu *gpu, struct gpu_resource *resource);
/* Rows of guest memory, `from` bytes into the backing. */
struct gpu_rows {
    uint64_t from, from_stride;
    uint8_t *to;
    uint64_t to_stride;
    uint32_t bytes, rows;
};
/* false, and nothing copied: the backing ends before the last row does. */
bool gpu_backing_copy(struct vd_gpu *gpu, const struct gpu_backing *backing,
                      const struct gpu_rows *rows);

/* gpu_scanout.c */
uint32_t gpu_set_scanout(struct gpu_request *request);
uint32_t gpu_set_scanout_blob(struct gpu_request *request);
uint32_t gpu_flush(struct gpu_request *request);
uint32_t gpu_cursor(struct gpu_request *request);
void gpu_blank(struct vd_gpu *gpu, struct gpu_head *head);
/* The backing of a blob is about to go: what is shown of it stays as it is. */
void gpu_keep_picture(struct vd_gpu *gpu, const struct gpu_resource *resource);
/* The resource is about to go. */
void gpu_hide_resource(struct vd_gpu *gpu, uint32_t id);

/* gpu_edid.c: a base block (VESA E-EDID 1.4) whose preferred mode is width x height. */
#define GPU_EDID_SIZE 128
void gpu_edid(uint8_t edid[GPU_EDID_SIZE], uint32_t width, uint32_t height);

#endif
