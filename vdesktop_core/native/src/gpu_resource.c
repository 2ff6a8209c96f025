/* SPDX-License-Identifier: MIT
 * Resources (virtio 1.4 §5.7.6.8). Everything that the guest can make the host
 * keep is counted against one allowance before it is allocated. */
#include <sys/random.h>

#include "gpu.h"

/* §5.7.6.8, enum virtio_gpu_formats: bytes in memory order */
static const struct {
    uint32_t wire, format;
} formats[] = {
    {1, VD_FORMAT_ARGB8888},   /* B8G8R8A8 */
    {2, VD_FORMAT_XRGB8888},   /* B8G8R8X8 */
    {3, VD_FORMAT_BGRA8888},   /* A8R8G8B8 */
    {4, VD_FORMAT_BGRX8888},   /* X8R8G8B8 */
    {67, VD_FORMAT_ABGR8888},  /* R8G8B8A8 */
    {68, VD_FORMAT_RGBX8888},  /* X8B8G8R8 */
    {121, VD_FORMAT_RGBA8888}, /* A8B8G8R8 */
    {134, VD_FORMAT_XBGR8888}, /* R8G8B8X8 */
};

uint32_t gpu_format(uint32_t wire) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].wire == wire)
            return formats[i].format;
    return 0;
}

bool gpu_charge(struct vd_gpu *gpu, uint64_t bytes) {
    if (bytes > gpu->options.max_memory - gpu->memory)
        return false;
    gpu->memory += bytes;
    __atomic_store_n(&gpu->counters.memory_bytes, gpu->memory, __ATOMIC_RELAXED);
    return true;
}

void gpu_release(struct vd_gpu *gpu, uint64_t bytes) {
    gpu->memory -= bytes;
    __atomic_store_n(&gpu->counters.memory_bytes, gpu->memory, __ATOMIC_RELAXED);
}

struct gpu_resource *gpu_find(const struct vd_gpu *gpu, uint32_t id) {
    struct gpu_resource *resource = gpu->bucket[id % GPU_BUCKETS];
    while (resource && resource->id != id)
        resource = resource->next;
    return resource;
}

bool gpu_rect_inside(const struct gpu_rect *rect, uint32_t width, uint32_t height) {
    return rect->width && rect->height && (uint64_t)rect->x + rect->width <= width &&
           (uint64_t)rect->y + rect->height <= height;
}

uint32_t gpu_create(struct vd_gpu *gpu, uint32_t id, struct gpu_resource **made) {
    const struct vd_host *host = gpu->plane.dev.host;
    if (!id || gpu_find(gpu, id))
        return GPU_ERR_INVALID_RESOURCE_ID;
    if (gpu->n_resources == VD_GPU_RESOURCES_MAX)
        return GPU_ERR_OUT_OF_MEMORY;
    struct gpu_resource *resource = host->alloc(host->opaque, sizeof *resource);
    if (!resource)
        return GPU_ERR_OUT_OF_MEMORY;
    resource->id = id;
    resource->next = gpu->bucket[id % GPU_BUCKETS];
    gpu->bucket[id % GPU_BUCKETS] = resource;
    gpu->n_resources++;
    *made = resource;
    return 0;
}

void gpu_destroy(struct vd_gpu *gpu, struct gpu_resource *resource) {
    const struct vd_host *host = gpu->plane.dev.host;
    struct gpu_resource **link = &gpu->bucket[resource->id % GPU_BUCKETS];
    while (*link != resource)
        link = &(*link)->next;
    *link = resource->next;
    gpu->n_resources--;
    if (resource->render) {
        gpu_render_no_backing(gpu, resource);
        gpu->renderer.resource_destroy(gpu->renderer.opaque, resource->id);
    }
    gpu_view_drop(gpu, resource);
    gpu_backing_detach(gpu, &resource->backing);
    if (resource->pixels) {
        vd_pixels_unref(resource->pixels);
        gpu_release(gpu, resource->size);
        gpu->n_host_resources--;
    }
    host->free(host->opaque, resource);
}

void gpu_drop_resources(struct vd_gpu *gpu) {
    for (uint32_t i = 0; i < GPU_BUCKETS; i++)
        while (gpu->bucket[i])
            gpu_destroy(gpu, gpu->bucket[i]);
}

/* Memory of the host's for a resource that has its size. */
static bool give_pixels(struct vd_gpu *gpu, struct gpu_resource *resource) {
    int error;
    if (gpu->n_host_resources == VD_GPU_HOST_RESOURCES_MAX || !gpu_charge(gpu, resource->size))
        return false;
    resource->pixels = vd_pixels_new(gpu->plane.dev.host, resource->size, &error);
    if (!resource->pixels) {
        gpu_release(gpu, resource->size);
        return false;
    }
    gpu->n_host_resources++;
    return true;
}

uint32_t gpu_create_2d(struct gpu_request *request) {
    const struct gpu_create_2d *command = &request->command.create_2d;
    struct vd_gpu *gpu = request->gpu;
    struct gpu_resource *resource;
    uint32_t format = gpu_format(command->format);
    if (!format || !command->width || !command->height || command->width > GPU_SIDE_MAX ||
        command->height > GPU_SIDE_MAX)
        return GPU_ERR_INVALID_PARAMETER;
    uint32_t error = gpu_create(gpu, command->resource, &resource);
    if (error)
        return error;
    resource->width = command->width;
    resource->height = command->height;
    resource->format = format;
    resource->size = (uint64_t)command->width * command->height * GPU_BYTES_PER_PIXEL;
    if (!give_pixels(gpu, resource)) {
        gpu_destroy(gpu, resource);
        return GPU_ERR_OUT_OF_MEMORY;
    }
    return GPU_OK_NODATA;
}

uint32_t gpu_create_blob(struct gpu_request *request) {
    const struct gpu_create_blob *command = &request->command.create_blob;
    struct vd_gpu *gpu = request->gpu;
    struct gpu_resource *resource;
    /* Memory of the host's is for 3D. */
    if (command->memory != GPU_BLOB_MEM_GUEST || !command->size)
        return GPU_ERR_INVALID_PARAMETER;
    uint32_t error = gpu_create(gpu, command->resource, &resource);
    if (error)
        return error;
    resource->blob = true;
    resource->size = command->size;
    if (command->entries)
        error = gpu_backing_attach(gpu, &resource->backing, request->chain, sizeof *command,
                                   command->entries);
    if (!error && command->entries && resource->backing.size < resource->size)
        error = GPU_ERR_INVALID_PARAMETER;
    if (error)
        gpu_destroy(gpu, resource);
    return error ? error : GPU_OK_NODATA;
}

uint32_t gpu_unref(struct gpu_request *request) {
    struct gpu_resource *resource = gpu_find(request->gpu, request->command.resource.resource);
    if (!resource)
        return GPU_ERR_INVALID_RESOURCE_ID;
    gpu_hide_resource(request->gpu, resource->id);
    gpu_destroy(request->gpu, resource);
    return GPU_OK_NODATA;
}

uint32_t gpu_attach(struct gpu_request *request) {
    const struct gpu_attach *command = &request->command.attach;
    struct gpu_resource *resource = gpu_find(request->gpu, command->resource);
    if (!resource)
        return GPU_ERR_INVALID_RESOURCE_ID;
    if (resource->backing.pieces)
        return GPU_ERR_UNSPEC;
    uint32_t error = gpu_backing_attach(request->gpu, &resource->backing, request->chain,
                                        sizeof *command, command->entries);
    if (!error && resource->render)
        error = gpu_render_backing(request->gpu, resource);
    return error ? error : GPU_OK_NODATA;
}

uint32_t gpu_detach(struct gpu_request *request) {
    struct gpu_resource *resource = gpu_find(request->gpu, request->command.resource.resource);
    if (!resource)
        return GPU_ERR_INVALID_RESOURCE_ID;
    if (!resource->backing.pieces)
        return GPU_ERR_UNSPEC;
    if (resource->render)
        gpu_render_no_backing(request->gpu, resource);
    gpu_keep_picture(request->gpu, resource);
    gpu_view_drop(request->gpu, resource);
    gpu_backing_detach(request->gpu, &resource->backing);
    return GPU_OK_NODATA;
}

uint32_t gpu_transfer(struct gpu_request *request) {
    const struct gpu_transfer *command = &request->command.transfer;
    struct gpu_resource *resource = gpu_find(request->gpu, command->resource);
    if (!resource)
        return GPU_ERR_INVALID_RESOURCE_ID;
    if (resource->render)
        return GPU_ERR_UNSPEC; /* has transfers of its own */
    if (resource->blob)
        return GPU_OK_NODATA; /* is guest memory: there is nothing to transfer to */
    if (!gpu_rect_inside(&command->rect, resource->width, resource->height))
        return GPU_ERR_INVALID_PARAMETER;
    if (!resource->backing.pieces)
        return GPU_ERR_UNSPEC;
    uint64_t stride = (uint64_t)resource->width * GPU_BYTES_PER_PIXEL;
    uint8_t *pixels = vd_pixels_base(resource->pixels);
    struct gpu_rows rows = {
        .from = command->offset,
        .from_stride = stride,
        .to = pixels + command->rect.y * stride + (uint64_t)command->rect.x * GPU_BYTES_PER_PIXEL,
        .to_stride = stride,
        .bytes = command->rect.width * GPU_BYTES_PER_PIXEL,
        .rows = command->rect.height,
    };
    return gpu_backing_copy(request->gpu, &resource->backing, &rows) ? GPU_OK_NODATA
                                                                     : GPU_ERR_INVALID_PARAMETER;
}

uint32_t gpu_assign_uuid(struct gpu_request *request) {
    struct gpu_resource *resource = gpu_find(request->gpu, request->command.resource.resource);
    if (!resource)
        return GPU_ERR_INVALID_RESOURCE_ID;
    if (!resource->has_uuid) {
        if (getrandom(resource->uuid, sizeof resource->uuid, 0) != sizeof resource->uuid)
            return GPU_ERR_UNSPEC;
        resource->uuid[6] = (uint8_t)((resource->uuid[6] & 0x0f) | 0x40); /* RFC 9562, version 4 */
        resource->uuid[8] = (uint8_t)((resource->uuid[8] & 0x3f) | 0x80);
        resource->has_uuid = true;
    }
    for (size_t i = 0; i < sizeof resource->uuid; i++)
        request->reply.uuid[i] = resource->uuid[i];
    request->reply_len = sizeof request->reply.uuid;
    return GPU_OK_RESOURCE_UUID;
}
