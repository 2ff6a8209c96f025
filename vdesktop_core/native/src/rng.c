/* SPDX-License-Identifier: MIT
 * The data plane of virtio-rng, all of it on its loop's thread. */
#include "vdesktop/rng.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lock.h"
#include "plane.h"

#define QUEUE_SIZE      64
#define CHAINS_PER_TURN 16u
#define PERIOD_MS_MAX   3600000u
/* When the host's pool is not yet seeded, early in its boot. */
#define RETRY_NS UINT64_C(100000000)

struct vd_rng {
    struct vd_plane plane; /* first */
    struct vd_rng_options options;
    int timer_fd;
    uint64_t budget, period_end_ns;
    struct vd_rng_counters counters; /* atomic */
};

static void wake_in(const struct vd_rng *rng, uint64_t ns) {
    struct itimerspec spec = {.it_value = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)}};
    timerfd_settime(rng->timer_fd, 0, &spec, NULL);
}

/* How many bytes may be given now; 0: none, and the timer is armed. */
static uint64_t allowance(struct vd_rng *rng) {
    if (!rng->options.max_bytes)
        return VD_RNG_REQUEST_MAX;
    const struct vd_host *host = rng->plane.dev.host;
    uint64_t now = host->now_ns(host->opaque);
    if (now >= rng->period_end_ns) {
        rng->budget = rng->options.max_bytes;
        rng->period_end_ns = now + rng->options.period_ms * UINT64_C(1000000);
    }
    if (!rng->budget) {
        vd_count(&rng->counters.throttled);
        wake_in(rng, rng->period_end_ns - now);
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
    }
    return done;
}

enum outcome { SERVED, EMPTY, WAITING };

/* One request. WAITING: the timer is armed. */
static enum outcome serve_one(struct vd_rng *rng) {
    struct vd_plane *plane = &rng->plane;
    uint64_t most = allowance(rng);
    if (!most)
        return WAITING;
    if (!vd_plane_pop(plane, 0))
        return EMPTY;
    if (!plane->chain.write_len) {
        vd_plane_broken(plane, 0, "request without a device-writable buffer (virtio 1.4 §5.4.6)");
        return EMPTY;
    }
    uint32_t given = fill(&plane->chain, most);
    if (!given) { /* §5.4.6.1: at least one byte */
        vd_queue_unpop(plane->dev.queue[0], &plane->chain);
        wake_in(rng, RETRY_NS);
        return WAITING;
    }
    if (rng->options.max_bytes)
        rng->budget -= given;
    vd_plane_push(plane, 0, given);
    vd_count(&rng->counters.requests);
    __atomic_fetch_add(&rng->counters.bytes, given, __ATOMIC_RELAXED);
    return SERVED;
}

static void serve(struct vd_rng *rng) {
    struct vd_plane *plane = &rng->plane;
    struct vd_queue *ring = plane->dev.queue[0];
    enum outcome outcome = SERVED;
    uint32_t served = 0;
    if (!vd_plane_usable(plane, 0))
        return;
    vd_queue_notify_disable(ring);
    while (served < CHAINS_PER_TURN && (outcome = serve_one(rng)) == SERVED)
        served++;
    if (served)
        vd_plane_publish(plane, 0);
    /* While waiting, the timer serves what a kick would announce. */
    if (vd_plane_usable(plane, 0) && outcome != WAITING && vd_queue_notify_enable(ring))
        vd_plane_again(plane, 0);
}

static void work(struct vd_plane *plane, uint64_t kicked, bool poked) {
    (void)poked;
    if (kicked)
        serve((struct vd_rng *)plane);
}

static void on_timer(void *opaque, uint32_t events) {
    struct vd_rng *rng = opaque;
    uint64_t count;
    (void)events;
    (void)!read(rng->timer_fd, &count, sizeof count);
    serve(rng);
}

static void started(struct vd_plane *plane) {
    (void)plane;
}

static void stopped(struct vd_plane *plane, uint64_t mask, bool all) {
    (void)plane, (void)mask, (void)all; /* nothing outlives a turn */
}

static int watch_timer(struct vd_rng *rng) {
    rng->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (rng->timer_fd < 0)
        return -errno;
    return vd_loop_add(rng->plane.loop, rng->timer_fd, EPOLLIN, on_timer, rng);
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
    rng->timer_fd = -1;
    rng->plane.work = work;
    rng->plane.started = started;
    rng->plane.stopped = stopped;
    *error = vd_plane_init(&rng->plane, host, mem, loop, name, 1, QUEUE_SIZE);
    if (*error) {
        host->free(host->opaque, rng);
        return NULL;
    }
    rng->plane.dev.virtio_id = VD_RNG_ID;
    rng->plane.dev.offered = VD_PLANE_FEATURES;
    *error = watch_timer(rng);
    if (*error) {
        vd_rng_free(rng);
        return NULL;
    }
    return rng;
}

void vd_rng_free(struct vd_rng *rng) {
    if (!rng)
        return;
    const struct vd_host *host = rng->plane.dev.host;
    if (rng->timer_fd >= 0) {
        vd_loop_remove(rng->plane.loop, rng->timer_fd);
        close(rng->timer_fd);
    }
    vd_plane_fini(&rng->plane);
    host->free(host->opaque, rng);
}

struct vd_device *vd_rng_device(struct vd_rng *rng) {
    return &rng->plane.dev;
}

void vd_rng_counters(struct vd_rng *rng, struct vd_rng_counters *counters) {
    counters->requests = __atomic_load_n(&rng->counters.requests, __ATOMIC_RELAXED);
    counters->bytes = __atomic_load_n(&rng->counters.bytes, __ATOMIC_RELAXED);
    counters->throttled = __atomic_load_n(&rng->counters.throttled, __ATOMIC_RELAXED);
}
