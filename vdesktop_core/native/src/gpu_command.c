/* SPDX-License-Identifier: MIT
 * Commands and their replies (virtio 1.4 §5.7.6.7). A command that makes no
 * sense is answered with an error and changes nothing; one that cannot even be
 * answered is a protocol error. */
#include <string.h>

#include "gpu.h"

#define COMMANDS_PER_TURN 64u
/* Bytes copied before everybody else on this thread has a turn. */
#define BYTES_PER_TURN (UINT64_C(16) << 20)

struct handler {
    uint32_t type;
    uint16_t queue;
    uint16_t size;  /* of the command's fixed part */
    uint64_t needs; /* feature bits */
    uint32_t (*handle)(struct gpu_request *request);
};

#define CONTROL(type, part, handle, needs)                                                         \
    { type, GPU_CONTROL_QUEUE, sizeof((union gpu_command *)0)->part, needs, handle }
#define CURSOR(type, handle)                                                                       \
    { type, GPU_CURSOR_QUEUE, sizeof((union gpu_command *)0)->cursor, 0, handle }

static const struct handler handlers[] = {
    CONTROL(GPU_GET_DISPLAY_INFO, header, gpu_get_display_info, 0),
    CONTROL(GPU_RESOURCE_CREATE_2D, create_2d, gpu_create_2d, 0),
    CONTROL(GPU_RESOURCE_UNREF, resource, gpu_unref, 0),
    CONTROL(GPU_SET_SCANOUT, set_scanout, gpu_set_scanout, 0),
    CONTROL(GPU_RESOURCE_FLUSH, flush, gpu_flush, 0),
    CONTROL(GPU_TRANSFER_TO_HOST_2D, transfer, gpu_transfer, 0),
    CONTROL(GPU_RESOURCE_ATTACH_BACKING, attach, gpu_attach, 0),
    CONTROL(GPU_RESOURCE_DETACH_BACKING, resource, gpu_detach, 0),
    CONTROL(GPU_GET_EDID, get_edid, gpu_get_edid, GPU_F_EDID),
    CONTROL(GPU_RESOURCE_ASSIGN_UUID, resource, gpu_assign_uuid, GPU_F_RESOURCE_UUID),
    CONTROL(GPU_RESOURCE_CREATE_BLOB, create_blob, gpu_create_blob, GPU_F_RESOURCE_BLOB),
    CONTROL(GPU_SET_SCANOUT_BLOB, set_scanout_blob, gpu_set_scanout_blob, GPU_F_RESOURCE_BLOB),
    CONTROL(GPU_GET_CAPSET_INFO, get_capset, gpu_get_capset_info, GPU_F_VIRGL),
    CONTROL(GPU_GET_CAPSET, get_capset, gpu_get_capset, GPU_F_VIRGL),
    CONTROL(GPU_CTX_CREATE, ctx_create, gpu_ctx_create, GPU_F_VIRGL),
    CONTROL(GPU_CTX_DESTROY, header, gpu_ctx_destroy, GPU_F_VIRGL),
    CONTROL(GPU_CTX_ATTACH_RESOURCE, resource, gpu_ctx_attach, GPU_F_VIRGL),
    CONTROL(GPU_CTX_DETACH_RESOURCE, resource, gpu_ctx_attach, GPU_F_VIRGL),
    CONTROL(GPU_RESOURCE_CREATE_3D, create_3d, gpu_create_3d, GPU_F_VIRGL),
    CONTROL(GPU_TRANSFER_TO_HOST_3D, transfer_3d, gpu_transfer_3d, GPU_F_VIRGL),
    CONTROL(GPU_TRANSFER_FROM_HOST_3D, transfer_3d, gpu_transfer_3d, GPU_F_VIRGL),
    CONTROL(GPU_SUBMIT_3D, submit, gpu_submit, GPU_F_VIRGL),
    CURSOR(GPU_UPDATE_CURSOR, gpu_cursor),
    CURSOR(GPU_MOVE_CURSOR, gpu_cursor),
};

static const struct handler *find_handler(uint32_t type, uint16_t queue) {
    for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++)
        if (handlers[i].type == type && handlers[i].queue == queue)
            return &handlers[i];
    return NULL;
}

static uint32_t handle(struct gpu_request *request, uint16_t queue, size_t len) {
    const struct handler *handler = find_handler(request->command.header.type, queue);
    uint64_t features = request->gpu->plane.dev.driver_features;
    if (!handler || (features & handler->needs) != handler->needs)
        return GPU_ERR_UNSPEC;
    if (len < handler->size)
        return GPU_ERR_INVALID_PARAMETER;
    return handler->handle(request);
}

/* The reply's header: a fence is done when its command is (§5.7.6.7). */
static struct gpu_header reply_header(const struct gpu_header *command, uint32_t type) {
    struct gpu_header header = {.type = type};
    if (command->flags & GPU_FLAG_FENCE) {
        header.flags = command->flags & (GPU_FLAG_FENCE | GPU_FLAG_INFO_RING_IDX);
        header.fence_id = command->fence_id;
        header.ctx_id = command->ctx_id;
        header.ring_idx = command->ring_idx;
    }
    return header;
}

/* Writes header and reply; returns bytes written. */
static uint32_t answer(const struct gpu_request *request, uint32_t type) {
    struct gpu_header header = reply_header(&request->command.header, type);
    uint32_t len = type < GPU_ERR_UNSPEC ? request->reply_len : 0;
    if (request->chain->write_len < sizeof header + len) {
        header.type = GPU_ERR_UNSPEC;
        len = 0;
    }
    vd_chain_write(request->chain, 0, &header, sizeof header);
    vd_chain_write(request->chain, sizeof header,
                   request->long_reply ? request->long_reply : &request->reply, len);
    return (uint32_t)sizeof header + len;
}

/* One command. false: the queue is empty or broken. */
static bool serve_one(struct vd_gpu *gpu, uint16_t queue) {
    struct vd_plane *plane = &gpu->plane;
    struct gpu_request request = {.gpu = gpu, .chain = &plane->chain};
    if (!vd_plane_pop(plane, queue))
        return false;
    size_t len = vd_chain_read(&plane->chain, 0, &request.command, sizeof request.command);
    bool can_answer = plane->chain.write_len >= sizeof(struct gpu_header);
    /* Drivers give cursor commands no room for an answer. */
    if (len < sizeof(struct gpu_header) || (!can_answer && queue == GPU_CONTROL_QUEUE)) {
        vd_plane_broken(plane, queue,
                        "gpu: command or room for its reply under 24 bytes (§5.7.6.7)");
        return false;
    }
    uint32_t type = handle(&request, queue, len);
    if (queue == GPU_CONTROL_QUEUE) {
        vd_count(&gpu->counters.commands);
        if (type >= GPU_ERR_UNSPEC)
            vd_count(&gpu->counters.errors);
    }
    uint32_t written = can_answer ? answer(&request, type) : 0;
    if (request.long_reply)
        plane->dev.host->free(plane->dev.host->opaque, request.long_reply);
    if (type >= GPU_ERR_UNSPEC || queue != GPU_CONTROL_QUEUE || !gpu_fence_waits(&request, written))
        vd_plane_push(plane, queue, written);
    return true;
}

void gpu_serve(struct vd_gpu *gpu, uint16_t queue) {
    struct vd_plane *plane = &gpu->plane;
    if (!vd_plane_usable(plane, queue))
        return;
    struct vd_queue *ring = plane->dev.queue[queue];
    uint64_t start = __atomic_load_n(&gpu->counters.copied_bytes, __ATOMIC_RELAXED);
    uint32_t served = 0;
    bool more = true;
    vd_queue_notify_disable(ring);
    while (more && served < COMMANDS_PER_TURN &&
           __atomic_load_n(&gpu->counters.copied_bytes, __ATOMIC_RELAXED) - start <
               BYTES_PER_TURN) {
        more = serve_one(gpu, queue);
        served += more;
    }
    if (served)
        vd_plane_publish(plane, queue);
    if (vd_plane_usable(plane, queue) && vd_queue_notify_enable(ring))
        vd_plane_again(plane, queue);
}
