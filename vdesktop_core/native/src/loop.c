/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "vdesktop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_WAIT 32
#define WATCHES_FIRST   16
/* epoll's user data of a watch is (generation << 32 | index): an event that was
 * fetched before its watch was removed, or its place reused, does not match. */
#define WAKE_TOKEN UINT64_MAX

struct watch {
    int fd; /* -1: free */
    uint32_t generation;
    vd_loop_fn fn;
    void *opaque;
};

struct job {
    struct job *next;
    void (*fn)(void *opaque);
    void *opaque;
    bool *done; /* the waiting caller's; NULL: posted, the job is on the heap */
};

enum loop_state { LOOP_STOPPED, LOOP_RUNNING, LOOP_STOPPING };

struct vd_loop {
    const struct vd_host *host;
    char name[16];
    int epoll_fd, wake_fd;
    pthread_t thread;

    pthread_mutex_t lock; /* all below; never held while a callback runs */
    pthread_cond_t changed;
    enum loop_state state;
    struct watch *watches;
    uint32_t n_watches;
    uint64_t current; /* token of the watch whose fn runs, or WAKE_TOKEN */
    struct job *first, *last;
};

static uint64_t token_of(const struct vd_loop *loop, uint32_t index) {
    return (uint64_t)loop->watches[index].generation << 32 | index;
}

static bool on_loop_thread(const struct vd_loop *loop) {
    return loop->state != LOOP_STOPPED && pthread_equal(loop->thread, pthread_self());
}

static void wake(struct vd_loop *loop) {
    uint64_t one = 1;
    /* Can only fail with EAGAIN at 2^64-2 unread wake-ups: awake anyway. */
    (void)!write(loop->wake_fd, &one, sizeof one);
}

struct vd_loop *vd_loop_new(const struct vd_host *host, const char *name) {
    struct vd_loop *loop = host->alloc(host->opaque, sizeof *loop);
    if (!loop)
        return NULL;
    loop->host = host;
    strncpy(loop->name, name, sizeof loop->name - 1);
    loop->current = WAKE_TOKEN;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_TOKEN};
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0) {
        if (loop->epoll_fd >= 0)
            close(loop->epoll_fd);
        if (loop->wake_fd >= 0)
            close(loop->wake_fd);
        host->free(host->opaque, loop);
        return NULL;
    }
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->changed, NULL);
    return loop;
}

static void run_watch(struct vd_loop *loop, uint64_t token, uint32_t events) {
    uint32_t index = (uint32_t)token;
    pthread_mutex_lock(&loop->lock);
    struct watch watch = loop->watches[index];
    if (watch.fd < 0 || token_of(loop, index) != token) {
        pthread_mutex_unlock(&loop->lock);
        return;
    }
    loop->current = token;
    pthread_mutex_unlock(&loop->lock);
    watch.fn(watch.opaque, events);
    pthread_mutex_lock(&loop->lock);
    loop->current = WAKE_TOKEN;
    pthread_cond_broadcast(&loop->changed);
    pthread_mutex_unlock(&loop->lock);
}

/* Runs the jobs that are queued now; what they queue runs at the next turn. */
static void run_jobs(struct vd_loop *loop) {
    pthread_mutex_lock(&loop->lock);
    struct job *job = loop->first;
    loop->first = loop->last = NULL;
    pthread_mutex_unlock(&loop->lock);
    while (job) {
        struct job *next = job->next;
        job->fn(job->opaque);
        if (job->done) { /* on the waiter's stack: gone once it sees `done` */
            pthread_mutex_lock(&loop->lock);
            *job->done = true;
            pthread_cond_broadcast(&loop->changed);
            pthread_mutex_unlock(&loop->lock);
        } else {
            loop->host->free(loop->host->opaque, job);
        }
        job = next;
    }
}

static bool finished(struct vd_loop *loop) {
    pthread_mutex_lock(&loop->lock);
    bool yes = loop->state == LOOP_STOPPING && !loop->first;
    pthread_mutex_unlock(&loop->lock);
    return yes;
}

static void *loop_main(void *opaque) {
    struct vd_loop *loop = opaque;
    struct epoll_event events[EVENTS_PER_WAIT];
    do {
        int n = epoll_wait(loop->epoll_fd, events, EVENTS_PER_WAIT, -1);
        bool woken = false;
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 != WAKE_TOKEN) {
                run_watch(loop, events[i].data.u64, events[i].events);
                continue;
            }
            uint64_t count;
            (void)!read(loop->wake_fd, &count, sizeof count);
            woken = true;
        }
        if (woken)
            run_jobs(loop);
    } while (!finished(loop));
    return NULL;
}

int vd_loop_start(struct vd_loop *loop) {
    pthread_mutex_lock(&loop->lock);
    if (loop->state != LOOP_STOPPED) {
        pthread_mutex_unlock(&loop->lock);
        return -EALREADY;
    }
    /* Signals are the process's main thread's: blocked before the thread exists. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&loop->thread, NULL, loop_main, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error) {
        loop->state = LOOP_RUNNING;
        pthread_setname_np(loop->thread, loop->name);
    }
    pthread_mutex_unlock(&loop->lock);
    return -error;
}

void vd_loop_stop(struct vd_loop *loop) {
    pthread_mutex_lock(&loop->lock);
    if (loop->state != LOOP_RUNNING) {
        while (loop->state == LOOP_STOPPING)
            pthread_cond_wait(&loop->changed, &loop->lock);
        pthread_mutex_unlock(&loop->lock);
        return;
    }
    loop->state = LOOP_STOPPING;
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
    pthread_join(loop->thread, NULL);
    pthread_mutex_lock(&loop->lock);
    loop->state = LOOP_STOPPED;
    pthread_cond_broadcast(&loop->changed);
    pthread_mutex_unlock(&loop->lock);
}

void vd_loop_free(struct vd_loop *loop) {
    if (!loop)
        return;
    const struct vd_host *host = loop->host;
    vd_loop_stop(loop);
    for (struct job *job = loop->first, *next; job; job = next) { /* posted, never started */
        next = job->next;
        host->free(host->opaque, job);
    }
    close(loop->epoll_fd);
    close(loop->wake_fd);
    if (loop->watches)
        host->free(host->opaque, loop->watches);
    pthread_cond_destroy(&loop->changed);
    pthread_mutex_destroy(&loop->lock);
    host->free(host->opaque, loop);
}

/* The watch of fd, or -1. Lock held. */
static int64_t find(const struct vd_loop *loop, int fd) {
    for (uint32_t i = 0; i < loop->n_watches; i++)
        if (loop->watches[i].fd == fd)
            return i;
    return -1;
}

/* A free place, growing the table. Lock held. */
static int64_t find_free(struct vd_loop *loop) {
    int64_t index = find(loop, -1);
    if (index >= 0)
        return index;
    uint32_t n = loop->n_watches ? loop->n_watches * 2 : WATCHES_FIRST;
    struct watch *grown = loop->host->alloc(loop->host->opaque, n * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    if (loop->watches) {
        memcpy(grown, loop->watches, loop->n_watches * sizeof *grown);
        loop->host->free(loop->host->opaque, loop->watches);
    }
    for (uint32_t i = loop->n_watches; i < n; i++)
        grown[i].fd = -1;
    index = loop->n_watches;
    loop->watches = grown;
    loop->n_watches = n;
    return index;
}

int vd_loop_add(struct vd_loop *loop, int fd, uint32_t events, vd_loop_fn fn, void *opaque) {
    if (fd < 0)
        return -EBADF;
    int error = 0;
    pthread_mutex_lock(&loop->lock);
    int64_t index = find(loop, fd) >= 0 ? -EEXIST : find_free(loop);
    if (index < 0) {
        error = (int)index;
    } else {
        struct watch *watch = &loop->watches[index];
        *watch = (struct watch){fd, watch->generation + 1, fn, opaque};
        struct epoll_event event = {.events = events, .data.u64 = token_of(loop, (uint32_t)index)};
        if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
            error = -errno;
            watch->fd = -1;
        }
    }
    pthread_mutex_unlock(&loop->lock);
    return error;
}

int vd_loop_modify(struct vd_loop *loop, int fd, uint32_t events) {
    int error = -ENOENT;
    pthread_mutex_lock(&loop->lock);
    int64_t index = fd < 0 ? -1 : find(loop, fd);
    if (index >= 0) {
        struct epoll_event event = {.events = events, .data.u64 = token_of(loop, (uint32_t)index)};
        error = epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
    }
    pthread_mutex_unlock(&loop->lock);
    return error;
}

int vd_loop_remove(struct vd_loop *loop, int fd) {
    int error = -ENOENT;
    pthread_mutex_lock(&loop->lock);
    int64_t index = fd < 0 ? -1 : find(loop, fd);
    if (index >= 0) {
        uint64_t token = token_of(loop, (uint32_t)index);
        error = epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
        loop->watches[index].fd = -1;
        loop->watches[index].generation++;
        while (loop->current == token && !on_loop_thread(loop))
            pthread_cond_wait(&loop->changed, &loop->lock);
    }
    pthread_mutex_unlock(&loop->lock);
    return error;
}

/* Lock held. */
static void enqueue(struct vd_loop *loop, struct job *job) {
    if (loop->last)
        loop->last->next = job;
    else
        loop->first = job;
    loop->last = job;
}

void vd_loop_call(struct vd_loop *loop, void (*fn)(void *opaque), void *opaque) {
    pthread_mutex_lock(&loop->lock);
    bool here = on_loop_thread(loop);
    while (!here && loop->state == LOOP_STOPPING)
        pthread_cond_wait(&loop->changed, &loop->lock);
    if (here || loop->state == LOOP_STOPPED) {
        pthread_mutex_unlock(&loop->lock);
        fn(opaque);
        return;
    }
    bool done = false;
    struct job job = {NULL, fn, opaque, &done};
    enqueue(loop, &job);
    wake(loop);
    while (!done)
        pthread_cond_wait(&loop->changed, &loop->lock);
    pthread_mutex_unlock(&loop->lock);
}

int vd_loop_post(struct vd_loop *loop, void (*fn)(void *opaque), void *opaque) {
    struct job *job = loop->host->alloc(loop->host->opaque, sizeof *job);
    if (!job)
        return -ENOMEM;
    *job = (struct job){NULL, fn, opaque, NULL};
    pthread_mutex_lock(&loop->lock);
    /* A job of the loop's own thread may post more while the loop stops. */
    bool refused = loop->state == LOOP_STOPPING && !on_loop_thread(loop);
    if (!refused)
        enqueue(loop, job);
    pthread_mutex_unlock(&loop->lock);
    if (refused) {
        loop->host->free(loop->host->opaque, job);
        return -ESHUTDOWN;
    }
    wake(loop);
    return 0;
}
