/* SPDX-License-Identifier: MIT
 * The data plane of virtio-rng, on its loop's thread. */
#define _GNU_SOURCE
#include "vdesktop/rng.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define QUEUE_SIZE      64
#define CHAINS_PER_TURN 16u
#define PERIOD_MS_MAX   3600000u
/* When the host's pool is not yet seeded, early in its boot. */
#define RETRY_NS UINT64_C(100000000)

struct vd_rng {
    struct vd_device dev;
    struct vd_rng_options options;
    struct vd_loop *loop;
    int kick_fd, timer_fd;
    bool driver_ok;       /* under the transport's lock */
    pthread_mutex_t lock; /* all below; taken after the transport's */
    bool running;
    uint64_t budget, period_end_ns;
    struct vd_chain chain;
    struct vd_rng_counters counters;
};

static uint64_t now(const struct vd_rng *rng) {
    return rng->dev.host->now_ns(rng->dev.host->opaque);
}

static void wake_in(const struct vd_rng *rng, uint64_t ns) {
    struct itimerspec spec = {.it_value = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)}};
    timerfd_settime(rng->timer_fd, 0, &spec, NULL);
}

/* How many bytes may be given now; 0: none, and the timer is armed. */
static uint64_t allowance(struct vd_rng *rng) {
    if (!rng->options.max_bytes)
        return VD_RNG_REQUEST_MAX;
    uint64_t at = now(rng);
    if (at >= rng->period_end_ns) {
        rng->budget = rng->options.max_bytes;
        rng->period_end_ns = at + rng->options.period_ms * UINT64_C(1000000);
    }
    if (!rng->budget) {
        rng->counters.throttled++;
        wake_in(rng, rng->period_end_ns - at);
    }
    return rng->budget < VD_RNG_REQUEST_MAX ? rng->budget : VD_RNG_REQUEST_MAX;
}

/* Fills the chain with up to `most` bytes: how many, 0 if the host has none yet. */
static uint32_t fill(const struct vd_chain *chain, uint64_t most) {
    uint32_t done = 0;
    for (uint32_t i = chain->n_read; i < chain->n_read + (uint32_t)chain->n_write; i++) {
        char *base = chain->iov[i].base;
        size_t len = chain->iov[i].len < most - done ? chain->iov[i].len : (size_t)(most - done);
        while (len) {
            ssize_t got = getrandom(base, len, GRND_NONBLOCK);
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return done;
            base += got;
            len -= (size_t)got;
            done += (uint32_t)got;
        }
        if (done == most)
            break;
    }
    return done;
}

static void fail(struct vd_rng *rng, const char *what) {
    rng->running = false;
    vd_device_protocol_error(&rng->dev, what);
}

enum outcome { SERVED, EMPTY, WAITING };

/* One request. WAITING: the timer is armed. Lock held. */
static enum outcome serve_one(struct vd_rng *rng, struct vd_queue *ring) {
    uint64_t most = allowance(rng);
    if (!most)
        return WAITING;
    int popped = vd_queue_pop(ring, &rng->chain);
    if (popped < 0)
        fail(rng, vd_ring_strerror(popped));
    if (popped <= 0)
        return EMPTY;
    if (!rng->chain.write_len) {
        vd_queue_push(ring, &rng->chain, 0);
        fail(rng, "request without a device-writable buffer (virtio 1.4 5.4.6)");
        return SERVED;
    }
    uint32_t given = fill(&rng->chain, most);
    if (!given) { /* §5.4.6.1: at least one byte */
        vd_queue_unpop(ring, &rng->chain);
        wake_in(rng, RETRY_NS);
        return WAITING;
    }
    if (rng->options.max_bytes)
        rng->budget -= given;
    vd_queue_push(ring, &rng->chain, given);
    rng->counters.requests++;
    rng->counters.bytes += given;
    return SERVED;
}

static void wake(const struct vd_rng *rng) {
    uint64_t one = 1;
    (void)!write(rng->kick_fd, &one, sizeof one); /* EAGAIN: woken already */
}

/* Lock held. */
static void serve(struct vd_rng *rng) {
    struct vd_queue *ring = rng->dev.queue[0];
    if (!rng->running || !vd_queue_live(ring))
        return;
    enum outcome outcome = SERVED;
    uint32_t served = 0;
    vd_queue_notify_disable(ring);
    while (rng->running && served < CHAINS_PER_TURN && (outcome = serve_one(rng, ring)) == SERVED)
        served++;
    if (served && vd_queue_publish(ring))
        vd_device_interrupt(&rng->dev, 0);
    /* While waiting, the timer serves what a kick would announce. */
    if (rng->running && outcome != WAITING && vd_queue_notify_enable(ring))
        wake(rng);
}

/* On the loop's thread, for a kick and for the timer. */
static void on_event(struct vd_rng *rng, int fd) {
    uint64_t count;
    (void)!read(fd, &count, sizeof count);
    pthread_mutex_lock(&rng->lock);
    serve(rng);
    pthread_mutex_unlock(&rng->lock);
}

static void on_kick(void *opaque, uint32_t events) {
    struct vd_rng *rng = opaque;
    (void)events;
    on_event(rng, rng->kick_fd);
}

static void on_timer(void *opaque, uint32_t events) {
    struct vd_rng *rng = opaque;
    (void)events;
    on_event(rng, rng->timer_fd);
}

static void on_notify(struct vd_device *dev, uint16_t queue) {
    (void)queue;
    wake(dev->opaque);
}

static void start(struct vd_rng *rng) {
    pthread_mutex_lock(&rng->lock);
    rng->running = true;
    pthread_mutex_unlock(&rng->lock);
    wake(rng); /* it may have been kicked before */
}

static void stop(struct vd_rng *rng) {
    pthread_mutex_lock(&rng->lock);
    rng->running = false;
    pthread_mutex_unlock(&rng->lock);
}

static void on_driver_ok(struct vd_device *dev) {
    struct vd_rng *rng = dev->opaque;
    rng->driver_ok = true;
    if (vd_queue_live(dev->queue[0]))
        start(rng);
}

static void on_reset(struct vd_device *dev) {
    struct vd_rng *rng = dev->opaque;
    rng->driver_ok = false;
    stop(rng);
}

static void on_queue_ready(struct vd_device *dev, uint16_t queue) {
    struct vd_rng *rng = dev->opaque;
    (void)queue;
    if (rng->driver_ok)
        start(rng);
}

static void on_queue_reset(struct vd_device *dev, uint16_t queue) {
    (void)queue;
    stop(dev->opaque);
}

static void on_config_written(struct vd_device *dev, uint32_t offset, uint32_t len) {
    (void)dev, (void)offset, (void)len; /* there is no configuration space */
}

static const struct vd_device_ops ops = {
    .driver_ok = on_driver_ok,
    .reset = on_reset,
    .queue_ready = on_queue_ready,
    .queue_reset = on_queue_reset,
    .notify = on_notify,
    .config_written = on_config_written,
};

static int set_up(struct vd_rng *rng) {
    const struct vd_host *host = rng->dev.host;
    rng->dev.queue[0] = vd_queue_new(host, rng->dev.mem);
    rng->chain.iov = host->alloc(host->opaque, VD_CHAIN_SEGS_MAX * sizeof *rng->chain.iov);
    rng->chain.gpa = host->alloc(host->opaque, VD_CHAIN_SEGS_MAX * sizeof *rng->chain.gpa);
    if (!rng->dev.queue[0] || !rng->chain.iov || !rng->chain.gpa)
        return -ENOMEM;
    rng->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rng->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (rng->kick_fd < 0 || rng->timer_fd < 0)
        return -errno;
    int error = vd_loop_add(rng->loop, rng->kick_fd, EPOLLIN, on_kick, rng);
    return error ? error : vd_loop_add(rng->loop, rng->timer_fd, EPOLLIN, on_timer, rng);
}

struct vd_rng *vd_rng_new(const struct vd_host *host, struct vd_mem *mem, const char *name,
                          const struct vd_rng_options *options, struct vd_loop *loop, int *error) {
    *error = -EINVAL;
    if (options->max_bytes && (!options->period_ms || options->period_ms > PERIOD_MS_MAX))
        return NULL;
    *error = -ENOMEM;
    struct vd_rng *rng = host->alloc(host->opaque, sizeof *rng);
    if (!rng)
        return NULL;
    rng->options = *options;
    rng->loop = loop;
    rng->kick_fd = rng->timer_fd = -1;
    pthread_mutex_init(&rng->lock, NULL);
    rng->dev.ops = &ops;
    rng->dev.opaque = rng;
    rng->dev.virtio_id = VD_RNG_ID;
    rng->dev.n_queues = 1;
    rng->dev.queue_size_max[0] = QUEUE_SIZE;
    rng->dev.mem = mem;
    rng->dev.offered = VD_FEATURES_COMMON;
    rng->dev.host = host;
    strncpy(rng->dev.name, name, sizeof rng->dev.name - 1);
    *error = set_up(rng);
    if (!*error)
        return rng;
    vd_rng_free(rng);
    return NULL;
}

void vd_rng_free(struct vd_rng *rng) {
    if (!rng)
        return;
    const struct vd_host *host = rng->dev.host;
    int fds[] = {rng->kick_fd, rng->timer_fd};
    stop(rng);
    for (int i = 0; i < 2; i++) {
        if (fds[i] < 0)
            continue;
        vd_loop_remove(rng->loop, fds[i]);
        close(fds[i]);
    }
    if (rng->chain.iov)
        host->free(host->opaque, rng->chain.iov);
    if (rng->chain.gpa)
        host->free(host->opaque, rng->chain.gpa);
    vd_queue_free(rng->dev.queue[0]);
    pthread_mutex_destroy(&rng->lock);
    host->free(host->opaque, rng);
}

struct vd_device *vd_rng_device(struct vd_rng *rng) {
    return &rng->dev;
}

void vd_rng_counters(struct vd_rng *rng, struct vd_rng_counters *counters) {
    pthread_mutex_lock(&rng->lock);
    *counters = rng->counters;
    pthread_mutex_unlock(&rng->lock);
}
