/* SPDX-License-Identifier: MIT
 * What the scanouts show. A 2D resource is shown where it lies, and a blob, too:
 * guest memory, in pieces of whole pages, that are mapped once more as one. Where they
 * cannot be, or what a renderer drew: a flush copies what it names to a shadow. */
#include <string.h>

#include "gpu.h"

static void show_nothing(struct gpu_head *head) {
    if (head->resource)
        vd_scanout_show(head->out, NULL);
    head->resource = 0;
}

static void drop_shadow(struct vd_gpu *gpu, struct gpu_head *head) {
    if (!head->shadow)
        return;
    gpu_release(gpu, vd_pixels_size(head->shadow));
    vd_pixels_unref(head->shadow);
    head->shadow = NULL;
}

void gpu_blank(struct vd_gpu *gpu, struct gpu_head *head) {
    show_nothing(head);
    drop_shadow(gpu, head);
}

void gpu_hide_resource(struct vd_gpu *gpu, uint32_t id) {
    for (uint32_t i = 0; i < gpu->options.scanouts; i++)
        if (gpu->head[i].resource == id)
            gpu_blank(gpu, &gpu->head[i]);
}

static struct vd_rect to_rect(const struct gpu_rect *rect) {
    return (struct vd_rect){rect->x, rect->y, rect->width, rect->height};
}

static bool same_rect(const struct vd_rect *a, const struct vd_rect *b) {
    return a->x == b->x && a->y == b->y && a->width == b->width && a->height == b->height;
}

/* Copies `part` of what a head shows by its shadow: inside of head->rect, relative to it. */
static void refresh(struct vd_gpu *gpu, const struct gpu_head *head,
                    const struct gpu_resource *resource, const struct vd_rect *part) {
    const struct gpu_framebuffer *framebuffer = &head->framebuffer;
    uint64_t to_stride = (uint64_t)head->rect.width * GPU_BYTES_PER_PIXEL;
    uint64_t x = (uint64_t)head->rect.x + part->x, y = (uint64_t)head->rect.y + part->y;
    uint8_t *pixels = vd_pixels_base(head->shadow);
    if (resource->render) {
        struct vd_rect of = {(uint32_t)x, (uint32_t)y, part->width, part->height};
        gpu->renderer.read(gpu->renderer.opaque, resource->id, &of,
                           pixels + part->y * to_stride + (uint64_t)part->x * GPU_BYTES_PER_PIXEL,
                           (uint32_t)to_stride);
        return;
    }
    struct gpu_rows rows = {
        .from = framebuffer->offset + y * framebuffer->stride + x * GPU_BYTES_PER_PIXEL,
        .from_stride = framebuffer->stride,
        .to = pixels + part->y * to_stride + (uint64_t)part->x * GPU_BYTES_PER_PIXEL,
        .to_stride = to_stride,
        .bytes = part->width * GPU_BYTES_PER_PIXEL,
        .rows = part->height,
    };
    /* A blob without its backing keeps the last picture. */
    gpu_backing_copy(gpu, &resource->backing, &rows);
}

/* Memory for the shadow of a head: what it has, if that fits. */
static bool make_shadow(struct vd_gpu *gpu, struct gpu_head *head, const struct vd_rect *rect) {
    uint64_t size = (uint64_t)rect->width * rect->height * GPU_BYTES_PER_PIXEL;
    int error;
    if (head->shadow && vd_pixels_size(head->shadow) == size)
        return true;
    show_nothing(head);
    drop_shadow(gpu, head);
    if (!gpu_charge(gpu, size))
        return false;
    head->shadow = vd_pixels_new(gpu->plane.dev.host, size, &error);
    if (!head->shadow)
        gpu_release(gpu, size);
    return head->shadow;
}

static uint32_t show_shadow(struct vd_gpu *gpu, struct gpu_head *head,
                            const struct gpu_resource *resource, const struct vd_rect *rect,
                            uint32_t format) {
    if (!make_shadow(gpu, head, rect))
        return GPU_ERR_OUT_OF_MEMORY;
    head->resource = resource->id;
    head->rect = *rect;
    refresh(gpu, head, resource, &(struct vd_rect){0, 0, rect->width, rect->height});
    struct vd_surface surface = {
        .pixels = head->shadow,
        .width = rect->width,
        .height = rect->height,
        .stride = rect->width * GPU_BYTES_PER_PIXEL,
        .format = format,
    };
    vd_scanout_show(head->out, &surface);
    return GPU_OK_NODATA;
}

void gpu_keep_picture(struct vd_gpu *gpu, const struct gpu_resource *resource) {
    for (uint32_t i = 0; resource->viewed && i < gpu->options.scanouts; i++) {
        struct gpu_head *head = &gpu->head[i];
        struct vd_rect rect = head->rect;
        if (head->resource == resource->id && !head->shadow)
            show_shadow(gpu, head, resource, &rect, head->framebuffer.format);
    }
}

/* The resource's own pixels, of which `rect` is shown. */
static void show_direct(struct vd_gpu *gpu, struct gpu_head *head,
                        const struct gpu_resource *resource, const struct vd_rect *rect,
                        const struct gpu_framebuffer *framebuffer) {
    struct vd_surface surface = {
        .pixels = resource->pixels,
        .offset = framebuffer->offset + (uint64_t)rect->y * framebuffer->stride +
                  (uint64_t)rect->x * GPU_BYTES_PER_PIXEL,
        .width = rect->width,
        .height = rect->height,
        .stride = framebuffer->stride,
        .format = framebuffer->format,
    };
    vd_scanout_show(head->out, &surface);
    drop_shadow(gpu, head);
    head->resource = resource->id;
    head->rect = *rect;
}

uint32_t gpu_set_scanout(struct gpu_request *request) {
    const struct gpu_set_scanout *command = &request->command.set_scanout;
    struct vd_gpu *gpu = request->gpu;
    if (command->scanout >= gpu->options.scanouts)
        return GPU_ERR_INVALID_SCANOUT_ID;
    struct gpu_head *head = &gpu->head[command->scanout];
    if (!command->resource) {
        gpu_blank(gpu, head);
        return GPU_OK_NODATA;
    }
    const struct gpu_resource *resource = gpu_find(gpu, command->resource);
    if (!resource || resource->blob)
        return GPU_ERR_INVALID_RESOURCE_ID;
    if (!resource->format || !gpu_rect_inside(&command->rect, resource->width, resource->height))
        return GPU_ERR_INVALID_PARAMETER;
    struct vd_rect rect = to_rect(&command->rect);
    if (resource->render)
        return show_shadow(gpu, head, resource, &rect, resource->format);
    if (head->resource == resource->id && same_rect(&head->rect, &rect))
        return GPU_OK_NODATA;
    struct gpu_framebuffer framebuffer = {.stride = resource->width * GPU_BYTES_PER_PIXEL,
                                          .format = resource->format};
    show_direct(gpu, head, resource, &rect, &framebuffer);
    return GPU_OK_NODATA;
}

/* Whether the framebuffer that a command describes is sound and inside of the blob. */
static bool read_framebuffer(const struct gpu_set_scanout_blob *command,
                             const struct gpu_resource *resource, struct gpu_framebuffer *to) {
    *to = (struct gpu_framebuffer){
        .width = command->width,
        .height = command->height,
        .stride = command->strides[0],
        .format = gpu_format(command->format),
        .offset = command->offsets[0],
    };
    if (!to->format || !to->width || !to->height || to->width > GPU_SIDE_MAX ||
        to->height > GPU_SIDE_MAX || to->stride < to->width * GPU_BYTES_PER_PIXEL)
        return false;
    uint64_t end = to->offset + (uint64_t)(to->height - 1) * to->stride +
                   (uint64_t)to->width * GPU_BYTES_PER_PIXEL;
    return end <= resource->size;
}

uint32_t gpu_set_scanout_blob(struct gpu_request *request) {
    const struct gpu_set_scanout_blob *command = &request->command.set_scanout_blob;
    struct vd_gpu *gpu = request->gpu;
    struct gpu_framebuffer framebuffer;
    if (command->scanout >= gpu->options.scanouts)
        return GPU_ERR_INVALID_SCANOUT_ID;
    struct gpu_head *head = &gpu->head[command->scanout];
    if (!command->resource) {
        gpu_blank(gpu, head);
        return GPU_OK_NODATA;
    }
    struct gpu_resource *resource = gpu_find(gpu, command->resource);
    if (!resource || !resource->blob)
        return GPU_ERR_INVALID_RESOURCE_ID;
    if (!read_framebuffer(command, resource, &framebuffer) ||
        !gpu_rect_inside(&command->rect, framebuffer.width, framebuffer.height))
        return GPU_ERR_INVALID_PARAMETER;
    struct vd_rect rect = to_rect(&command->rect);
    head->framebuffer = framebuffer;
    if (gpu_view(gpu, resource)) {
        show_direct(gpu, head, resource, &rect, &framebuffer);
        return GPU_OK_NODATA;
    }
    return show_shadow(gpu, head, resource, &rect, framebuffer.format);
}

/* Makes *rect relative to the head's; false: they do not meet. */
static bool meet(const struct gpu_head *head, const struct gpu_rect *rect, struct vd_rect *part) {
    uint64_t left = rect->x > head->rect.x ? rect->x : head->rect.x;
    uint64_t top = rect->y > head->rect.y ? rect->y : head->rect.y;
    uint64_t right = (uint64_t)rect->x + rect->width, bottom = (uint64_t)rect->y + rect->height;
    uint64_t far_x = (uint64_t)head->rect.x + head->rect.width;
    uint64_t far_y = (uint64_t)head->rect.y + head->rect.height;
    right = right < far_x ? right : far_x;
    bottom = bottom < far_y ? bottom : far_y;
    if (left >= right || top >= bottom)
        return false;
    part->x = (uint32_t)(left - head->rect.x);
    part->y = (uint32_t)(top - head->rect.y);
    part->width = (uint32_t)(right - left);
    part->height = (uint32_t)(bottom - top);
    return true;
}

uint32_t gpu_flush(struct gpu_request *request) {
    const struct gpu_flush *command = &request->command.flush;
    struct vd_gpu *gpu = request->gpu;
    const struct gpu_resource *resource = gpu_find(gpu, command->resource);
    if (!resource)
        return GPU_ERR_INVALID_RESOURCE_ID;
    if (!resource->blob && !gpu_rect_inside(&command->rect, resource->width, resource->height))
        return GPU_ERR_INVALID_PARAMETER;
    for (uint32_t i = 0; i < gpu->options.scanouts; i++) {
        struct gpu_head *head = &gpu->head[i];
        struct vd_rect part;
        if (head->resource != resource->id || !meet(head, &command->rect, &part))
            continue;
        if (head->shadow)
            refresh(gpu, head, resource, &part);
        vd_scanout_damage(head->out, &part);
    }
    vd_count(&gpu->counters.flushes);
    return GPU_OK_NODATA;
}

/* The cursor's picture from a resource of 64 x 64 (§5.7.6.10). */
static bool read_cursor(struct vd_gpu *gpu, const struct gpu_resource *resource) {
    size_t size = sizeof gpu->cursor.pixels;
    if (resource->blob)
        return gpu_backing_copy(gpu, &resource->backing,
                                &(struct gpu_rows){.to = (uint8_t *)gpu->cursor.pixels,
                                                   .bytes = (uint32_t)size,
                                                   .rows = 1});
    if (resource->render)
        return resource->width == VD_CURSOR_SIZE && resource->height == VD_CURSOR_SIZE &&
               resource->format == VD_FORMAT_ARGB8888 &&
               !gpu->renderer.read(gpu->renderer.opaque, resource->id,
                                   &(struct vd_rect){0, 0, VD_CURSOR_SIZE, VD_CURSOR_SIZE},
                                   gpu->cursor.pixels, VD_CURSOR_SIZE * GPU_BYTES_PER_PIXEL);
    if (resource->width != VD_CURSOR_SIZE || resource->height != VD_CURSOR_SIZE ||
        resource->format != VD_FORMAT_ARGB8888)
        return false;
    memcpy(gpu->cursor.pixels, vd_pixels_base(resource->pixels), size);
    return true;
}

uint32_t gpu_cursor(struct gpu_request *request) {
    const struct gpu_cursor *command = &request->command.cursor;
    struct vd_gpu *gpu = request->gpu;
    vd_count(&gpu->counters.cursor_commands);
    if (command->scanout >= gpu->options.scanouts)
        return GPU_ERR_INVALID_SCANOUT_ID;
    struct vd_scanout *out = gpu->head[command->scanout].out;
    /* Part of a cursor may be left of or above the picture. */
    int32_t x = (int32_t)command->x, y = (int32_t)command->y;
    if (command->header.type == GPU_MOVE_CURSOR) {
        vd_scanout_move_cursor(out, x, y);
        return GPU_OK_NODATA;
    }
    gpu->cursor = (struct vd_cursor){.x = x, .y = y};
    if (command->resource) {
        const struct gpu_resource *resource = gpu_find(gpu, command->resource);
        if (!resource)
            return GPU_ERR_INVALID_RESOURCE_ID;
        if (!read_cursor(gpu, resource) || command->hot_x >= VD_CURSOR_SIZE ||
            command->hot_y >= VD_CURSOR_SIZE)
            return GPU_ERR_INVALID_PARAMETER;
        gpu->cursor.visible = true;
        gpu->cursor.hot_x = command->hot_x;
        gpu->cursor.hot_y = command->hot_y;
    }
    vd_scanout_set_cursor(out, &gpu->cursor);
    return GPU_OK_NODATA;
}
