/* SPDX-License-Identifier: MIT
 * Virtqueues, device side: split (virtio 1.4 §2.7) and packed (§2.8).
 *
 * One consumer thread at a time works on a queue; the transport may only
 * reset it after the device's `reset`/`queue_reset` returned. Geometry is
 * copied when the queue becomes ready and never read again. */
#ifndef VDESKTOP_RING_H
#define VDESKTOP_RING_H

#include "vdesktop/mem.h"

#define VD_QUEUE_SIZE_MAX 1024u
/* Segments of one chain, and descriptors of an indirect table, at most: bounds
 * the work of one request. */
#define VD_CHAIN_SEGS_MAX 1024u

/* Layout of struct iovec, so that data planes hand it to preadv as it is. */
struct vd_iov {
    void *base;
    size_t len;
};

/* Why a queue broke. All but the last name a clause; see vd_ring_strerror. */
enum vd_ring_error {
    VD_RING_OK = 0,
    VD_RING_BAD_GEOMETRY = -1,
    VD_RING_BAD_ADDRESS = -2,   /* descriptor outside memory, or write to read-only memory */
    VD_RING_AVAIL_OVERRUN = -3, /* avail idx ahead by more than the queue size */
    VD_RING_BAD_HEAD = -4,
    VD_RING_HEAD_IN_FLIGHT = -5,
    VD_RING_CHAIN_TOO_LONG = -6, /* loop, or longer than the queue */
    VD_RING_BAD_INDIRECT = -7,   /* nested, zero or odd length, not negotiated */
    VD_RING_ORDER = -8,          /* device-readable after device-writable */
    VD_RING_BAD_LENGTH = -9,     /* total over 2^32-1; a descriptor of length 0 is passed over */
    VD_RING_BAD_NEXT = -10,
    VD_RING_NO_MEMORY = -11, /* of the host: the only one that is not the driver's fault */
};
const char *vd_ring_strerror(int error);

struct vd_queue_config {
    uint16_t size;
    uint64_t desc, driver, device; /* guest-physical; avail/used or the event areas */
    bool packed, indirect, event_idx;
};

struct vd_queue;

/* A request. Segments: iov[0..n_read) device-readable, then
 * iov[n_read..n_read+n_write) device-writable. gpa[i] is where segment i lies
 * (for vd_mem_written). A descriptor that spans regions gives several segments. */
struct vd_chain {
    uint16_t id;    /* head index (split) or buffer id (packed) */
    uint16_t descs; /* descriptors consumed from the ring (packed) */
    uint16_t n_read, n_write;
    uint32_t read_len, write_len;
    struct vd_iov *iov; /* room for VD_CHAIN_SEGS_MAX, caller's */
    uint64_t *gpa;      /* as many */
};

struct vd_queue *vd_queue_new(const struct vd_host *host, struct vd_mem *mem);
void vd_queue_free(struct vd_queue *q);
/* Checks and copies the geometry, zeroes the indices. VD_RING_OK or an error. */
int vd_queue_start(struct vd_queue *q, const struct vd_queue_config *config);
void vd_queue_stop(struct vd_queue *q);
bool vd_queue_live(const struct vd_queue *q);
int vd_queue_error(const struct vd_queue *q); /* sticky until start */

/* 1: a chain in *chain; 0: empty; < 0: vd_ring_error, the queue is broken. */
int vd_queue_pop(struct vd_queue *q, struct vd_chain *chain);
/* Gives the last popped chain back, as if never popped (split and packed). */
void vd_queue_unpop(struct vd_queue *q, const struct vd_chain *chain);
/* Completes a chain: `written` bytes of its writable part are valid. Calls the
 * written hook for them. Order of completion is free. */
void vd_queue_push(struct vd_queue *q, const struct vd_chain *chain, uint32_t written);
/* Makes everything pushed visible, and says whether the driver wants an
 * interrupt for it (event idx or flags), one decision a batch. */
bool vd_queue_publish(struct vd_queue *q);
/* Notification suppression, guest to host. `enable` returns true if chains are
 * waiting (poll again, notifications stay off in that case). */
bool vd_queue_notify_enable(struct vd_queue *q);
void vd_queue_notify_disable(struct vd_queue *q);
/* Position, for save/restore and vhost-user (GET_VRING_BASE). */
uint32_t vd_queue_position(const struct vd_queue *q);
int vd_queue_seek(struct vd_queue *q, uint32_t position);

/* Helpers over a chain's segments: return bytes copied. */
size_t vd_chain_read(const struct vd_chain *chain, size_t offset, void *to, size_t len);
size_t vd_chain_write(const struct vd_chain *chain, size_t offset, const void *from, size_t len);

#endif
