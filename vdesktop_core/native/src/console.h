/* SPDX-License-Identifier: MIT
 * Inside of the console plane: console.c (the device), console_control.c (the
 * control queues), console_port.c (the bytes). */
#ifndef VD_CONSOLE_PRIVATE_H
#define VD_CONSOLE_PRIVATE_H

#include "escape.h"
#include "plane.h"
#include "vdesktop/console.h"

/* virtio 1.4 §5.3.3, feature bits */
#define CONSOLE_F_SIZE        (UINT64_C(1) << 0)
#define CONSOLE_F_MULTIPORT   (UINT64_C(1) << 1)
#define CONSOLE_F_EMERG_WRITE (UINT64_C(1) << 2)

/* §5.3.2: queues of the control channel; port 0 has 0 and 1, port n has 2n+2 and 2n+3. */
#define CONTROL_RX 2 /* device to driver */
#define CONTROL_TX 3 /* driver to device */

/* §5.3.6.2, messages from (D) and to (H) the device */
enum console_event {
    CONSOLE_DEVICE_READY = 0,  /* D */
    CONSOLE_DEVICE_ADD = 1,    /* H */
    CONSOLE_DEVICE_REMOVE = 2, /* H */
    CONSOLE_PORT_READY = 3,    /* D */
    CONSOLE_CONSOLE_PORT = 4,  /* H */
    CONSOLE_RESIZE = 5,        /* H */
    CONSOLE_PORT_OPEN = 6,     /* both */
    CONSOLE_PORT_NAME = 7,     /* H */
};

#define EMERGENCY_BYTES 256u

struct console_port {
    struct vd_console *console;
    uint32_t id;
    bool present;
    uint32_t flags;
    char name[VD_CONSOLE_PORT_NAME_MAX];
    int in_fd, out_fd, listen_fd;
    struct escape escape;
    bool write_error_logged;
    _Atomic uint32_t size; /* cols | rows << 16 */

    bool guest_open;
    int session_fd;           /* an eventfd, written when guest_open changes, or -1 */
    _Atomic uint64_t session; /* openings << 48 | start << 1 | open */
    uint32_t pending;         /* bit e: control message e waits for a buffer */
    size_t tx_offset;         /* bytes of the first waiting chain that are already written */
    uint32_t in_events;       /* what in_fd is watched for; 0: not watched */
    bool out_watched, listen_watched;
    int patience_fd; /* a lossy port's timerfd */
    bool dropping;   /* its reader has had its time */
    struct vd_console_counters counters;
};

struct vd_console {
    struct vd_plane plane; /* first: &console->plane.dev is the device */
    uint32_t max_ports;
    bool multiport; /* negotiated */
    struct vd_iov iov[VD_CHAIN_SEGS_MAX];
    uint64_t bad_controls;
    /* One producer (the transport's lock), one consumer (the loop's thread). */
    uint8_t emergency[EMERGENCY_BYTES];
    _Atomic uint32_t emergency_head, emergency_tail;
    _Atomic uint64_t emergency_dropped;
    struct console_port port[VD_CONSOLE_PORTS_MAX];
};

static inline uint16_t console_rx_queue(uint32_t port) {
    return (uint16_t)(port ? 2 * port + 2 : 0);
}

static inline uint16_t console_tx_queue(uint32_t port) {
    return (uint16_t)(console_rx_queue(port) + 1);
}

#define SESSION_START_MAX ((UINT64_C(1) << 47) - 1)

static inline struct vd_console_session console_session(const struct console_port *port) {
    uint64_t packed = atomic_load(&port->session);
    return (struct vd_console_session){packed & 1, (uint16_t)(packed >> 48),
                                       packed >> 1 & SESSION_START_MAX};
}

static inline bool console_host_open(const struct console_port *port) {
    return port->in_fd >= 0 || port->out_fd >= 0;
}

/* All on the loop's thread. */
void console_control_post(struct console_port *port, enum console_event event);
void console_control_send(struct vd_console *console);
void console_control_receive(struct vd_console *console);
/* Everything that is not queued per port, for a driver that may not know MULTIPORT. */
void console_port_rx(struct console_port *port);
void console_port_tx(struct console_port *port);
/* Watches what the port's state asks for, and nothing else. */
void console_port_watch(struct console_port *port);
void console_port_close(struct console_port *port);
/* The guest opened or closed the port; changes nothing else. */
void console_port_session(struct console_port *port, bool open);
/* Makes a lossy port's timer. 0 or -errno. */
int console_port_patience(struct console_port *port);
/* The chain that waits is no longer the device's. */
void console_port_forget(struct console_port *port);
void console_port_emergency(struct console_port *port, const uint8_t *bytes, size_t n);

#endif
