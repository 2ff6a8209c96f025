/* SPDX-License-Identifier: MIT
 * libFuzzer target: any accesses to a slot, with a device behind it that uses
 * its queues, changes its config space, complains, comes and goes. */
#include "harness.h"

#include <string.h>

#define QUEUES     3u
#define CONFIG_LEN 13u
#define SHM_BASE   0x123456000u

/* Operations, by their first byte; see `step`. */
enum {
    OP_WRITE,
    OP_READ,
    OP_WRITE_WIDTH,
    OP_READ_WIDTH,
    OP_SERVE,
    OP_INTERRUPT,
    OP_CONFIG_SET,
    OP_COMPLAIN,
    OP_POLL,
    OP_RESET,
    OP_REPLUG,
    OP_POKE,
    OP_REPLACE, /* leave the slot empty until the next OP_REPLUG */
};

static struct {
    struct vd_device dev;
    bool running, attached;
    uint64_t ready;
    struct vd_chain chain;
    struct vd_iov iov[VD_CHAIN_SEGS_MAX];
    uint64_t gpa[VD_CHAIN_SEGS_MAX];
} rig;

static void on_driver_ok(struct vd_device *dev) {
    fuzz_check(dev == &rig.dev && !rig.running);
    fuzz_check(!(dev->driver_features & ~(dev->offered | UINT64_C(1) << VD_F_VERSION_1)));
    rig.running = true;
}

static void on_reset(struct vd_device *dev) {
    fuzz_check(dev == &rig.dev);
    rig.running = false;
    rig.ready = 0;
}

static void on_queue_ready(struct vd_device *dev, uint16_t queue) {
    fuzz_check(queue < QUEUES && vd_queue_live(dev->queue[queue]) && !(rig.ready >> queue & 1));
    rig.ready |= UINT64_C(1) << queue;
}

static void on_queue_reset(struct vd_device *dev, uint16_t queue) {
    fuzz_check(queue < QUEUES && vd_queue_live(dev->queue[queue]) && rig.ready >> queue & 1);
    rig.ready &= ~(UINT64_C(1) << queue);
}

static void on_notify(struct vd_device *dev, uint16_t queue) {
    (void)dev;
    fuzz_check(queue < QUEUES && rig.running && rig.ready >> queue & 1);
}

static void on_config_written(struct vd_device *dev, uint32_t offset, uint32_t len) {
    fuzz_check(offset < dev->config_len && len && len <= 8);
}

static const struct vd_device_ops ops = {
    .driver_ok = on_driver_ok,
    .reset = on_reset,
    .queue_ready = on_queue_ready,
    .queue_reset = on_queue_reset,
    .notify = on_notify,
    .config_written = on_config_written,
};

static void plug(struct fuzz *f) {
    fuzz_check(!vd_mmio_attach(f->mmio, &rig.dev));
    rig.attached = true;
}

static void unplug(struct fuzz *f) {
    fuzz_check(vd_mmio_detach(f->mmio) == (rig.attached ? &rig.dev : NULL));
    rig.attached = false;
    fuzz_check(!rig.running && !rig.ready && !f->line && !vd_mmio_status(f->mmio));
}

static void set_up(struct fuzz *f) {
    struct vd_device *dev = &rig.dev;
    dev->ops = &ops;
    dev->host = &f->host;
    dev->mem = f->mem;
    dev->virtio_id = 42;
    dev->offered = VD_FEATURES_COMMON | UINT64_C(1) << VD_F_NOTIFICATION_DATA | 0xb;
    dev->config_len = CONFIG_LEN;
    memset(dev->config_writable + 4, 0xff, 5);
    dev->shm[1] = (struct vd_shm){.base = SHM_BASE, .len = 0x1000};
    rig.chain = (struct vd_chain){.iov = rig.iov, .gpa = rig.gpa};
    for (dev->n_queues = 0; dev->n_queues < QUEUES; dev->n_queues++) {
        dev->queue_size_max[dev->n_queues] = 8u << dev->n_queues;
        dev->queue[dev->n_queues] = vd_queue_new(&f->host, f->mem);
        fuzz_check(dev->queue[dev->n_queues]);
    }
}

/* Completes what is available, as a data plane does. */
static void serve(struct fuzz *f, uint32_t queue) {
    struct vd_queue *q = rig.dev.queue[queue];
    int got = 0;
    if (!rig.running || !(rig.ready >> queue & 1))
        return;
    for (uint32_t left = 64; left && (got = vd_queue_pop(q, &rig.chain)) > 0; left--) {
        fuzz_check_chain(f, &rig.chain);
        vd_queue_push(q, &rig.chain, UINT32_MAX);
    }
    if (got < 0)
        vd_device_protocol_error(&rig.dev, vd_ring_strerror(got));
    else if (vd_queue_publish(q))
        vd_device_interrupt(&rig.dev, (uint16_t)queue);
}

static void read_width(struct fuzz *f, uint32_t offset, unsigned width) {
    uint64_t value = f->io->read(f->io->opaque, offset, width);
    fuzz_check(width == 8 || !(value >> 8 * width));
    if (offset < VD_MMIO_CONFIG) {
        fuzz_check((width == 4 && offset % 4 == 0) || !value);
        return;
    }
    for (unsigned i = 0; i < width; i++) {
        uint32_t at = offset - VD_MMIO_CONFIG + i;
        uint8_t byte = rig.attached && at < CONFIG_LEN ? rig.dev.config[at] : 0;
        fuzz_check((value >> 8 * i & 0xff) == byte);
    }
}

/* The memory that events take does not grow: see vdesktop/mmio.h. */
static void poll_events(struct fuzz *f) {
    struct vd_event event;
    uint32_t n = 0, last = 0;
    for (; vd_mmio_poll_event(f->mmio, &event); n++) {
        fuzz_check(event.kind >= last && event.kind <= VD_EVENT_NEEDS_RESET);
        last = event.kind;
    }
    fuzz_check(n <= VD_EVENT_NEEDS_RESET + 2 * QUEUES);
}

static void step(struct fuzz *f, struct fuzz_input *in) {
    switch (fuzz_take(in, 1)) {
    case OP_WRITE: {
        uint32_t offset = fuzz_take(in, 2) % VD_MMIO_SIZE;
        f->io->write(f->io->opaque, offset, 4, fuzz_take(in, 4));
        fuzz_check(offset != REG_Status || f->io->read(f->io->opaque, REG_Status, 4) < 256);
        break;
    }
    case OP_READ:
        read_width(f, fuzz_take(in, 2) % VD_MMIO_SIZE, 4);
        break;
    case OP_WRITE_WIDTH: {
        uint32_t offset = fuzz_take(in, 2) % VD_MMIO_SIZE;
        unsigned width = 1u << fuzz_take(in, 1) % 4;
        f->io->write(f->io->opaque, offset, width, fuzz_take(in, width));
        break;
    }
    case OP_READ_WIDTH: {
        uint32_t offset = fuzz_take(in, 2) % VD_MMIO_SIZE;
        read_width(f, offset, 1u << fuzz_take(in, 1) % 4);
        break;
    }
    case OP_SERVE:
        serve(f, fuzz_take(in, 1) % QUEUES);
        break;
    case OP_INTERRUPT:
        vd_device_interrupt(&rig.dev, fuzz_take(in, 1) % QUEUES);
        break;
    case OP_CONFIG_SET: {
        uint32_t offset = (uint32_t)fuzz_take(in, 1);
        struct fuzz_input bytes = fuzz_bytes(in, fuzz_take(in, 1) % 16);
        vd_device_config_set(&rig.dev, offset, bytes.at, (uint32_t)bytes.left);
        break;
    }
    case OP_COMPLAIN:
        if (fuzz_take(in, 1) % 2)
            vd_device_failed(&rig.dev, "fuzz");
        else
            vd_device_protocol_error(&rig.dev, "fuzz");
        fuzz_check(!rig.attached || vd_mmio_status(f->mmio) & VD_STATUS_NEEDS_RESET);
        break;
    case OP_POLL:
        poll_events(f);
        break;
    case OP_RESET:
        vd_mmio_reset(f->mmio);
        fuzz_check(!f->line && !vd_mmio_status(f->mmio) && !rig.running);
        break;
    case OP_REPLUG:
        unplug(f);
        plug(f);
        break;
    case OP_POKE: {
        uint32_t offset = (uint32_t)fuzz_take(in, 2);
        fuzz_poke(f, offset, fuzz_bytes(in, 8));
        break;
    }
    case OP_REPLACE:
        unplug(f);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz *f = fuzz_rig();
    struct fuzz_input in;
    if (!rig.dev.ops)
        set_up(f);
    fuzz_begin(f, data, size, &in);
    memset(rig.dev.config, 0, CONFIG_LEN);
    plug(f);
    while (in.left) {
        uint64_t errors = rig.dev.n_protocol_errors, resets = rig.dev.n_resets;
        unsigned warned = f->warned;
        uint32_t status = vd_mmio_status(f->mmio);
        step(f, &in);
        fuzz_check(f->line == !!fuzz_get(f, REG_InterruptStatus));
        /* One line a reset, however often the driver errs. */
        bool erred = rig.attached && rig.dev.n_protocol_errors > errors;
        bool before = status & VD_STATUS_NEEDS_RESET;
        fuzz_check(!erred || rig.dev.n_resets > resets ||
                   vd_mmio_status(f->mmio) & VD_STATUS_NEEDS_RESET);
        fuzz_check(!rig.attached || f->warned - warned == (erred && !before));
    }
    unplug(f);
    poll_events(f);
    return 0;
}
