/* SPDX-License-Identifier: MIT
 * Messages of a client that has logged in. Each is checked here, once. */
#include <stdlib.h>
#include <string.h>

#include "client.h"

static void set_pixel_format(struct rfb_client *c, const uint8_t *in, size_t n) {
    (void)n;
    struct rfb_format format;
    if (!rfb_format_read(&format, in + 4))
        return rfb_fail(c, "its pixel format is none of 8, 16 or 32 bits of true colour");
    c->next_format = format;
    c->format_changes = true;
}

static void set_encodings(struct rfb_client *c, const uint8_t *in, size_t n) {
    struct rfb_capabilities can, before = c->next_can;
    rfb_set_encodings(&can, in + 4, (uint32_t)(n - 4) / 4, rfb_libraries(c)->zlib);
    c->next_can = can;
    c->can_changes = true;
    c->tell_extensions = true;
    c->tell_size |= can.extended_desktop_size && !before.extended_desktop_size;
    c->tell_cursor |= can.cursor || can.cursor_alpha;
    c->tell_leds |= can.qemu_led;
    c->end_continuous |= can.continuous && !before.continuous;
    int32_t told = (can.extended_clipboard ? RFB_CAN_EXTENDED_CLIPBOARD : 0) |
                   (can.extended_desktop_size ? RFB_CAN_RESIZE : 0) |
                   (can.vdesktop ? RFB_CAN_PRIVATE : 0);
    rfb_post(c, &(struct rfb_event){.type = RFB_CAPABLE, .a = told});
}

static void update_request(struct rfb_client *c, const uint8_t *in, size_t n) {
    (void)n;
    c->wants = true;
    if (!c->continuous)
        rfb_pace_answered(c);
    if (in[1]) /* incremental */
        return;
    c->wants_all = true;
    rfb_damage_add(c, (struct vd_rect){get16(in + 2), get16(in + 4), get16(in + 6), get16(in + 8)});
}

static void key(struct rfb_client *c, const uint8_t *in, size_t n) {
    (void)n;
    rfb_post(c, &(struct rfb_event){.type = RFB_KEY, .a = in[1] != 0, .b = (int32_t)get32(in + 4)});
}

static void qemu(struct rfb_client *c, const uint8_t *in, size_t n) {
    (void)n;
    if (in[1] != QEMU_EXTENDED_KEY)
        return rfb_fail(c, "it sent a QEMU message that was not offered");
    rfb_post(c, &(struct rfb_event){.type = RFB_KEY,
                                    .a = get16(in + 2) != 0,
                                    .b = (int32_t)get32(in + 4),
                                    .c = (int32_t)(get32(in + 8) & 0xFF)});
}

static void post_point(struct rfb_client *c, struct rfb_event *event, uint32_t x, uint32_t y) {
    uint32_t at[2];
    rfb_screens_locate(c, x, y, at);
    if (event->type == RFB_TOUCH) {
        event->c = (int32_t)(at[0] << 16 | at[1]);
    } else {
        event->b = (int32_t)at[0];
        event->c = (int32_t)at[1];
    }
    rfb_post(c, event);
}

static void pointer(struct rfb_client *c, const uint8_t *in, size_t n) {
    /* rfbproto "Extended Mouse Buttons": the eighth bit says that another byte of buttons follows.
     */
    uint32_t buttons = n > 6 ? (in[1] & 0x7Fu) | (uint32_t)in[6] << 7 : in[1];
    post_point(c, &(struct rfb_event){.type = RFB_POINTER, .a = (int32_t)buttons}, get16(in + 2),
               get16(in + 4));
}

static void continuous_updates(struct rfb_client *c, const uint8_t *in, size_t n) {
    (void)n;
    c->end_continuous |= c->continuous && !in[1];
    c->continuous = in[1];
    c->fences = 0;
}

static void fence(struct rfb_client *c, const uint8_t *in, size_t n) {
    uint32_t flags = get32(in + 4);
    if (flags & FENCE_REQUEST) {
        /* Messages are heard in their order, and this one is answered after the picture that is on
         * its way: all that the flags can ask for. */
        uint8_t reply[9 + FENCE_PAYLOAD_MAX];
        memcpy(reply, in, n);
        reply[0] = SERVER_FENCE;
        put32(reply + 4, flags & FENCE_KNOWN);
        if (!rfb_answer(c, reply, n))
            rfb_fail(c, "it does not read what it asks for");
        return;
    }
    if (c->fences) {
        c->fences--;
        rfb_pace_answered(c);
    }
    if (in[8] == 8) {
        uint64_t sent = get64(in + 9), now = rfb_now();
        if (sent <= now)
            c->stats.round_trip_us = (now - sent) / 1000;
    }
}

static void set_desktop_size(struct rfb_client *c, const uint8_t *in, size_t n) {
    uint32_t screens = (uint32_t)(n - 8) / 16;
    c->tell_size = true;
    c->size_reason = RESIZE_CLIENT;
    c->size_status = RESIZE_INVALID;
    if (!screens || screens > c->n_views)
        return;
    for (uint32_t i = 0; i < screens; i++) {
        uint32_t width = get16(in + 8 + 16 * i + 8), height = get16(in + 8 + 16 * i + 10);
        uint32_t screen = get32(in + 8 + 16 * i);
        if (screen >= c->n_views || !width || !height || width > SIZE_MAX_PIXELS ||
            height > SIZE_MAX_PIXELS)
            return;
    }
    c->size_status = RESIZE_FORWARDED;
    for (uint32_t i = 0; i < screens; i++) {
        const uint8_t *screen = in + 8 + 16 * i;
        rfb_post(c, &(struct rfb_event){
                        .type = RFB_RESIZE,
                        .a = (int32_t)get32(screen),
                        .b = get16(screen + 8),
                        .c = get16(screen + 10),
                    });
    }
}

static void touch(struct rfb_client *c, const uint8_t *in, size_t n) {
    for (size_t i = VDESKTOP_HEADER; i < n; i += TOUCH_SIZE)
        if (in[i] > TOUCH_END || in[i + 1] >= TOUCH_SLOTS)
            return rfb_fail(c, "a touch has no such phase or finger");
    for (size_t i = VDESKTOP_HEADER; i < n; i += TOUCH_SIZE) {
        struct rfb_event event = {.type = RFB_TOUCH, .a = in[i], .b = in[i + 1]};
        if (i + TOUCH_SIZE < n)
            event.a |= TOUCH_MORE;
        post_point(c, &event, get16(in + i + 4), get16(in + i + 6));
    }
}

/* A message whose payload is taken as it comes: `length` bytes after `header`. */
static size_t begin_blob(struct rfb_client *c, size_t header, uint64_t length,
                         const struct rfb_event *event) {
    c->blob.event = *event;
    c->blob.left = length;
    c->blob.length = 0;
    c->state = STATE_BLOB;
    if (!length)
        rfb_blob_end(c);
    return header;
}

bool rfb_blob_add(struct rfb_client *c, const uint8_t *bytes, size_t n) {
    if (c->blob.length + n > c->blob.room) { /* grows with what comes, not with what is promised */
        size_t room = 2 * (c->blob.length + n);
        uint8_t *grown = realloc(c->blob.data, room);
        if (!grown) {
            rfb_fail(c, "the host is out of memory");
            return false;
        }
        c->blob.data = grown;
        c->stats.memory += room - c->blob.room;
        c->blob.room = room;
    }
    memcpy(c->blob.data + c->blob.length, bytes, n);
    c->blob.length += n;
    return true;
}

void rfb_blob_end(struct rfb_client *c) {
    if (c->state == STATE_BLOB) {
        c->blob.event.blob = c->blob.data;
        c->blob.event.length = (uint32_t)c->blob.length;
        rfb_post(c, &c->blob.event);
        c->stats.memory -= c->blob.room;
        c->blob.data = NULL;
        c->blob.room = 0;
    }
    c->state = STATE_NORMAL;
}

static size_t cut_text(struct rfb_client *c, const uint8_t *in, size_t n) {
    if (n < 8)
        return 0;
    /* rfbproto "Extended Clipboard": its messages have the negated length. */
    int64_t length = (int32_t)get32(in + 4);
    bool extended = length < 0;
    if (extended)
        length = -length;
    if (length > CUT_TEXT_SKIP_MAX || (extended && !c->next_can.extended_clipboard)) {
        rfb_fail(c, "a text of its clipboard has no sensible length");
        return n;
    }
    struct rfb_event event = {.type = RFB_CUT_TEXT, .a = extended};
    if (length <= CUT_TEXT_MAX)
        return begin_blob(c, 8, (uint64_t)length, &event);
    c->blob.left = (uint64_t)length;
    c->state = STATE_SKIP;
    return 8;
}

static size_t vdesktop(struct rfb_client *c, const uint8_t *in, size_t n) {
    if (n < VDESKTOP_HEADER)
        return 0;
    uint32_t length = get32(in + 4);
    bool is_touch = in[1] == VDESKTOP_TOUCH;
    if (!c->next_can.vdesktop || length > VDESKTOP_PAYLOAD_MAX ||
        (is_touch && (length % TOUCH_SIZE || length > TOUCH_SIZE * TOUCH_SLOTS))) {
        rfb_fail(c, "a vdesktop message makes no sense");
        return n;
    }
    if (!is_touch)
        return begin_blob(c, VDESKTOP_HEADER, length,
                          &(struct rfb_event){.type = RFB_PRIVATE, .a = in[1]});
    if (n < VDESKTOP_HEADER + length)
        return 0;
    touch(c, in, VDESKTOP_HEADER + length);
    return VDESKTOP_HEADER + length;
}

/* Messages that fit into `in`: their fixed size; what follows it is `count` (so many bytes wide, so
 * far from the beginning, at most so many) things of `each` bytes. */
static const struct {
    void (*handle)(struct rfb_client *c, const uint8_t *in, size_t n);
    uint8_t size, count_at, count_width, each;
    uint16_t count_max;
} MESSAGES[256] = {
    [CLIENT_SET_PIXEL_FORMAT] = {set_pixel_format, 20, 0, 0, 0, 0},
    [CLIENT_SET_ENCODINGS] = {set_encodings, 4, 2, 2, 4, ENCODINGS_MAX},
    [CLIENT_UPDATE_REQUEST] = {update_request, 10, 0, 0, 0, 0},
    [CLIENT_KEY] = {key, 8, 0, 0, 0, 0},
    [CLIENT_POINTER] = {pointer, 6, 0, 0, 0, 0},
    [CLIENT_CONTINUOUS_UPDATES] = {continuous_updates, 10, 0, 0, 0, 0},
    [CLIENT_FENCE] = {fence, 9, 8, 1, 1, FENCE_PAYLOAD_MAX},
    [CLIENT_SET_DESKTOP_SIZE] = {set_desktop_size, 8, 6, 1, 16, UINT8_MAX},
    [CLIENT_QEMU] = {qemu, 12, 0, 0, 0, 0},
};

size_t rfb_message(struct rfb_client *c, const uint8_t *in, size_t n) {
    uint8_t type = in[0];
    size_t size = MESSAGES[type].size, used;
    uint32_t count = 0;
    if (type == CLIENT_CUT_TEXT || type == CLIENT_VDESKTOP) {
        used = type == CLIENT_CUT_TEXT ? cut_text(c, in, n) : vdesktop(c, in, n);
        c->stats.messages += used != 0;
        return used;
    }
    if (!MESSAGES[type].handle) {
        rfb_fail(c, "it sent a message of an unknown type");
        return n;
    }
    if (n < size)
        return 0;
    if (MESSAGES[type].count_width)
        count = MESSAGES[type].count_width == 2 ? get16(in + MESSAGES[type].count_at)
                                                : in[MESSAGES[type].count_at];
    if (count > MESSAGES[type].count_max) {
        rfb_fail(c, "a message of its is too long");
        return n;
    }
    size += (size_t)count * MESSAGES[type].each;
    if (type == CLIENT_POINTER && in[1] & 0x80 && c->next_can.extended_mouse)
        size++;
    if (n < size)
        return 0;
    MESSAGES[type].handle(c, in, size);
    c->stats.messages++;
    return size;
}
