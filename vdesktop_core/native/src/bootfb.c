/* SPDX-License-Identifier: MIT
 * When the boot framebuffer is looked at: while a viewer waits, seldom while
 * nothing changes, and never so often that it costs more than a share of a core. */
#define _GNU_SOURCE
#include "bootfb.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
/* From one look to the next, in ns: after a change, and at most while nothing changes. */
#define PERIOD_MIN  (16 * MS)
#define PERIOD_IDLE (64 * MS)
#define PERIOD_MAX  (1000 * MS)
/* Times of what a look costs that at least pass before the next: after a change, and idle. */
#define SHARE_BUSY 4
#define SHARE_IDLE 150

struct vd_bootfb {
    const struct vd_host *host;
    struct vd_loop *loop;
    struct vd_scanout *own;
    struct vd_surface surface;
    int timer_fd, wake_fd;
    void *shadow;
    /* The loop's thread: */
    struct bootfb_scan scan;
    uint64_t period, cost, last;
    bool held;
    struct vd_bootfb_counters counters; /* atomic */
};

static void count(uint64_t *counter, uint64_t n) {
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static uint64_t now(const struct vd_bootfb *bootfb) {
    return bootfb->host->now_ns(bootfb->host->opaque);
}

static void look_in(const struct vd_bootfb *bootfb, uint64_t ns) {
    struct itimerspec spec = {.it_value = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)}};
    if (!ns)
        spec.it_value.tv_nsec = 1; /* 0 would disarm it */
    timerfd_settime(bootfb->timer_fd, 0, &spec, NULL);
}

static void drain(int fd) {
    uint64_t count;
    (void)!read(fd, &count, sizeof count);
}

static uint64_t at_least(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* What the next look has to wait for. */
static void pace(struct vd_bootfb *bootfb, bool changed) {
    uint64_t least = at_least(PERIOD_MIN, SHARE_BUSY * bootfb->cost);
    uint64_t most = at_least(PERIOD_IDLE, SHARE_IDLE * bootfb->cost);
    most = most < PERIOD_MAX ? most : PERIOD_MAX;
    bootfb->period = changed ? least : 2 * bootfb->period;
    bootfb->period = bootfb->period < most ? bootfb->period : most;
    bootfb->period = at_least(bootfb->period, least);
}

static void look(void *opaque, uint32_t events) {
    struct vd_bootfb *bootfb = opaque;
    (void)events;
    drain(bootfb->timer_fd);
    if (bootfb->held || !vd_scanout_backdrop_awaited(bootfb->scan.out))
        return; /* until somebody says so */
    uint64_t start = now(bootfb);
    bool changed =
        bootfb->scan.shadow ? bootfb_compare(&bootfb->scan) : bootfb_read_log(&bootfb->scan);
    bootfb->last = now(bootfb);
    uint64_t took = bootfb->last - start;
    /* A look that was interrupted says little: the estimate rises slowly. */
    uint64_t more = took > bootfb->cost ? took - bootfb->cost : 0;
    if (!bootfb->cost || !more)
        bootfb->cost = took;
    else
        bootfb->cost += (more < bootfb->cost ? more : bootfb->cost) / 4;
    count(&bootfb->counters.scans, 1);
    count(&bootfb->counters.scan_ns, took);
    if (changed)
        count(&bootfb->counters.changed, 1);
    pace(bootfb, changed);
    look_in(bootfb, bootfb->period);
}

/* A viewer has begun to wait. */
static void woken(void *opaque, uint32_t events) {
    struct vd_bootfb *bootfb = opaque;
    (void)events;
    drain(bootfb->wake_fd);
    uint64_t passed = now(bootfb) - bootfb->last;
    look_in(bootfb, passed < bootfb->period ? bootfb->period - passed : 0);
}

struct move {
    struct vd_bootfb *bootfb;
    struct vd_scanout *to;
};

static void move(void *opaque) {
    const struct move *move = opaque;
    struct vd_bootfb *bootfb = move->bootfb;
    vd_scanout_set_backdrop(bootfb->scan.out, NULL, -1);
    bootfb->scan.out = move->to;
    vd_scanout_set_backdrop(move->to, &bootfb->surface, bootfb->wake_fd);
}

void vd_bootfb_attach(struct vd_bootfb *bootfb, struct vd_scanout *scanout) {
    struct move to = {bootfb, scanout ? scanout : bootfb->own};
    vd_loop_call(bootfb->loop, move, &to);
}

static void hold(void *opaque) {
    struct vd_bootfb *bootfb = opaque;
    bootfb->held = true;
}

static void let_go(void *opaque) {
    struct vd_bootfb *bootfb = opaque;
    bootfb->held = false;
    look_in(bootfb, 0);
}

void vd_bootfb_hold(struct vd_bootfb *bootfb, bool held) {
    vd_loop_call(bootfb->loop, held ? hold : let_go, bootfb);
}

/* How changes are found, in memory that viewers look at themselves. */
static int set_up_scan(struct vd_bootfb *bootfb, const struct vd_bootfb_options *options) {
    const struct vd_host *host = bootfb->host;
    struct bootfb_scan *scan = &bootfb->scan;
    scan->pixels = vd_pixels_base(bootfb->surface.pixels);
    if (options->dirty) {
        scan->dirty = *options->dirty;
        scan->bitmap = host->alloc(host->opaque, (options->size / VD_DIRTY_PAGE + 63) / 64 * 8);
        return scan->bitmap ? 0 : -ENOMEM;
    }
    bootfb->shadow = host->alloc(host->opaque, (size_t)4 * options->width * options->height);
    scan->shadow = bootfb->shadow;
    return scan->shadow ? 0 : -ENOMEM;
}

static int set_up_surface(struct vd_bootfb *bootfb, const struct vd_bootfb_options *options) {
    int error;
    bool copied = options->fd < 0;
    bootfb->surface = (struct vd_surface){
        .width = options->width,
        .height = options->height,
        .stride = copied ? 4 * options->width : options->stride,
        .format = options->format,
    };
    bootfb->surface.pixels =
        copied ? vd_pixels_new(bootfb->host, (uint64_t)4 * options->width * options->height, &error)
               : vd_pixels_map(bootfb->host, options->fd, options->size, &error);
    if (!bootfb->surface.pixels)
        return error;
    bootfb->scan = (struct bootfb_scan){
        .width = options->width,
        .height = options->height,
        .stride = options->stride,
        .gpa = options->gpa,
        .size = options->size,
        .out = bootfb->own,
    };
    if (!copied)
        return set_up_scan(bootfb, options);
    bootfb->scan.pixels = options->memory;
    bootfb->scan.shadow = vd_pixels_base(bootfb->surface.pixels);
    return 0;
}

static int set_up(struct vd_bootfb *bootfb, const struct vd_bootfb_options *options) {
    bootfb->own = vd_scanout_new(bootfb->host);
    if (!bootfb->own)
        return -ENOMEM;
    int error = set_up_surface(bootfb, options);
    if (error)
        return error;
    bootfb->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    bootfb->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bootfb->timer_fd < 0 || bootfb->wake_fd < 0)
        return -errno;
    error = vd_loop_add(bootfb->loop, bootfb->timer_fd, EPOLLIN, look, bootfb);
    if (error)
        return error;
    error = vd_loop_add(bootfb->loop, bootfb->wake_fd, EPOLLIN, woken, bootfb);
    if (error) {
        vd_loop_remove(bootfb->loop, bootfb->timer_fd);
        return error;
    }
    vd_scanout_set_backdrop(bootfb->own, &bootfb->surface, bootfb->wake_fd);
    return 0;
}

static void tear_down(struct vd_bootfb *bootfb) {
    const struct vd_host *host = bootfb->host;
    if (bootfb->timer_fd >= 0)
        close(bootfb->timer_fd);
    if (bootfb->wake_fd >= 0)
        close(bootfb->wake_fd);
    vd_scanout_free(bootfb->own);
    vd_pixels_unref(bootfb->surface.pixels);
    if (bootfb->shadow)
        host->free(host->opaque, bootfb->shadow);
    if (bootfb->scan.bitmap)
        host->free(host->opaque, bootfb->scan.bitmap);
    host->free(host->opaque, bootfb);
}

static bool sound(const struct vd_bootfb_options *options) {
    return options->width && options->height && options->stride / 4 >= options->width &&
           (uint64_t)options->stride * options->height <= options->size &&
           options->size % VD_DIRTY_PAGE == 0 && (options->fd >= 0 || options->memory);
}

struct vd_bootfb *vd_bootfb_new(const struct vd_host *host, struct vd_loop *loop,
                                const struct vd_bootfb_options *options, int *error) {
    *error = -EINVAL;
    if (!sound(options))
        return NULL;
    *error = -ENOMEM;
    struct vd_bootfb *bootfb = host->alloc(host->opaque, sizeof *bootfb);
    if (!bootfb)
        return NULL;
    bootfb->host = host;
    bootfb->loop = loop;
    bootfb->timer_fd = bootfb->wake_fd = -1;
    bootfb->period = PERIOD_MIN;
    *error = set_up(bootfb, options);
    if (!*error)
        return bootfb;
    tear_down(bootfb);
    return NULL;
}

void vd_bootfb_free(struct vd_bootfb *bootfb) {
    if (!bootfb)
        return;
    vd_loop_remove(bootfb->loop, bootfb->timer_fd);
    vd_loop_remove(bootfb->loop, bootfb->wake_fd);
    tear_down(bootfb);
}

static void refresh(void *opaque) {
    struct vd_bootfb *bootfb = opaque;
    if (!bootfb->held)
        bootfb_compare(&bootfb->scan);
}

void vd_bootfb_refresh(struct vd_bootfb *bootfb) {
    /* Otherwise viewers look at the memory itself. */
    if (bootfb->scan.shadow && !bootfb->shadow)
        vd_loop_call(bootfb->loop, refresh, bootfb);
}

struct vd_scanout *vd_bootfb_scanout(struct vd_bootfb *bootfb) {
    return bootfb->own;
}

void vd_bootfb_counters(const struct vd_bootfb *bootfb, struct vd_bootfb_counters *counters) {
    counters->scans = __atomic_load_n(&bootfb->counters.scans, __ATOMIC_RELAXED);
    counters->changed = __atomic_load_n(&bootfb->counters.changed, __ATOMIC_RELAXED);
    counters->scan_ns = __atomic_load_n(&bootfb->counters.scan_ns, __ATOMIC_RELAXED);
}
