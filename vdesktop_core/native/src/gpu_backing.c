/* SPDX-License-Identifier: MIT
 * Guest memory behind a resource. Addresses are checked when they are attached:
 * memory stays where it is while a queue is live (mem.h), and a reset detaches. */
#include <string.h>

#include "gpu.h"

/* Adds one entry, which may span several regions. */
static bool add_entry(const struct vd_gpu *gpu, struct gpu_backing *backing, uint32_t room,
                      const struct gpu_entry *entry) {
    uint64_t addr = entry->addr, left = entry->length;
    while (left) {
        void *base;
        uint64_t len = vd_mem_span(gpu->plane.dev.mem, addr, left, false, &base);
        if (!len || backing->n == room)
            return false;
        backing->pieces[backing->n++] = (struct gpu_piece){backing->size, len, base};
        backing->size += len;
        addr += len;
        left -= len;
    }
    return entry->length != 0;
}

uint32_t gpu_backing_attach(struct vd_gpu *gpu, struct gpu_backing *backing,
                            const struct vd_chain *chain, size_t skip, uint32_t entries) {
    const struct vd_host *host = gpu->plane.dev.host;
    if (!entries || entries > VD_GPU_ENTRIES_MAX ||
        chain->read_len < skip + (uint64_t)entries * sizeof(struct gpu_entry))
        return GPU_ERR_INVALID_PARAMETER;
    /* An entry is seldom more than one piece: room for a border a region. */
    uint32_t room = entries + VD_MEM_MAX_REGIONS;
    struct gpu_backing made = {.charged = room * sizeof *made.pieces};
    if (!gpu_charge(gpu, made.charged))
        return GPU_ERR_OUT_OF_MEMORY;
    made.pieces = host->alloc(host->opaque, made.charged);
    if (!made.pieces) {
        gpu_release(gpu, made.charged);
        return GPU_ERR_OUT_OF_MEMORY;
    }
    bool ok = true;
    for (uint32_t i = 0; ok && i < entries; i++) {
        struct gpu_entry entry;
        vd_chain_read(chain, skip + i * sizeof entry, &entry, sizeof entry);
        ok = add_entry(gpu, &made, room, &entry);
    }
    if (!ok) {
        gpu_backing_detach(gpu, &made);
        return GPU_ERR_INVALID_PARAMETER;
    }
    *backing = made;
    return 0;
}

void gpu_backing_detach(struct vd_gpu *gpu, struct gpu_backing *backing) {
    const struct vd_host *host = gpu->plane.dev.host;
    if (backing->pieces) {
        host->free(host->opaque, backing->pieces);
        gpu_release(gpu, backing->charged);
    }
    *backing = (struct gpu_backing){0};
}

struct vd_pixels *gpu_view(struct vd_gpu *gpu, struct gpu_resource *resource) {
    const struct vd_host *host = gpu->plane.dev.host;
    const struct gpu_backing *backing = &resource->backing;
    int error;
    if (resource->pixels || !backing->n || backing->size < resource->size ||
        backing->n > VD_PIECES_MAX || backing->n > VD_GPU_VIEWED_MAX - gpu->n_viewed)
        return resource->pixels;
    struct vd_piece *pieces = host->alloc(host->opaque, backing->n * sizeof *pieces);
    if (!pieces)
        return NULL;
    for (uint32_t i = 0; i < backing->n; i++)
        pieces[i] = (struct vd_piece){backing->pieces[i].base, backing->pieces[i].len};
    resource->pixels = vd_pixels_view(host, pieces, backing->n, &error);
    host->free(host->opaque, pieces);
    if (resource->pixels) {
        resource->viewed = backing->n;
        gpu->n_viewed += backing->n;
    }
    return resource->pixels;
}

void gpu_view_drop(struct vd_gpu *gpu, struct gpu_resource *resource) {
    if (!resource->viewed)
        return;
    vd_pixels_unref(resource->pixels);
    gpu->n_viewed -= resource->viewed;
    resource->pixels = NULL;
    resource->viewed = 0;
}

/* The piece that byte `at` is in; `at` is inside of the backing. */
static uint32_t piece_at(const struct gpu_backing *backing, uint64_t at) {
    uint32_t low = 0, high = backing->n;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (backing->pieces[middle].start <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void copy(const struct gpu_piece *piece, uint64_t at, uint8_t *to, uint64_t len) {
    while (len) {
        while (at - piece->start >= piece->len)
            piece++;
        uint64_t inside = at - piece->start;
        uint64_t part = piece->len - inside < len ? piece->len - inside : len;
        memcpy(to, piece->base + inside, part);
        to += part;
        at += part;
        len -= part;
    }
}

bool gpu_backing_copy(struct vd_gpu *gpu, const struct gpu_backing *backing,
                      const struct gpu_rows *rows) {
    if (!rows->rows || !rows->bytes)
        return true;
    /* rows, strides and bytes are 32 bits wide and `from` was checked: only the sum can wrap. */
    uint64_t end = (rows->rows - 1) * rows->from_stride + rows->bytes;
    if (rows->from > backing->size || end > backing->size - rows->from)
        return false;
    bool whole = rows->from_stride == rows->bytes && rows->to_stride == rows->bytes;
    uint64_t bytes = whole ? (uint64_t)rows->bytes * rows->rows : rows->bytes;
    uint64_t from = rows->from;
    uint8_t *to = rows->to;
    for (uint32_t row = 0; row < (whole ? 1 : rows->rows); row++) {
        copy(&backing->pieces[piece_at(backing, from)], from, to, bytes);
        from += rows->from_stride;
        to += rows->to_stride;
    }
    gpu_count(&gpu->counters.copied_bytes, (uint64_t)rows->bytes * rows->rows);
    return true;
}
