/* SPDX-License-Identifier: MIT
 * struct vd_host for a POSIX process. */
#include "vdesktop/host.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct posix_host {
    struct vd_host host; /* first: a vd_host pointer is a posix_host pointer */
    int log_fd;
    uint64_t dropped;
};

static void *posix_alloc(void *opaque, size_t size) {
    (void)opaque;
    if (size > SIZE_MAX - 63)
        return NULL;
    size = (size + 63) & ~(size_t)63; /* aligned_alloc wants a multiple */
    void *p = aligned_alloc(64, size ? size : 64);
    if (p)
        memset(p, 0, size);
    return p;
}

static void posix_free(void *opaque, void *p) {
    (void)opaque;
    free(p);
}

static uint64_t posix_now_ns(void *opaque) {
    (void)opaque;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void copy_cut(char *to, size_t room, const char *from) {
    size_t len = strnlen(from, room - 1);
    memcpy(to, from, len);
    to[len] = 0;
}

static void posix_log(void *opaque, int level, const char *component, const char *message) {
    struct posix_host *host = opaque;
    struct vd_log_record record = {.level = level};
    copy_cut(record.component, sizeof record.component, component);
    copy_cut(record.message, sizeof record.message, message);
    if (host->log_fd < 0 || write(host->log_fd, &record, sizeof record) != (ssize_t)sizeof record)
        __atomic_fetch_add(&host->dropped, 1, __ATOMIC_RELAXED);
}

static void posix_wake(void *opaque, int fd) {
    (void)opaque;
    uint64_t one = 1;
    /* EAGAIN: the counter is at its limit, so the descriptor is readable. */
    ssize_t n = write(fd, &one, sizeof one);
    (void)n;
}

static void posix_relax(void *opaque, unsigned spins) {
    (void)opaque;
    struct timespec nap = {.tv_nsec = 50000};
    if (spins < 100)
        sched_yield();
    else
        nanosleep(&nap, NULL);
}

struct vd_host *vd_host_posix_new(int log_fd) {
    struct posix_host *host = posix_alloc(NULL, sizeof *host);
    if (!host)
        return NULL;
    host->log_fd = log_fd;
    host->host = (struct vd_host){
        .alloc = posix_alloc,
        .free = posix_free,
        .now_ns = posix_now_ns,
        .log = posix_log,
        .wake = posix_wake,
        .relax = posix_relax,
        .opaque = host,
    };
    return &host->host;
}

void vd_host_posix_free(struct vd_host *host) {
    free(host);
}

uint64_t vd_host_posix_dropped(const struct vd_host *host) {
    const struct posix_host *self = (const struct posix_host *)host;
    return __atomic_load_n(&self->dropped, __ATOMIC_RELAXED);
}
