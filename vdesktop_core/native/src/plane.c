/* SPDX-License-Identifier: MIT */
#include "plane.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define QUEUE_BIT(queue) (UINT64_C(1) << (queue))

struct queue_call {
    struct vd_plane *plane;
    uint16_t queue;
};

static void wake(struct vd_plane *plane) {
    uint64_t one = 1;
    /* Fails only with 2^64-2 wake-ups unread: the loop is awake anyway. */
    (void)!write(plane->kick_fd, &one, sizeof one);
}

/* Read the flags after the eventfd: a kick in between wakes us once too often, never too
 * seldom. */
static void heard(struct vd_plane *plane, uint64_t kicked) {
    bool poked = atomic_exchange(&plane->poked, false);
    kicked = (atomic_exchange(&plane->kicked, 0) | kicked) & plane->usable;
    if (kicked || poked)
        plane->work(plane, kicked, poked);
}

static void on_kick(void *opaque, uint32_t events) {
    struct vd_plane *plane = opaque;
    uint64_t count;
    (void)events;
    (void)!read(plane->kick_fd, &count, sizeof count);
    heard(plane, 0);
}

static void on_bell(void *opaque, uint32_t events) {
    struct vd_plane_bell *bell = opaque;
    uint64_t count;
    (void)events;
    (void)!read(bell->fd, &count, sizeof count);
    heard(bell->plane, bell->bit);
}

int vd_plane_init(struct vd_plane *plane, const struct vd_host *host, struct vd_mem *mem,
                  struct vd_loop *loop, const char *name, uint16_t n_queues, uint16_t queue_size) {
    struct vd_device *dev = &plane->dev;
    dev->ops = &vd_plane_ops;
    dev->opaque = plane;
    dev->mem = mem;
    dev->host = host;
    snprintf(dev->name, sizeof dev->name, "%s", name);
    plane->loop = loop;
    plane->chain.iov = plane->iov;
    plane->chain.gpa = plane->gpa;
    plane->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = plane->kick_fd < 0 ? -errno : 0;
    for (dev->n_queues = 0; !error && dev->n_queues < n_queues; dev->n_queues++) {
        dev->queue_size_max[dev->n_queues] = queue_size;
        dev->queue[dev->n_queues] = vd_queue_new(host, mem);
        if (!dev->queue[dev->n_queues])
            error = -ENOMEM;
    }
    if (!error)
        error = vd_loop_add(loop, plane->kick_fd, EPOLLIN, on_kick, plane);
    if (error)
        vd_plane_fini(plane);
    return error;
}

void vd_plane_fini(struct vd_plane *plane) {
    if (plane->kick_fd >= 0) {
        vd_loop_remove(plane->loop, plane->kick_fd);
        close(plane->kick_fd);
        plane->kick_fd = -1;
    }
    for (uint16_t i = 0; i < plane->dev.n_queues; i++) {
        struct vd_plane_bell *bell = &plane->bell[i];
        if (!bell->bit)
            continue;
        vd_loop_remove(plane->loop, bell->fd);
        close(bell->fd);
        bell->bit = 0;
    }
    for (uint16_t i = 0; i < plane->dev.n_queues; i++)
        if (plane->dev.queue[i])
            vd_queue_free(plane->dev.queue[i]);
    plane->dev.n_queues = 0;
}

static void do_start(void *opaque) {
    struct vd_plane *plane = opaque;
    plane->running = true;
    plane->usable = 0;
    for (uint16_t i = 0; i < plane->dev.n_queues; i++)
        if (plane->dev.queue[i] && vd_queue_live(plane->dev.queue[i]))
            plane->usable |= QUEUE_BIT(i);
    plane->started(plane);
    /* Chains that were made available before DRIVER_OK took effect here. */
    atomic_fetch_or(&plane->kicked, plane->usable);
    wake(plane);
}

void vd_plane_driver_ok(struct vd_device *dev) {
    struct vd_plane *plane = dev->opaque;
    vd_loop_call(plane->loop, do_start, plane);
}

static void do_reset(void *opaque) {
    struct vd_plane *plane = opaque;
    plane->stopped(plane, ~UINT64_C(0), true);
    plane->usable = 0;
    plane->running = false;
    atomic_store(&plane->kicked, 0);
}

void vd_plane_reset(struct vd_device *dev) {
    struct vd_plane *plane = dev->opaque;
    vd_loop_call(plane->loop, do_reset, plane);
}

static void do_queue_ready(void *opaque) {
    const struct queue_call *call = opaque;
    struct vd_plane *plane = call->plane;
    if (!plane->running)
        return; /* DRIVER_OK looks at all queues */
    plane->usable |= QUEUE_BIT(call->queue);
    atomic_fetch_or(&plane->kicked, QUEUE_BIT(call->queue));
    wake(plane);
}

void vd_plane_queue_ready(struct vd_device *dev, uint16_t queue) {
    struct queue_call call = {dev->opaque, queue};
    vd_loop_call(call.plane->loop, do_queue_ready, &call);
}

static void do_queue_reset(void *opaque) {
    const struct queue_call *call = opaque;
    call->plane->stopped(call->plane, QUEUE_BIT(call->queue), false);
    call->plane->usable &= ~QUEUE_BIT(call->queue);
}

void vd_plane_queue_reset(struct vd_device *dev, uint16_t queue) {
    struct queue_call call = {dev->opaque, queue};
    vd_loop_call(call.plane->loop, do_queue_reset, &call);
}

void vd_plane_notify(struct vd_device *dev, uint16_t queue) {
    struct vd_plane *plane = dev->opaque;
    if (!atomic_fetch_or(&plane->kicked, QUEUE_BIT(queue)))
        wake(plane);
}

int vd_plane_doorbell(struct vd_device *dev, uint16_t queue) {
    struct vd_plane *plane = dev->opaque;
    struct vd_plane_bell *bell = &plane->bell[queue];
    if (bell->bit)
        return bell->fd;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -1;
    *bell = (struct vd_plane_bell){.plane = plane, .bit = QUEUE_BIT(queue), .fd = fd};
    if (vd_loop_add(plane->loop, fd, EPOLLIN, on_bell, bell)) {
        close(fd);
        bell->bit = 0;
        return -1;
    }
    return fd;
}

static void do_lose(void *opaque) {
    struct vd_plane *plane = opaque;
    if (plane->lost)
        plane->lost(plane);
    atomic_fetch_or(&plane->kicked, plane->usable); /* what waited for it need not wait */
    wake(plane);
}

void vd_plane_lose(struct vd_device *dev) {
    struct vd_plane *plane = dev->opaque;
    vd_loop_call(plane->loop, do_lose, plane);
}

const struct vd_device_ops vd_plane_ops = {
    .driver_ok = vd_plane_driver_ok,
    .reset = vd_plane_reset,
    .queue_ready = vd_plane_queue_ready,
    .queue_reset = vd_plane_queue_reset,
    .notify = vd_plane_notify,
    .doorbell = vd_plane_doorbell,
    .lose = vd_plane_lose,
};

void vd_plane_poke(struct vd_plane *plane) {
    if (!atomic_exchange(&plane->poked, true))
        wake(plane);
}

void vd_plane_again(struct vd_plane *plane, uint16_t queue) {
    vd_plane_notify(&plane->dev, queue);
}

void vd_plane_broken(struct vd_plane *plane, uint16_t queue, const char *what) {
    plane->usable &= ~QUEUE_BIT(queue);
    vd_device_protocol_error(&plane->dev, what);
}

int vd_plane_pop_into(struct vd_plane *plane, uint16_t queue, struct vd_chain *chain) {
    if (!vd_plane_usable(plane, queue))
        return 0;
    int found = vd_queue_pop(plane->dev.queue[queue], chain);
    if (found < 0) {
        vd_plane_broken(plane, queue, vd_ring_strerror(found));
        return 0;
    }
    return found;
}

int vd_plane_pop(struct vd_plane *plane, uint16_t queue) {
    return vd_plane_pop_into(plane, queue, &plane->chain);
}

void vd_plane_push(struct vd_plane *plane, uint16_t queue, uint32_t written) {
    vd_queue_push(plane->dev.queue[queue], &plane->chain, written);
}

void vd_plane_publish(struct vd_plane *plane, uint16_t queue) {
    if (vd_plane_usable(plane, queue) && vd_queue_publish(plane->dev.queue[queue]))
        vd_device_interrupt(&plane->dev, queue);
}

unsigned vd_iov_skip(const struct vd_iov *segs, unsigned n, size_t skip, struct vd_iov *to) {
    unsigned used = 0;
    for (unsigned i = 0; i < n; i++) {
        if (skip >= segs[i].len) {
            skip -= segs[i].len;
            continue;
        }
        to[used].base = (uint8_t *)segs[i].base + skip;
        to[used++].len = segs[i].len - skip;
        skip = 0;
    }
    return used;
}

ssize_t vd_iov_read(int fd, const struct vd_iov *iov, unsigned n) {
    ssize_t done;
    do
        done = readv(fd, (const struct iovec *)iov, (int)n);
    while (done < 0 && errno == EINTR);
    return done < 0 ? -errno : done;
}

ssize_t vd_iov_write(int fd, const struct vd_iov *iov, unsigned n) {
    ssize_t done;
    do
        done = writev(fd, (const struct iovec *)iov, (int)n);
    while (done < 0 && errno == EINTR);
    return done < 0 ? -errno : done;
}
