/* SPDX-License-Identifier: MIT
 * What the data planes on a vd_loop share: kicks that wake the loop at most
 * once, and which queues the loop's thread may touch. */
#ifndef VD_PLANE_H
#define VD_PLANE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "vdesktop/device.h"
#include "vdesktop/loop.h"

/* Ring features that every plane offers (virtio 1.4 §6). */
#define VD_PLANE_FEATURES                                                                          \
    (UINT64_C(1) << VD_F_INDIRECT_DESC | UINT64_C(1) << VD_F_EVENT_IDX |                           \
     UINT64_C(1) << VD_F_RING_PACKED | UINT64_C(1) << VD_F_RING_RESET)

struct vd_plane;

/* A doorbell: one queue's own eventfd; see vd_device_ops.doorbell. */
struct vd_plane_bell {
    struct vd_plane *plane;
    uint64_t bit; /* of the queue; 0: this bell was never asked for */
    int fd;
};

struct vd_plane {
    struct vd_device dev;
    struct vd_loop *loop;
    int kick_fd;
    struct vd_plane_bell bell[VD_QUEUES_MAX];
    _Atomic uint64_t kicked; /* bit i: queue i was kicked since the last wake-up */
    atomic_bool poked;       /* something other than a queue wants the loop's attention */
    /* The loop's thread only: */
    bool running;    /* between DRIVER_OK and reset */
    uint64_t usable; /* bit i: queue i is live, and not broken */
    struct vd_chain chain;
    struct vd_iov iov[VD_CHAIN_SEGS_MAX];
    uint64_t gpa[VD_CHAIN_SEGS_MAX];

    /* The device's own part, on the loop's thread. */
    void (*work)(struct vd_plane *plane, uint64_t kicked, bool poked);
    void (*started)(struct vd_plane *plane);
    /* The queues of `mask` are about to go; `all`: the device is reset. */
    void (*stopped)(struct vd_plane *plane, uint64_t mask, bool all);
    /* What stands behind the device goes (vd_device_ops.lose); a kick of all queues
     * follows. NULL: nothing does. */
    void (*lost)(struct vd_plane *plane);
};

extern const struct vd_device_ops vd_plane_ops; /* without config_written */

/* Makes n_queues queues of at most queue_size each. 0 or -errno; after an error
 * only the plane's memory is left to free. */
int vd_plane_init(struct vd_plane *plane, const struct vd_host *host, struct vd_mem *mem,
                  struct vd_loop *loop, const char *name, uint16_t n_queues, uint16_t queue_size);
void vd_plane_fini(struct vd_plane *plane);

/* vd_device_ops, for a device that has a config_written of its own. */
void vd_plane_driver_ok(struct vd_device *dev);
void vd_plane_reset(struct vd_device *dev);
void vd_plane_queue_ready(struct vd_device *dev, uint16_t queue);
void vd_plane_queue_reset(struct vd_device *dev, uint16_t queue);
void vd_plane_notify(struct vd_device *dev, uint16_t queue);
int vd_plane_doorbell(struct vd_device *dev, uint16_t queue);
void vd_plane_lose(struct vd_device *dev);

void vd_plane_poke(struct vd_plane *plane); /* any thread */
/* Come back to this queue after everybody else had a turn. */
void vd_plane_again(struct vd_plane *plane, uint16_t queue);

static inline bool vd_plane_usable(const struct vd_plane *plane, uint16_t queue) {
    return plane->usable >> queue & 1;
}

/* Pops into plane->chain: 1, or 0 if the queue is empty, broken or not live. A
 * ring that breaks is reported and left alone until the next reset. */
int vd_plane_pop(struct vd_plane *plane, uint16_t queue);
/* As vd_plane_pop, into a chain of the caller's. */
int vd_plane_pop_into(struct vd_plane *plane, uint16_t queue, struct vd_chain *chain);
/* Pushes plane->chain. */
void vd_plane_push(struct vd_plane *plane, uint16_t queue, uint32_t written);
/* The driver broke a rule on this queue: it is left alone until the next reset. */
void vd_plane_broken(struct vd_plane *plane, uint16_t queue, const char *what);
/* One interrupt decision for everything pushed. */
void vd_plane_publish(struct vd_plane *plane, uint16_t queue);

/* The iovec of plane's scratch that is left of segs[0..n) after `skip` bytes;
 * returns its length in entries. `to` has room for n entries. */
unsigned vd_iov_skip(const struct vd_iov *segs, unsigned n, size_t skip, struct vd_iov *to);
/* readv and writev, not interrupted: bytes, or -errno. */
ssize_t vd_iov_read(int fd, const struct vd_iov *iov, unsigned n);
ssize_t vd_iov_write(int fd, const struct vd_iov *iov, unsigned n);

#endif
