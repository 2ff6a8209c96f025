/* SPDX-License-Identifier: MIT
 * The data plane of virtio-blk: from a kick to an interrupt.
 *
 * A queue is *served* by whoever comes first: its loop's thread (the kick
 * eventfd), or the vCPU thread that kicks it. Serving never blocks: a request
 * that would is handed to a worker, and its place in the ring with it. One lock
 * a queue covers ring, requests and counters; it is never held across a call
 * into the store that may block. Lock order: transport, queue, pool. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "blk_plane.h"

/* Served at one go, so that queues and devices which share a loop take turns. */
#define CHAINS_PER_TURN 64u
#define BYTES_PER_TURN  (1u << 20)
/* A longer transfer is a worker's even if it would not block. */
#define LOOP_INLINE_BYTES (256u << 10)

/* A request with a worker: its own copy of the chain's segments. */
struct blk_deferred {
    struct blk_job job; /* first */
    struct blk_queue *queue;
    struct blk_deferred *next_free;
    struct blk_request request;
    uint64_t popped_ns;
    uint32_t room; /* segments that the arrays behind it hold */
    struct vd_iov *iov, *data;
    uint64_t *gpa;
};

void blk_log_error(struct vd_blk *blk, const struct blk_request *request, int error) {
    uint32_t number = (uint32_t)-error % 256;
    uint64_t bit = UINT64_C(1) << number % 64;
    if (__atomic_fetch_or(&blk->logged[number / 64], bit, __ATOMIC_RELAXED) & bit)
        return;
    char message[160];
    snprintf(message, sizeof message,
             "request type %u at byte %llu failed: %s; the guest gets I/O errors, further ones "
             "are only counted",
             request->type, (unsigned long long)request->offset, strerrordesc_np(-error));
    const struct vd_host *host = blk->dev.host;
    host->log(host->opaque, VD_LOG_ERROR, blk->dev.name, message);
}

static void count(struct vd_blk_counters *counters, const struct blk_request *request,
                  enum blk_status status) {
    counters->errors += status == BLK_S_IOERR;
    counters->unsupported += status == BLK_S_UNSUPP;
    switch (request->type) {
    case BLK_T_IN:
        counters->reads++;
        counters->read_bytes += status == BLK_S_OK ? request->data_len : 0;
        break;
    case BLK_T_OUT:
        counters->writes++;
        counters->written_bytes += status == BLK_S_OK ? request->data_len : 0;
        break;
    case BLK_T_FLUSH:
        counters->flushes++;
        break;
    case BLK_T_DISCARD:
        counters->discards++;
        break;
    case BLK_T_WRITE_ZEROES:
        counters->write_zeroes++;
        break;
    case BLK_T_GET_ID:
        counters->get_ids++;
        break;
    default:
        break;
    }
}

static struct vd_queue *ring_of(const struct blk_queue *queue) {
    return queue->blk->dev.queue[queue->index];
}

static uint64_t now(const struct blk_queue *queue) {
    const struct vd_host *host = queue->blk->dev.host;
    return host->now_ns(host->opaque);
}

/* Lock held. */
static void push(struct blk_queue *queue, const struct blk_request *request,
                 enum blk_status status) {
    count(&queue->counters, request, status);
    vd_queue_push(ring_of(queue), &request->chain, blk_request_finish(request, status));
}

/* Lock held. */
static void publish(struct blk_queue *queue) {
    if (vd_queue_publish(ring_of(queue)))
        vd_device_interrupt(&queue->blk->dev, queue->index);
}

/* Lock held. The ring is dead until the driver resets the device. */
static void fail(struct blk_queue *queue, const char *what) {
    queue->running = false;
    vd_device_protocol_error(&queue->blk->dev, what);
}

/* Under a queue's lock, or by a request that is in flight: it stays valid meanwhile. */
static struct vd_blk_store *store_of(const struct vd_blk *blk) {
    return __atomic_load_n(&blk->store, __ATOMIC_ACQUIRE);
}

static struct blk_rules rules_of(const struct vd_blk *blk) {
    return (struct blk_rules){
        .features = blk->dev.driver_features,
        .read_only = store_of(blk)->read_only,
        .write_through = __atomic_load_n(&blk->write_through, __ATOMIC_RELAXED),
        .serial = blk->serial,
    };
}

static enum blk_status status_of(struct vd_blk *blk, const struct blk_request *request, int error) {
    if (!error)
        return BLK_S_OK;
    if (error == -ENOTSUP)
        return BLK_S_UNSUPP;
    blk_log_error(blk, request, error);
    return BLK_S_IOERR;
}

/* A request object with room for n segments, or NULL. Lock held. */
static struct blk_deferred *take(struct blk_queue *queue, uint32_t n) {
    const struct vd_host *host = queue->blk->dev.host;
    struct blk_deferred *request = queue->free;
    if (request)
        queue->free = request->next_free;
    if (request && request->room >= n)
        return request;
    if (request)
        host->free(host->opaque, request);
    uint32_t room = n < 16 ? 16 : n;
    request = host->alloc(host->opaque,
                          sizeof *request + room * (2 * sizeof(struct vd_iov) + sizeof(uint64_t)));
    if (!request)
        return NULL;
    request->queue = queue;
    request->job.owner = queue;
    request->room = room;
    request->iov = (struct vd_iov *)(request + 1);
    request->data = request->iov + room;
    request->gpa = (uint64_t *)(request->data + room);
    return request;
}

/* Lock held. */
static void give_back(struct blk_queue *queue, struct blk_deferred *request) {
    request->next_free = queue->free;
    queue->free = request;
}

/* Hands queue->current to a worker. 0 or -errno. Lock held. */
static int defer(struct blk_queue *queue, uint64_t popped_ns) {
    const struct blk_request *from = &queue->current;
    uint32_t n = (uint32_t)from->chain.n_read + from->chain.n_write;
    struct blk_deferred *request = take(queue, n);
    if (!request)
        return -ENOMEM;
    request->request = *from;
    request->request.chain.iov = memcpy(request->iov, from->chain.iov, n * sizeof *request->iov);
    request->request.chain.gpa = memcpy(request->gpa, from->chain.gpa, n * sizeof *request->gpa);
    request->request.data = memcpy(request->data, from->data, from->n_data * sizeof *request->data);
    request->popped_ns = popped_ns;
    int error = blk_pool_submit(queue->blk->pool, &request->job);
    if (error) {
        give_back(queue, request);
        return error;
    }
    queue->in_flight++;
    queue->counters.deferred++;
    return 0;
}

void blk_run_deferred(struct blk_job *job) {
    struct blk_deferred *request = (struct blk_deferred *)job;
    struct blk_queue *queue = request->queue;
    struct vd_blk *blk = queue->blk;
    struct blk_rules rules = rules_of(blk);
    int error = blk_request_run(&request->request, &rules, store_of(blk), 0);
    enum blk_status status = status_of(blk, &request->request, error);
    pthread_mutex_lock(&queue->lock);
    if (queue->running) { /* else: being reset, nobody waits for it */
        push(queue, &request->request, status);
        publish(queue);
        queue->counters.latency_ns += now(queue) - request->popped_ns;
    }
    give_back(queue, request);
    if (!--queue->in_flight)
        pthread_cond_broadcast(&queue->drained);
    pthread_mutex_unlock(&queue->lock);
}

/* Serves queue->current: true if it was pushed, false if a worker has it. Lock held. */
static bool serve_one(struct blk_queue *queue, const struct blk_rules *rules, uint32_t inline_bytes,
                      uint64_t popped_ns) {
    struct vd_blk *blk = queue->blk;
    struct blk_request *request = &queue->current;
    const char *what = NULL;
    int verdict = blk_request_parse(request, rules, store_of(blk), queue->data, &what);
    if (verdict < 0) {
        vd_queue_push(ring_of(queue), &request->chain, 0);
        fail(queue, what);
        return true;
    }
    enum blk_status status = (enum blk_status)(verdict - 1);
    if (!verdict) {
        int error = -EAGAIN;
        if (request->data_len <= inline_bytes)
            error = blk_request_run(request, rules, store_of(blk), VD_BLK_NOWAIT);
        if (error == -EAGAIN) {
            error = defer(queue, popped_ns);
            if (!error)
                return false;
        }
        status = status_of(blk, request, error);
    }
    push(queue, request, status);
    return true;
}

/* Takes what is in the ring. `bytes` bounds the data moved on this thread.
 * True: there may be more, come again. Lock held. */
static bool serve(struct blk_queue *queue, uint32_t inline_bytes, uint64_t bytes) {
    struct vd_queue *ring = ring_of(queue);
    if (!queue->running || !vd_queue_live(ring))
        return false;
    struct blk_rules rules = rules_of(queue->blk);
    uint64_t popped_ns = now(queue);
    uint32_t pushed = 0, turn = CHAINS_PER_TURN;
    bool more = false;
    vd_queue_notify_disable(ring);
    while (queue->running) {
        if (!turn-- || !bytes) {
            more = true;
            break;
        }
        int popped = vd_queue_pop(ring, &queue->current.chain);
        if (popped < 0) {
            fail(queue, vd_ring_strerror(popped));
        } else if (!popped) {
            if (!vd_queue_notify_enable(ring))
                break;
            vd_queue_notify_disable(ring);
        } else if (serve_one(queue, &rules, inline_bytes, popped_ns)) {
            pushed++;
            uint32_t moved = queue->current.data_len;
            bytes -= moved < bytes ? moved : bytes;
        }
    }
    if (pushed) {
        publish(queue);
        queue->counters.latency_ns += pushed * (now(queue) - popped_ns);
    }
    return more;
}

static void wake(const struct blk_queue *queue) {
    uint64_t one = 1;
    (void)!write(queue->kick_fd, &one, sizeof one); /* EAGAIN: woken already */
}

/* On the loop's thread. */
static void on_kick(void *opaque, uint32_t events) {
    struct blk_queue *queue = opaque;
    uint64_t kicks;
    (void)events;
    (void)!read(queue->kick_fd, &kicks, sizeof kicks);
    pthread_mutex_lock(&queue->lock);
    bool more = serve(queue, LOOP_INLINE_BYTES, BYTES_PER_TURN);
    pthread_mutex_unlock(&queue->lock);
    if (more)
        wake(queue);
}

void blk_queue_kick(struct blk_queue *queue) {
    uint32_t inline_bytes = queue->blk->inline_bytes;
    if (!inline_bytes || pthread_mutex_trylock(&queue->lock)) {
        wake(queue);
        return;
    }
    bool more = serve(queue, inline_bytes, inline_bytes);
    pthread_mutex_unlock(&queue->lock);
    if (more)
        wake(queue);
}

void blk_queue_start(struct blk_queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->running = true;
    pthread_mutex_unlock(&queue->lock);
    wake(queue); /* it may have been kicked before */
}

void blk_queue_stop(struct blk_queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->running = false;
    pthread_mutex_unlock(&queue->lock);
    struct blk_job *job = blk_pool_cancel(queue->blk->pool, queue);
    pthread_mutex_lock(&queue->lock);
    while (job) {
        struct blk_job *next = job->next;
        give_back(queue, (struct blk_deferred *)job);
        queue->in_flight--;
        job = next;
    }
    while (queue->in_flight)
        pthread_cond_wait(&queue->drained, &queue->lock);
    pthread_mutex_unlock(&queue->lock);
}

/* Fails what waits for a worker, and returns when what workers have begun is answered. */
static void answer_all(struct blk_queue *queue) {
    struct blk_job *job = blk_pool_cancel(queue->blk->pool, queue);
    pthread_mutex_lock(&queue->lock);
    while (job) {
        struct blk_job *next = job->next;
        struct blk_deferred *request = (struct blk_deferred *)job;
        if (queue->running)
            push(queue, &request->request, BLK_S_IOERR);
        give_back(queue, request);
        queue->in_flight--;
        job = next;
    }
    while (queue->in_flight)
        pthread_cond_wait(&queue->drained, &queue->lock);
    if (queue->running)
        publish(queue);
    pthread_mutex_unlock(&queue->lock);
}

struct vd_blk_store *blk_take_store(struct vd_blk *blk) {
    struct vd_blk_store *store = blk->store;
    /* All at once: no thread that serves a queue is inside of the store then. */
    for (uint16_t i = 0; i < blk->dev.n_queues; i++)
        pthread_mutex_lock(&blk->queues[i].lock);
    __atomic_store_n(&blk->store, &blk->gone, __ATOMIC_RELEASE);
    for (uint16_t i = blk->dev.n_queues; i-- > 0;)
        pthread_mutex_unlock(&blk->queues[i].lock);
    for (uint16_t i = 0; i < blk->dev.n_queues; i++)
        answer_all(&blk->queues[i]);
    return store;
}

int blk_queue_open(struct blk_queue *queue) {
    struct vd_device *dev = &queue->blk->dev;
    const struct vd_host *host = dev->host;
    dev->queue[queue->index] = vd_queue_new(host, dev->mem);
    if (!dev->queue[queue->index])
        return -ENOMEM;
    queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->kick_fd < 0)
        return -errno;
    queue->current.chain.iov =
        host->alloc(host->opaque, VD_CHAIN_SEGS_MAX * sizeof *queue->current.chain.iov);
    queue->current.chain.gpa =
        host->alloc(host->opaque, VD_CHAIN_SEGS_MAX * sizeof *queue->current.chain.gpa);
    queue->data = host->alloc(host->opaque, VD_CHAIN_SEGS_MAX * sizeof *queue->data);
    if (!queue->current.chain.iov || !queue->current.chain.gpa || !queue->data)
        return -ENOMEM;
    return vd_loop_add(queue->loop, queue->kick_fd, EPOLLIN, on_kick, queue);
}

void blk_queue_close(struct blk_queue *queue) {
    const struct vd_host *host = queue->blk->dev.host;
    if (queue->kick_fd >= 0) {
        vd_loop_remove(queue->loop, queue->kick_fd);
        close(queue->kick_fd);
    }
    vd_queue_free(ring_of(queue));
    for (struct blk_deferred *request = queue->free, *next; request; request = next) {
        next = request->next_free;
        host->free(host->opaque, request);
    }
    void *arrays[] = {queue->current.chain.iov, queue->current.chain.gpa, queue->data};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (arrays[i])
            host->free(host->opaque, arrays[i]);
    pthread_cond_destroy(&queue->drained);
    pthread_mutex_destroy(&queue->lock);
}
