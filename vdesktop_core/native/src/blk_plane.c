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

#include "blk_internal.h"

/* Served at one go on the loop, so that queues which share it take turns. */
#define CHAINS_PER_TURN 64u
/* A longer transfer is a worker's even if it would not block. */
#define LOOP_INLINE_BYTES (256u << 10)

struct queue {
    struct vd_blk *blk;
    struct vd_loop *loop;
    uint16_t index;
    int kick_fd;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t drained;
    bool running;       /* between DRIVER_OK and reset, the ring is sound */
    uint32_t in_flight; /* requests with the pool */
    struct request *free;
    struct blk_request current; /* of the thread that serves */
    struct vd_iov *data;
    struct vd_blk_counters counters;
};

/* A request with a worker: its own copy of the chain's segments. */
struct request {
    struct blk_job job; /* first */
    struct queue *queue;
    struct request *next_free;
    struct blk_request request;
    uint64_t popped_ns;
    uint32_t room; /* segments that the arrays behind it hold */
    struct vd_iov *iov, *data;
    uint64_t *gpa;
};

struct vd_blk {
    struct vd_device dev;
    struct vd_blk_store *store;
    struct blk_pool *pool;
    uint32_t inline_bytes;
    bool host_write_through;
    bool write_through; /* atomic: what the driver and the host agreed on */
    bool driver_ok;     /* atomic */
    char serial[VD_BLK_SERIAL_LEN];
    uint64_t logged[4]; /* atomic: errno values that have been logged */
    struct queue queues[];
};

static struct vd_blk *blk_of(struct vd_device *dev) {
    return dev->opaque;
}

static void log_error(struct vd_blk *blk, const struct blk_request *request, int error) {
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

static struct vd_queue *ring_of(const struct queue *queue) {
    return queue->blk->dev.queue[queue->index];
}

static uint64_t now(const struct queue *queue) {
    const struct vd_host *host = queue->blk->dev.host;
    return host->now_ns(host->opaque);
}

/* Lock held. */
static void push(struct queue *queue, const struct blk_request *request, enum blk_status status) {
    count(&queue->counters, request, status);
    vd_queue_push(ring_of(queue), &request->chain, blk_request_finish(request, status));
}

/* Lock held. */
static void publish(struct queue *queue) {
    if (vd_queue_publish(ring_of(queue)))
        vd_device_interrupt(&queue->blk->dev, queue->index);
}

/* Lock held. The ring is dead until the driver resets the device. */
static void fail(struct queue *queue, const char *what) {
    queue->running = false;
    vd_device_protocol_error(&queue->blk->dev, what);
}

static struct blk_rules rules_of(const struct vd_blk *blk) {
    return (struct blk_rules){
        .features = blk->dev.driver_features,
        .read_only = blk->store->read_only,
        .write_through = __atomic_load_n(&blk->write_through, __ATOMIC_RELAXED),
        .serial = blk->serial,
    };
}

static enum blk_status status_of(struct vd_blk *blk, const struct blk_request *request, int error) {
    if (!error)
        return BLK_S_OK;
    if (error == -ENOTSUP)
        return BLK_S_UNSUPP;
    log_error(blk, request, error);
    return BLK_S_IOERR;
}

/* A request object with room for n segments, or NULL. Lock held. */
static struct request *take(struct queue *queue, uint32_t n) {
    const struct vd_host *host = queue->blk->dev.host;
    struct request *request = queue->free;
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
static void give_back(struct queue *queue, struct request *request) {
    request->next_free = queue->free;
    queue->free = request;
}

/* Hands queue->current to a worker. 0 or -errno. Lock held. */
static int defer(struct queue *queue, uint64_t popped_ns) {
    const struct blk_request *from = &queue->current;
    uint32_t n = (uint32_t)from->chain.n_read + from->chain.n_write;
    struct request *request = take(queue, n);
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

/* On a worker's thread. */
static void run_deferred(struct blk_job *job) {
    struct request *request = (struct request *)job;
    struct queue *queue = request->queue;
    struct vd_blk *blk = queue->blk;
    struct blk_rules rules = rules_of(blk);
    int error = blk_request_run(&request->request, &rules, blk->store, 0);
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
static bool serve_one(struct queue *queue, const struct blk_rules *rules, uint32_t inline_bytes,
                      uint64_t popped_ns) {
    struct vd_blk *blk = queue->blk;
    struct blk_request *request = &queue->current;
    const char *what = NULL;
    int verdict = blk_request_parse(request, rules, blk->store, queue->data, &what);
    if (verdict < 0) {
        vd_queue_push(ring_of(queue), &request->chain, 0);
        fail(queue, what);
        return true;
    }
    enum blk_status status = (enum blk_status)(verdict - 1);
    if (!verdict) {
        int error = -EAGAIN;
        if (request->data_len <= inline_bytes)
            error = blk_request_run(request, rules, blk->store, VD_BLK_NOWAIT);
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
static bool serve(struct queue *queue, uint32_t inline_bytes, uint64_t bytes) {
    struct vd_queue *ring = ring_of(queue);
    if (!queue->running || !ring || !vd_queue_live(ring))
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

static void wake(const struct queue *queue) {
    uint64_t one = 1;
    (void)!write(queue->kick_fd, &one, sizeof one); /* EAGAIN: woken already */
}

/* On the loop's thread. */
static void on_kick(void *opaque, uint32_t events) {
    struct queue *queue = opaque;
    uint64_t kicks;
    (void)events;
    (void)!read(queue->kick_fd, &kicks, sizeof kicks);
    pthread_mutex_lock(&queue->lock);
    bool more = serve(queue, LOOP_INLINE_BYTES, UINT64_MAX);
    pthread_mutex_unlock(&queue->lock);
    if (more)
        wake(queue);
}

/* On a vCPU's thread, which pays for a short request less than a wake-up costs. */
static void on_notify(struct vd_device *dev, uint16_t index) {
    struct vd_blk *blk = blk_of(dev);
    struct queue *queue = &blk->queues[index];
    if (!blk->inline_bytes || pthread_mutex_trylock(&queue->lock)) {
        wake(queue);
        return;
    }
    bool more = serve(queue, blk->inline_bytes, blk->inline_bytes);
    pthread_mutex_unlock(&queue->lock);
    if (more)
        wake(queue);
}

/* §5.2.5.1, §5.2.6.2: write-back needs a driver that can flush. */
static void decide_cache_mode(struct vd_blk *blk) {
    uint64_t features = blk->dev.driver_features;
    bool write_through =
        blk->host_write_through || !(features >> BLK_F_FLUSH & 1) ||
        ((features >> BLK_F_CONFIG_WCE & 1) && !blk_config_get(&blk->dev, BLK_CONFIG_WRITEBACK));
    bool before = __atomic_exchange_n(&blk->write_through, write_through, __ATOMIC_RELAXED);
    if (write_through && !before && !blk->store->read_only) {
        /* What was acknowledged under write-back must not stay volatile. */
        struct blk_request flush = {.type = BLK_T_FLUSH};
        int error = blk->store->flush(blk->store, 0);
        if (error)
            log_error(blk, &flush, error);
    }
}

static void start_queue(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->running = true;
    pthread_mutex_unlock(&queue->lock);
    wake(queue); /* it may have been kicked before */
}

/* Returns when no thread touches the ring or a request's memory any more. */
static void stop_queue(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->running = false;
    pthread_mutex_unlock(&queue->lock);
    struct blk_job *job = blk_pool_cancel(queue->blk->pool, queue);
    pthread_mutex_lock(&queue->lock);
    while (job) {
        struct blk_job *next = job->next;
        give_back(queue, (struct request *)job);
        queue->in_flight--;
        job = next;
    }
    while (queue->in_flight)
        pthread_cond_wait(&queue->drained, &queue->lock);
    pthread_mutex_unlock(&queue->lock);
}

static void on_driver_ok(struct vd_device *dev) {
    struct vd_blk *blk = blk_of(dev);
    decide_cache_mode(blk);
    __atomic_store_n(&blk->driver_ok, true, __ATOMIC_RELAXED);
    for (uint16_t i = 0; i < dev->n_queues; i++)
        if (dev->queue[i] && vd_queue_live(dev->queue[i]))
            start_queue(&blk->queues[i]);
}

static void on_reset(struct vd_device *dev) {
    struct vd_blk *blk = blk_of(dev);
    __atomic_store_n(&blk->driver_ok, false, __ATOMIC_RELAXED);
    for (uint16_t i = 0; i < dev->n_queues; i++)
        stop_queue(&blk->queues[i]);
    if (dev->offered >> BLK_F_CONFIG_WCE & 1)
        blk_config_put(dev, BLK_CONFIG_WRITEBACK, 1);
    __atomic_store_n(&blk->write_through, blk->host_write_through, __ATOMIC_RELAXED);
}

static void on_queue_ready(struct vd_device *dev, uint16_t index) {
    struct vd_blk *blk = blk_of(dev);
    if (__atomic_load_n(&blk->driver_ok, __ATOMIC_RELAXED))
        start_queue(&blk->queues[index]);
}

static void on_queue_reset(struct vd_device *dev, uint16_t index) {
    stop_queue(&blk_of(dev)->queues[index]);
}

static void on_config_written(struct vd_device *dev, uint32_t offset, uint32_t len) {
    struct vd_blk *blk = blk_of(dev);
    if (blk_config_touches(BLK_CONFIG_WRITEBACK, offset, len) &&
        __atomic_load_n(&blk->driver_ok, __ATOMIC_RELAXED))
        decide_cache_mode(blk);
}

static const struct vd_device_ops ops = {
    .driver_ok = on_driver_ok,
    .reset = on_reset,
    .queue_ready = on_queue_ready,
    .queue_reset = on_queue_reset,
    .notify = on_notify,
    .config_written = on_config_written,
};

static bool valid(const struct vd_blk_options *options, const struct vd_blk_store *store) {
    uint32_t block_size = options->block_size ? options->block_size : store->block_size;
    return options->queues >= 1 && options->queues <= VD_BLK_QUEUES_MAX &&
           options->queue_size >= 4 && options->queue_size <= VD_QUEUE_SIZE_MAX &&
           !(options->queue_size & (options->queue_size - 1)) && options->workers >= 1 &&
           block_size >= VD_BLK_SECTOR && block_size <= 65536 && !(block_size & (block_size - 1)) &&
           store->size % block_size == 0;
}

static int start_serving(struct queue *queue) {
    const struct vd_host *host = queue->blk->dev.host;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->drained, NULL);
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

struct vd_blk *vd_blk_new(const struct vd_host *host, struct vd_mem *mem, const char *name,
                          struct vd_blk_store *store, const struct vd_blk_options *options,
                          struct vd_loop *const *loops, int *error) {
    *error = -EINVAL;
    if (!valid(options, store))
        return NULL;
    *error = -ENOMEM;
    struct vd_blk *blk =
        host->alloc(host->opaque, sizeof *blk + options->queues * sizeof *blk->queues);
    if (!blk)
        return NULL;
    blk->store = store;
    blk->inline_bytes = options->inline_bytes;
    blk->host_write_through = blk->write_through = options->write_through;
    memcpy(blk->serial, options->serial, sizeof blk->serial);
    blk->dev.ops = &ops;
    blk->dev.opaque = blk;
    blk->dev.virtio_id = VD_BLK_ID;
    blk->dev.host = host;
    blk->dev.mem = mem;
    blk->dev.n_queues = options->queues;
    strncpy(blk->dev.name, name, sizeof blk->dev.name - 1);
    blk_config_fill(&blk->dev, store, options);
    for (uint16_t i = 0; i < options->queues; i++) {
        blk->dev.queue_size_max[i] = options->queue_size;
        blk->queues[i] = (struct queue){.blk = blk, .loop = loops[i], .index = i, .kick_fd = -1};
    }
    blk->pool = blk_pool_new(host, "vd-blk", options->workers, run_deferred);
    *error = blk->pool ? 0 : -ENOMEM;
    for (uint16_t i = 0; i < options->queues && !*error; i++)
        *error = start_serving(&blk->queues[i]);
    if (*error) {
        vd_blk_free(blk);
        return NULL;
    }
    return blk;
}

static void free_queue(struct queue *queue) {
    const struct vd_host *host = queue->blk->dev.host;
    if (queue->kick_fd >= 0) {
        vd_loop_remove(queue->loop, queue->kick_fd);
        close(queue->kick_fd);
    }
    for (struct request *request = queue->free, *next; request; request = next) {
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

void vd_blk_free(struct vd_blk *blk) {
    if (!blk)
        return;
    const struct vd_host *host = blk->dev.host;
    struct blk_request flush = {.type = BLK_T_FLUSH};
    if (blk->pool)
        on_reset(&blk->dev);
    blk_pool_free(blk->pool);
    int error = blk->store->read_only ? 0 : blk->store->flush(blk->store, 0);
    if (error)
        log_error(blk, &flush, error);
    for (uint16_t i = 0; i < blk->dev.n_queues; i++)
        free_queue(&blk->queues[i]);
    host->free(host->opaque, blk);
}

struct vd_device *vd_blk_device(struct vd_blk *blk) {
    return &blk->dev;
}

int vd_blk_kick_fd(const struct vd_blk *blk, uint16_t queue) {
    return queue < blk->dev.n_queues ? blk->queues[queue].kick_fd : -1;
}

void vd_blk_counters(struct vd_blk *blk, struct vd_blk_counters *sum) {
    *sum = (struct vd_blk_counters){0};
    for (uint16_t i = 0; i < blk->dev.n_queues; i++) {
        struct queue *queue = &blk->queues[i];
        /* All fields are uint64_t. */
        uint64_t *to = (uint64_t *)sum;
        pthread_mutex_lock(&queue->lock);
        const uint64_t *from = (const uint64_t *)&queue->counters;
        for (size_t f = 0; f < sizeof *sum / sizeof *to; f++)
            to[f] += from[f];
        pthread_mutex_unlock(&queue->lock);
    }
}
