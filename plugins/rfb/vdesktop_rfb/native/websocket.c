/* SPDX-License-Identifier: MIT
 * WebSocket frames, RFC 6455 §5. The stream of binary messages is one stream of
 * bytes: where a message ends means nothing to RFB. */
#include <string.h>

#include "client.h"

enum {
    FINAL = 0x80,
    RESERVED = 0x70,
    MASKED = 0x80,
    LENGTH = 0x7F,
    LENGTH_16 = 126,
    LENGTH_64 = 127
};
enum { CLOSE_PROTOCOL = 1002, CLOSE_TYPE = 1003, CLOSE_TOO_LONG = 1009 };

size_t rfb_frame_header(uint8_t *at, uint8_t opcode, size_t n) {
    size_t size = n < LENGTH_16 ? 2 : n <= UINT16_MAX ? 4 : 10;
    uint8_t *to = put8(at - size, FINAL | opcode);
    if (size == 2) {
        put8(to, (uint32_t)n);
    } else if (size == 4) {
        put16(put8(to, LENGTH_16), (uint32_t)n);
    } else {
        to = put32(put8(to, LENGTH_64), (uint32_t)((uint64_t)n >> 32));
        put32(to, (uint32_t)n);
    }
    return size;
}

/* A control frame of ours. Those that a client does not let us send are dropped. */
static void reply(struct rfb_client *c, uint8_t opcode, const uint8_t *payload, size_t n) {
    struct rfb_websocket *ws = &c->ws;
    if (ws->n_reply + 2 + n > sizeof ws->reply)
        return;
    uint8_t *to = ws->reply + ws->n_reply;
    to = put8(put8(to, FINAL | opcode), (uint32_t)n);
    memcpy(to, payload, n);
    ws->n_reply = (uint16_t)(ws->n_reply + 2 + n);
}

static void fail(struct rfb_client *c, uint16_t code, const char *why) {
    uint8_t payload[2];
    put16(payload, code);
    reply(c, WS_CLOSE, payload, sizeof payload);
    rfb_fail(c, why);
}

static size_t header_size(const struct rfb_websocket *ws) {
    if (ws->n_header < 2)
        return 2;
    uint8_t length = ws->header[1] & LENGTH;
    return 2u + (length == LENGTH_16 ? 2 : length == LENGTH_64 ? 8 : 0) + sizeof ws->mask;
}

/* A whole header is here: checks it. */
static void begin_frame(struct rfb_client *c) {
    struct rfb_websocket *ws = &c->ws;
    const uint8_t *h = ws->header;
    uint8_t opcode = h[0] & 0x0F;
    bool control = opcode & 8;
    ws->last = h[0] & FINAL;
    ws->left = h[1] & LENGTH;
    if (ws->left == LENGTH_16)
        ws->left = get16(h + 2);
    else if (ws->left == LENGTH_64)
        ws->left = get64(h + 2);
    memcpy(ws->mask, h + ws->n_header - sizeof ws->mask, sizeof ws->mask);
    ws->n_header = 0;
    ws->done = 0;
    ws->opcode = opcode;
    ws->in_frame = true;
    if (h[0] & RESERVED || !(h[1] & MASKED))
        return fail(c, CLOSE_PROTOCOL, "a WebSocket frame has reserved bits, or no mask");
    if (control && (!ws->last || ws->left > WS_CONTROL_MAX))
        return fail(c, CLOSE_PROTOCOL, "a WebSocket control frame is in pieces, or too long");
    if (ws->left > WEBSOCKET_FRAME_MAX)
        return fail(c, CLOSE_TOO_LONG, "a WebSocket frame is too long");
    switch (opcode) {
    case WS_BINARY:
        if (ws->in_message)
            return fail(c, CLOSE_PROTOCOL, "a WebSocket message begins within another");
        ws->in_message = !ws->last;
        break;
    case WS_CONTINUATION:
        if (!ws->in_message)
            return fail(c, CLOSE_PROTOCOL, "a WebSocket message has no beginning");
        ws->in_message = !ws->last;
        break;
    case WS_CLOSE:
    case WS_PING:
    case WS_PONG:
        break;
    case WS_TEXT:
        return fail(c, CLOSE_TYPE, "a WebSocket message is text, not binary");
    default:
        return fail(c, CLOSE_PROTOCOL, "a WebSocket frame is of an unknown kind");
    }
}

static void end_frame(struct rfb_client *c) {
    struct rfb_websocket *ws = &c->ws;
    ws->in_frame = false;
    if (ws->opcode == WS_PING) {
        reply(c, WS_PONG, ws->control, (size_t)ws->done);
    } else if (ws->opcode == WS_CLOSE) {
        reply(c, WS_CLOSE, ws->control, ws->done < 2 ? 0 : 2);
        rfb_fail(c, "it closed the connection");
    }
}

size_t rfb_unframe(struct rfb_client *c, uint8_t *bytes, size_t n) {
    struct rfb_websocket *ws = &c->ws;
    size_t kept = 0, at = 0;
    while (!c->failure && (at < n || (ws->in_frame && !ws->left))) {
        if (!ws->in_frame) {
            ws->header[ws->n_header++] = bytes[at++];
            if (ws->n_header >= 2 && ws->n_header == header_size(ws))
                begin_frame(c);
            continue;
        }
        size_t part = n - at < ws->left ? n - at : (size_t)ws->left;
        uint8_t *to = ws->opcode & 8 ? ws->control + ws->done : bytes + kept;
        for (size_t i = 0; i < part; i++)
            to[i] = bytes[at + i] ^ ws->mask[(ws->done + i) & 3];
        if (!(ws->opcode & 8))
            kept += part;
        at += part;
        ws->done += part;
        ws->left -= part;
        if (!ws->left)
            end_frame(c);
    }
    return kept;
}
