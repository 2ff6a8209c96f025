/* SPDX-License-Identifier: MIT
 * libFuzzer target: a virtqueue in guest memory that changes under the device,
 * and a device that uses it in any legal order. Operations: see `step`. */
#include "harness.h"

#define CHAINS 40u

enum { OPT_RAW_GEOMETRY = 16 };
enum { OP_POP, OP_PUSH, OP_PUBLISH, OP_UNPOP, OP_ENABLE, OP_DISABLE, OP_POKE, OP_COPY, OP_SEEK };

static struct {
    struct vd_queue *queue;
    struct vd_queue_config config;
    uint32_t n; /* chains in flight, the last popped one at the end */
    bool may_unpop;
    struct vd_chain chain[CHAINS];
    struct vd_iov iov[CHAINS][VD_CHAIN_SEGS_MAX];
    uint64_t gpa[CHAINS][VD_CHAIN_SEGS_MAX];
} rig;

static uint32_t descs_in_flight(void) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < rig.n; i++)
        sum += rig.config.packed ? rig.chain[i].descs : 1u;
    return sum;
}

static void pop(const struct fuzz *f) {
    if (rig.n == CHAINS)
        return;
    struct vd_chain *chain = &rig.chain[rig.n];
    int before = vd_queue_error(rig.queue), got = vd_queue_pop(rig.queue, chain);
    rig.may_unpop = got > 0;
    if (got <= 0) {
        fuzz_check(got == vd_queue_error(rig.queue) && (!before || got == before));
        fuzz_check(!got || vd_ring_strerror(got)[0]);
        return;
    }
    fuzz_check_chain(f, chain);
    for (uint32_t i = 0; i < rig.n; i++)
        fuzz_check(rig.chain[i].id != chain->id);
    rig.n++;
    fuzz_check(descs_in_flight() <= rig.config.size);
}

static void push(struct fuzz_input *in) {
    uint32_t which = (uint32_t)fuzz_take(in, 1), written = (uint32_t)fuzz_take(in, 4);
    if (!rig.n)
        return;
    which %= rig.n;
    struct vd_chain chain = rig.chain[which];
    vd_queue_push(rig.queue, &chain, written);
    rig.chain[which] = rig.chain[--rig.n];
    rig.chain[rig.n] = chain; /* its place, and the room for segments, are free again */
    rig.may_unpop = false;
}

static void copy(struct fuzz_input *in) {
    uint8_t bytes[64] = {0};
    uint32_t offset = (uint32_t)fuzz_take(in, 2), len = (uint32_t)fuzz_take(in, 1) % sizeof bytes;
    if (!rig.n)
        return;
    const struct vd_chain *chain = &rig.chain[rig.n - 1];
    uint32_t room = offset < chain->read_len ? chain->read_len - offset : 0;
    fuzz_check(vd_chain_read(chain, offset, bytes, len) == (len < room ? len : room));
    room = offset < chain->write_len ? chain->write_len - offset : 0;
    fuzz_check(vd_chain_write(chain, offset, bytes, len) == (len < room ? len : room));
}

static void step(struct fuzz *f, struct fuzz_input *in) {
    switch (fuzz_take(in, 1)) {
    case OP_POP:
        pop(f);
        break;
    case OP_PUSH:
        push(in);
        break;
    case OP_PUBLISH:
        vd_queue_publish(rig.queue);
        break;
    case OP_UNPOP:
        if (rig.may_unpop)
            vd_queue_unpop(rig.queue, &rig.chain[--rig.n]);
        rig.may_unpop = false;
        break;
    case OP_ENABLE:
        vd_queue_notify_enable(rig.queue);
        break;
    case OP_DISABLE:
        vd_queue_notify_disable(rig.queue);
        break;
    case OP_POKE: {
        uint32_t offset = (uint32_t)fuzz_take(in, 2);
        fuzz_poke(f, offset, fuzz_bytes(in, 8));
        break;
    }
    case OP_COPY:
        copy(in);
        break;
    case OP_SEEK: {
        uint32_t position = (uint32_t)fuzz_take(in, 4);
        if (rig.n || vd_queue_seek(rig.queue, position))
            break;
        uint32_t mask = rig.config.packed ? UINT32_MAX : 0xffff;
        fuzz_check((vd_queue_position(rig.queue) & mask) == (position & mask));
        break;
    }
    }
}

static void geometry(uint8_t options, struct fuzz_input *in) {
    rig.config = (struct vd_queue_config){
        .size = FUZZ_QUEUE_SIZE,
        .desc = FUZZ_GPA,
        .driver = FUZZ_GPA + FUZZ_DRIVER,
        .device = FUZZ_GPA + FUZZ_DEVICE,
        .packed = options & FUZZ_PACKED,
        .indirect = options & FUZZ_INDIRECT,
        .event_idx = options & FUZZ_EVENT_IDX,
    };
    if (options & OPT_RAW_GEOMETRY) {
        rig.config.size = (uint16_t)fuzz_take(in, 2);
        rig.config.desc = fuzz_take(in, 8);
        rig.config.driver = fuzz_take(in, 8);
        rig.config.device = fuzz_take(in, 8);
    }
}

static void set_up(const struct fuzz *f) {
    rig.queue = vd_queue_new(&f->host, f->mem);
    fuzz_check(rig.queue);
    for (uint32_t i = 0; i < CHAINS; i++)
        rig.chain[i] = (struct vd_chain){.iov = rig.iov[i], .gpa = rig.gpa[i]};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz *f = fuzz_rig();
    struct fuzz_input ops;
    uint8_t options = fuzz_begin(f, data, size, &ops);
    if (!rig.queue)
        set_up(f);
    geometry(options, &ops);
    rig.n = 0;
    rig.may_unpop = false;
    int error = vd_queue_start(rig.queue, &rig.config);
    fuzz_check(vd_queue_live(rig.queue) == !error && vd_queue_error(rig.queue) == error);
    while (ops.left)
        step(f, &ops);
    vd_queue_stop(rig.queue);
    return 0;
}
