/* SPDX-License-Identifier: MIT
 * Packed virtqueues, virtio 1.4 §2.8. */
#include "ring.h"

int vd_packed_start(struct vd_queue *q, const struct vd_queue_config *config) {
    /* Alignments and sizes: the table of §2.8.10.1. */
    q->desc = ring_area(q, config->desc, 16ull * config->size, 16, true);
    q->driver_event = ring_area(q, config->driver, 4, 4, false);
    q->device_event = ring_area(q, config->device, 4, 4, true);
    q->avail_wrap = q->used_wrap = true; /* §2.8.1 */
    if (!q->desc || !q->driver_event || !q->device_event)
        return VD_RING_BAD_GEOMETRY;
    if (q->in_flight_packed)
        memset(q->in_flight_packed, 0, PACKED_IDS);
    else
        q->in_flight_packed = q->host->alloc(q->host->opaque, PACKED_IDS);
    q->in_flight = q->in_flight_packed;
    return q->in_flight ? VD_RING_OK : VD_RING_NO_MEMORY;
}

static inline bool available(uint64_t rest, bool wrap) {
    uint32_t flags = (uint32_t)(rest >> 48);
    return !!(flags & DESC_F_AVAIL) == wrap && !!(flags & DESC_F_USED) != wrap;
}

static inline uint64_t load_rest(const struct vd_queue *q) {
    /* Acquire: the other fields and descriptors were written before it. */
    return __atomic_load_n(&q->desc[q->next_avail].rest, __ATOMIC_ACQUIRE);
}

int vd_packed_pop(struct vd_queue *q, struct vd_chain *c) {
    uint64_t rest = load_rest(q);
    if (!available(rest, q->avail_wrap))
        return 0;

    struct walk w = {0};
    uint32_t i = q->next_avail, descs = 1, room = q->size - q->in_flight_descs;
    uint64_t addr = __atomic_load_n(&q->desc[i].addr, __ATOMIC_RELAXED);
    int error;
    for (;;) {
        uint32_t len = (uint32_t)rest, flags = (uint32_t)(rest >> 48);
        if (unlikely(descs > room)) {
            /* It lies over descriptors that are not used yet. */
            error = descs > q->size ? VD_RING_CHAIN_TOO_LONG : VD_RING_AVAIL_OVERRUN;
            break;
        }
        if (++i == q->size)
            i = 0;
        if (flags & DESC_F_INDIRECT) {
            /* §2.8.19: not in a list linked by NEXT. */
            bool legal = q->indirect && descs == 1 && !(flags & DESC_F_NEXT);
            error = legal ? walk_indirect(q, c, w, addr, len, false) : VD_RING_BAD_INDIRECT;
            break;
        }
        error = walk_add(q, c, &w, addr, len, flags & DESC_F_WRITE);
        if (unlikely(error))
            break;
        if (!(flags & DESC_F_NEXT)) {
            error = walk_finish(c, &w);
            break;
        }
        struct desc d = desc_load(&q->desc[i]);
        addr = d.addr;
        rest = d.rest;
        descs++;
    }
    uint16_t id = (uint16_t)(rest >> 32); /* of the last descriptor, §2.8.6 */
    if (!error && unlikely(q->in_flight[id]))
        error = VD_RING_HEAD_IN_FLIGHT;
    if (unlikely(error))
        return vd_queue_break(q, error);
    q->in_flight[id] = 1;
    q->in_flight_descs += descs;
    q->avail_wrap ^= i <= q->next_avail;
    q->next_avail = (uint16_t)i;
    c->id = id;
    c->descs = (uint16_t)descs;
    return 1;
}

void vd_packed_unpop(struct vd_queue *q, const struct vd_chain *c) {
    q->in_flight[c->id] = 0;
    q->in_flight_descs -= c->descs;
    if (q->next_avail < c->descs) {
        q->next_avail = (uint16_t)(q->next_avail + q->size);
        q->avail_wrap = !q->avail_wrap;
    }
    q->next_avail = (uint16_t)(q->next_avail - c->descs);
}

void vd_packed_push(struct vd_queue *q, const struct vd_chain *c, uint32_t written) {
    uint16_t at = q->next_used;
    uint32_t flags = (q->used_wrap ? DESC_F_AVAIL | DESC_F_USED : 0) | (written ? DESC_F_WRITE : 0);
    uint64_t *rest = &q->desc[at].rest;

    q->in_flight[c->id] = 0;
    q->in_flight_descs -= c->descs;
    /* The driver looks at used descriptors in order, so only the first one of a
     * batch is held back: its flags are written by publish. */
    if (q->unpublished == 0) {
        uint32_t *len = (uint32_t *)(void *)rest;
        uint16_t *id = (uint16_t *)(void *)rest + 2;
        q->first_used = at;
        q->first_used_flags = (uint16_t)flags;
        __atomic_store_n(len, written, __ATOMIC_RELAXED);
        __atomic_store_n(id, c->id, __ATOMIC_RELAXED);
    } else {
        __atomic_store_n(rest, written | (uint64_t)c->id << 32 | (uint64_t)flags << 48,
                         __ATOMIC_RELAXED);
    }
    q->unpublished = (uint16_t)(q->unpublished + c->descs);
    q->next_used = (uint16_t)(at + c->descs);
    if (q->next_used >= q->size) {
        q->next_used = (uint16_t)(q->next_used - q->size);
        q->used_wrap = !q->used_wrap;
    }
}

bool vd_packed_publish(struct vd_queue *q) {
    uint16_t added = q->unpublished;
    if (!added)
        return false;
    q->unpublished = 0;
    uint16_t *flags = (uint16_t *)(void *)&q->desc[q->first_used].rest + 3;
    __atomic_store_n(flags, q->first_used_flags, __ATOMIC_RELEASE);
    if (q->mem->written.fn)
        vd_mem_written(q->mem, q->config.desc, 16ull * q->size);
    /* The descriptors before the driver's wish, as in the split ring. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (unlikely(q->must_signal)) {
        q->must_signal = false;
        return true;
    }
    uint32_t event = __atomic_load_n(q->driver_event, __ATOMIC_RELAXED);
    uint32_t mode = event >> 16 & 3;
    if (mode != PACKED_EVENT_DESC || !q->event_idx)
        return mode != PACKED_EVENT_DISABLE;
    uint16_t new = q->next_used, offset = event & 0x7fff;
    if ((event >> 15 & 1) != q->used_wrap)
        offset = (uint16_t)(offset - q->size);
    return (uint16_t)(new - offset - 1) < added;
}

bool vd_packed_notify_enable(struct vd_queue *q) {
    if (q->event_idx) {
        uint32_t event = q->next_avail | (uint32_t)q->avail_wrap << 15 | PACKED_EVENT_DESC << 16;
        __atomic_store_n(q->device_event, event, __ATOMIC_RELAXED);
    } else {
        __atomic_store_n(q->device_event, PACKED_EVENT_ENABLE << 16, __ATOMIC_RELAXED);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool waiting = available(load_rest(q), q->avail_wrap);
    if (waiting)
        vd_packed_notify_disable(q);
    return waiting;
}

void vd_packed_notify_disable(struct vd_queue *q) {
    __atomic_store_n(q->device_event, PACKED_EVENT_DISABLE << 16, __ATOMIC_RELAXED);
}

int vd_packed_seek(struct vd_queue *q, uint32_t position) {
    uint16_t avail = position & 0x7fff, used = position >> 16 & 0x7fff;
    if (avail >= q->size || used >= q->size)
        return VD_RING_AVAIL_OVERRUN;
    q->next_avail = avail;
    q->avail_wrap = position >> 15 & 1;
    q->next_used = used;
    q->used_wrap = position >> 31;
    return VD_RING_OK;
}
