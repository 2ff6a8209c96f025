/* SPDX-License-Identifier: MIT
 * libFuzzer target: a guest's memory, commands and kicks against a virtio-gpu
 * device, while viewers look, come and go, ask for sizes, a boot picture is behind
 * it, and a renderer is there. What a viewer is shown must lie in the memory that
 * it is said to; the renderer is called as its header promises.
 * The first eight operation bytes say which features the driver takes. */
#include "gpu.h"

#include <errno.h>
#include <string.h>

#include "harness.h"

enum { OP_KICK, OP_POKE, OP_LOOK, OP_SIZE, OP_VIEW, OP_QUEUE_RESET, OP_CONFIG, OP_FENCE };

#define SCANOUTS   2u
#define MAX_MEMORY (UINT64_C(1) << 20)
#define BACKDROP   64u /* pixels a side */

#define RESOURCES 64u /* that the renderer has room for */

static struct {
    uint32_t ids[RESOURCES], sides[RESOURCES];
    struct vd_iov iov[RESOURCES];
    uint64_t fence;
    uint32_t fence_context;
    uint8_t fence_ring;
} renderer;

static struct {
    struct vd_gpu *gpu;
    struct vd_viewer *viewer[SCANOUTS];
    volatile uint32_t sum;
} rig;

static uint32_t place(uint32_t id) {
    uint32_t at = 0;
    while (at < RESOURCES && renderer.ids[at] != id)
        at++;
    return at;
}

static void touch(const void *memory, size_t len) {
    const uint8_t *bytes = memory;
    if (len)
        rig.sum += (uint32_t)bytes[0] + bytes[len - 1];
}

static int capset(void *opaque, uint32_t id, uint32_t version, void *data, uint32_t size) {
    (void)opaque;
    fuzz_check(id == 1 && version <= 1);
    memset(data, 0x5a, size);
    return 0;
}

static int context_create(void *opaque, uint32_t context, uint32_t of, const char *name) {
    (void)opaque;
    fuzz_check(context && of <= 1);
    touch(name, strlen(name));
    return 0;
}

static void context_destroy(void *opaque, uint32_t context) {
    (void)opaque;
    fuzz_check(context);
}

static int resource_create(void *opaque, const struct vd_gpu_resource_3d *wanted) {
    uint32_t at = place(0);
    (void)opaque;
    fuzz_check(wanted->resource && place(wanted->resource) == RESOURCES);
    if (at == RESOURCES || wanted->width > 256 || wanted->height > 256)
        return -ENOMEM;
    renderer.ids[at] = wanted->resource;
    renderer.sides[at] = wanted->width << 16 | wanted->height;
    return 0;
}

static void resource_destroy(void *opaque, uint32_t resource) {
    uint32_t at = place(resource);
    (void)opaque;
    fuzz_check(at < RESOURCES && !renderer.iov[at].len);
    renderer.ids[at] = 0;
}

static int context_attach(void *opaque, uint32_t context, uint32_t resource, bool attached) {
    (void)opaque, (void)attached;
    fuzz_check(context && place(resource) < RESOURCES);
    return 0;
}

static int backing(void *opaque, uint32_t resource, const struct vd_iov *iov, uint32_t n) {
    uint32_t at = place(resource);
    (void)opaque;
    fuzz_check(at < RESOURCES);
    for (uint32_t i = 0; i < n; i++)
        touch(iov[i].base, iov[i].len);
    renderer.iov[at] = n ? iov[0] : (struct vd_iov){0};
    return 0;
}

static int transfer(void *opaque, uint32_t context, const struct vd_gpu_transfer_3d *wanted,
                    bool to_host) {
    uint32_t at = place(wanted->resource);
    (void)opaque, (void)context, (void)to_host;
    fuzz_check(at < RESOURCES);
    touch(renderer.iov[at].base, renderer.iov[at].len);
    return 0;
}

static int submit(void *opaque, uint32_t context, const void *commands, uint32_t size) {
    (void)opaque;
    fuzz_check(context && size && size <= VD_GPU_SUBMIT_MAX);
    touch(commands, size);
    return size % 2 ? -EINVAL : 0;
}

static int fence(void *opaque, uint32_t context, uint8_t ring, uint64_t number) {
    (void)opaque;
    renderer.fence = number;
    renderer.fence_context = context;
    renderer.fence_ring = ring;
    return number % 2 ? VD_GPU_FENCE_PENDING : 0;
}

static int read_picture(void *opaque, uint32_t resource, const struct vd_rect *part, void *pixels,
                        uint32_t stride) {
    uint32_t at = place(resource);
    (void)opaque;
    fuzz_check(at < RESOURCES && part->x + part->width <= renderer.sides[at] >> 16 &&
               part->y + part->height <= (renderer.sides[at] & 0xffff));
    for (uint32_t y = 0; y < part->height; y++)
        memset((uint8_t *)pixels + (size_t)y * stride, 0x33, (size_t)4 * part->width);
    return 0;
}

static void forget(void *opaque) {
    (void)opaque;
    fuzz_check(place(0) == 0); /* resources are destroyed before */
}

static const struct vd_gpu_renderer functions = {
    .n_capsets = 1,
    .capsets = {{1, 1, 64}},
    .context_init = true,
    .capset = capset,
    .context_create = context_create,
    .context_destroy = context_destroy,
    .resource_create = resource_create,
    .resource_destroy = resource_destroy,
    .context_attach = context_attach,
    .backing = backing,
    .transfer = transfer,
    .submit = submit,
    .fence = fence,
    .read = read_picture,
    .reset = forget,
};

/* Nobody is woken: viewers look when the input says so. */
static void view(uint32_t index) {
    vd_viewer_free(rig.viewer[index]);
    rig.viewer[index] = vd_viewer_new(vd_gpu_scanout(rig.gpu, index), -1);
    fuzz_check(rig.viewer[index]);
}

static void set_up(struct fuzz *f) {
    int error;
    struct vd_gpu_options options = {SCANOUTS, 640, 480, MAX_MEMORY, &functions};
    rig.gpu = vd_gpu_new(&f->host, f->mem, f->loop, "fuzz", &options, &error);
    fuzz_check(rig.gpu && !vd_mmio_attach(f->mmio, vd_gpu_device(rig.gpu)));
    struct vd_surface backdrop = {
        .pixels = vd_pixels_new(&f->host, 4 * BACKDROP * BACKDROP, &error),
        .width = BACKDROP,
        .height = BACKDROP,
        .stride = 4 * BACKDROP,
        .format = VD_FORMAT_XRGB8888,
    };
    vd_scanout_set_backdrop(vd_gpu_scanout(rig.gpu, 0), &backdrop, -1);
    vd_pixels_unref(backdrop.pixels);
    for (uint32_t i = 0; i < SCANOUTS; i++)
        view(i);
}

/* Every pixel of a damaged rectangle is memory. */
static void read_damage(const struct vd_surface *surface, const struct vd_rect *rect) {
    fuzz_check(rect->width && rect->height && rect->width <= surface->width &&
               rect->x <= surface->width - rect->width && rect->height <= surface->height &&
               rect->y <= surface->height - rect->height);
    const uint8_t *pixels = vd_pixels_base(surface->pixels);
    for (uint32_t y = rect->y; y < rect->y + rect->height; y++) {
        const uint8_t *row = pixels + surface->offset + (uint64_t)y * surface->stride;
        rig.sum += row[4 * (uint64_t)rect->x];
        rig.sum += row[4 * ((uint64_t)rect->x + rect->width) - 1];
    }
}

static void look(uint32_t index) {
    struct vd_update update;
    struct vd_cursor cursor;
    vd_viewer_take(rig.viewer[index], &update);
    const struct vd_surface *surface = &update.surface;
    fuzz_check(update.n_damage <= VD_DAMAGE_MAX && (surface->pixels || !update.n_damage));
    if (surface->pixels) {
        fuzz_check(surface->width && surface->height && surface->stride / 4 >= surface->width);
        fuzz_check(surface->offset + (uint64_t)(surface->height - 1) * surface->stride +
                       (uint64_t)4 * surface->width <=
                   vd_pixels_size(surface->pixels));
        for (uint32_t i = 0; i < update.n_damage; i++)
            read_damage(surface, &update.damage[i]);
    }
    vd_pixels_unref(surface->pixels);
    vd_viewer_cursor(rig.viewer[index], &cursor);
    fuzz_check(!cursor.visible || (cursor.hot_x < VD_CURSOR_SIZE && cursor.hot_y < VD_CURSOR_SIZE));
}

static void step(struct fuzz *f, struct fuzz_input *in) {
    switch (fuzz_take(in, 1)) {
    case OP_KICK:
        fuzz_put(f, REG_QueueNotify, fuzz_take(in, 1) % GPU_QUEUES);
        break;
    case OP_POKE: {
        uint32_t offset = (uint32_t)fuzz_take(in, 2);
        fuzz_poke(f, offset, fuzz_bytes(in, 8));
        break;
    }
    case OP_LOOK:
        look(fuzz_take(in, 1) % SCANOUTS);
        break;
    case OP_SIZE: {
        uint32_t index = fuzz_take(in, 1) % (SCANOUTS + 1);
        uint32_t width = (uint32_t)fuzz_take(in, 2), height = (uint32_t)fuzz_take(in, 2);
        vd_gpu_request_size(rig.gpu, index, width, height);
        break;
    }
    case OP_VIEW:
        view(fuzz_take(in, 1) % SCANOUTS);
        break;
    case OP_QUEUE_RESET:
        fuzz_put(f, REG_QueueSel, fuzz_take(in, 1) % GPU_QUEUES);
        fuzz_put(f, REG_QueueReset, 1);
        break;
    case OP_CONFIG: /* events_clear */
        f->io->write(f->io->opaque, VD_MMIO_CONFIG + 4, 4, fuzz_take(in, 4));
        break;
    case OP_FENCE:
        vd_gpu_fence_done(rig.gpu, renderer.fence_context, renderer.fence_ring, renderer.fence);
        break;
    }
    fuzz_pump(f->loop);
    fuzz_check(rig.gpu->memory <= MAX_MEMORY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz *f = fuzz_rig();
    struct fuzz_input ops;
    if (!rig.gpu)
        set_up(f);
    uint8_t options = fuzz_begin(f, data, size, &ops);
    fuzz_bring_up(f, vd_gpu_device(rig.gpu), options, fuzz_take(&ops, 8) | VD_FEATURES_COMMON,
                  GPU_QUEUES);
    fuzz_pump(f->loop);
    while (ops.left)
        step(f, &ops);
    fuzz_put(f, REG_Status, 0);
    /* Nothing of the driver's is left: the boot picture is back. */
    fuzz_check(!rig.gpu->memory && !rig.gpu->n_resources && !rig.gpu->n_host_resources &&
               !rig.gpu->pending && !rig.gpu->n_contexts);
    struct vd_update update;
    for (uint32_t i = 0; i < SCANOUTS; i++) {
        vd_viewer_take(rig.viewer[i], &update);
        fuzz_check(!!update.surface.pixels == !i);
        vd_pixels_unref(update.surface.pixels);
        vd_gpu_request_size(rig.gpu, i, 640, 480);
    }
    return 0;
}
