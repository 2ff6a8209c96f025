/* SPDX-License-Identifier: MIT
 * Pictures: FramebufferUpdate, RFC 6143 §7.6.1, and what else travels in it. */
#include <string.h>

#include "client.h"

/* Of a rectangle that is compressed: small, as each is of few colours or of many. */
enum { ZLIB_WIDTH = 512, ZLIB_PIXELS = 1 << 16, RECTANGLES_MAX = 60000 };

/* What the client said meanwhile holds from here on. */
static void settle(struct rfb_client *c) {
    if (c->format_changes)
        c->format = c->next_format;
    if (c->can_changes) {
        c->can = c->next_can;
        rfb_cursor_refresh(c);
    }
    c->format_changes = c->can_changes = false;
    c->tell_size &= c->can.desktop_size || c->can.extended_desktop_size;
    c->tell_cursor &= rfb_cursor_is_told(c);
    c->tell_leds &= c->can.qemu_led;
}

bool rfb_waits_for_picture(const struct rfb_client *c) {
    return c->state >= STATE_NORMAL && (c->wants || (c->continuous && c->fences < FENCES_MAX));
}

bool rfb_update_due(struct rfb_client *c) {
    settle(c);
    if (c->end_continuous)
        return true;
    return rfb_waits_for_picture(c) && (c->damage.n || c->wants_all || c->tell_size ||
                                        c->tell_cursor || c->tell_leds || c->tell_extensions);
}

void rfb_rectangle(struct rfb_client *c, const struct vd_rect *rect, int32_t encoding) {
    uint8_t *to = rfb_room(c, 12);
    if (!to)
        return;
    to = put16(put16(to, rect->x), rect->y);
    to = put16(put16(to, rect->width), rect->height);
    rfb_wrote(c, put32(to, (uint32_t)encoding));
    c->stats.rectangles++;
}

static void header(struct rfb_client *c, uint32_t rectangles) {
    uint8_t *to = rfb_room(c, 4);
    if (to)
        rfb_wrote(c, put16(put16(to, SERVER_UPDATE << 8), rectangles));
}

static void send_screens(struct rfb_client *c) {
    uint8_t payload[4 + 16 * RFB_SCREENS_MAX], *to = payload + 4, n = 0;
    for (uint32_t i = 0; i < c->n_views; i++) {
        const struct rfb_view *view = &c->view[i];
        if (!view->base || view->x + view->surface.width > c->width ||
            view->surface.height > c->height)
            continue;
        to = put16(put16(put32(to, i), view->x), 0);
        to = put32(put16(put16(to, view->surface.width), view->surface.height), 0);
        n++;
    }
    if (!n) { /* nothing is shown; a layout has one screen at least */
        to = put16(put16(put32(to, 0), 0), 0);
        to = put32(put16(put16(to, c->width), c->height), 0);
        n = 1;
    }
    put32(payload, (uint32_t)n << 24);
    rfb_write(c, payload, (size_t)(to - payload));
}

/* The size, or the answer to a wish for one: an update of its own. */
static void send_size(struct rfb_client *c) {
    uint32_t width = c->width, height = c->height;
    bool answer = c->size_reason == RESIZE_CLIENT;
    rfb_screens_size(c, &width, &height);
    bool changes = width != c->width || height != c->height;
    if (c->can.extended_desktop_size) {
        header(c, answer && changes ? 2 : 1);
        if (answer) {
            rfb_rectangle(c, &(struct vd_rect){RESIZE_CLIENT, c->size_status, c->width, c->height},
                          ENCODING_EXTENDED_DESKTOP_SIZE);
            send_screens(c);
        }
    } else {
        header(c, 1);
    }
    c->width = width;
    c->height = height;
    if (!c->can.extended_desktop_size) {
        rfb_rectangle(c, &(struct vd_rect){0, 0, width, height}, ENCODING_DESKTOP_SIZE);
    } else if (changes || !answer) {
        rfb_rectangle(c, &(struct vd_rect){RESIZE_SERVER, RESIZE_OK, width, height},
                      ENCODING_EXTENDED_DESKTOP_SIZE);
        send_screens(c);
    }
    c->size_reason = RESIZE_SERVER;
    c->tell_size = false;
    if (changes) {
        c->damage.n = 0;
        rfb_damage_add(c, (struct vd_rect){0, 0, width, height});
    }
}

static void send_leds(struct rfb_client *c) {
    /* rfbproto "QEMU LED State": scroll, num, caps. */
    uint32_t leds = c->leds_told;
    uint8_t state = (uint8_t)((leds & 4 ? 1 : 0) | (leds & 1 ? 2 : 0) | (leds & 2 ? 4 : 0));
    rfb_rectangle(c, &(struct vd_rect){0, 0, 1, 1}, ENCODING_QEMU_LED);
    rfb_write(c, &state, 1);
}

/* What the client may use from now on, each said by an empty rectangle. */
static uint32_t extensions(const struct rfb_client *c, int32_t codes[3]) {
    uint32_t n = 0;
    if (c->can.qemu_key)
        codes[n++] = ENCODING_QEMU_KEY;
    if (c->can.extended_mouse)
        codes[n++] = ENCODING_EXTENDED_MOUSE;
    if (c->can.vdesktop)
        codes[n++] = ENCODING_VDESKTOP;
    return n;
}

/* The largest part of a rectangle that is encoded at once. */
static void tile_size(const struct rfb_client *c, const struct vd_rect *rect, uint32_t *width,
                      uint32_t *height) {
    bool zlib = c->can.encoding != ENCODING_RAW;
    uint32_t most = zlib ? ZLIB_WIDTH : TILE_WIDTH_MAX;
    *width = rect->width < most ? rect->width : most;
    *height = (zlib ? ZLIB_PIXELS : TILE_PIXELS) / *width;
    if (c->can.encoding == ENCODING_ZRLE && *height > 64)
        *height -= *height % 64;
    if (*height > rect->height)
        *height = rect->height;
}

static uint32_t tiles(const struct rfb_client *c, const struct vd_rect *rect) {
    uint32_t width, height;
    tile_size(c, rect, &width, &height);
    return ((rect->width + width - 1) / width) * ((rect->height + height - 1) / height);
}

static void send_rectangle(struct rfb_client *c, const struct vd_rect *rect) {
    uint32_t width, height;
    tile_size(c, rect, &width, &height);
    for (uint32_t y = 0; y < rect->height; y += height)
        for (uint32_t x = 0; x < rect->width; x += width) {
            struct vd_rect tile = {rect->x + x, rect->y + y, rect->width - x, rect->height - y};
            tile.width = tile.width < width ? tile.width : width;
            tile.height = tile.height < height ? tile.height : height;
            rfb_encode(c, &tile);
            c->stats.pixels += (uint64_t)tile.width * tile.height;
            /* A key that is hit meanwhile does not wait for the picture's end. */
            rfb_read(c);
            if (c->failure)
                return;
        }
}

static void send_fence(struct rfb_client *c) {
    uint8_t message[17], *to = put32(message, (uint32_t)SERVER_FENCE << 24);
    uint64_t now = rfb_now();
    to = put8(put32(to, FENCE_REQUEST | FENCE_BLOCK_BEFORE), 8);
    put32(put32(to, (uint32_t)(now >> 32)), (uint32_t)now);
    rfb_write(c, message, sizeof message);
    c->fences++;
}

static void send_picture(struct rfb_client *c) {
    struct rfb_damage damage = c->damage;
    int32_t codes[3];
    uint32_t n_codes = c->tell_extensions ? extensions(c, codes) : 0, sent = 0;
    uint32_t n = n_codes + c->tell_cursor + c->tell_leds;
    for (; sent < damage.n; sent++) {
        uint32_t more = tiles(c, &damage.rect[sent]);
        if (n + more > RECTANGLES_MAX && sent)
            break;
        n += more;
    }
    header(c, n);
    c->damage.n = 0;
    for (uint32_t i = sent; i < damage.n; i++)
        rfb_damage_add(c, damage.rect[i]);
    for (uint32_t i = 0; i < n_codes; i++)
        rfb_rectangle(c, &(struct vd_rect){0, 0, 0, 0}, codes[i]);
    if (c->tell_cursor)
        rfb_cursor_send(c);
    if (c->tell_leds)
        send_leds(c);
    c->tell_extensions = c->tell_cursor = c->tell_leds = false;
    for (uint32_t i = 0; i < sent && !c->failure; i++)
        send_rectangle(c, &damage.rect[i]);
    c->stats.frames++;
}

void rfb_update(struct rfb_client *c) {
    rfb_screens_take(c);
    settle(c);
    c->busy = true;
    if (c->end_continuous) {
        c->end_continuous = false;
        rfb_write(c, (uint8_t[]){SERVER_END_OF_CONTINUOUS_UPDATES}, 1);
    }
    if (rfb_update_due(c)) {
        c->wants = c->wants_all = false;
        rfb_pace_begin(c);
        if (c->tell_size)
            send_size(c);
        else
            send_picture(c);
        rfb_pace_end(c);
        if (c->continuous && c->can.fence)
            send_fence(c);
    }
    c->busy = false;
    c->stats.encoding = (uint32_t)c->can.encoding;
    c->stats.jpeg = c->jpeg != NULL;
    c->stats.width = c->width;
    c->stats.height = c->height;
    rfb_publish_stats(c);
}
