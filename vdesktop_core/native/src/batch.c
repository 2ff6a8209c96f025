/* SPDX-License-Identifier: MIT
 * A device served in batches by a foreign thread. */
#include "vdesktop/batch.h"

#include <errno.h>
#include <string.h>

#include "lock.h"

#define INLINE_SEGS 8

/* A chain that was handed out. token: generation << 32 | queue << 16 | index. */
struct held {
    uint32_t generation; /* 0: free */
    uint16_t next_free;
    struct vd_chain chain; /* its arrays: the two below, or one allocation */
    struct vd_iov iov[INLINE_SEGS];
    uint64_t gpa[INLINE_SEGS];
};

struct batch_queue {
    bool ready;
    uint16_t size, first_free; /* == size: none */
    struct held *held;
};

struct vd_batch {
    struct vd_device dev;
    int wake_fd;
    uint64_t news; /* atomic */

    struct vd_lock lock; /* everything below; held while payload is copied */
    bool running;
    uint32_t generation; /* never 0 */
    struct batch_queue queue[VD_BATCH_QUEUES_MAX];
    struct vd_iov iov[VD_CHAIN_SEGS_MAX]; /* a chain is popped here first */
    uint64_t gpa[VD_CHAIN_SEGS_MAX];
};

static void tell(struct vd_batch *b, unsigned bit) {
    /* Somebody who set a bit before and was not heard yet has woken the thread. */
    if (!__atomic_fetch_or(&b->news, 1ull << bit, __ATOMIC_SEQ_CST) && b->wake_fd >= 0)
        b->dev.host->wake(b->dev.host->opaque, b->wake_fd);
}

uint64_t vd_batch_take(struct vd_batch *b) {
    return __atomic_exchange_n(&b->news, 0, __ATOMIC_SEQ_CST);
}

uint32_t vd_batch_generation(struct vd_batch *b) {
    vd_lock(&b->lock, b->dev.host);
    uint32_t generation = b->generation;
    vd_unlock(&b->lock);
    return generation;
}

/* Held chains */

static void release(struct vd_batch *b, struct batch_queue *q, struct held *h) {
    if (h->chain.iov != h->iov)
        b->dev.host->free(b->dev.host->opaque, h->chain.iov);
    h->generation = 0;
    h->next_free = q->first_free;
    q->first_free = (uint16_t)(h - q->held);
}

static void forget_all(struct vd_batch *b, struct batch_queue *q) {
    q->ready = false;
    for (uint32_t i = 0; i < q->size; i++)
        if (q->held[i].generation)
            release(b, q, &q->held[i]);
}

static bool hold(struct vd_batch *b, struct batch_queue *q, const struct vd_chain *chain,
                 uint64_t *token) {
    uint32_t n = (uint32_t)chain->n_read + chain->n_write;
    struct held *h = &q->held[q->first_free];
    struct vd_iov *iov = h->iov;
    uint64_t *gpa = h->gpa;
    if (n > INLINE_SEGS) {
        iov = b->dev.host->alloc(b->dev.host->opaque, n * (sizeof *iov + sizeof *gpa));
        if (!iov)
            return false;
        gpa = (uint64_t *)(void *)(iov + n);
    }
    memcpy(iov, chain->iov, n * sizeof *iov);
    memcpy(gpa, chain->gpa, n * sizeof *gpa);
    h->chain = *chain;
    h->chain.iov = iov;
    h->chain.gpa = gpa;
    h->generation = b->generation;
    uint64_t queue = (uint64_t)(q - b->queue), index = q->first_free;
    q->first_free = h->next_free;
    *token = (uint64_t)b->generation << 32 | queue << 16 | index;
    return true;
}

/* The chain of a token, or NULL; nothing of the token is trusted. */
static struct held *find(struct vd_batch *b, uint64_t token) {
    uint32_t queue = token >> 16 & 0xffff, index = token & 0xffff;
    if (queue >= b->dev.n_queues || index >= b->queue[queue].size || !(token >> 32))
        return NULL;
    struct held *h = &b->queue[queue].held[index];
    return h->generation == token >> 32 ? h : NULL;
}

/* Operations */

static void new_generation(struct vd_batch *b) {
    if (++b->generation == 0)
        b->generation = 1;
}

static void op_driver_ok(struct vd_device *dev) {
    struct vd_batch *b = dev->opaque;
    vd_lock(&b->lock, dev->host);
    b->running = true;
    vd_unlock(&b->lock);
    tell(b, VD_BATCH_DRIVER_OK);
}

static void op_reset(struct vd_device *dev) {
    struct vd_batch *b = dev->opaque;
    vd_lock(&b->lock, dev->host);
    b->running = false;
    new_generation(b);
    for (uint32_t i = 0; i < dev->n_queues; i++)
        forget_all(b, &b->queue[i]);
    vd_unlock(&b->lock);
    tell(b, VD_BATCH_RESET);
}

static void op_queue_ready(struct vd_device *dev, uint16_t queue) {
    struct vd_batch *b = dev->opaque;
    vd_lock(&b->lock, dev->host);
    b->queue[queue].ready = true;
    vd_unlock(&b->lock);
}

static void op_queue_reset(struct vd_device *dev, uint16_t queue) {
    struct vd_batch *b = dev->opaque;
    vd_lock(&b->lock, dev->host);
    forget_all(b, &b->queue[queue]);
    /* A free place that is taken again must not answer to an old token; chains
     * of other queues keep the generation they were given. */
    new_generation(b);
    vd_unlock(&b->lock);
}

static void op_notify(struct vd_device *dev, uint16_t queue) {
    tell(dev->opaque, queue);
}

static void op_config_written(struct vd_device *dev, uint32_t offset, uint32_t len) {
    (void)offset;
    (void)len;
    tell(dev->opaque, VD_BATCH_CONFIG_WRITTEN);
}

static const struct vd_device_ops batch_ops = {
    .driver_ok = op_driver_ok,
    .reset = op_reset,
    .queue_ready = op_queue_ready,
    .queue_reset = op_queue_reset,
    .notify = op_notify,
    .config_written = op_config_written,
};

/* The serving thread's side */

uint32_t vd_batch_drain(struct vd_batch *b, uint16_t queue, struct vd_batch_chain *out,
                        uint32_t n) {
    struct vd_device *dev = &b->dev;
    uint32_t got = 0;
    int error = 0;
    vd_lock(&b->lock, dev->host);
    /* A queue that broke has been reported; it starts anew with a reset. */
    if (queue < dev->n_queues && b->running && b->queue[queue].ready &&
        !vd_queue_error(dev->queue[queue])) {
        struct batch_queue *q = &b->queue[queue];
        struct vd_queue *ring = dev->queue[queue];
        struct vd_chain chain = {.iov = b->iov, .gpa = b->gpa};
        vd_queue_notify_disable(ring);
        /* A place is always free while the ring gives chains: it has as many as
         * the ring, which refuses a chain that is in flight. */
        while (got < n && q->first_free < q->size) {
            int one = vd_queue_pop(ring, &chain);
            if (one == 0) {
                if (vd_queue_notify_enable(ring))
                    continue;
                break;
            }
            if (one < 0) {
                error = one;
                break;
            }
            if (!hold(b, q, &chain, &out[got].token)) {
                vd_queue_unpop(ring, &chain);
                break;
            }
            out[got].read_len = chain.read_len;
            out[got].write_len = chain.write_len;
            got++;
        }
    }
    vd_unlock(&b->lock);
    if (error)
        vd_device_protocol_error(dev, vd_ring_strerror(error));
    return got;
}

int64_t vd_batch_read(struct vd_batch *b, uint64_t token, uint32_t offset, void *to, uint32_t len) {
    vd_lock(&b->lock, b->dev.host);
    const struct held *h = find(b, token);
    int64_t done = h ? (int64_t)vd_chain_read(&h->chain, offset, to, len) : -ESTALE;
    vd_unlock(&b->lock);
    return done;
}

int64_t vd_batch_write(struct vd_batch *b, uint64_t token, uint32_t offset, const void *from,
                       uint32_t len) {
    vd_lock(&b->lock, b->dev.host);
    const struct held *h = find(b, token);
    int64_t done = h ? (int64_t)vd_chain_write(&h->chain, offset, from, len) : -ESTALE;
    vd_unlock(&b->lock);
    return done;
}

uint32_t vd_batch_complete(struct vd_batch *b, uint16_t queue, const struct vd_batch_done *done,
                           uint32_t n) {
    struct vd_device *dev = &b->dev;
    uint32_t pushed = 0;
    bool interrupt = false;
    vd_lock(&b->lock, dev->host);
    for (uint32_t i = 0; i < n; i++) {
        struct held *h = find(b, done[i].token);
        if (!h || (done[i].token >> 16 & 0xffff) != queue)
            continue;
        vd_queue_push(dev->queue[queue], &h->chain, done[i].written);
        release(b, &b->queue[queue], h);
        pushed++;
    }
    if (pushed)
        interrupt = vd_queue_publish(dev->queue[queue]);
    vd_unlock(&b->lock);
    if (interrupt)
        vd_device_interrupt(dev, queue);
    return pushed;
}

/* Life cycle */

struct vd_batch *vd_batch_new(const struct vd_host *host, struct vd_mem *mem, const char *name,
                              uint32_t virtio_id, uint64_t features, const uint16_t *queue_sizes,
                              uint16_t n_queues, int wake_fd) {
    if (n_queues > VD_BATCH_QUEUES_MAX)
        return NULL;
    struct vd_batch *b = host->alloc(host->opaque, sizeof *b);
    if (!b)
        return NULL;
    struct vd_device *dev = &b->dev;
    b->wake_fd = wake_fd;
    b->generation = 1;
    dev->ops = &batch_ops;
    dev->opaque = b;
    dev->virtio_id = virtio_id;
    dev->offered = features;
    dev->host = host;
    dev->mem = mem;
    for (uint32_t i = 0; name[i] && i < sizeof dev->name - 1; i++)
        dev->name[i] = name[i];
    for (uint16_t i = 0; i < n_queues; i++) {
        uint16_t size = queue_sizes[i];
        struct batch_queue *q = &b->queue[i];
        dev->queue_size_max[i] = q->size = size;
        dev->queue[i] = vd_queue_new(host, mem);
        q->held = host->alloc(host->opaque, size * sizeof *q->held);
        dev->n_queues++;
        if (!dev->queue[i] || !q->held) {
            vd_batch_free(b);
            return NULL;
        }
        for (uint32_t k = 0; k < size; k++)
            q->held[k].next_free = (uint16_t)(k + 1);
    }
    return b;
}

void vd_batch_free(struct vd_batch *b) {
    if (!b)
        return;
    const struct vd_host *host = b->dev.host;
    for (uint32_t i = 0; i < b->dev.n_queues; i++) {
        if (b->queue[i].held) {
            forget_all(b, &b->queue[i]);
            host->free(host->opaque, b->queue[i].held);
        }
        vd_queue_free(b->dev.queue[i]);
    }
    host->free(host->opaque, b);
}

struct vd_device *vd_batch_device(struct vd_batch *b) {
    return &b->dev;
}
