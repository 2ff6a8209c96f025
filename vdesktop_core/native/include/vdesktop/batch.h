/* SPDX-License-Identifier: MIT
 * A device whose requests are served in batches by a thread of the embedder's
 * (Python's, for one), which the core never waits for.
 *
 * A chain is named by a token. Whoever holds one may come back at any time, from
 * any thread: after a reset its chain no longer exists, and every use of the
 * token says -ESTALE and touches nothing. So a reset is over at once, whatever
 * the serving thread is doing. */
#ifndef VDESKTOP_BATCH_H
#define VDESKTOP_BATCH_H

#include "vdesktop/device.h"

#define VD_BATCH_QUEUES_MAX 32

struct vd_batch;

struct vd_batch_chain {
    uint64_t token;
    uint32_t read_len, write_len;
};

struct vd_batch_done {
    uint64_t token;
    uint32_t written;
};

/* News for the serving thread: bit i < 32, queue i was kicked; and: */
enum vd_batch_news {
    VD_BATCH_RESET = 32, /* bit numbers */
    VD_BATCH_DRIVER_OK,
    VD_BATCH_CONFIG_WRITTEN,
};

/* The caller then fills in vd_batch_device(b)->config… before it attaches.
 * wake_fd is given to host->wake when vd_batch_take has news. NULL: no memory, or
 * more queues than there is room for. */
struct vd_batch *vd_batch_new(const struct vd_host *host, struct vd_mem *mem, const char *name,
                              uint32_t virtio_id, uint64_t features, const uint16_t *queue_sizes,
                              uint16_t n_queues, int wake_fd);
void vd_batch_free(struct vd_batch *b); /* detached */
struct vd_device *vd_batch_device(struct vd_batch *b);
/* Takes all news; 0: none. In a set with several, the reset came first. */
uint64_t vd_batch_take(struct vd_batch *b);
/* Changes whenever tokens become stale. */
uint32_t vd_batch_generation(struct vd_batch *b);

/* Up to n chains. 0: the queue is empty and will be kicked when it no longer
 * is. A malformed chain is a protocol error of the driver's; then 0, too. */
uint32_t vd_batch_drain(struct vd_batch *b, uint16_t queue, struct vd_batch_chain *chains,
                        uint32_t n);
/* Bytes copied out of the readable (into the writable) part, or -ESTALE. */
int64_t vd_batch_read(struct vd_batch *b, uint64_t token, uint32_t offset, void *to, uint32_t len);
int64_t vd_batch_write(struct vd_batch *b, uint64_t token, uint32_t offset, const void *from,
                       uint32_t len);
/* Completes chains of one queue and takes one interrupt decision for all of
 * them. Stale tokens are passed over; returns how many were not. */
uint32_t vd_batch_complete(struct vd_batch *b, uint16_t queue, const struct vd_batch_done *done,
                           uint32_t n);

#endif
