/* SPDX-License-Identifier: MIT
 * Split virtqueues, virtio 1.4 §2.7. */
#include "ring.h"

int vd_split_start(struct vd_queue *q, const struct vd_queue_config *config) {
    uint32_t n = config->size, event = config->event_idx ? 2 : 0;
    if (n & (n - 1)) /* §2.7: a power of 2 */
        return VD_RING_BAD_GEOMETRY;
    /* Alignments and sizes: the table of §2.7. */
    q->desc = ring_area(q, config->desc, 16 * n, 16, false);
    q->avail = ring_area(q, config->driver, 4 + 2 * n + event, 2, false);
    q->used = ring_area(q, config->device, 4 + 8 * n + event, 4, true);
    if (!q->desc || !q->avail || !q->used)
        return VD_RING_BAD_GEOMETRY;
    q->used_event = &q->avail->ring[n];
    q->avail_event = (uint16_t *)(void *)&q->used->ring[8 * n];
    return VD_RING_OK;
}

static int walk(struct vd_queue *q, struct vd_chain *c, uint16_t head) {
    struct walk w = {0};
    uint32_t i = head, left = q->size;
    for (;;) {
        struct desc d = desc_load(&q->desc[i]);
        uint32_t len = (uint32_t)d.rest, flags = (uint32_t)(d.rest >> 32) & 0xffff;
        if (unlikely(flags & DESC_F_INDIRECT)) {
            /* §2.7.5.3.1: ends the chain; WRITE on it is ignored (.2). */
            if (!q->indirect || (flags & DESC_F_NEXT))
                return VD_RING_BAD_INDIRECT;
            return walk_indirect(q, c, w, d.addr, len, true);
        }
        int error = walk_add(q, c, &w, d.addr, len, flags & DESC_F_WRITE);
        if (unlikely(error))
            return error;
        if (!(flags & DESC_F_NEXT))
            break;
        i = (uint32_t)(d.rest >> 48);
        if (unlikely(i >= q->size))
            return VD_RING_BAD_NEXT;
        if (unlikely(--left == 0))
            return VD_RING_CHAIN_TOO_LONG;
    }
    return walk_finish(c, &w);
}

int vd_split_pop(struct vd_queue *q, struct vd_chain *c) {
    uint16_t at = q->next_avail;
    if (at == q->avail_idx) {
        /* Acquire: what the driver wrote before it moved the index. */
        uint16_t idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
        if (idx == at)
            return 0;
        if (unlikely((uint16_t)(idx - at) > q->size))
            return vd_queue_break(q, VD_RING_AVAIL_OVERRUN);
        q->avail_idx = idx;
    }
    uint16_t head = __atomic_load_n(&q->avail->ring[at & (q->size - 1)], __ATOMIC_RELAXED);
    if (unlikely(head >= q->size))
        return vd_queue_break(q, VD_RING_BAD_HEAD);
    if (unlikely(q->in_flight[head]))
        return vd_queue_break(q, VD_RING_HEAD_IN_FLIGHT);
    int error = walk(q, c, head);
    if (unlikely(error))
        return vd_queue_break(q, error);
    q->in_flight[head] = 1;
    c->id = head;
    c->descs = 1;
    q->next_avail = (uint16_t)(at + 1);
    return 1;
}

void vd_split_unpop(struct vd_queue *q, const struct vd_chain *c) {
    q->in_flight[c->id] = 0;
    q->next_avail--;
}

void vd_split_push(struct vd_queue *q, const struct vd_chain *c, uint32_t written) {
    q->in_flight[c->id] = 0;
    uint64_t element = c->id | (uint64_t)written << 32;
    memcpy(&q->used->ring[8u * (q->next_used & (q->size - 1u))], &element, sizeof element);
    q->next_used++;
    q->unpublished++;
}

bool vd_split_publish(struct vd_queue *q) {
    uint16_t new = q->next_used, old = (uint16_t)(new - q->unpublished);
    if (new == old)
        return false;
    q->unpublished = 0;
    __atomic_store_n(&q->used->idx, new, __ATOMIC_RELEASE);
    if (q->mem->written.fn)
        vd_mem_written(q->mem, q->config.device, 4 + 8ull * q->size);
    /* The index before the driver's wish: pairs with the driver, which writes
     * its wish and then looks at the index again (§2.7.7.2, §2.7.10). */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (unlikely(q->must_signal)) {
        q->must_signal = false;
        return true;
    }
    if (q->event_idx) {
        uint16_t event = __atomic_load_n(q->used_event, __ATOMIC_RELAXED);
        return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
    }
    return !(__atomic_load_n(&q->avail->flags, __ATOMIC_RELAXED) & SPLIT_AVAIL_F_NO_INTERRUPT);
}

bool vd_split_notify_enable(struct vd_queue *q) {
    if (q->event_idx)
        __atomic_store_n(q->avail_event, q->next_avail, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&q->used->flags, 0, __ATOMIC_RELAXED);
    /* Our wish before the index: a chain that came meanwhile is not lost. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool waiting = __atomic_load_n(&q->avail->idx, __ATOMIC_RELAXED) != q->next_avail;
    if (waiting)
        vd_split_notify_disable(q);
    return waiting;
}

void vd_split_notify_disable(struct vd_queue *q) {
    /* With event idx, an avail_event that stays behind is as good as off. */
    if (!q->event_idx)
        __atomic_store_n(&q->used->flags, SPLIT_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

int vd_split_seek(struct vd_queue *q, uint32_t position) {
    uint16_t avail = (uint16_t)position, used = __atomic_load_n(&q->used->idx, __ATOMIC_RELAXED);
    if (position > UINT16_MAX || (uint16_t)(avail - used) > q->size)
        return VD_RING_AVAIL_OVERRUN;
    q->next_avail = q->avail_idx = avail;
    q->next_used = used;
    return VD_RING_OK;
}
