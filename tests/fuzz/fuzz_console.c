/* SPDX-License-Identifier: MIT
 * libFuzzer target: a guest's memory, kicks and control messages against a
 * virtio-console device of two ports, which come, go, are typed at and resized. */
#include "console.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"

#define PORTS    2u
#define QUEUES   6u
#define EMERG_WR 8u /* §5.3.4 */

enum {
    OP_KICK,
    OP_TYPE,
    OP_DRAIN,
    OP_RESIZE,
    OP_REMOVE,
    OP_ADD,
    OP_HANG_UP,
    OP_EMERGENCY,
    OP_POKE,
    OP_QUEUE_RESET
};

static struct {
    struct vd_console *console;
    int end[PORTS]; /* the host's; -1: hung up */
    bool used[PORTS];
} rig;

static void add_port(uint32_t id) {
    int ends[2];
    struct vd_console_port_config config = {
        .id = id,
        .flags = id ? 0 : VD_CONSOLE_IS_CONSOLE,
        .listen_fd = -1,
        .escape_fd = -1,
        .cols = 80,
        .rows = 25,
        .name = id ? "org.example.agent" : NULL,
    };
    if (rig.console->port[id].present)
        return;
    fuzz_check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends));
    config.in_fd = config.out_fd = ends[1];
    fuzz_check(!vd_console_add_port(rig.console, &config));
    close(ends[1]);
    rig.end[id] = ends[0];
}

static void hang_up(uint32_t id) {
    if (rig.end[id] >= 0)
        close(rig.end[id]);
    rig.end[id] = -1;
    rig.used[id] = true;
}

static void remove_port(uint32_t id) {
    bool present = rig.console->port[id].present;
    hang_up(id);
    fuzz_check(!vd_console_remove_port(rig.console, id) == present);
}

static void set_up(struct fuzz *f) {
    signal(SIGPIPE, SIG_IGN);
    rig.console = vd_console_new(&f->host, f->mem, f->loop, "fuzz", PORTS);
    fuzz_check(rig.console && vd_console_device(rig.console)->n_queues == QUEUES);
    fuzz_check(!vd_mmio_attach(f->mmio, vd_console_device(rig.console)));
    for (uint32_t id = 0; id < PORTS; id++)
        add_port(id);
}

static void drain(uint32_t id) {
    uint8_t bytes[4096];
    while (rig.end[id] >= 0 && recv(rig.end[id], bytes, sizeof bytes, 0) > 0)
        rig.used[id] = true;
}

static void type(uint32_t id, struct fuzz_input keys) {
    if (rig.end[id] >= 0 && keys.left)
        (void)!send(rig.end[id], keys.at, keys.left, 0);
    rig.used[id] = true;
}

static void step(struct fuzz *f, struct fuzz_input *in) {
    uint8_t op = (uint8_t)fuzz_take(in, 1);
    uint32_t id = (uint32_t)fuzz_take(in, 1);
    switch (op) {
    case OP_KICK:
        fuzz_put(f, REG_QueueNotify, id % QUEUES);
        break;
    case OP_TYPE:
        type(id % PORTS, fuzz_bytes(in, fuzz_take(in, 1)));
        break;
    case OP_DRAIN:
        drain(id % PORTS);
        break;
    case OP_RESIZE: {
        uint16_t cols = (uint16_t)fuzz_take(in, 2), rows = (uint16_t)fuzz_take(in, 2);
        vd_console_resize(rig.console, id % PORTS, cols, rows);
        break;
    }
    case OP_REMOVE:
        remove_port(id % PORTS);
        break;
    case OP_ADD:
        add_port(id % PORTS);
        break;
    case OP_HANG_UP:
        hang_up(id % PORTS);
        break;
    case OP_EMERGENCY:
        f->io->write(f->io->opaque, VD_MMIO_CONFIG + EMERG_WR, 4, id);
        rig.used[0] = true;
        break;
    case OP_POKE: {
        uint32_t offset = (uint32_t)fuzz_take(in, 2);
        fuzz_poke(f, offset, fuzz_bytes(in, 8));
        break;
    }
    case OP_QUEUE_RESET:
        fuzz_put(f, REG_QueueSel, id % QUEUES);
        fuzz_put(f, REG_QueueReset, 1);
        break;
    }
    fuzz_pump(f->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz *f = fuzz_rig();
    struct fuzz_input ops;
    if (!rig.console)
        set_up(f);
    uint8_t options = fuzz_begin(f, data, size, &ops);
    uint64_t mask = options & FUZZ_PLAIN ? VD_FEATURES_COMMON : UINT64_MAX;
    fuzz_bring_up(f, vd_console_device(rig.console), options, mask, QUEUES);
    fuzz_pump(f->loop);
    while (ops.left)
        step(f, &ops);
    fuzz_put(f, REG_Status, 0);
    for (uint32_t id = 0; id < PORTS; id++) {
        drain(id);
        fuzz_check(!rig.console->port[id].pending && !rig.console->port[id].guest_open);
        if (rig.used[id]) { /* the next input finds both ports as they were */
            if (rig.console->port[id].present)
                remove_port(id);
            rig.used[id] = false;
            add_port(id);
        }
    }
    return 0;
}
