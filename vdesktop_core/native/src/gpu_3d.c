/* SPDX-License-Identifier: MIT
 * 3D commands (virtio 1.4 §5.7.6.9): checked here, drawn by the renderer. */
#include <errno.h>
#include <string.h>

#include "gpu.h"

static uint32_t reply_of(int result) {
    switch (result) {
    case 0:
        return GPU_OK_NODATA;
    case -ENOMEM:
        return GPU_ERR_OUT_OF_MEMORY;
    case -EINVAL:
        return GPU_ERR_INVALID_PARAMETER;
    default:
        return GPU_ERR_UNSPEC;
    }
}

uint32_t gpu_get_capset_info(struct gpu_request *request) {
    const struct vd_gpu_renderer *renderer = &request->gpu->renderer;
    uint32_t index = request->command.get_capset.which;
    if (index >= renderer->n_capsets)
        return GPU_ERR_INVALID_PARAMETER;
    const struct vd_gpu_capset *capset = &renderer->capsets[index];
    request->reply.capset_info = (struct gpu_capset_info){
        .id = capset->id, .max_version = capset->max_version, .max_size = capset->max_size};
    request->reply_len = sizeof request->reply.capset_info;
    return GPU_OK_CAPSET_INFO;
}

static const struct vd_gpu_capset *find_capset(const struct vd_gpu *gpu, uint32_t id) {
    for (uint32_t i = 0; i < gpu->renderer.n_capsets; i++)
        if (gpu->renderer.capsets[i].id == id)
            return &gpu->renderer.capsets[i];
    return NULL;
}

uint32_t gpu_get_capset(struct gpu_request *request) {
    const struct vd_gpu_renderer *renderer = &request->gpu->renderer;
    const struct vd_host *host = request->gpu->plane.dev.host;
    const struct gpu_get_capset *command = &request->command.get_capset;
    const struct vd_gpu_capset *capset = find_capset(request->gpu, command->which);
    if (!capset || command->version > capset->max_version)
        return GPU_ERR_INVALID_PARAMETER;
    request->long_reply = host->alloc(host->opaque, VD_GPU_CAPSET_SIZE_MAX);
    if (!request->long_reply)
        return GPU_ERR_OUT_OF_MEMORY;
    int result = renderer->capset(renderer->opaque, capset->id, command->version,
                                  request->long_reply, capset->max_size);
    request->reply_len = capset->max_size;
    return result ? reply_of(result) : GPU_OK_CAPSET;
}

/* Its place among the contexts; n_contexts: there is none of this id. */
static uint32_t find_context(const struct vd_gpu *gpu, uint32_t id) {
    uint32_t at = 0;
    while (at < gpu->n_contexts && gpu->contexts[at] != id)
        at++;
    return at;
}

static bool has_context(const struct vd_gpu *gpu, uint32_t id) {
    return find_context(gpu, id) < gpu->n_contexts;
}

uint32_t gpu_ctx_create(struct gpu_request *request) {
    const struct gpu_ctx_create *command = &request->command.ctx_create;
    struct vd_gpu *gpu = request->gpu;
    uint32_t id = command->header.ctx_id, capset = 0;
    char name[GPU_DEBUG_NAME + 1] = "";
    if (!id || has_context(gpu, id))
        return GPU_ERR_INVALID_CONTEXT_ID;
    if (gpu->plane.dev.driver_features & GPU_F_CONTEXT_INIT)
        capset = command->context_init & GPU_CONTEXT_CAPSET_MASK;
    if (command->name_len > GPU_DEBUG_NAME || (capset && !find_capset(gpu, capset)))
        return GPU_ERR_INVALID_PARAMETER;
    if (gpu->n_contexts == VD_GPU_CONTEXTS_MAX)
        return GPU_ERR_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < command->name_len && command->name[i]; i++)
        name[i] = command->name[i] >= ' ' && command->name[i] <= '~' ? command->name[i] : '?';
    int result = gpu->renderer.context_create(gpu->renderer.opaque, id, capset, name);
    if (!result)
        gpu->contexts[gpu->n_contexts++] = id;
    return reply_of(result);
}

uint32_t gpu_ctx_destroy(struct gpu_request *request) {
    struct vd_gpu *gpu = request->gpu;
    uint32_t id = request->command.header.ctx_id, at = find_context(gpu, id);
    if (at == gpu->n_contexts)
        return GPU_ERR_INVALID_CONTEXT_ID;
    gpu->contexts[at] = gpu->contexts[--gpu->n_contexts];
    gpu->renderer.context_destroy(gpu->renderer.opaque, id);
    return GPU_OK_NODATA;
}

uint32_t gpu_ctx_attach(struct gpu_request *request) {
    const struct gpu_resource_only *command = &request->command.resource;
    struct vd_gpu *gpu = request->gpu;
    const struct gpu_resource *resource = gpu_find(gpu, command->resource);
    if (!has_context(gpu, command->header.ctx_id))
        return GPU_ERR_INVALID_CONTEXT_ID;
    if (!resource)
        return GPU_ERR_INVALID_RESOURCE_ID;
    if (!resource->render) /* a context of Linux's takes all of its buffers */
        return GPU_OK_NODATA;
    return reply_of(gpu->renderer.context_attach(gpu->renderer.opaque, command->header.ctx_id,
                                                 resource->id,
                                                 command->header.type == GPU_CTX_ATTACH_RESOURCE));
}

uint32_t gpu_create_3d(struct gpu_request *request) {
    const struct vd_gpu_resource_3d *wanted = &request->command.create_3d.resource;
    struct vd_gpu *gpu = request->gpu;
    struct gpu_resource *resource;
    if (!wanted->width || !wanted->height || !wanted->depth || !wanted->array_size)
        return GPU_ERR_INVALID_PARAMETER;
    uint32_t error = gpu_create(gpu, wanted->resource, &resource);
    if (error)
        return error;
    int result = gpu->renderer.resource_create(gpu->renderer.opaque, wanted);
    if (result) {
        gpu_destroy(gpu, resource);
        return reply_of(result);
    }
    resource->render = true;
    resource->width = wanted->width;
    resource->height = wanted->height;
    if (wanted->width <= GPU_SIDE_MAX && wanted->height <= GPU_SIDE_MAX)
        resource->format = gpu_format(wanted->format);
    return GPU_OK_NODATA;
}

uint32_t gpu_transfer_3d(struct gpu_request *request) {
    const struct gpu_transfer_3d *command = &request->command.transfer_3d;
    struct vd_gpu *gpu = request->gpu;
    const struct gpu_resource *resource = gpu_find(gpu, command->transfer.resource);
    if (!resource || !resource->render)
        return GPU_ERR_INVALID_RESOURCE_ID;
    /* Context 0: none in particular. */
    if (command->header.ctx_id && !has_context(gpu, command->header.ctx_id))
        return GPU_ERR_INVALID_CONTEXT_ID;
    return reply_of(gpu->renderer.transfer(gpu->renderer.opaque, command->header.ctx_id,
                                           &command->transfer,
                                           command->header.type == GPU_TRANSFER_TO_HOST_3D));
}

uint32_t gpu_submit(struct gpu_request *request) {
    const struct gpu_submit *command = &request->command.submit;
    struct vd_gpu *gpu = request->gpu;
    const struct vd_host *host = gpu->plane.dev.host;
    uint32_t size = command->size;
    if (!has_context(gpu, command->header.ctx_id))
        return GPU_ERR_INVALID_CONTEXT_ID;
    if (size > VD_GPU_SUBMIT_MAX || request->chain->read_len - sizeof *command < size)
        return GPU_ERR_INVALID_PARAMETER;
    if (!size)
        return GPU_OK_NODATA;
    void *copy = host->alloc(host->opaque, size);
    if (!copy)
        return GPU_ERR_OUT_OF_MEMORY;
    vd_chain_read(request->chain, sizeof *command, copy, size);
    int result = gpu->renderer.submit(gpu->renderer.opaque, command->header.ctx_id, copy, size);
    host->free(host->opaque, copy);
    return reply_of(result);
}

uint32_t gpu_render_backing(struct vd_gpu *gpu, struct gpu_resource *resource) {
    const struct vd_host *host = gpu->plane.dev.host;
    struct gpu_backing *backing = &resource->backing;
    uint64_t bytes = backing->n * sizeof *resource->iov;
    uint32_t error = GPU_ERR_OUT_OF_MEMORY;
    if (gpu_charge(gpu, bytes)) {
        backing->charged += bytes;
        resource->iov = host->alloc(host->opaque, bytes);
    }
    if (resource->iov) {
        for (uint32_t i = 0; i < backing->n; i++)
            resource->iov[i] =
                (struct vd_iov){(void *)(uintptr_t)backing->pieces[i].base, backing->pieces[i].len};
        int result =
            gpu->renderer.backing(gpu->renderer.opaque, resource->id, resource->iov, backing->n);
        if (!result)
            return 0;
        error = reply_of(result);
        host->free(host->opaque, resource->iov);
        resource->iov = NULL;
    }
    gpu_backing_detach(gpu, backing);
    return error;
}

void gpu_render_no_backing(struct vd_gpu *gpu, struct gpu_resource *resource) {
    const struct vd_host *host = gpu->plane.dev.host;
    if (!resource->iov)
        return;
    gpu->renderer.backing(gpu->renderer.opaque, resource->id, NULL, 0);
    host->free(host->opaque, resource->iov);
    resource->iov = NULL;
}

void gpu_render_reset(struct vd_gpu *gpu) {
    gpu->n_contexts = 0;
    if (gpu->has_renderer)
        gpu->renderer.reset(gpu->renderer.opaque);
}
