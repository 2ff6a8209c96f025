/* SPDX-License-Identifier: MIT
 * The server side of RFB (RFC 6143 and the community's rfbproto): clients are
 * connected sockets, each served by a thread of its own; pictures come from
 * struct vd_viewing (vdesktop/display.h). Whoever opened the server hears what
 * clients do as events, and sends them control messages. */
#ifndef RFB_H
#define RFB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RFB_CLIENTS_MAX 32
#define RFB_SCREENS_MAX 16

struct vd_viewing;
struct rfb_server;

struct rfb_config {
    const char *name;              /* what clients show as the desktop's name */
    int wake_fd;                   /* an eventfd: readable when rfb_take has something */
    uint32_t max_clients;          /* 1 .. RFB_CLIENTS_MAX */
    uint32_t login_ms;             /* a client that has not logged in by then is dropped */
    const char *password;          /* NULL: none is asked for */
    const char *certificate, *key; /* PEM files: X509 over VeNCrypt; NULL: no TLS */
};

/* *error: 0, or -errno, and -EPROTO where rfb_problem says what is wrong; then the server serves
 * nobody, and is to be freed. NULL: no memory. */
struct rfb_server *rfb_server_new(const struct rfb_config *config, int *error);
/* Ends every client; joins their threads. NULL is allowed. */
void rfb_server_free(struct rfb_server *server);
/* A library that is missing, a certificate that does not load: one line, or an empty one. */
const char *rfb_problem(const struct rfb_server *server);

enum rfb_attach_flags {
    RFB_WEBSOCKET = 1, /* speaks WebSocket frames (RFC 6455) from here on; the upgrade is done */
    RFB_TRUSTED = 2,   /* has proved who it is: neither password nor TLS */
};
/* Takes fd, a connected stream socket (closed on failure too), and the first bytes that were read
 * from it already. The viewings are the screens from left to right; they stay valid until
 * rfb_release. Returns a client's number, or -errno: -EBUSY where there are as many as may be,
 * or too many have just given a wrong password. */
int64_t rfb_attach(struct rfb_server *server, int fd, uint32_t flags, const uint8_t *first,
                   size_t n_first, const struct vd_viewing *const *viewings, uint32_t n_viewings);
/* Ask a client to go; RFB_LEFT follows. */
void rfb_kick(struct rfb_server *server, int64_t client);
/* After RFB_LEFT: joins the thread, forgets the client. */
void rfb_release(struct rfb_server *server, int64_t client);

enum rfb_event_type {
    RFB_JOINED = 1,   /* logged in: it is a viewer now */
    RFB_LEFT = 2,     /* the last of a client. blob: why, as text */
    RFB_KEY = 3,      /* a: down, b: X11 keysym, c: XT scancode (0xE0 xx as 0x80 | xx) or 0 */
    RFB_POINTER = 4,  /* a: buttons as a mask, b, c: 0..32767 from left and top */
    RFB_TOUCH = 5,    /* a: phase as in wire.h, b: slot, c: x << 16 | y, as above */
    RFB_RESIZE = 6,   /* a: screen, b, c: width and height wanted */
    RFB_CUT_TEXT = 7, /* blob: ClientCutText's; a: 1 it is an extended clipboard message */
    RFB_CAPABLE = 8,  /* a: what it can, RFB_CAN_*; sent again when that changes */
    RFB_PRIVATE = 9,  /* a: kind, blob: payload of a message of our own (wire.h) */
    RFB_LOGIN_FAILED = 10,
};
enum rfb_can {
    RFB_CAN_EXTENDED_CLIPBOARD = 1,
    RFB_CAN_RESIZE = 2,
    RFB_CAN_PRIVATE = 4,
};
struct rfb_event {
    int64_t client;
    uint32_t type;
    int32_t a, b, c;
    uint32_t length;
    uint8_t *blob; /* the receiver's, who frees it with rfb_blob_free; or NULL */
};
/* Up to `room` events in the order of their happening, for each client; returns how many. A client
 * whose events are not taken is not read from. */
uint32_t rfb_take(struct rfb_server *server, struct rfb_event *events, uint32_t room);
void rfb_blob_free(uint8_t *blob);

/* Sends whole messages between two pictures. 0, -ENOENT, or -ENOBUFS: the client does not read. */
int rfb_send(struct rfb_server *server, int64_t client, const uint8_t *message, size_t length);
/* Lamps of the keyboard: 1 num lock, 2 caps lock, 4 scroll lock; to all clients. */
void rfb_set_leds(struct rfb_server *server, uint32_t leds);

struct rfb_stats {
    uint64_t frames, rectangles, pixels; /* sent */
    uint64_t bytes_sent, bytes_received;
    uint64_t messages;      /* of the client's */
    uint64_t late;          /* times that a picture waited for the client to read */
    uint64_t memory;        /* bytes held for it now */
    uint64_t round_trip_us; /* of the last fence; 0: not known */
    uint32_t encoding;      /* as negotiated */
    uint32_t jpeg;          /* 1: pictures may be lossy */
    uint32_t width, height; /* as the client knows them */
};
/* 0 or -ENOENT. */
int rfb_stats(struct rfb_server *server, int64_t client, struct rfb_stats *stats);

#endif
