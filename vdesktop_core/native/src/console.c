/* SPDX-License-Identifier: MIT */
#include "console.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONSOLE_DEVICE_ID 3
#define QUEUE_SIZE        128

/* §5.3.4 */
struct console_config {
    uint16_t cols, rows;
    uint32_t max_nr_ports;
    uint32_t emerg_wr;
} __attribute__((packed));

struct port_call {
    struct vd_console *console;
    const struct vd_console_port_config *config;
    uint32_t id;
    int result;
    int event_fd;
    struct vd_console_counters *counters;
};

static void emergency_drain(struct vd_console *console) {
    uint8_t bytes[EMERGENCY_BYTES];
    uint32_t head = atomic_load(&console->emergency_head), n = 0;
    for (uint32_t tail = atomic_load(&console->emergency_tail); tail != head; tail++)
        bytes[n++] = console->emergency[tail % EMERGENCY_BYTES];
    atomic_store(&console->emergency_tail, head);
    if (n)
        console_port_emergency(&console->port[0], bytes, n);
}

static void work(struct vd_plane *plane, uint64_t kicked, bool poked) {
    struct vd_console *console = (struct vd_console *)plane;
    if (poked)
        emergency_drain(console);
    if (poked || kicked >> CONTROL_TX & 1)
        console_control_receive(console);
    if (poked || kicked >> CONTROL_RX & 1)
        console_control_send(console);
    for (uint32_t id = 0; id < console->max_ports; id++) {
        struct console_port *port = &console->port[id];
        if (kicked >> console_tx_queue(id) & 1)
            console_port_tx(port);
        if (poked || kicked >> console_rx_queue(id) & 1) {
            console_port_watch(port);
            console_port_rx(port);
        }
    }
}

static void started(struct vd_plane *plane) {
    struct vd_console *console = (struct vd_console *)plane;
    console->multiport = plane->dev.driver_features & CONSOLE_F_MULTIPORT;
    for (uint32_t id = 0; id < console->max_ports; id++)
        console_port_watch(&console->port[id]);
}

static void stopped(struct vd_plane *plane, uint64_t mask, bool all) {
    struct vd_console *console = (struct vd_console *)plane;
    for (uint32_t id = 0; id < console->max_ports; id++) {
        struct console_port *port = &console->port[id];
        if (mask >> console_tx_queue(id) & 1)
            console_port_forget(port);
        if (!all)
            continue;
        port->pending = 0;
        console_port_session(port, false);
    }
    if (!all)
        return;
    plane->running = false;
    for (uint32_t id = 0; id < console->max_ports; id++)
        console_port_watch(&console->port[id]);
}

/* What the guest says goes nowhere from now on. */
static void lost(struct vd_plane *plane) {
    struct vd_console *console = (struct vd_console *)plane;
    for (uint32_t id = 0; id < console->max_ports; id++) {
        struct console_port *port = &console->port[id];
        if (!port->present)
            continue;
        bool open = console_host_open(port);
        port->tx_offset = 0;
        console_port_close(port);
        if (open)
            console_control_post(port, CONSOLE_PORT_OPEN);
    }
    console_control_send(console);
}

/* §5.3.4: a byte for whoever looks, long before any queue lives. */
static void config_written(struct vd_device *dev, uint32_t offset, uint32_t len) {
    struct vd_console *console = dev->opaque;
    if (offset != offsetof(struct console_config, emerg_wr) || !len)
        return;
    uint32_t head = atomic_load(&console->emergency_head);
    if (head - atomic_load(&console->emergency_tail) == EMERGENCY_BYTES) {
        atomic_fetch_add(&console->emergency_dropped, 1);
        return;
    }
    console->emergency[head % EMERGENCY_BYTES] = dev->config[offset];
    atomic_store(&console->emergency_head, head + 1);
    vd_plane_poke(&console->plane);
}

static const struct vd_device_ops console_ops = {
    .driver_ok = vd_plane_driver_ok,
    .reset = vd_plane_reset,
    .queue_ready = vd_plane_queue_ready,
    .queue_reset = vd_plane_queue_reset,
    .notify = vd_plane_notify,
    .doorbell = vd_plane_doorbell,
    .lose = vd_plane_lose,
    .config_written = config_written,
};

struct vd_console *vd_console_new(const struct vd_host *host, struct vd_mem *mem,
                                  struct vd_loop *loop, const char *name, uint32_t max_ports) {
    if (!max_ports || max_ports > VD_CONSOLE_PORTS_MAX)
        return NULL;
    struct vd_console *console = host->alloc(host->opaque, sizeof *console);
    if (!console)
        return NULL;
    uint16_t n_queues = (uint16_t)(console_tx_queue(max_ports - 1) + 1);
    if (n_queues <= CONTROL_TX)
        n_queues = CONTROL_TX + 1;
    if (vd_plane_init(&console->plane, host, mem, loop, name, n_queues, QUEUE_SIZE)) {
        host->free(host->opaque, console);
        return NULL;
    }
    console->max_ports = max_ports;
    console->plane.work = work;
    console->plane.started = started;
    console->plane.stopped = stopped;
    console->plane.lost = lost;
    for (uint32_t id = 0; id < VD_CONSOLE_PORTS_MAX; id++) {
        struct console_port *port = &console->port[id];
        port->console = console;
        port->id = id;
        port->in_fd = port->out_fd = port->listen_fd = port->escape.fd = port->patience_fd = -1;
        port->session_fd = -1;
    }
    struct vd_device *dev = &console->plane.dev;
    dev->ops = &console_ops;
    dev->virtio_id = CONSOLE_DEVICE_ID;
    dev->offered = VD_PLANE_FEATURES | CONSOLE_F_SIZE | CONSOLE_F_EMERG_WRITE;
    /* One port needs no control queues, and many Linux kernels take the size in a
     * control message the wrong way round, but not the one in config space. */
    if (max_ports > 1)
        dev->offered |= CONSOLE_F_MULTIPORT;
    struct console_config config = {.max_nr_ports = htole32(max_ports)};
    dev->config_len = sizeof config;
    memcpy(dev->config, &config, sizeof config);
    memset(dev->config_writable + offsetof(struct console_config, emerg_wr), 0xff,
           sizeof config.emerg_wr);
    return console;
}

struct vd_device *vd_console_device(struct vd_console *console) {
    return &console->plane.dev;
}

static void close_all(void *opaque) {
    struct vd_console *console = opaque;
    for (uint32_t id = 0; id < console->max_ports; id++)
        console_port_close(&console->port[id]);
}

void vd_console_free(struct vd_console *console) {
    if (!console)
        return;
    const struct vd_host *host = console->plane.dev.host;
    vd_plane_reset(&console->plane.dev);
    vd_plane_fini(&console->plane);
    vd_loop_call(console->plane.loop, close_all, console);
    host->free(host->opaque, console);
}

/* Its own descriptor for `fd`, or -1; remembers the first error. */
static int dup_fd(int fd, int *error) {
    if (fd < 0)
        return -1;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0 && !*error)
        *error = -errno;
    return own;
}

static void do_add_port(void *opaque) {
    struct port_call *call = opaque;
    const struct vd_console_port_config *config = call->config;
    struct console_port *port = &call->console->port[config->id];
    if (port->present) {
        call->result = -EEXIST;
        return;
    }
    port->in_fd = dup_fd(config->in_fd, &call->result);
    port->out_fd = dup_fd(config->out_fd, &call->result);
    port->listen_fd = dup_fd(config->listen_fd, &call->result);
    port->escape.fd = dup_fd(config->escape_fd, &call->result);
    if (!call->result && config->flags & VD_CONSOLE_LOSSY)
        call->result = console_port_patience(port);
    if (call->result) {
        console_port_close(port);
        return;
    }
    port->flags = config->flags;
    port->escape.key = config->escape;
    port->escape.then = config->escape_then;
    port->escape.armed = port->write_error_logged = false;
    snprintf(port->name, sizeof port->name, "%s", config->name ? config->name : "");
    port->counters = (struct vd_console_counters){0};
    atomic_store(&port->session, 0);
    port->present = true;
    console_control_post(port, CONSOLE_DEVICE_ADD);
    console_port_watch(port);
    console_control_send(call->console);
}

int vd_console_add_port(struct vd_console *console, const struct vd_console_port_config *config) {
    if (config->id >= console->max_ports)
        return -EINVAL;
    struct port_call call = {.console = console, .config = config};
    vd_loop_call(console->plane.loop, do_add_port, &call);
    return call.result ? call.result
                       : vd_console_resize(console, config->id, config->cols, config->rows);
}

static void do_remove_port(void *opaque) {
    struct port_call *call = opaque;
    struct console_port *port = &call->console->port[call->id];
    if (!port->present) {
        call->result = -ENOENT;
        return;
    }
    console_port_session(port, false);
    port->present = false;
    port->pending = 0;
    port->tx_offset = 0;
    console_port_close(port);
    console_control_post(port, CONSOLE_DEVICE_REMOVE);
    console_control_send(call->console);
    vd_plane_again(&call->console->plane, console_tx_queue(call->id)); /* frees what waited */
}

int vd_console_remove_port(struct vd_console *console, uint32_t id) {
    if (id >= console->max_ports)
        return -ENOENT;
    struct port_call call = {.console = console, .id = id};
    vd_loop_call(console->plane.loop, do_remove_port, &call);
    return call.result;
}

static void do_resize(void *opaque) {
    struct port_call *call = opaque;
    struct console_port *port = &call->console->port[call->id];
    if (port->flags & VD_CONSOLE_IS_CONSOLE && port->present) {
        console_control_post(port, CONSOLE_RESIZE);
        console_control_send(call->console);
    }
}

int vd_console_resize(struct vd_console *console, uint32_t id, uint16_t cols, uint16_t rows) {
    if (id >= console->max_ports)
        return -ENOENT;
    if (!cols || !rows)
        return 0;
    atomic_store(&console->port[id].size, (uint32_t)cols | (uint32_t)rows << 16);
    if (id == 0) {
        uint16_t size[2] = {htole16(cols), htole16(rows)};
        vd_device_config_set(&console->plane.dev, 0, size, sizeof size);
    }
    struct port_call call = {.console = console, .id = id};
    vd_loop_call(console->plane.loop, do_resize, &call);
    return 0;
}

static void do_counters(void *opaque) {
    struct port_call *call = opaque;
    const struct console_port *port = &call->console->port[call->id];
    if (!port->present)
        call->result = -ENOENT;
    *call->counters = port->counters;
}

int vd_console_port_counters(struct vd_console *console, uint32_t id,
                             struct vd_console_counters *counters) {
    if (id >= console->max_ports)
        return -ENOENT;
    struct port_call call = {.console = console, .id = id, .counters = counters};
    vd_loop_call(console->plane.loop, do_counters, &call);
    return call.result;
}

static void do_watch_port(void *opaque) {
    struct port_call *call = opaque;
    struct console_port *port = &call->console->port[call->id];
    if (!port->present) {
        call->result = -ENOENT;
        return;
    }
    int own = dup_fd(call->event_fd, &call->result);
    if (call->result)
        return;
    if (port->session_fd >= 0)
        close(port->session_fd);
    port->session_fd = own;
}

int vd_console_watch_port(struct vd_console *console, uint32_t id, int event_fd) {
    if (id >= console->max_ports)
        return -ENOENT;
    struct port_call call = {.console = console, .id = id, .event_fd = event_fd};
    vd_loop_call(console->plane.loop, do_watch_port, &call);
    return call.result;
}

int vd_console_port_session(const struct vd_console *console, uint32_t id,
                            struct vd_console_session *session) {
    if (id >= console->max_ports)
        return -ENOENT;
    *session = console_session(&console->port[id]);
    return 0;
}

uint64_t vd_console_bad_controls(const struct vd_console *console) {
    return console->bad_controls;
}

uint64_t vd_console_emergency_dropped(const struct vd_console *console) {
    return atomic_load(&console->emergency_dropped);
}
