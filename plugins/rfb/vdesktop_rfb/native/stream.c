/* SPDX-License-Identifier: MIT
 * Bytes in and out. What goes out is collected in `out`; when it is to leave, it
 * is sealed: one WebSocket message where the client speaks them. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "client.h"

enum { START = WS_SERVER_HEADER_MAX };

uint8_t *rfb_room(struct rfb_client *c, size_t n) {
    if (c->sealed || c->n_out + n > START + OUT_SIZE)
        rfb_drain(c);
    return c->failure ? NULL : c->out + c->n_out;
}

void rfb_wrote(struct rfb_client *c, const uint8_t *end) {
    c->n_out = (size_t)(end - c->out);
}

void rfb_write(struct rfb_client *c, const void *data, size_t n) {
    const uint8_t *from = data;
    while (n) {
        size_t part = n < OUT_SIZE ? n : OUT_SIZE;
        uint8_t *to = rfb_room(c, part);
        if (!to)
            return;
        memcpy(to, from, part);
        rfb_wrote(c, to + part);
        from += part;
        n -= part;
    }
}

bool rfb_drained(const struct rfb_client *c) {
    return !c->sealed && c->n_out == START && !c->ws.n_reply;
}

bool rfb_wants_write(const struct rfb_client *c) {
    return c->tls ? tls_wants_write(c->tls) || c->sealed : c->sealed;
}

/* What leaves next. Pongs and the like go between two messages. */
static bool seal(struct rfb_client *c) {
    c->sent = START;
    if (c->n_out > START) {
        if (c->ws.on)
            c->sent -= rfb_frame_header(c->out + START, WS_BINARY, c->n_out - START);
    } else if (c->ws.n_reply) {
        memcpy(c->out + START, c->ws.reply, c->ws.n_reply);
        c->n_out = START + c->ws.n_reply;
        c->ws.n_reply = 0;
    } else {
        return false;
    }
    c->sealed = true;
    return true;
}

void rfb_flush(struct rfb_client *c) {
    while (c->sealed || seal(c)) {
        const uint8_t *from = c->out + c->sent;
        size_t n = c->n_out - c->sent;
        ssize_t sent =
            c->tls ? tls_write(c->tls, from, n) : send(c->fd, from, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                rfb_fail(c, "the connection broke");
                c->n_out = START;
                c->sealed = false;
            }
            return;
        }
        c->stats.bytes_sent += (uint64_t)sent;
        c->sent += (size_t)sent;
        if (c->sent == c->n_out) {
            c->n_out = START;
            c->sealed = false;
        }
    }
}

/* The rest of a message that is longer than `in`. */
static size_t continue_blob(struct rfb_client *c, const uint8_t *in, size_t n) {
    size_t part = n < c->blob.left ? n : (size_t)c->blob.left;
    if (c->state == STATE_BLOB && !rfb_blob_add(c, in, part))
        return part;
    c->blob.left -= part;
    if (!c->blob.left)
        rfb_blob_end(c);
    return part;
}

void rfb_parse(struct rfb_client *c) {
    size_t at = 0;
    while (!c->failure && at < c->n_in) {
        const uint8_t *in = c->in + at;
        size_t n = c->n_in - at, used;
        if (c->state < STATE_NORMAL) {
            used = rfb_login(c, in, n);
        } else if (!rfb_queue_has_room(c)) {
            c->paused = true;
            break;
        } else if (c->state == STATE_NORMAL) {
            used = rfb_message(c, in, n);
        } else {
            used = continue_blob(c, in, n);
        }
        if (!used)
            break;
        at += used;
    }
    memmove(c->in, c->in + at, c->n_in - at);
    c->n_in -= at;
}

void rfb_feed(struct rfb_client *c, uint8_t *bytes, size_t n) {
    c->stats.bytes_received += n;
    c->n_in += c->ws.on ? rfb_unframe(c, bytes, n) : n;
    rfb_parse(c);
}

void rfb_read(struct rfb_client *c) {
    while (!c->failure && !c->paused && c->n_in < IN_SIZE) {
        uint8_t *to = c->in + c->n_in;
        size_t room = IN_SIZE - c->n_in;
        if (c->state == STATE_TLS) {
            if (!rfb_tls_handshake(c))
                return;
            continue;
        }
        ssize_t got = c->tls ? tls_read(c->tls, to, room) : recv(c->fd, to, room, MSG_DONTWAIT);
        if (got < 0) {
            if (errno != EAGAIN && errno != EINTR)
                rfb_fail(c, "the connection broke");
            return;
        }
        if (got == 0) {
            rfb_fail(c, "it closed the connection");
            return;
        }
        rfb_feed(c, to, (size_t)got);
    }
}
