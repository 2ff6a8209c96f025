/* SPDX-License-Identifier: MIT
 * The guest's cursor: told to a client that draws one of its own, and part of the picture for one
 * that does not. */
#include <string.h>

#include "client.h"

bool rfb_cursor_is_told(const struct rfb_client *c) {
    return c->can.cursor || c->can.cursor_alpha;
}

/* The cursor that is seen now, and the view that it is on, or NULL. */
static const struct rfb_view *find(struct rfb_client *c) {
    static const struct vd_cursor NONE;
    for (uint32_t i = 0; i < c->n_views; i++) {
        c->view[i].viewing->cursor(c->view[i].viewing->viewer, &c->cursor);
        if (c->cursor.visible)
            return &c->view[i];
    }
    c->cursor = NONE;
    return NULL;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Puts it into the picture, as far as it is on its view. Its position is the guest's: any. */
static void place(struct rfb_client *c, const struct rfb_view *view) {
    int64_t x = c->cursor.x, y = c->cursor.y;
    int64_t left = x > 0 ? x : 0, right = least(x + VD_CURSOR_SIZE, view->surface.width);
    int64_t top = y > 0 ? y : 0, bottom = least(y + VD_CURSOR_SIZE, view->surface.height);
    if (left >= right || top >= bottom)
        return;
    c->drawn = (struct vd_rect){view->x + (uint32_t)left, (uint32_t)top, (uint32_t)(right - left),
                                (uint32_t)(bottom - top)};
    c->drawn_from = (uint32_t)(top - y) * VD_CURSOR_SIZE + (uint32_t)(left - x);
    rfb_damage_add(c, c->drawn);
}

void rfb_cursor_refresh(struct rfb_client *c) {
    const struct rfb_view *view = find(c);
    rfb_damage_add(c, c->drawn);
    c->drawn = (struct vd_rect){0};
    if (view && view->base && !rfb_cursor_is_told(c))
        place(c, view);
}

/* A colour without its alpha. */
static uint32_t straight(uint32_t colour, uint32_t alpha) {
    uint32_t value = alpha ? (colour & 0xFF) * 255 / alpha : 0;
    return value < 255 ? value : 255;
}

void rfb_cursor_send(struct rfb_client *c) {
    const struct vd_cursor *cursor = &c->cursor;
    uint32_t size = cursor->visible ? VD_CURSOR_SIZE : 0, n = size * size;
    struct vd_rect rect = {cursor->visible ? cursor->hot_x : 0, cursor->visible ? cursor->hot_y : 0,
                           size, size};
    rfb_rectangle(c, &rect, c->can.cursor_alpha ? ENCODING_CURSOR_ALPHA : ENCODING_CURSOR);
    uint8_t *to = rfb_room(c, 4 + 4 * VD_CURSOR_SIZE * VD_CURSOR_SIZE + VD_CURSOR_SIZE * 8);
    if (!to)
        return;
    if (c->can.cursor_alpha) {
        to = put32(to, ENCODING_RAW);
        for (uint32_t i = 0; i < n; i++) /* red, green, blue, alpha; premultiplied as ours */
            to = put32(to, cursor->pixels[i] << 8 | cursor->pixels[i] >> 24);
        return rfb_wrote(c, to);
    }
    uint8_t mask[VD_CURSOR_SIZE * VD_CURSOR_SIZE / 8] = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t value = cursor->pixels[i], alpha = value >> 24;
        c->tile[i] = straight(value >> 16, alpha) << 16 | straight(value >> 8, alpha) << 8 |
                     straight(value, alpha);
        mask[i / 8] |= (uint8_t)((alpha >= 128) << (7 - i % 8));
    }
    to = rfb_pack(&c->format, c->tile, n, to);
    memcpy(to, mask, n / 8);
    rfb_wrote(c, to + n / 8);
}

/* One colour of a premultiplied pixel over another's. A guest may say more than its alpha allows.
 */
static uint32_t over(uint32_t pixel, uint32_t below, uint32_t shift) {
    uint32_t rest = 255 - (pixel >> 24);
    uint32_t value = (pixel >> shift & 0xFF) + ((below >> shift & 0xFF) * rest + 127) / 255;
    return (value < 255 ? value : 255) << shift;
}

void rfb_cursor_draw(const struct rfb_client *c, const struct vd_rect *rect, uint8_t *pixels) {
    const struct vd_rect *at = &c->drawn;
    int64_t left = rect->x > at->x ? rect->x : at->x, top = rect->y > at->y ? rect->y : at->y;
    int64_t right = least((int64_t)rect->x + rect->width, (int64_t)at->x + at->width);
    int64_t bottom = least((int64_t)rect->y + rect->height, (int64_t)at->y + at->height);
    for (int64_t y = top; y < bottom; y++)
        for (int64_t x = left; x < right; x++) {
            uint32_t from = (uint32_t)(y - at->y) * VD_CURSOR_SIZE + (uint32_t)(x - at->x), below;
            uint32_t pixel = c->cursor.pixels[c->drawn_from + from];
            uint8_t *to = pixels + 4 * ((y - rect->y) * rect->width + (x - rect->x));
            memcpy(&below, to, sizeof below);
            below = over(pixel, below, 16) | over(pixel, below, 8) | over(pixel, below, 0);
            memcpy(to, &below, sizeof below);
        }
}
