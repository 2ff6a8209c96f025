/* SPDX-License-Identifier: MIT
 * Virtqueues: life cycle, and what split and packed share. */
#include "ring.h"

int vd_queue_break(struct vd_queue *q, int error) {
    q->error = error;
    return error;
}

const char *vd_ring_strerror(int error) {
    static const char *const text[] = {
        [-VD_RING_OK] = "no error",
        [-VD_RING_BAD_GEOMETRY] =
            "ring size, alignment or address invalid (virtio 1.4 §2.7, §2.8.10.1)",
        [-VD_RING_BAD_ADDRESS] = "descriptor outside of memory or not writable (virtio 1.4 §2.6)",
        [-VD_RING_AVAIL_OVERRUN] =
            "more made available than the queue holds (virtio 1.4 §2.7.6, §2.8.1)",
        [-VD_RING_BAD_HEAD] = "chain head beyond the queue (virtio 1.4 §2.7.6)",
        [-VD_RING_HEAD_IN_FLIGHT] =
            "buffer made available while in use (virtio 1.4 §2.7.13, §2.8.1)",
        [-VD_RING_CHAIN_TOO_LONG] =
            "descriptor loop or chain too long (virtio 1.4 §2.7.5.1, §2.8.17)",
        [-VD_RING_BAD_INDIRECT] = "invalid indirect descriptor (virtio 1.4 §2.7.5.3.1, §2.8.19)",
        [-VD_RING_ORDER] =
            "readable descriptor after a writable one (virtio 1.4 §2.7.4.2, §2.8.17)",
        [-VD_RING_BAD_LENGTH] = "chain longer than 2^32-1 bytes (virtio 1.4 §2.7.5.1, §2.8.17)",
        [-VD_RING_BAD_NEXT] = "next descriptor beyond the table (virtio 1.4 §2.7.5)",
        [-VD_RING_NO_MEMORY] = "the host has no memory for the queue",
    };
    uint32_t i = -(uint32_t)error;
    return i < sizeof text / sizeof text[0] ? text[i] : "unknown error";
}

struct vd_queue *vd_queue_new(const struct vd_host *host, struct vd_mem *mem) {
    struct vd_queue *q = host->alloc(host->opaque, sizeof *q);
    if (q) {
        q->host = host;
        q->mem = mem;
    }
    return q;
}

void vd_queue_free(struct vd_queue *q) {
    if (!q)
        return;
    if (q->in_flight_packed)
        q->host->free(q->host->opaque, q->in_flight_packed);
    q->host->free(q->host->opaque, q);
}

int vd_queue_start(struct vd_queue *q, const struct vd_queue_config *config) {
    struct vd_queue kept = {
        .host = q->host, .mem = q->mem, .in_flight_packed = q->in_flight_packed};
    *q = kept;
    q->hot = &q->mem->region[0]; /* empty if there is no memory: never hits */
    q->config = *config;
    q->packed = config->packed;
    q->indirect = config->indirect;
    q->event_idx = config->event_idx;
    if (!config->size || config->size > VD_QUEUE_SIZE_MAX)
        return vd_queue_break(q, VD_RING_BAD_GEOMETRY);
    q->size = config->size;
    q->in_flight = q->in_flight_split;
    int error = q->packed ? vd_packed_start(q, config) : vd_split_start(q, config);
    if (error)
        return vd_queue_break(q, error);
    q->live = true;
    return VD_RING_OK;
}

void vd_queue_stop(struct vd_queue *q) {
    q->live = false;
    q->error = VD_RING_OK;
}

bool vd_queue_live(const struct vd_queue *q) {
    return q->live;
}

int vd_queue_error(const struct vd_queue *q) {
    return q->error;
}

int vd_queue_pop(struct vd_queue *q, struct vd_chain *c) {
    if (unlikely(!q->live || q->error))
        return q->error;
    return q->packed ? vd_packed_pop(q, c) : vd_split_pop(q, c);
}

void vd_queue_unpop(struct vd_queue *q, const struct vd_chain *c) {
    if (!q->live || !q->in_flight[c->id])
        return;
    if (q->packed)
        vd_packed_unpop(q, c);
    else
        vd_split_unpop(q, c);
}

/* Not inlined: without a hook, push is a leaf that saves no registers. */
static cold void announce(struct vd_queue *q, const struct vd_chain *c, uint32_t written) {
    for (uint32_t i = c->n_read; written; i++) {
        uint32_t len = c->iov[i].len < written ? (uint32_t)c->iov[i].len : written;
        vd_mem_written(q->mem, c->gpa[i], len);
        written -= len;
    }
}

void vd_queue_push(struct vd_queue *q, const struct vd_chain *c, uint32_t written) {
    if (unlikely(!q->live || !q->in_flight[c->id]))
        return; /* of a life of the queue that has ended */
    if (unlikely(written > c->write_len))
        written = c->write_len;
    if (q->mem->written.fn)
        announce(q, c, written);
    if (q->packed)
        vd_packed_push(q, c, written);
    else
        vd_split_push(q, c, written);
}

bool vd_queue_publish(struct vd_queue *q) {
    if (unlikely(!q->live))
        return false;
    return q->packed ? vd_packed_publish(q) : vd_split_publish(q);
}

bool vd_queue_notify_enable(struct vd_queue *q) {
    if (!q->live || q->error)
        return false;
    return q->packed ? vd_packed_notify_enable(q) : vd_split_notify_enable(q);
}

void vd_queue_notify_disable(struct vd_queue *q) {
    if (!q->live || q->error)
        return;
    if (q->packed)
        vd_packed_notify_disable(q);
    else
        vd_split_notify_disable(q);
}

uint32_t vd_queue_position(const struct vd_queue *q) {
    if (!q->packed)
        return q->next_avail;
    return q->next_avail | (uint32_t)q->avail_wrap << 15 | (uint32_t)q->next_used << 16 |
           (uint32_t)q->used_wrap << 31;
}

int vd_queue_seek(struct vd_queue *q, uint32_t position) {
    if (!q->live)
        return VD_RING_BAD_GEOMETRY;
    int error = q->packed ? vd_packed_seek(q, position) : vd_split_seek(q, position);
    if (!error)
        q->must_signal = true;
    return error;
}

int vd_walk_add_slow(struct vd_queue *q, struct vd_chain *c, struct walk *w, uint64_t gpa,
                     uint32_t len, bool write) {
    if (!write && w->n_write)
        return VD_RING_ORDER;
    while (len) {
        const struct vd_mem_region *r = vd_mem_find(q->mem, gpa);
        uint32_t span = r ? (uint32_t)vd_region_span(r, gpa, len, write) : 0;
        uint32_t n = w->n;
        if (!span)
            return VD_RING_BAD_ADDRESS;
        if (n == VD_CHAIN_SEGS_MAX)
            return VD_RING_CHAIN_TOO_LONG;
        q->hot = r;
        c->iov[n] = (struct vd_iov){r->base + (gpa - r->gpa), span};
        c->gpa[n] = gpa;
        w->n = n + 1;
        if (write) {
            w->n_write++;
            w->write_len += span;
        } else {
            w->read_len += span;
        }
        len -= span;
        if (len && gpa > UINT64_MAX - span)
            return VD_RING_BAD_ADDRESS; /* round the end of the address space */
        gpa += span;
    }
    return VD_RING_OK;
}

/* Copies between `data` and bytes [offset, offset+len) of some segments. */
static size_t copy(const struct vd_iov *iov, uint32_t n, size_t offset, uint8_t *data, size_t len,
                   bool write) {
    size_t done = 0;
    for (uint32_t i = 0; i < n && done < len; i++) {
        if (offset >= iov[i].len) {
            offset -= iov[i].len;
            continue;
        }
        size_t part = iov[i].len - offset;
        if (part > len - done)
            part = len - done;
        uint8_t *at = (uint8_t *)iov[i].base + offset;
        memcpy(write ? at : data + done, write ? data + done : at, part);
        done += part;
        offset = 0;
    }
    return done;
}

size_t vd_chain_read(const struct vd_chain *c, size_t offset, void *to, size_t len) {
    return copy(c->iov, c->n_read, offset, to, len, false);
}

size_t vd_chain_write(const struct vd_chain *c, size_t offset, const void *from, size_t len) {
    return copy(c->iov + c->n_read, c->n_write, offset, (uint8_t *)(uintptr_t)from, len, true);
}
