/* SPDX-License-Identifier: MIT
 * A port's bytes, between its two virtqueues and its file descriptors. */
#define _GNU_SOURCE
#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Chains of one port before another port has its turn. */
#define CHAINS_PER_TURN 64
/* Keys are looked at for the escape in our own copy, in pieces of this size. */
#define ESCAPE_BYTES 256
/* How long the guest waits for the reader of a lossy port before it is given up on. */
#define PATIENCE_NS 100000000

static void on_in(void *opaque, uint32_t events);
static void on_out(void *opaque, uint32_t events);
static void on_client(void *opaque, uint32_t events);

static bool guest_reads(const struct console_port *port) {
    return port->console->plane.running &&
           (port->guest_open || (!port->console->multiport && port->id == 0));
}

static void watch_in(struct console_port *port, uint32_t events) {
    struct vd_loop *loop = port->console->plane.loop;
    if (port->in_fd < 0 || events == port->in_events)
        return;
    if (!events) /* epoll reports a hang-up even to a watch of nothing, for ever: remove it */
        vd_loop_remove(loop, port->in_fd);
    else if (port->in_events)
        vd_loop_modify(loop, port->in_fd, events);
    else if (vd_loop_add(loop, port->in_fd, events, on_in, port) == -EPERM)
        vd_plane_poke(&port->console->plane); /* a regular file: always readable */
    port->in_events = events;
}

void console_port_watch(struct console_port *port) {
    struct vd_loop *loop = port->console->plane.loop;
    bool listening = port->listen_fd >= 0 && !console_host_open(port);
    if (listening && !port->listen_watched)
        port->listen_watched = !vd_loop_add(loop, port->listen_fd, EPOLLIN, on_client, port);
    if (!listening && port->listen_watched) {
        vd_loop_remove(loop, port->listen_fd);
        port->listen_watched = false;
    }
    if (guest_reads(port))
        watch_in(port, EPOLLIN);
    else /* a client that leaves while the guest does not listen makes room for the next */
        watch_in(port, port->listen_fd >= 0 ? EPOLLRDHUP : 0);
}

static void set_patience(const struct console_port *port, long ns) {
    const struct itimerspec once = {.it_value.tv_nsec = ns};
    if (port->patience_fd >= 0)
        timerfd_settime(port->patience_fd, 0, &once, NULL);
}

static void watch_out(struct console_port *port) {
    port->counters.tx_stalls++;
    port->out_watched =
        !vd_loop_add(port->console->plane.loop, port->out_fd, EPOLLOUT, on_out, port);
    set_patience(port, PATIENCE_NS);
}

static void unwatch_out(struct console_port *port) {
    if (port->out_watched)
        vd_loop_remove(port->console->plane.loop, port->out_fd);
    port->out_watched = port->dropping = false;
    set_patience(port, 0);
}

/* Nobody has read for a while: what comes is dropped until somebody does. */
static void on_impatience(void *opaque, uint32_t events) {
    struct console_port *port = opaque;
    uint64_t count;
    (void)events;
    if (read(port->patience_fd, &count, sizeof count) < 0 || !port->out_watched)
        return;
    port->dropping = true;
    console_port_tx(port);
}

int console_port_patience(struct console_port *port) {
    port->patience_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (port->patience_fd < 0)
        return -errno;
    return vd_loop_add(port->console->plane.loop, port->patience_fd, EPOLLIN, on_impatience, port);
}

void console_port_forget(struct console_port *port) {
    port->tx_offset = 0;
    unwatch_out(port);
}

void console_port_session(struct console_port *port, bool open) {
    static const uint64_t one = 1;
    if (port->guest_open == open)
        return;
    port->guest_open = open;
    struct vd_console_session session = console_session(port);
    session.open = open;
    if (open) {
        session.openings++;
        session.start = port->counters.tx_bytes & SESSION_START_MAX;
    }
    atomic_store(&port->session,
                 (uint64_t)session.openings << 48 | session.start << 1 | session.open);
    if (port->session_fd >= 0 && write(port->session_fd, &one, sizeof one) < 0)
        return; /* a full counter is as good as one more */
}

static void close_in(struct console_port *port) {
    if (port->in_fd < 0)
        return;
    watch_in(port, 0);
    close(port->in_fd);
    port->in_fd = -1;
}

static void close_out(struct console_port *port) {
    if (port->out_fd < 0)
        return;
    unwatch_out(port);
    close(port->out_fd);
    port->out_fd = -1;
}

void console_port_close(struct console_port *port) {
    if (port->listen_watched)
        vd_loop_remove(port->console->plane.loop, port->listen_fd);
    port->listen_watched = false;
    close_in(port);
    close_out(port);
    if (port->listen_fd >= 0)
        close(port->listen_fd);
    if (port->escape.fd >= 0)
        close(port->escape.fd);
    if (port->session_fd >= 0)
        close(port->session_fd);
    if (port->patience_fd >= 0) {
        vd_loop_remove(port->console->plane.loop, port->patience_fd);
        close(port->patience_fd);
    }
    port->listen_fd = port->escape.fd = port->session_fd = port->patience_fd = -1;
}

/* One direction ended. A client's connection goes as a whole. */
static void hang_up(struct console_port *port, bool in) {
    port->counters.disconnects++;
    if (in || port->listen_fd >= 0)
        close_in(port);
    if (!in || port->listen_fd >= 0)
        close_out(port);
    if (!console_host_open(port))
        console_control_post(port, CONSOLE_PORT_OPEN);
    console_port_watch(port);
    console_control_send(port->console);
    if (port->out_fd < 0 && port->console->plane.running)
        vd_plane_again(&port->console->plane,
                       console_tx_queue(port->id)); /* what waited is dropped */
}

static void on_client(void *opaque, uint32_t events) {
    struct console_port *port = opaque;
    (void)events;
    int fd = accept4(port->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    int out = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* a watch of its own: epoll knows a descriptor once */
    if (out < 0) {
        close(fd);
        return;
    }
    port->in_fd = fd;
    port->out_fd = out;
    port->counters.connections++;
    console_control_post(port, CONSOLE_PORT_OPEN);
    console_port_watch(port);
    console_control_send(port->console);
}

/* Reads into the chain: bytes, 0 at the end of file, or -errno. */
static ssize_t read_in(struct console_port *port, const struct vd_chain *chain) {
    if (port->escape.fd < 0)
        return vd_iov_read(port->in_fd, chain->iov, chain->n_write);
    uint8_t keys[ESCAPE_BYTES];
    for (;;) {
        size_t room = chain->write_len < sizeof keys ? chain->write_len : sizeof keys;
        ssize_t n = vd_iov_read(port->in_fd, &(struct vd_iov){keys, room}, 1);
        if (n <= 0)
            return n;
        size_t kept = escape_filter(&port->escape, keys, (size_t)n);
        if (kept)
            return (ssize_t)vd_chain_write(chain, 0, keys, kept);
    }
}

static void receive(struct console_port *port) {
    struct vd_plane *plane = &port->console->plane;
    uint16_t index = console_rx_queue(port->id);
    struct vd_queue *queue = plane->dev.queue[index];
    ssize_t n = 1;
    int turn = 0;
    vd_queue_notify_disable(queue);
    for (; turn < CHAINS_PER_TURN && n > 0; turn++) {
        if (!vd_plane_pop(plane, index)) {
            if (!vd_plane_usable(plane, index))
                return;
            if (vd_queue_notify_enable(queue))
                continue;
            watch_in(port, 0); /* the host waits until the guest gives buffers */
            break;
        }
        if (plane->chain.n_read) {
            vd_plane_broken(plane, index,
                            "console: device-readable part in a receiveq buffer (§5.3.6.1)");
            return;
        }
        n = read_in(port, &plane->chain);
        if (n <= 0) {
            vd_queue_unpop(queue, &plane->chain);
            continue;
        }
        port->counters.rx_bytes += (uint64_t)n;
        vd_plane_push(plane, index, (uint32_t)n);
    }
    vd_plane_publish(plane, index);
    if (n == 0 || (n < 0 && n != -EAGAIN))
        hang_up(port, true);
    else if (turn == CHAINS_PER_TURN)
        vd_plane_again(plane, index); /* a regular file has no watch that would come back */
}

void console_port_rx(struct console_port *port) {
    const struct vd_plane *plane = &port->console->plane;
    uint16_t index = console_rx_queue(port->id);
    if (port->in_fd < 0 || !guest_reads(port))
        return;
    if (vd_plane_usable(plane, index))
        receive(port);
    /* Bytes that nobody takes would wake the loop for ever. */
    if (!vd_plane_usable(plane, index))
        watch_in(port, 0);
}

static void on_in(void *opaque, uint32_t events) {
    struct console_port *port = opaque;
    if (guest_reads(port))
        console_port_rx(port);
    else if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        hang_up(port, true);
}

enum write_result { WRITE_DONE, WRITE_PARTLY, WRITE_BLOCKED, WRITE_HUNG_UP };

/* Writes what is left of a chain. Bytes that cannot go anywhere are counted. */
static enum write_result write_out(struct console_port *port, const struct vd_chain *chain) {
    struct vd_console *console = port->console;
    size_t left = chain->read_len > port->tx_offset ? chain->read_len - port->tx_offset : 0;
    if (!left)
        return WRITE_DONE;
    if (port->out_fd < 0 || port->dropping) {
        port->counters.tx_dropped_bytes += left;
        return WRITE_DONE;
    }
    unsigned segs = vd_iov_skip(chain->iov, chain->n_read, port->tx_offset, console->iov);
    ssize_t n = vd_iov_write(port->out_fd, console->iov, segs);
    if (n >= 0) {
        port->counters.tx_bytes += (uint64_t)n;
        port->tx_offset += (size_t)n;
        return (size_t)n == left ? WRITE_DONE : WRITE_PARTLY;
    }
    if (n == -EAGAIN)
        return WRITE_BLOCKED;
    port->counters.tx_dropped_bytes += left;
    if (n == -EPIPE || n == -ECONNRESET || n == -EIO)
        return WRITE_HUNG_UP;
    if (!port->write_error_logged) {
        char line[128];
        snprintf(line, sizeof line, "port %u: output is lost: %s", port->id, strerror((int)-n));
        console->plane.dev.host->log(console->plane.dev.host->opaque, VD_LOG_ERROR,
                                     console->plane.dev.name, line);
        port->write_error_logged = true;
    }
    return WRITE_DONE;
}

void console_port_tx(struct console_port *port) {
    struct vd_plane *plane = &port->console->plane;
    uint16_t index = console_tx_queue(port->id);
    if ((port->out_watched && !port->dropping) || !vd_plane_usable(plane, index))
        return; /* a slow reader: the chains wait where they are */
    struct vd_queue *queue = plane->dev.queue[index];
    enum write_result result = WRITE_DONE;
    int turn = 0;
    vd_queue_notify_disable(queue);
    while (turn < CHAINS_PER_TURN && result != WRITE_BLOCKED && result != WRITE_HUNG_UP) {
        if (!vd_plane_pop(plane, index)) {
            if (!vd_plane_usable(plane, index))
                return;
            if (vd_queue_notify_enable(queue))
                continue;
            break;
        }
        turn++;
        if (plane->chain.n_write) {
            vd_plane_broken(plane, index,
                            "console: device-writable part in a transmitq buffer (§5.3.6.2)");
            return;
        }
        result = write_out(port, &plane->chain);
        if (result == WRITE_BLOCKED || result == WRITE_PARTLY) {
            vd_queue_unpop(queue, &plane->chain);
            continue;
        }
        port->tx_offset = 0;
        vd_plane_push(plane, index, 0);
    }
    vd_plane_publish(plane, index);
    if (result == WRITE_BLOCKED) {
        watch_out(port);
    } else if (result == WRITE_HUNG_UP) {
        hang_up(port, false);
    } else if (turn == CHAINS_PER_TURN) {
        vd_plane_again(plane, index);
    }
}

static void on_out(void *opaque, uint32_t events) {
    struct console_port *port = opaque;
    (void)events;
    unwatch_out(port);
    console_port_tx(port);
}

void console_port_emergency(struct console_port *port, const uint8_t *bytes, size_t n) {
    ssize_t done = port->out_fd < 0 ? 0 : write(port->out_fd, bytes, n);
    size_t written = done > 0 ? (size_t)done : 0;
    port->counters.tx_bytes += written;
    port->counters.tx_dropped_bytes += n - written;
}
