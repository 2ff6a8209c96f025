/* SPDX-License-Identifier: MIT
 * The control channel (virtio 1.4 §5.3.6.2). What the device has to say is kept
 * as one bit a message and port, not as a list: a driver that gives no buffers
 * makes nothing grow, and late messages carry the state of then. */
#include "console.h"

#include <endian.h>
#include <string.h>

struct control_message {
    uint32_t id;
    uint16_t event, value;
} __attribute__((packed));

/* The order Linux's driver needs: a port exists before it is a console, and is
 * a console before it has a size. */
static const uint8_t send_order[] = {CONSOLE_DEVICE_REMOVE, CONSOLE_DEVICE_ADD,
                                     CONSOLE_CONSOLE_PORT,  CONSOLE_PORT_NAME,
                                     CONSOLE_PORT_OPEN,     CONSOLE_RESIZE};

void console_control_post(struct console_port *port, enum console_event event) {
    if (port->console->plane.running && port->console->multiport)
        port->pending |= 1u << event;
}

/* The message's bytes; returns their number. */
static size_t encode(const struct console_port *port, enum console_event event, uint8_t *to) {
    struct control_message message = {htole32(port->id), htole16(event), 0};
    size_t len = sizeof message;
    if (event == CONSOLE_CONSOLE_PORT)
        message.value = htole16(1);
    if (event == CONSOLE_PORT_OPEN)
        message.value = htole16(console_host_open(port));
    if (event == CONSOLE_PORT_NAME) {
        size_t name = strnlen(port->name, sizeof port->name);
        message.value = htole16(1);
        memcpy(to + len, port->name, name);
        len += name;
    }
    if (event == CONSOLE_RESIZE) {
        /* Rows first: what drivers read, in spite of the order of §5.3.6.2's structure. */
        uint32_t size = atomic_load(&port->size);
        uint16_t rows_cols[2] = {htole16(size >> 16), htole16(size & 0xffff)};
        memcpy(to + len, rows_cols, sizeof rows_cols);
        len += sizeof rows_cols;
    }
    memcpy(to, &message, sizeof message);
    return len;
}

/* false: no buffer, come back when the driver gives one. */
static bool send_one(struct vd_console *console, const struct console_port *port,
                     enum console_event event) {
    struct vd_plane *plane = &console->plane;
    uint8_t bytes[sizeof(struct control_message) + VD_CONSOLE_PORT_NAME_MAX];
    if (!vd_plane_pop(plane, CONTROL_RX))
        return false;
    if (plane->chain.n_read || plane->chain.write_len < sizeof(struct control_message)) {
        vd_plane_broken(
            plane, CONTROL_RX,
            "console: control receiveq buffer not writable or under 8 bytes (§5.3.6.2)");
        return false;
    }
    size_t len = encode(port, event, bytes);
    vd_plane_push(plane, CONTROL_RX, (uint32_t)vd_chain_write(&plane->chain, 0, bytes, len));
    return true;
}

static bool send_pending(struct vd_console *console) {
    for (uint32_t id = 0; id < console->max_ports; id++) {
        struct console_port *port = &console->port[id];
        for (size_t i = 0; port->pending && i < sizeof send_order; i++) {
            uint32_t bit = 1u << send_order[i];
            if (!(port->pending & bit))
                continue;
            if (!send_one(console, port, send_order[i]))
                return false;
            port->pending &= ~bit;
        }
    }
    return true;
}

void console_control_send(struct vd_console *console) {
    struct vd_plane *plane = &console->plane;
    if (!console->multiport || !vd_plane_usable(plane, CONTROL_RX))
        return;
    while (!send_pending(console) && vd_plane_usable(plane, CONTROL_RX) &&
           vd_queue_notify_enable(plane->dev.queue[CONTROL_RX]))
        continue;
    vd_plane_publish(plane, CONTROL_RX);
}

static void port_ready(struct console_port *port, bool ready) {
    if (!ready)
        return; /* the driver could not add the port: it will not use it */
    if (port->flags & VD_CONSOLE_IS_CONSOLE)
        console_control_post(port, CONSOLE_CONSOLE_PORT);
    if (port->name[0])
        console_control_post(port, CONSOLE_PORT_NAME);
    if (console_host_open(port))
        console_control_post(port, CONSOLE_PORT_OPEN);
    if (port->flags & VD_CONSOLE_IS_CONSOLE && atomic_load(&port->size))
        console_control_post(port, CONSOLE_RESIZE);
}

static void port_open(struct console_port *port, bool open) {
    console_port_session(port, open);
    console_port_watch(port);
    console_port_rx(port);
}

/* `message` is our own copy. false: it makes no sense. */
static bool handle(struct vd_console *console, const struct control_message *message) {
    uint32_t id = le32toh(message->id);
    uint16_t event = le16toh(message->event), value = le16toh(message->value);
    if (event == CONSOLE_DEVICE_READY) {
        for (uint32_t i = 0; value == 1 && i < console->max_ports; i++)
            if (console->port[i].present)
                console_control_post(&console->port[i], CONSOLE_DEVICE_ADD);
        return true;
    }
    if (id >= console->max_ports || !console->port[id].present)
        return false;
    if (event == CONSOLE_PORT_READY)
        port_ready(&console->port[id], value == 1);
    else if (event == CONSOLE_PORT_OPEN)
        port_open(&console->port[id], value == 1);
    else
        return false;
    return true;
}

void console_control_receive(struct vd_console *console) {
    struct vd_plane *plane = &console->plane;
    if (!console->multiport || !vd_plane_usable(plane, CONTROL_TX))
        return;
    /* At most a ring's worth a turn: the driver can refill it for ever. */
    uint32_t left = VD_QUEUE_SIZE_MAX;
    do {
        while (left && vd_plane_pop(plane, CONTROL_TX)) {
            struct control_message message;
            left--;
            if (vd_chain_read(&plane->chain, 0, &message, sizeof message) < sizeof message) {
                vd_plane_broken(plane, CONTROL_TX,
                                "console: control message under 8 bytes (§5.3.6.2)");
                return;
            }
            vd_plane_push(plane, CONTROL_TX, 0);
            /* Also a message that crossed the port's removal: no reason to stop the device. */
            if (!handle(console, &message))
                console->bad_controls++;
        }
        if (!vd_plane_usable(plane, CONTROL_TX))
            return;
    } while (left && vd_queue_notify_enable(plane->dev.queue[CONTROL_TX]));
    vd_plane_publish(plane, CONTROL_TX);
    if (!left)
        vd_plane_again(plane, CONTROL_TX);
    console_control_send(console);
}
