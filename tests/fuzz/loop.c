/* SPDX-License-Identifier: MIT
 * The event loop of the fuzz targets, in the place of src/loop.c: no thread, a turn
 * when the target says so. The same input always gives the same run. */
#define _GNU_SOURCE
#include "vdesktop/loop.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

#include "harness.h"

#define WATCHES 32u
/* More turns without a rest than any legal work of one operation takes. */
#define TURNS 1000u

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
                   EPOLLHUP == POLLHUP && EPOLLRDHUP == POLLRDHUP,
               "epoll(7) and poll(2) have the same bits");

struct watch {
    vd_loop_fn fn; /* NULL: free */
    void *opaque;
    struct pollfd poll;
};

struct vd_loop {
    const struct vd_host *host;
    struct watch watch[WATCHES];
};

struct vd_loop *vd_loop_new(const struct vd_host *host, const char *name) {
    (void)name;
    struct vd_loop *loop = host->alloc(host->opaque, sizeof *loop);
    if (loop)
        loop->host = host;
    return loop;
}

void vd_loop_free(struct vd_loop *loop) {
    loop->host->free(loop->host->opaque, loop);
}

static struct watch *find(struct vd_loop *loop, int fd) {
    for (uint32_t i = 0; i < WATCHES; i++)
        if (loop->watch[i].fn && loop->watch[i].poll.fd == fd)
            return &loop->watch[i];
    return NULL;
}

int vd_loop_add(struct vd_loop *loop, int fd, uint32_t events, vd_loop_fn fn, void *opaque) {
    fuzz_check(fd >= 0 && !find(loop, fd));
    for (uint32_t i = 0; i < WATCHES; i++) {
        if (loop->watch[i].fn)
            continue;
        loop->watch[i] = (struct watch){fn, opaque, {.fd = fd, .events = (short)events}};
        return 0;
    }
    return -ENOMEM;
}

int vd_loop_modify(struct vd_loop *loop, int fd, uint32_t events) {
    struct watch *watch = find(loop, fd);
    fuzz_check(watch);
    watch->poll.events = (short)events;
    return 0;
}

int vd_loop_remove(struct vd_loop *loop, int fd) {
    struct watch *watch = find(loop, fd);
    fuzz_check(watch);
    *watch = (struct watch){0};
    return 0;
}

void vd_loop_call(struct vd_loop *loop, void (*fn)(void *opaque), void *opaque) {
    (void)loop;
    fn(opaque);
}

static bool turn(struct vd_loop *loop) {
    bool busy = false;
    for (uint32_t i = 0; i < WATCHES; i++) {
        struct watch *watch = &loop->watch[i];
        if (!watch->fn || poll(&watch->poll, 1, 0) <= 0)
            continue;
        fuzz_check(!(watch->poll.revents & POLLNVAL)); /* a descriptor closed while watched */
        busy = true;
        watch->fn(watch->opaque, (uint32_t)(uint16_t)watch->poll.revents);
    }
    return busy;
}

void fuzz_pump(struct vd_loop *loop) {
    uint32_t turns = 0;
    while (turn(loop))
        fuzz_check(++turns < TURNS); /* it would go on for ever, on the host's time */
}
