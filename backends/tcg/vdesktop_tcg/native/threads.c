/* SPDX-License-Identifier: GPL-2.0-only */
#define _GNU_SOURCE
#include "threads.h"

#include <signal.h>
#include <time.h>

#include "engine.h"

#define STACK_SIZE (1u << 20)
#define NS_PER_S   1000000000ull

uint64_t tcg_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

int tcg_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *opaque) {
    sigset_t all, old;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(thread, &attr, fn, opaque);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (error)
        return -error;
    pthread_setname_np(*thread, name);
    return 0;
}

int tcg_cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int error = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return -error;
}

void tcg_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline) {
    if (deadline == TCG_NEVER) {
        pthread_cond_wait(cond, lock);
        return;
    }
    struct timespec t = {.tv_sec = (time_t)(deadline / NS_PER_S),
                         .tv_nsec = (long)(deadline % NS_PER_S)};
    pthread_cond_timedwait(cond, lock, &t);
}
