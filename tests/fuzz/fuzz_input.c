/* SPDX-License-Identifier: MIT
 * libFuzzer target: a guest's memory, kicks and selections against a virtio-input
 * device, with frames from the host in between. Every frame is accounted for:
 * delivered, merged into the one before, or dropped. */
#include "input.h"

#include <errno.h>

#include "harness.h"

enum { OP_KICK, OP_FRAME, OP_POKE, OP_SELECT, OP_READ, OP_QUEUE_RESET };

static struct {
    struct vd_input *input;
    uint64_t sent;
} rig;

static void set_up(struct fuzz *f) {
    static const struct vd_input_bits types[] = {
        {.type = EV_KEY, .size = 32, .bits = {0xfe, 0xff}},
        {.type = EV_ABS, .size = 8, .bits = {3, 0, 0, 0, 0, 0x80, 0x60, 2}},
        {.type = EV_LED, .size = 1, .bits = {7}},
    };
    static const struct vd_input_axis axes[] = {{.code = 0, .max = 32767},
                                                {.code = 1, .max = 32767},
                                                {.code = ABS_MT_SLOT, .max = 9},
                                                {.code = ABS_MT_TRACKING_ID, .max = 65535}};
    const struct vd_input_options options = {
        .name = "fuzz",
        .serial = "0",
        .types = types,
        .n_types = sizeof types / sizeof *types,
        .axes = axes,
        .n_axes = sizeof axes / sizeof *axes,
        .status_fd = -1,
    };
    int error;
    rig.input = vd_input_new(&f->host, f->mem, f->loop, "fuzz", &options, &error);
    fuzz_check(rig.input && !vd_mmio_attach(f->mmio, vd_input_device(rig.input)));
}

static void frame(struct fuzz_input *in) {
    struct vd_input_event events[VD_INPUT_FRAME_MAX + 2] = {0};
    uint32_t n = fuzz_take(in, 1) % (VD_INPUT_FRAME_MAX + 2);
    for (uint32_t i = 0; i < n; i++) {
        events[i].type = (uint16_t)(fuzz_take(in, 1) % 4);
        events[i].code = (uint16_t)fuzz_take(in, 1);
        events[i].value = (int32_t)fuzz_take(in, 2);
    }
    rig.sent += vd_input_send(rig.input, events, n) != -EINVAL;
}

static void check_accounts(void) {
    struct vd_input_counters counters;
    vd_input_counters(rig.input, &counters);
    fuzz_check(counters.frames + counters.merged + counters.dropped == rig.sent);
}

static void step(struct fuzz *f, struct fuzz_input *in) {
    switch (fuzz_take(in, 1)) {
    case OP_KICK:
        fuzz_put(f, REG_QueueNotify, fuzz_take(in, 1) % INPUT_QUEUES);
        break;
    case OP_FRAME:
        frame(in);
        break;
    case OP_POKE: {
        uint32_t offset = (uint32_t)fuzz_take(in, 2);
        fuzz_poke(f, offset, fuzz_bytes(in, 8));
        break;
    }
    case OP_SELECT: {
        uint32_t at = fuzz_take(in, 1) % INPUT_CONFIG_SELECTORS;
        f->io->write(f->io->opaque, VD_MMIO_CONFIG + at, 1, fuzz_take(in, 1));
        break;
    }
    case OP_READ: {
        uint32_t at = (uint32_t)fuzz_take(in, 1);
        fuzz_check(f->io->read(f->io->opaque, VD_MMIO_CONFIG + at, 1) <= 0xff);
        break;
    }
    case OP_QUEUE_RESET:
        fuzz_put(f, REG_QueueSel, fuzz_take(in, 1) % INPUT_QUEUES);
        fuzz_put(f, REG_QueueReset, 1);
        break;
    }
    fuzz_pump(f->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz *f = fuzz_rig();
    struct fuzz_input ops;
    if (!rig.input)
        set_up(f);
    uint8_t options = fuzz_begin(f, data, size, &ops);
    fuzz_bring_up(f, vd_input_device(rig.input), options, UINT64_MAX, INPUT_QUEUES);
    fuzz_pump(f->loop);
    while (ops.left)
        step(f, &ops);
    fuzz_put(f, REG_Status, 0);
    fuzz_check(!vd_input_leds(rig.input) && !rig.input->n_buffers);
    check_accounts();
    return 0;
}
