/* SPDX-License-Identifier: MIT
 * An epoll event loop on a native thread: where data planes live. */
#ifndef VDESKTOP_LOOP_H
#define VDESKTOP_LOOP_H

#include "vdesktop/abi.h"

struct vd_loop;
/* `events` as in epoll(7). Runs on the loop's thread, never twice at once. */
typedef void (*vd_loop_fn)(void *opaque, uint32_t events);

/* NULL: out of memory or file descriptors. The thread is named `name` (15 bytes of it). */
struct vd_loop *vd_loop_new(const struct vd_host *host, const char *name);
int vd_loop_start(struct vd_loop *loop); /* 0 or -errno; the thread blocks all signals */
/* Runs what was posted before, then joins. Not from the loop's own thread.
 * Idempotent; a stopped loop keeps its watches and can be started again. */
void vd_loop_stop(struct vd_loop *loop);
void vd_loop_free(struct vd_loop *loop); /* stops; NULL is allowed */
/* Watch changes are legal from any thread: 0 or -errno (-EEXIST, -ENOENT,
 * -ENOMEM, or epoll_ctl's). After vd_loop_remove returns, fn is not running and
 * will not run again (unless called from the loop's thread: then it returns at
 * once, and fn runs no more after the current call). The caller must not hold a
 * lock that fn takes. */
int vd_loop_add(struct vd_loop *loop, int fd, uint32_t events, vd_loop_fn fn, void *opaque);
int vd_loop_modify(struct vd_loop *loop, int fd, uint32_t events);
int vd_loop_remove(struct vd_loop *loop, int fd);
/* Runs fn on the loop's thread and waits for it (directly when called there, or
 * while no thread runs). */
void vd_loop_call(struct vd_loop *loop, void (*fn)(void *opaque), void *opaque);
/* Runs fn on the loop's thread, soon, not waiting: 0, -ENOMEM, or -ESHUTDOWN
 * (being stopped). What is posted before the start waits for it. */
int vd_loop_post(struct vd_loop *loop, void (*fn)(void *opaque), void *opaque);

#endif
