/* SPDX-License-Identifier: MIT
 * virtio-blk: what a device (blk_device.c) and the serving of its queues
 * (blk_plane.c) share. */
#ifndef VD_BLK_PLANE_H
#define VD_BLK_PLANE_H

#include "blk_internal.h"

struct blk_deferred;

struct blk_queue {
    struct vd_blk *blk;
    struct vd_loop *loop;
    uint16_t index;
    int kick_fd;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t drained;
    bool running;       /* between DRIVER_OK and reset, the ring is sound */
    uint32_t in_flight; /* requests with the pool */
    struct blk_deferred *free;
    struct blk_request current; /* of the thread that serves */
    struct vd_iov *data;
    struct vd_blk_counters counters;
};

struct vd_blk {
    struct vd_device dev;
    struct vd_blk_store *store; /* changes once: see blk_take_store */
    struct vd_blk_store gone;   /* what takes its place */
    struct blk_pool *pool;
    uint32_t inline_bytes;
    bool host_write_through;
    bool write_through; /* atomic: what the driver and the host agreed on */
    bool driver_ok;     /* atomic */
    char serial[VD_BLK_SERIAL_LEN];
    uint64_t logged[4]; /* atomic: errno values that have been logged */
    struct blk_queue queues[];
};

/* 0 or -errno; freeing takes back what opening got, however far it came. */
int blk_queue_open(struct blk_queue *queue);
void blk_queue_close(struct blk_queue *queue);
void blk_queue_start(struct blk_queue *queue);
/* Returns when no thread touches the ring or a request's memory any more. */
void blk_queue_stop(struct blk_queue *queue);
/* Puts `gone` in the place of the store and answers what is in flight: it fails, unless a
 * worker has begun it. Returns the store, which nobody uses any more. Transport's lock held. */
struct vd_blk_store *blk_take_store(struct vd_blk *blk);
/* On the thread that kicks. */
void blk_queue_kick(struct blk_queue *queue);
/* What the pool runs. */
void blk_run_deferred(struct blk_job *job);
/* Once for every errno. */
void blk_log_error(struct vd_blk *blk, const struct blk_request *request, int error);

#endif
