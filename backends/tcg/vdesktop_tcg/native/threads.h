/* SPDX-License-Identifier: GPL-2.0-only
 * The few things we need of POSIX threads. */
#ifndef TCG_THREADS_H
#define TCG_THREADS_H

#include <pthread.h>
#include <stdint.h>

/* Blocks all signals in the new thread: they belong to the embedding program. */
int tcg_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *opaque);
int tcg_cond_init(pthread_cond_t *cond); /* on CLOCK_MONOTONIC */
/* Until `deadline` of tcg_now, or for ever if it is TCG_NEVER. */
void tcg_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline);

#endif
