/* SPDX-License-Identifier: MIT
 * virtio-blk as a device: its life cycle and its cache mode. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "blk_plane.h"

static struct vd_blk *blk_of(struct vd_device *dev) {
    return dev->opaque;
}

static void on_notify(struct vd_device *dev, uint16_t queue) {
    blk_queue_kick(&blk_of(dev)->queues[queue]);
}

/* The queue's thread reads it, and wakes itself by it. */
static int on_doorbell(struct vd_device *dev, uint16_t queue) {
    return blk_of(dev)->queues[queue].kick_fd;
}

static void flush_store(struct vd_blk *blk, struct vd_blk_store *store) {
    struct blk_request flush = {.type = BLK_T_FLUSH};
    int error = store->read_only ? 0 : store->flush(store, 0);
    if (error)
        blk_log_error(blk, &flush, error);
}

/* §5.2.5.1, §5.2.6.2: write-back needs a driver that can flush. */
static void decide_cache_mode(struct vd_blk *blk) {
    uint64_t features = blk->dev.driver_features;
    bool write_through =
        blk->host_write_through || !(features >> BLK_F_FLUSH & 1) ||
        ((features >> BLK_F_CONFIG_WCE & 1) && !blk_config_get(&blk->dev, BLK_CONFIG_WRITEBACK));
    bool before = __atomic_exchange_n(&blk->write_through, write_through, __ATOMIC_RELAXED);
    /* What was acknowledged under write-back must not stay volatile. */
    if (write_through && !before && blk->store != &blk->gone)
        flush_store(blk, blk->store);
}

static void on_driver_ok(struct vd_device *dev) {
    struct vd_blk *blk = blk_of(dev);
    decide_cache_mode(blk);
    __atomic_store_n(&blk->driver_ok, true, __ATOMIC_RELAXED);
    for (uint16_t i = 0; i < dev->n_queues; i++)
        if (vd_queue_live(dev->queue[i]))
            blk_queue_start(&blk->queues[i]);
}

static void on_reset(struct vd_device *dev) {
    struct vd_blk *blk = blk_of(dev);
    __atomic_store_n(&blk->driver_ok, false, __ATOMIC_RELAXED);
    for (uint16_t i = 0; i < dev->n_queues; i++)
        blk_queue_stop(&blk->queues[i]);
    if ((dev->offered >> BLK_F_CONFIG_WCE & 1) && !blk_config_get(dev, BLK_CONFIG_WRITEBACK))
        vd_device_config_set(dev, blk_config_offset(BLK_CONFIG_WRITEBACK), &(uint8_t){1}, 1);
    __atomic_store_n(&blk->write_through, blk->host_write_through, __ATOMIC_RELAXED);
}

static void on_queue_ready(struct vd_device *dev, uint16_t index) {
    struct vd_blk *blk = blk_of(dev);
    if (__atomic_load_n(&blk->driver_ok, __ATOMIC_RELAXED))
        blk_queue_start(&blk->queues[index]);
}

static void on_queue_reset(struct vd_device *dev, uint16_t index) {
    blk_queue_stop(&blk_of(dev)->queues[index]);
}

static void on_config_written(struct vd_device *dev, uint32_t offset, uint32_t len) {
    struct vd_blk *blk = blk_of(dev);
    if (blk_config_touches(BLK_CONFIG_WRITEBACK, offset, len) &&
        __atomic_load_n(&blk->driver_ok, __ATOMIC_RELAXED))
        decide_cache_mode(blk);
}

static int gone_move(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n,
                     uint64_t offset, uint32_t flags) {
    (void)store, (void)iov, (void)n, (void)offset, (void)flags;
    return -ENODEV;
}

static int gone_flush(struct vd_blk_store *store, uint32_t flags) {
    (void)store, (void)flags;
    return -ENODEV;
}

static int gone_discard(struct vd_blk_store *store, uint64_t offset, uint64_t len) {
    (void)store, (void)offset, (void)len;
    return -ENODEV;
}

static int gone_zeroes(struct vd_blk_store *store, uint64_t offset, uint64_t len, bool unmap) {
    (void)store, (void)offset, (void)len, (void)unmap;
    return -ENODEV;
}

static void on_lose(struct vd_device *dev) {
    struct vd_blk *blk = blk_of(dev);
    if (blk->store != &blk->gone)
        flush_store(blk, blk_take_store(blk));
}

static const struct vd_device_ops ops = {
    .driver_ok = on_driver_ok,
    .reset = on_reset,
    .queue_ready = on_queue_ready,
    .queue_reset = on_queue_reset,
    .notify = on_notify,
    .doorbell = on_doorbell,
    .config_written = on_config_written,
    .lose = on_lose,
};

static bool valid(const struct vd_blk_options *options, const struct vd_blk_store *store) {
    uint32_t block_size = options->block_size ? options->block_size : store->block_size;
    return options->queues >= 1 && options->queues <= VD_BLK_QUEUES_MAX &&
           options->queue_size >= 4 && options->queue_size <= VD_QUEUE_SIZE_MAX &&
           !(options->queue_size & (options->queue_size - 1)) && options->workers >= 1 &&
           block_size >= VD_BLK_SECTOR && block_size <= 65536 && !(block_size & (block_size - 1)) &&
           store->size % block_size == 0;
}

struct vd_blk *vd_blk_new(const struct vd_host *host, struct vd_mem *mem, const char *name,
                          struct vd_blk_store *store, const struct vd_blk_options *options,
                          struct vd_loop *const *loops, int *error) {
    *error = -EINVAL;
    if (!valid(options, store))
        return NULL;
    *error = -ENOMEM;
    struct vd_blk *blk =
        host->alloc(host->opaque, sizeof *blk + options->queues * sizeof *blk->queues);
    if (!blk)
        return NULL;
    blk->store = store;
    blk->gone = (struct vd_blk_store){
        .readv = gone_move,
        .writev = gone_move,
        .flush = gone_flush,
        .discard = gone_discard,
        .write_zeroes = gone_zeroes,
        .size = store->size,
        .block_size = store->block_size,
        .read_only = store->read_only,
    };
    blk->inline_bytes = options->inline_bytes;
    blk->host_write_through = blk->write_through = options->write_through;
    memcpy(blk->serial, options->serial, sizeof blk->serial);
    blk->dev.ops = &ops;
    blk->dev.opaque = blk;
    blk->dev.virtio_id = VD_BLK_ID;
    blk->dev.host = host;
    blk->dev.offered = VD_FEATURES_COMMON;
    blk->dev.mem = mem;
    blk->dev.n_queues = options->queues;
    strncpy(blk->dev.name, name, sizeof blk->dev.name - 1);
    blk_config_fill(&blk->dev, store, options);
    for (uint16_t i = 0; i < options->queues; i++) {
        blk->dev.queue_size_max[i] = options->queue_size;
        blk->queues[i] =
            (struct blk_queue){.blk = blk, .loop = loops[i], .index = i, .kick_fd = -1};
        pthread_mutex_init(&blk->queues[i].lock, NULL);
        pthread_cond_init(&blk->queues[i].drained, NULL);
    }
    blk->pool = blk_pool_new(host, "vd-blk", options->workers, blk_run_deferred);
    *error = blk->pool ? 0 : -ENOMEM;
    for (uint16_t i = 0; i < options->queues && !*error; i++)
        *error = blk_queue_open(&blk->queues[i]);
    if (*error) {
        vd_blk_free(blk);
        return NULL;
    }
    return blk;
}

void vd_blk_free(struct vd_blk *blk) {
    if (!blk)
        return;
    const struct vd_host *host = blk->dev.host;
    if (blk->pool)
        on_reset(&blk->dev);
    blk_pool_free(blk->pool);
    if (blk->store != &blk->gone)
        flush_store(blk, blk->store);
    for (uint16_t i = 0; i < blk->dev.n_queues; i++)
        blk_queue_close(&blk->queues[i]);
    host->free(host->opaque, blk);
}

struct vd_device *vd_blk_device(struct vd_blk *blk) {
    return &blk->dev;
}

void vd_blk_counters(struct vd_blk *blk, struct vd_blk_counters *sum) {
    *sum = (struct vd_blk_counters){0};
    for (uint16_t i = 0; i < blk->dev.n_queues; i++) {
        struct blk_queue *queue = &blk->queues[i];
        /* All fields are uint64_t. */
        uint64_t *to = (uint64_t *)sum;
        pthread_mutex_lock(&queue->lock);
        const uint64_t *from = (const uint64_t *)&queue->counters;
        for (size_t f = 0; f < sizeof *sum / sizeof *to; f++)
            to[f] += from[f];
        pthread_mutex_unlock(&queue->lock);
    }
}
