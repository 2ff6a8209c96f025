/* SPDX-License-Identifier: MIT
 * Fences that the renderer signals later (virtio 1.4 §5.7.6.7): their commands are
 * answered when they were handled, and given back to the driver when the fence is
 * done. At most as many wait as the control queue has entries. */
#include <string.h>

#include "gpu.h"

struct gpu_fence {
    struct gpu_fence *next;
    uint32_t context;
    uint8_t ring;
    bool done;
    uint64_t fence;
    uint32_t written;
    struct vd_chain chain; /* its segments follow */
};

/* The chain is a scratch of the plane's: what is needed to push it later. */
static struct gpu_fence *keep(const struct gpu_request *request, uint32_t written) {
    const struct vd_host *host = request->gpu->plane.dev.host;
    const struct gpu_header *header = &request->command.header;
    const struct vd_chain *chain = request->chain;
    size_t n = (size_t)chain->n_read + chain->n_write;
    struct gpu_fence *fence =
        host->alloc(host->opaque, sizeof *fence + n * (sizeof(struct vd_iov) + sizeof(uint64_t)));
    if (!fence)
        return NULL;
    fence->context = header->ctx_id;
    fence->ring = header->flags & GPU_FLAG_INFO_RING_IDX ? header->ring_idx : 0;
    fence->fence = header->fence_id;
    fence->written = written;
    fence->chain = *chain;
    fence->chain.iov = (struct vd_iov *)(fence + 1);
    fence->chain.gpa = (uint64_t *)(fence->chain.iov + n);
    memcpy(fence->chain.iov, chain->iov, n * sizeof *chain->iov);
    memcpy(fence->chain.gpa, chain->gpa, n * sizeof *chain->gpa);
    return fence;
}

/* Takes a fence off the list; NULL: it is not there. Under the lock. */
static struct gpu_fence *take_off(struct vd_gpu *gpu, const struct gpu_fence *fence) {
    struct gpu_fence **link = &gpu->pending;
    while (*link && *link != fence)
        link = &(*link)->next;
    struct gpu_fence *found = *link;
    if (found)
        *link = found->next;
    return found;
}

bool gpu_fence_waits(const struct gpu_request *request, uint32_t written) {
    struct vd_gpu *gpu = request->gpu;
    const struct vd_host *host = gpu->plane.dev.host;
    if (!gpu->has_renderer || !(request->command.header.flags & GPU_FLAG_FENCE))
        return false;
    struct gpu_fence *fence = keep(request, written);
    if (!fence)
        return false;
    /* On the list before the renderer knows of it, which may be quick. */
    vd_lock(&gpu->fences, host);
    fence->next = gpu->pending;
    gpu->pending = fence;
    vd_unlock(&gpu->fences);
    if (gpu->renderer.fence(gpu->renderer.opaque, fence->context, fence->ring, fence->fence) ==
        VD_GPU_FENCE_PENDING)
        return true;
    vd_lock(&gpu->fences, host);
    take_off(gpu, fence);
    vd_unlock(&gpu->fences);
    host->free(host->opaque, fence);
    return false;
}

void vd_gpu_fence_done(struct vd_gpu *gpu, uint32_t context, uint8_t ring, uint64_t fence) {
    vd_lock(&gpu->fences, gpu->plane.dev.host);
    for (struct gpu_fence *each = gpu->pending; each; each = each->next)
        if (each->context == context && each->ring == ring && each->fence == fence)
            each->done = true;
    vd_unlock(&gpu->fences);
    vd_plane_poke(&gpu->plane);
}

static struct gpu_fence *next_done(struct vd_gpu *gpu) {
    vd_lock(&gpu->fences, gpu->plane.dev.host);
    struct gpu_fence *last = NULL; /* the oldest */
    for (struct gpu_fence *each = gpu->pending; each; each = each->next)
        if (each->done)
            last = each;
    if (last)
        take_off(gpu, last);
    vd_unlock(&gpu->fences);
    return last;
}

void gpu_fence_serve(struct vd_gpu *gpu) {
    const struct vd_host *host = gpu->plane.dev.host;
    struct gpu_fence *fence;
    bool pushed = false;
    while ((fence = next_done(gpu))) {
        if (vd_plane_usable(&gpu->plane, GPU_CONTROL_QUEUE)) {
            vd_queue_push(gpu->plane.dev.queue[GPU_CONTROL_QUEUE], &fence->chain, fence->written);
            pushed = true;
        }
        host->free(host->opaque, fence);
    }
    if (pushed)
        vd_plane_publish(&gpu->plane, GPU_CONTROL_QUEUE);
}

void gpu_fence_drop(struct vd_gpu *gpu) {
    const struct vd_host *host = gpu->plane.dev.host;
    vd_lock(&gpu->fences, host);
    struct gpu_fence *fence = gpu->pending;
    gpu->pending = NULL;
    vd_unlock(&gpu->fences);
    while (fence) {
        struct gpu_fence *next = fence->next;
        host->free(host->opaque, fence);
        fence = next;
    }
}
