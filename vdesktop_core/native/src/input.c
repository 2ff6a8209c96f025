/* SPDX-License-Identifier: MIT */
#include "input.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ring.h"

static void copy_chain(struct input_buffer *to, const struct vd_chain *from) {
    uint32_t pieces = from->n_write < sizeof to->iov / sizeof *to->iov
                          ? from->n_write
                          : (uint32_t)(sizeof to->iov / sizeof *to->iov);
    memcpy(to->iov, from->iov, pieces * sizeof *to->iov);
    memcpy(to->gpa, from->gpa, pieces * sizeof *to->gpa);
    to->chain = *from;
    to->chain.n_write = (uint16_t)pieces;
    to->chain.iov = to->iov;
    to->chain.gpa = to->gpa;
}

/* Collects buffers until there are n. false: the driver has given fewer so far. */
static bool collect(struct vd_input *input, uint32_t n) {
    struct vd_plane *plane = &input->plane;
    struct vd_queue *ring = plane->dev.queue[INPUT_EVENT_QUEUE];
    vd_queue_notify_disable(ring); /* only of interest while there are too few */
    while (input->n_buffers < n) {
        if (!vd_plane_pop(plane, INPUT_EVENT_QUEUE)) {
            if (!vd_plane_usable(plane, INPUT_EVENT_QUEUE) || !vd_queue_notify_enable(ring))
                return false;
            continue;
        }
        if (plane->chain.n_read || plane->chain.write_len < sizeof(struct vd_input_event)) {
            vd_plane_broken(plane, INPUT_EVENT_QUEUE,
                            "input: event buffer not writable or under 8 bytes (§5.8.6)");
            return false;
        }
        copy_chain(&input->buffer[input->n_buffers++], &plane->chain);
    }
    return true;
}

/* Takes the first frame if the driver has buffers for all of it; 0: not now. */
static uint32_t next_frame(struct vd_input *input, struct vd_input_event *events) {
    const struct vd_host *host = input->plane.dev.host;
    uint32_t size = input->plane.dev.queue[INPUT_EVENT_QUEUE]->size;
    vd_lock(&input->frames.lock, host);
    uint32_t n = input_frames_first(&input->frames);
    vd_unlock(&input->frames.lock);
    /* A frame only gets other values while it waits, not another length. */
    if (!n || (n <= size && !collect(input, n)))
        return 0;
    vd_lock(&input->frames.lock, host);
    input_frames_take(&input->frames, events, n);
    vd_unlock(&input->frames.lock);
    return n;
}

static void deliver(struct vd_input *input) {
    struct vd_plane *plane = &input->plane;
    struct vd_input_event events[VD_INPUT_FRAME_MAX + 1];
    uint32_t n;
    bool pushed = false;
    if (!vd_plane_usable(plane, INPUT_EVENT_QUEUE))
        return;
    struct vd_queue *ring = plane->dev.queue[INPUT_EVENT_QUEUE];
    while ((n = next_frame(input, events))) {
        if (n > ring->size) { /* there will never be buffers enough */
            vd_count(&input->counters.dropped);
            continue;
        }
        for (uint32_t i = 0; i < n; i++) {
            vd_chain_write(&input->buffer[i].chain, 0, &events[i], sizeof events[i]);
            vd_queue_push(ring, &input->buffer[i].chain, sizeof events[i]);
        }
        input->n_buffers = 0;
        vd_count(&input->counters.frames);
        pushed = true;
    }
    if (pushed)
        vd_plane_publish(plane, INPUT_EVENT_QUEUE);
}

static void take_status(struct vd_input *input, const struct vd_input_event *event) {
    const struct vd_host *host = input->plane.dev.host;
    vd_count(&input->counters.status);
    if (event->type != EV_LED || event->code >= 32)
        return;
    uint32_t bit = UINT32_C(1) << event->code;
    uint32_t before = event->value ? __atomic_fetch_or(&input->leds, bit, __ATOMIC_SEQ_CST)
                                   : __atomic_fetch_and(&input->leds, ~bit, __ATOMIC_SEQ_CST);
    if (!(before & bit) != !event->value && input->status_fd >= 0)
        host->wake(host->opaque, input->status_fd);
}

static void serve_status(struct vd_input *input) {
    struct vd_plane *plane = &input->plane;
    uint32_t served = 0;
    if (!vd_plane_usable(plane, INPUT_STATUS_QUEUE))
        return;
    struct vd_queue *ring = plane->dev.queue[INPUT_STATUS_QUEUE];
    while (served < INPUT_QUEUE_SIZE && vd_plane_pop(plane, INPUT_STATUS_QUEUE)) {
        struct vd_input_event event;
        if (vd_chain_read(&plane->chain, 0, &event, sizeof event) < sizeof event) {
            vd_plane_broken(plane, INPUT_STATUS_QUEUE, "input: status under 8 bytes (§5.8.6)");
            return;
        }
        take_status(input, &event);
        vd_plane_push(plane, INPUT_STATUS_QUEUE, 0);
        served++;
    }
    if (served)
        vd_plane_publish(plane, INPUT_STATUS_QUEUE);
    if (vd_plane_usable(plane, INPUT_STATUS_QUEUE) && vd_queue_notify_enable(ring))
        vd_plane_again(plane, INPUT_STATUS_QUEUE);
}

static void work(struct vd_plane *plane, uint64_t kicked, bool poked) {
    struct vd_input *input = (struct vd_input *)plane;
    if (poked || kicked >> INPUT_EVENT_QUEUE & 1)
        deliver(input);
    if (kicked >> INPUT_STATUS_QUEUE & 1)
        serve_status(input);
}

static void set_open(struct vd_input *input, bool open) {
    const struct vd_host *host = input->plane.dev.host;
    vd_lock(&input->frames.lock, host);
    uint32_t dropped = input_frames_clear(&input->frames);
    input->frames.open = open;
    vd_unlock(&input->frames.lock);
    __atomic_fetch_add(&input->counters.dropped, dropped, __ATOMIC_RELAXED);
}

static void started(struct vd_plane *plane) {
    set_open((struct vd_input *)plane, true);
}

static void stopped(struct vd_plane *plane, uint64_t mask, bool all) {
    struct vd_input *input = (struct vd_input *)plane;
    if (mask >> INPUT_EVENT_QUEUE & 1)
        input->n_buffers = 0; /* no longer the device's */
    if (!all)
        return;
    set_open(input, false);
    if (__atomic_exchange_n(&input->leds, 0, __ATOMIC_SEQ_CST) && input->status_fd >= 0)
        plane->dev.host->wake(plane->dev.host->opaque, input->status_fd);
}

/* The driver selected something else. The transport's lock is held. */
static void config_written(struct vd_device *dev, uint32_t offset, uint32_t len) {
    (void)offset, (void)len;
    input_config_select(dev->opaque, dev->config);
}

static const struct vd_device_ops input_ops = {
    .driver_ok = vd_plane_driver_ok,
    .reset = vd_plane_reset,
    .queue_ready = vd_plane_queue_ready,
    .queue_reset = vd_plane_queue_reset,
    .notify = vd_plane_notify,
    .doorbell = vd_plane_doorbell,
    .lose = vd_plane_lose,
    .config_written = config_written,
};

static bool options_ok(const struct vd_input_options *options) {
    if (options->n_types > VD_INPUT_TYPES_MAX || options->n_axes > VD_INPUT_AXES_MAX)
        return false;
    for (uint32_t i = 0; i < options->n_types; i++)
        if (!options->types[i].size || options->types[i].size > sizeof options->types[i].bits)
            return false;
    return true;
}

static void describe(struct vd_input *input, const struct vd_input_options *options) {
    snprintf(input->name, sizeof input->name, "%s", options->name ? options->name : "");
    snprintf(input->serial, sizeof input->serial, "%s", options->serial ? options->serial : "");
    input->ids[0] = options->bustype;
    input->ids[1] = options->vendor;
    input->ids[2] = options->product;
    input->ids[3] = options->version;
    input->properties = options->properties;
    input->n_types = options->n_types;
    for (uint32_t i = 0; i < options->n_types; i++)
        input->types[i] = options->types[i];
    input->n_axes = options->n_axes;
    for (uint32_t i = 0; i < options->n_axes; i++)
        input->axes[i] = options->axes[i];
    input->status_fd = options->status_fd;
}

struct vd_input *vd_input_new(const struct vd_host *host, struct vd_mem *mem, struct vd_loop *loop,
                              const char *name, const struct vd_input_options *options,
                              int *error) {
    *error = -EINVAL;
    if (!options_ok(options))
        return NULL;
    *error = -ENOMEM;
    struct vd_input *input = host->alloc(host->opaque, sizeof *input);
    if (!input)
        return NULL;
    describe(input, options);
    input->plane.work = work;
    input->plane.started = started;
    input->plane.stopped = stopped;
    *error = vd_plane_init(&input->plane, host, mem, loop, name, INPUT_QUEUES, INPUT_QUEUE_SIZE);
    if (*error) {
        host->free(host->opaque, input);
        return NULL;
    }
    struct vd_device *dev = &input->plane.dev;
    dev->ops = &input_ops;
    dev->virtio_id = VD_INPUT_ID;
    dev->offered = VD_PLANE_FEATURES;
    dev->config_len = INPUT_CONFIG_LEN;
    memset(dev->config_writable, 0xff, INPUT_CONFIG_SELECTORS);
    return input;
}

void vd_input_free(struct vd_input *input) {
    if (!input)
        return;
    const struct vd_host *host = input->plane.dev.host;
    vd_plane_fini(&input->plane);
    host->free(host->opaque, input);
}

struct vd_device *vd_input_device(struct vd_input *input) {
    return &input->plane.dev;
}

int vd_input_send(struct vd_input *input, const struct vd_input_event *events, uint32_t n) {
    const struct vd_host *host = input->plane.dev.host;
    if (!n || n > VD_INPUT_FRAME_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < n; i++)
        if (events[i].type == EV_SYN)
            return -EINVAL;
    vd_lock(&input->frames.lock, host);
    int put = input->frames.open ? input_frames_put(&input->frames, events, n) : -ENOTCONN;
    vd_unlock(&input->frames.lock);
    if (put < 0)
        vd_count(&input->counters.dropped);
    else if (put)
        vd_count(&input->counters.merged);
    else
        vd_plane_poke(&input->plane);
    return put < 0 ? put : 0;
}

uint32_t vd_input_leds(const struct vd_input *input) {
    return __atomic_load_n(&input->leds, __ATOMIC_SEQ_CST);
}

void vd_input_counters(const struct vd_input *input, struct vd_input_counters *counters) {
    counters->frames = __atomic_load_n(&input->counters.frames, __ATOMIC_RELAXED);
    counters->merged = __atomic_load_n(&input->counters.merged, __ATOMIC_RELAXED);
    counters->dropped = __atomic_load_n(&input->counters.dropped, __ATOMIC_RELAXED);
    counters->status = __atomic_load_n(&input->counters.status, __ATOMIC_RELAXED);
}
