/* SPDX-License-Identifier: MIT
 * An epoll event loop on a native thread: where data planes live. */
#ifndef VDESKTOP_LOOP_H
#define VDESKTOP_LOOP_H

#include "vdesktop/abi.h"

struct vd_loop;
/* `events` as in epoll(7). Runs on the loop's thread. */
typedef void (*vd_loop_fn)(void *opaque, uint32_t events);

struct vd_loop *vd_loop_new(const struct vd_host *host, const char *name);
int vd_loop_start(struct vd_loop *loop); /* 0 or -errno; the thread blocks all signals */
void vd_loop_stop(struct vd_loop *loop); /* joins */
void vd_loop_free(struct vd_loop *loop);
/* Watch changes are legal from any thread. After vd_loop_remove returns, fn is
 * not running and will not run again (unless called from fn itself). */
int vd_loop_add(struct vd_loop *loop, int fd, uint32_t events, vd_loop_fn fn, void *opaque);
int vd_loop_modify(struct vd_loop *loop, int fd, uint32_t events);
int vd_loop_remove(struct vd_loop *loop, int fd);
/* Runs fn on the loop's thread and waits for it (directly when called there). */
void vd_loop_call(struct vd_loop *loop, void (*fn)(void *opaque), void *opaque);
/* Runs fn on the loop's thread, soon, not waiting. */
int vd_loop_post(struct vd_loop *loop, void (*fn)(void *opaque), void *opaque);

#endif
