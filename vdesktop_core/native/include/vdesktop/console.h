/* SPDX-License-Identifier: MIT
 * The console device's data plane (virtio 1.4 §5.3): up to 31 ports, each
 * between a pair of virtqueues and host file descriptors. */
#ifndef VDESKTOP_CONSOLE_H
#define VDESKTOP_CONSOLE_H

#include "vdesktop/device.h"
#include "vdesktop/loop.h"

#define VD_CONSOLE_PORTS_MAX     31
#define VD_CONSOLE_PORT_NAME_MAX 64

/* The port is a terminal of the guest's (hvc), not a byte stream for agents. */
#define VD_CONSOLE_IS_CONSOLE 1
/* Output is dropped and counted while the host's reader takes none for 100 ms.
 * Without this flag the driver's buffers wait in the queue as long as it takes:
 * for Linux's hvc that means that the guest's CPU waits, which suits a terminal
 * or a pipe, not a pseudo terminal that nobody has opened. */
#define VD_CONSOLE_LOSSY 2

struct vd_console;

/* File descriptors are duplicated: the caller keeps its own. They must be
 * O_NONBLOCK unless they are regular files. -1: none. */
struct vd_console_port_config {
    uint32_t id; /* 0 .. max_ports-1 */
    uint32_t flags;
    int in_fd, out_fd;   /* may be the same (a socket, a pty master) */
    int listen_fd;       /* a listening stream socket: one client at a time, again and again */
    uint16_t cols, rows; /* 0: unknown */
    /* Typing `escape` and then `escape_then` writes escape_fd (an eventfd);
     * `escape` twice sends it once. -1: no escape. */
    int escape_fd;
    uint8_t escape, escape_then;
    const char *name; /* PORT_NAME, or NULL */
};

struct vd_console_counters {
    uint64_t rx_bytes; /* host to guest */
    uint64_t tx_bytes; /* guest to host */
    uint64_t
        tx_dropped_bytes; /* nobody connected, a slow reader of a lossy port, or a write error */
    uint64_t tx_stalls;   /* times the guest had to wait for a slow reader */
    uint64_t connections; /* clients accepted on listen_fd */
    uint64_t disconnects; /* ends of file and hang-ups seen */
};

/* NULL: out of memory or file descriptors. max_ports: 1..31, fixed for the
 * device's life because it fixes the number of queues. */
struct vd_console *vd_console_new(const struct vd_host *host, struct vd_mem *mem,
                                  struct vd_loop *loop, const char *name, uint32_t max_ports);
/* The device must be detached. */
void vd_console_free(struct vd_console *console);
struct vd_device *vd_console_device(struct vd_console *console);

/* Legal at any time: a running multiport driver hears of it (DEVICE_ADD,
 * DEVICE_REMOVE). 0 or -EINVAL, -EEXIST, -ENOENT, or the errno of dup. */
int vd_console_add_port(struct vd_console *console, const struct vd_console_port_config *config);
int vd_console_remove_port(struct vd_console *console, uint32_t id);
/* Tells the guest a port's new size, in characters. Not from the loop's thread. */
int vd_console_resize(struct vd_console *console, uint32_t id, uint16_t cols, uint16_t rows);
/* 0 or -ENOENT. */
int vd_console_port_counters(struct vd_console *console, uint32_t id,
                             struct vd_console_counters *counters);
/* event_fd (an eventfd, duplicated) is written whenever the guest opens or closes
 * the port: for a protocol that starts anew with each opening. -1: no more.
 * 0 or -ENOENT, or the errno of dup. */
int vd_console_watch_port(struct vd_console *console, uint32_t id, int event_fd);
struct vd_console_session {
    bool open;         /* the guest has the port open */
    uint16_t openings; /* how many times it has opened it, modulo 2^16 */
    uint64_t start;    /* tx_bytes at the last opening, modulo 2^47 */
};
/* So that the reader of out_fd can tell one opening's bytes from another's: the bytes
 * of an opening come after it is to be seen here. Takes no lock. 0 or -ENOENT. */
int vd_console_port_session(const struct vd_console *console, uint32_t id,
                            struct vd_console_session *session);
/* Control messages that name an unknown port or event, or that are too short,
 * and emergency bytes that found their buffer full. */
uint64_t vd_console_bad_controls(const struct vd_console *console);
uint64_t vd_console_emergency_dropped(const struct vd_console *console);

#endif
