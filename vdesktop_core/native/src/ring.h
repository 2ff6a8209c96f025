/* SPDX-License-Identifier: MIT
 * Inside of a virtqueue: what split and packed share. */
#ifndef VDESKTOP_RING_PRIV_H
#define VDESKTOP_RING_PRIV_H

#include <string.h>

#include "mem_map.h"
#include "vdesktop/ring.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little-endian (§1.4)");

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define cold        __attribute__((cold, noinline))

/* Descriptor flags, split §2.7.5 and packed §2.8.14. */
#define DESC_F_NEXT     (1u << 0)
#define DESC_F_WRITE    (1u << 1)
#define DESC_F_INDIRECT (1u << 2)
#define DESC_F_AVAIL    (1u << 7)
#define DESC_F_USED     (1u << 15)

/* A descriptor in guest memory: addr, then len | a << 32 | b << 48, where a, b
 * are flags, next (split) or id, flags (packed). */
struct desc {
    uint64_t addr, rest;
};

struct split_avail {
    uint16_t flags, idx, ring[];
};
struct split_used {
    uint16_t flags, idx;
    uint8_t ring[]; /* of {u32 id, u32 len}, aligned to 4 only */
};
#define SPLIT_AVAIL_F_NO_INTERRUPT 1u
#define SPLIT_USED_F_NO_NOTIFY     1u

/* Event suppression structure, §2.8.14: off_wrap | flags << 16. */
#define PACKED_EVENT_ENABLE  0u
#define PACKED_EVENT_DISABLE 1u
#define PACKED_EVENT_DESC    2u

#define PACKED_IDS 65536u

struct vd_queue {
    struct desc *desc;
    union {
        struct {
            struct split_avail *avail;
            struct split_used *used;
            uint16_t *used_event;  /* read: when the driver wants an interrupt */
            uint16_t *avail_event; /* written: when we want a kick */
        };
        struct {
            uint32_t *driver_event;
            uint32_t *device_event;
        };
    };
    const struct vd_mem_region *hot; /* where the last segment was found */
    struct vd_mem *mem;
    uint16_t size;
    bool live, packed, indirect, event_idx;
    int error;

    uint16_t next_avail; /* split: free running; packed: an index */
    uint16_t avail_idx;  /* split: the last driver index read */
    uint16_t next_used;
    bool avail_wrap, used_wrap; /* packed */
    /* Pushed, not yet published. Split: used elements; packed: descriptors. */
    uint16_t unpublished;
    bool must_signal; /* after a seek nobody knows what was signalled before */
    /* Packed: the first unpublished used descriptor, its flags are withheld. */
    uint16_t first_used, first_used_flags;
    uint32_t in_flight_descs;

    const struct vd_host *host;
    struct vd_queue_config config;
    /* A byte a head: bits of one word would chain each chain to the one before. A
     * packed buffer id is any u16, so that needs an allocation of its own. */
    uint8_t *in_flight;
    uint8_t *in_flight_packed; /* NULL until a packed ring starts */
    uint8_t in_flight_split[VD_QUEUE_SIZE_MAX];
};

/* Reads a guest descriptor exactly once: the empty asm keeps the compiler from
 * going back to memory later. Any alignment (an indirect table has none). */
static inline struct desc desc_load(const void *p) {
    uint64_t addr, rest;
    memcpy(&addr, p, sizeof addr);
    memcpy(&rest, (const uint8_t *)p + sizeof addr, sizeof rest);
    __asm__("" : "+r"(addr), "+r"(rest));
    return (struct desc){addr, rest};
}

cold int vd_queue_break(struct vd_queue *q, int error);

/* What a walk over one chain has found so far: n segments, the last n_write of
 * them device-writable. */
struct walk {
    uint32_t n, n_write;
    uint64_t read_len, write_len;
};

cold int vd_walk_add_slow(struct vd_queue *q, struct vd_chain *c, struct walk *w, uint64_t gpa,
                          uint32_t len, bool write);

/* Adds the buffer of one descriptor. A buffer of length 0 gives no segment: the
 * specification does not forbid it, and Linux vhost passes over it likewise. */
static inline int walk_add(struct vd_queue *q, struct vd_chain *c, struct walk *w, uint64_t gpa,
                           uint32_t len, bool write) {
    const struct vd_mem_region *r = q->hot;
    uint64_t offset = gpa - r->gpa;
    uint32_t n = w->n;

    /* len - 1 is huge for 0; the sum cannot wrap, since offset < r->len first. */
    if (unlikely(offset >= r->len || (uint64_t)len - 1 >= r->len - offset ||
                 n == VD_CHAIN_SEGS_MAX || (write ? (r->flags & VD_MEM_READONLY) : w->n_write))) {
        struct walk copy = *w; /* so that *w itself can stay in registers */
        int error = vd_walk_add_slow(q, c, &copy, gpa, len, write);
        *w = copy;
        return error;
    }
    c->iov[n] = (struct vd_iov){r->base + offset, len};
    c->gpa[n] = gpa;
    w->n = n + 1;
    if (write) {
        w->n_write++;
        w->write_len += len;
    } else {
        w->read_len += len;
    }
    return VD_RING_OK;
}

static inline int walk_finish(struct vd_chain *c, const struct walk *w) {
    /* §2.7.5.1: not more than 2^32 bytes; and the used length has 32 bits. */
    if (unlikely(w->read_len + w->write_len > UINT32_MAX))
        return VD_RING_BAD_LENGTH;
    c->n_read = (uint16_t)(w->n - w->n_write);
    c->n_write = (uint16_t)w->n_write;
    c->read_len = (uint32_t)w->read_len;
    c->write_len = (uint32_t)w->write_len;
    return VD_RING_OK;
}

/* Walks an indirect table, with which a chain ends. linked: by next, as in split
 * rings; else in order. A constant at each of the two calls, hence inlined. */
static inline int walk_indirect(struct vd_queue *q, struct vd_chain *c, struct walk w, uint64_t gpa,
                                uint32_t len, bool linked) {
    if (!len || len % sizeof(struct desc))
        return VD_RING_BAD_INDIRECT;
    /* A table may claim 2^28 descriptors, and none of them need have a segment. */
    uint32_t entries = len / (uint32_t)sizeof(struct desc), i = 0;
    uint32_t left = entries < VD_CHAIN_SEGS_MAX ? entries : VD_CHAIN_SEGS_MAX;
    /* One host range as a rule; else each descriptor is copied over the border. */
    const uint8_t *table = vd_region_span(q->hot, gpa, len, false) == len
                               ? q->hot->base + (gpa - q->hot->gpa)
                               : vd_mem_ptr(q->mem, gpa, len, false);
    if (unlikely(!table && len - 1 > UINT64_MAX - gpa))
        return VD_RING_BAD_ADDRESS;
    for (;;) {
        uint8_t copied[sizeof(struct desc)];
        const uint8_t *entry = copied;
        if (table)
            entry = table + i * sizeof(struct desc);
        else if (vd_mem_read(q->mem, gpa + i * sizeof(struct desc), copied, sizeof copied))
            return VD_RING_BAD_ADDRESS;
        struct desc d = desc_load(entry);
        uint32_t flags = (uint32_t)(d.rest >> (linked ? 32 : 48)) & 0xffff;
        /* Packed: flags but WRITE are reserved and ignored here (§2.8.7). */
        if (unlikely(linked && (flags & DESC_F_INDIRECT)))
            return VD_RING_BAD_INDIRECT;
        int error = walk_add(q, c, &w, d.addr, (uint32_t)d.rest, flags & DESC_F_WRITE);
        if (unlikely(error))
            return error;
        if (linked) {
            if (!(flags & DESC_F_NEXT))
                break;
            i = (uint32_t)(d.rest >> 48);
            if (unlikely(i >= entries))
                return VD_RING_BAD_NEXT;
        } else {
            i++;
        }
        if (--left == 0) {
            if (linked || i < entries)
                return VD_RING_CHAIN_TOO_LONG;
            break;
        }
    }
    return walk_finish(c, &w);
}

int vd_split_start(struct vd_queue *q, const struct vd_queue_config *config);
int vd_split_pop(struct vd_queue *q, struct vd_chain *c);
void vd_split_unpop(struct vd_queue *q, const struct vd_chain *c);
void vd_split_push(struct vd_queue *q, const struct vd_chain *c, uint32_t written);
bool vd_split_publish(struct vd_queue *q);
bool vd_split_notify_enable(struct vd_queue *q);
void vd_split_notify_disable(struct vd_queue *q);
int vd_split_seek(struct vd_queue *q, uint32_t position);

int vd_packed_start(struct vd_queue *q, const struct vd_queue_config *config);
int vd_packed_pop(struct vd_queue *q, struct vd_chain *c);
void vd_packed_unpop(struct vd_queue *q, const struct vd_chain *c);
void vd_packed_push(struct vd_queue *q, const struct vd_chain *c, uint32_t written);
bool vd_packed_publish(struct vd_queue *q);
bool vd_packed_notify_enable(struct vd_queue *q);
void vd_packed_notify_disable(struct vd_queue *q);
int vd_packed_seek(struct vd_queue *q, uint32_t position);

/* The host address of a ring area, aligned as the guest address has to be. */
static inline void *ring_area(const struct vd_queue *q, uint64_t gpa, uint64_t len, uint64_t align,
                              bool write) {
    void *p = vd_mem_ptr(q->mem, gpa, len, write);
    return (gpa | (uintptr_t)p) % align ? NULL : p;
}

#endif
