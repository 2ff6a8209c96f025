/* SPDX-License-Identifier: MIT */
#include "gpu.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define CONTROL_QUEUE_SIZE 256
#define CURSOR_QUEUE_SIZE  64

_Static_assert(GPU_DISPLAYS == VD_GPU_SCANOUTS_MAX, "a display info has 16 entries (§5.7.6.8)");

static void work(struct vd_plane *plane, uint64_t kicked, bool poked) {
    struct vd_gpu *gpu = (struct vd_gpu *)plane;
    if (poked)
        gpu_fence_serve(gpu);
    /* A cursor's picture comes by the control queue first. */
    for (uint16_t queue = 0; queue < GPU_QUEUES; queue++)
        if (kicked >> queue & 1)
            gpu_serve(gpu, queue);
}

static void started(struct vd_plane *plane) {
    (void)plane;
}

/* A reset takes everything that the driver made away (§2.4). */
static void stopped(struct vd_plane *plane, uint64_t mask, bool all) {
    struct vd_gpu *gpu = (struct vd_gpu *)plane;
    if (mask >> GPU_CONTROL_QUEUE & 1)
        gpu_fence_drop(gpu); /* their chains are no longer the device's */
    if (!all)
        return;
    gpu->cursor = (struct vd_cursor){0};
    for (uint32_t i = 0; i < gpu->options.scanouts; i++) {
        vd_scanout_release(gpu->head[i].out);
        gpu->head[i].resource = 0; /* shows nothing any more */
        gpu_blank(gpu, &gpu->head[i]);
        vd_scanout_set_cursor(gpu->head[i].out, &gpu->cursor);
    }
    gpu_drop_resources(gpu);
    gpu_render_reset(gpu);
}

uint32_t gpu_get_display_info(struct gpu_request *request) {
    struct vd_gpu *gpu = request->gpu;
    uint32_t x = 0;
    vd_lock(&gpu->sizes, gpu->plane.dev.host);
    for (uint32_t i = 0; i < gpu->options.scanouts; i++) {
        const struct gpu_head *head = &gpu->head[i];
        request->reply.display[i] = (struct gpu_display){
            .rect = {.x = x, .width = head->width, .height = head->height},
            .enabled = head->width != 0,
        };
        x += head->width;
    }
    vd_unlock(&gpu->sizes);
    request->reply_len = sizeof request->reply.display;
    return GPU_OK_DISPLAY_INFO;
}

uint32_t gpu_get_edid(struct gpu_request *request) {
    struct vd_gpu *gpu = request->gpu;
    uint32_t index = request->command.get_edid.scanout;
    if (index >= gpu->options.scanouts)
        return GPU_ERR_INVALID_SCANOUT_ID;
    vd_lock(&gpu->sizes, gpu->plane.dev.host);
    uint32_t width = gpu->head[index].width, height = gpu->head[index].height;
    vd_unlock(&gpu->sizes);
    if (!width) { /* what a monitor would be, once plugged in */
        width = gpu->options.width;
        height = gpu->options.height;
    }
    gpu_edid(request->reply.edid.edid, width, height);
    request->reply.edid.size = GPU_EDID_SIZE;
    request->reply_len = sizeof request->reply.edid;
    return GPU_OK_EDID;
}

/* Under gpu->sizes. */
static void raise_display_event(struct vd_gpu *gpu) {
    uint32_t event = GPU_EVENT_DISPLAY;
    gpu->raised = gpu->changes;
    vd_device_config_set(&gpu->plane.dev, offsetof(struct gpu_config, events_read), &event,
                         sizeof event);
}

/* §5.7.4: events_clear. The transport's lock is held. A change that came while
 * the event was pending may have come after the driver looked: it is raised again. */
static void config_written(struct vd_device *dev, uint32_t offset, uint32_t len) {
    struct vd_gpu *gpu = dev->opaque;
    struct gpu_config config;
    (void)offset, (void)len; /* only events_clear is writable */
    vd_lock(&gpu->sizes, dev->host);
    memcpy(&config, dev->config, sizeof config);
    config.events_read &= ~config.events_clear;
    bool again = config.events_clear & GPU_EVENT_DISPLAY && gpu->changes != gpu->raised;
    config.events_clear = 0;
    /* Not by vd_device_config_set: the driver's own doing is no news to it. */
    memcpy(dev->config, &config, sizeof config);
    if (again)
        raise_display_event(gpu);
    vd_unlock(&gpu->sizes);
}

static const struct vd_device_ops gpu_ops = {
    .driver_ok = vd_plane_driver_ok,
    .reset = vd_plane_reset,
    .queue_ready = vd_plane_queue_ready,
    .queue_reset = vd_plane_queue_reset,
    .notify = vd_plane_notify,
    .doorbell = vd_plane_doorbell,
    .lose = vd_plane_lose,
    .config_written = config_written,
};

static bool size_ok(uint32_t width, uint32_t height) {
    return width >= VD_GPU_SIZE_MIN && width <= VD_GPU_SIZE_MAX && height >= VD_GPU_SIZE_MIN &&
           height <= VD_GPU_SIZE_MAX;
}

int vd_gpu_request_size(struct vd_gpu *gpu, uint32_t index, uint32_t width, uint32_t height) {
    if (index >= gpu->options.scanouts || ((width || height) && !size_ok(width, height)))
        return -EINVAL;
    struct gpu_head *head = &gpu->head[index];
    vd_lock(&gpu->sizes, gpu->plane.dev.host);
    if (head->width != width || head->height != height) {
        head->width = width;
        head->height = height;
        gpu->changes++;
        uint32_t pending;
        vd_device_config_get(&gpu->plane.dev, offsetof(struct gpu_config, events_read), &pending,
                             sizeof pending);
        if (!(pending & GPU_EVENT_DISPLAY))
            raise_display_event(gpu);
    }
    vd_unlock(&gpu->sizes);
    return 0;
}

static bool renderer_ok(const struct vd_gpu_renderer *renderer) {
    if (!renderer)
        return true;
    for (uint32_t i = 0; i < renderer->n_capsets && i < VD_GPU_CAPSETS_MAX; i++)
        if (renderer->capsets[i].max_size > VD_GPU_CAPSET_SIZE_MAX)
            return false;
    return renderer->n_capsets && renderer->n_capsets <= VD_GPU_CAPSETS_MAX;
}

static void set_up_device(struct vd_gpu *gpu) {
    struct vd_device *dev = &gpu->plane.dev;
    struct gpu_config config = {.num_scanouts = gpu->options.scanouts};
    dev->ops = &gpu_ops;
    dev->virtio_id = VD_GPU_ID;
    dev->offered = VD_PLANE_FEATURES | GPU_F_EDID | GPU_F_RESOURCE_UUID | GPU_F_RESOURCE_BLOB;
    if (gpu->has_renderer) {
        dev->offered |= GPU_F_VIRGL | (gpu->renderer.context_init ? GPU_F_CONTEXT_INIT : 0);
        config.num_capsets = gpu->renderer.n_capsets;
    }
    dev->queue_size_max[GPU_CURSOR_QUEUE] = CURSOR_QUEUE_SIZE;
    dev->config_len = sizeof config;
    memcpy(dev->config, &config, sizeof config);
    memset(dev->config_writable + offsetof(struct gpu_config, events_clear), 0xff,
           sizeof config.events_clear);
}

struct vd_gpu *vd_gpu_new(const struct vd_host *host, struct vd_mem *mem, struct vd_loop *loop,
                          const char *name, const struct vd_gpu_options *options, int *error) {
    *error = -EINVAL;
    if (!options->scanouts || options->scanouts > VD_GPU_SCANOUTS_MAX ||
        !size_ok(options->width, options->height) || !renderer_ok(options->renderer))
        return NULL;
    *error = -ENOMEM;
    struct vd_gpu *gpu = host->alloc(host->opaque, sizeof *gpu);
    if (!gpu)
        return NULL;
    gpu->options = *options;
    if (options->renderer) {
        gpu->has_renderer = true;
        gpu->renderer = *options->renderer;
    }
    gpu->plane.work = work;
    gpu->plane.started = started;
    gpu->plane.stopped = stopped;
    *error = vd_plane_init(&gpu->plane, host, mem, loop, name, GPU_QUEUES, CONTROL_QUEUE_SIZE);
    if (*error) {
        host->free(host->opaque, gpu);
        return NULL;
    }
    set_up_device(gpu);
    gpu->head[0].width = options->width;
    gpu->head[0].height = options->height;
    for (uint32_t i = 0; i < options->scanouts; i++) {
        gpu->head[i].out = vd_scanout_new(host);
        if (!gpu->head[i].out)
            *error = -ENOMEM;
    }
    if (*error) {
        vd_gpu_free(gpu);
        return NULL;
    }
    return gpu;
}

void vd_gpu_free(struct vd_gpu *gpu) {
    if (!gpu)
        return;
    const struct vd_host *host = gpu->plane.dev.host;
    vd_plane_fini(&gpu->plane);
    for (uint32_t i = 0; i < gpu->options.scanouts; i++)
        if (gpu->head[i].out) {
            gpu_blank(gpu, &gpu->head[i]);
            vd_scanout_free(gpu->head[i].out);
        }
    gpu_fence_drop(gpu);
    gpu_drop_resources(gpu);
    gpu_render_reset(gpu);
    host->free(host->opaque, gpu);
}

struct vd_device *vd_gpu_device(struct vd_gpu *gpu) {
    return &gpu->plane.dev;
}

struct vd_scanout *vd_gpu_scanout(struct vd_gpu *gpu, uint32_t index) {
    return index < gpu->options.scanouts ? gpu->head[index].out : NULL;
}

void vd_gpu_counters(const struct vd_gpu *gpu, struct vd_gpu_counters *counters) {
    counters->commands = __atomic_load_n(&gpu->counters.commands, __ATOMIC_RELAXED);
    counters->errors = __atomic_load_n(&gpu->counters.errors, __ATOMIC_RELAXED);
    counters->flushes = __atomic_load_n(&gpu->counters.flushes, __ATOMIC_RELAXED);
    counters->cursor_commands = __atomic_load_n(&gpu->counters.cursor_commands, __ATOMIC_RELAXED);
    counters->copied_bytes = __atomic_load_n(&gpu->counters.copied_bytes, __ATOMIC_RELAXED);
    counters->memory_bytes = __atomic_load_n(&gpu->counters.memory_bytes, __ATOMIC_RELAXED);
}
