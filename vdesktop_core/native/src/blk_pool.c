/* SPDX-License-Identifier: MIT
 * A few threads that do what would block. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "blk_internal.h"

/* A worker calls preadv and little else. */
#define STACK_SIZE (256u << 10)

struct blk_pool {
    const struct vd_host *host;
    void (*run)(struct blk_job *job);
    char name[16];
    pthread_mutex_t lock; /* all below */
    pthread_cond_t work;
    struct blk_job *first, *last;
    uint32_t n_queued, n_idle, n_threads, threads_max;
    bool ending;
    pthread_t threads[];
};

struct blk_pool *blk_pool_new(const struct vd_host *host, const char *name, uint32_t threads,
                              void (*run)(struct blk_job *job)) {
    struct blk_pool *pool =
        host->alloc(host->opaque, sizeof *pool + threads * sizeof *pool->threads);
    if (!pool)
        return NULL;
    pool->host = host;
    pool->run = run;
    pool->threads_max = threads;
    strncpy(pool->name, name, sizeof pool->name - 1);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    return pool;
}

static void *worker(void *opaque) {
    struct blk_pool *pool = opaque;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        if (pool->first) {
            struct blk_job *job = pool->first;
            pool->first = job->next;
            if (!pool->first)
                pool->last = NULL;
            pool->n_queued--;
            pthread_mutex_unlock(&pool->lock);
            pool->run(job);
            pthread_mutex_lock(&pool->lock);
        } else if (pool->ending) {
            break;
        } else {
            pool->n_idle++;
            pthread_cond_wait(&pool->work, &pool->lock);
            pool->n_idle--;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Lock held. */
static int start_thread(struct blk_pool *pool) {
    pthread_attr_t attr;
    sigset_t all, before;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&pool->threads[pool->n_threads], &attr, worker, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (!error)
        pthread_setname_np(pool->threads[pool->n_threads++], pool->name);
    return error;
}

int blk_pool_submit(struct blk_pool *pool, struct blk_job *job) {
    int error = 0;
    pthread_mutex_lock(&pool->lock);
    if (pool->n_idle <= pool->n_queued && pool->n_threads < pool->threads_max)
        error = start_thread(pool);
    if (error && !pool->n_threads) {
        pthread_mutex_unlock(&pool->lock);
        return -EAGAIN;
    }
    job->next = NULL;
    if (pool->last)
        pool->last->next = job;
    else
        pool->first = job;
    pool->last = job;
    pool->n_queued++;
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

struct blk_job *blk_pool_cancel(struct blk_pool *pool, const void *owner) {
    struct blk_job *taken = NULL;
    pthread_mutex_lock(&pool->lock);
    struct blk_job **link = &pool->first;
    pool->last = NULL;
    while (*link) {
        struct blk_job *job = *link;
        if (job->owner == owner) {
            *link = job->next;
            job->next = taken;
            taken = job;
            pool->n_queued--;
        } else {
            pool->last = job;
            link = &job->next;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

void blk_pool_free(struct blk_pool *pool) {
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    pool->host->free(pool->host->opaque, pool);
}
