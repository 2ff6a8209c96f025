/* SPDX-License-Identifier: MIT
 * The screens, side by side, as one framebuffer. Where none is, it is black. */
#include <string.h>
#include <unistd.h>

#include "client.h"

enum { ABSOLUTE_MAX = 32767 };

static const struct { /* where a colour is in a 32-bit word */
    uint32_t format;
    uint8_t red, green, blue;
} FORMATS[] = {
    {VD_FORMAT_XRGB8888, 16, 8, 0},  {VD_FORMAT_ARGB8888, 16, 8, 0},
    {VD_FORMAT_XBGR8888, 0, 8, 16},  {VD_FORMAT_ABGR8888, 0, 8, 16},
    {VD_FORMAT_RGBX8888, 24, 16, 8}, {VD_FORMAT_RGBA8888, 24, 16, 8},
    {VD_FORMAT_BGRX8888, 8, 16, 24}, {VD_FORMAT_BGRA8888, 8, 16, 24},
};

bool rfb_screens_size(const struct rfb_client *c, uint32_t *width, uint32_t *height) {
    uint32_t w = 0, h = 0;
    for (uint32_t i = 0; i < c->n_views; i++) {
        const struct rfb_view *view = &c->view[i];
        if (!view->base)
            continue;
        w = view->x + view->surface.width;
        h = view->surface.height > h ? view->surface.height : h;
    }
    if (!w || w > UINT16_MAX || h > UINT16_MAX)
        return false; /* nothing is shown, or more than RFB can say: it stays as it is */
    *width = w;
    *height = h;
    return true;
}

void rfb_damage_add(struct rfb_client *c, struct vd_rect rect) {
    if (rect.x >= c->width || rect.y >= c->height || !rect.width || !rect.height)
        return;
    if (rect.width > c->width - rect.x)
        rect.width = c->width - rect.x;
    if (rect.height > c->height - rect.y)
        rect.height = c->height - rect.y;
    struct rfb_damage *damage = &c->damage;
    uint32_t right = rect.x + rect.width, bottom = rect.y + rect.height, kept = 0;
    for (uint32_t i = 0; i < damage->n; i++) {
        const struct vd_rect *old = &damage->rect[i];
        uint32_t old_right = old->x + old->width, old_bottom = old->y + old->height;
        if (old->x <= rect.x && old->y <= rect.y && old_right >= right && old_bottom >= bottom)
            return; /* known; then no other was dropped before it */
        if (!(rect.x <= old->x && rect.y <= old->y && right >= old_right && bottom >= old_bottom))
            damage->rect[kept++] = *old;
    }
    damage->n = kept;
    if (damage->n < PENDING_MAX) {
        damage->rect[damage->n++] = rect;
        return;
    }
    for (uint32_t i = 0; i < damage->n; i++) { /* one for all */
        const struct vd_rect *old = &damage->rect[i];
        right = old->x + old->width > right ? old->x + old->width : right;
        bottom = old->y + old->height > bottom ? old->y + old->height : bottom;
        rect.x = old->x < rect.x ? old->x : rect.x;
        rect.y = old->y < rect.y ? old->y : rect.y;
    }
    damage->n = 1;
    damage->rect[0] = (struct vd_rect){rect.x, rect.y, right - rect.x, bottom - rect.y};
}

static void lay_out(struct rfb_client *c) {
    uint32_t x = 0, width = c->width, height = c->height;
    for (uint32_t i = 0; i < c->n_views; i++) {
        c->view[i].x = x;
        x += c->view[i].base ? c->view[i].surface.width : 0;
    }
    rfb_screens_size(c, &width, &height);
    c->tell_size |= width != c->width || height != c->height;
    c->damage.n = 0;
    rfb_damage_add(c, (struct vd_rect){0, 0, c->width, c->height});
}

void rfb_screens_take(struct rfb_client *c) {
    bool new_layout = false;
    uint32_t news = 0;
    struct vd_update update;
    for (uint32_t i = 0; i < c->n_views; i++) {
        struct rfb_view *view = &c->view[i];
        const struct vd_viewing *viewing = view->viewing;
        uint64_t count;
        (void)!read(viewing->wake_fd, &count, sizeof count);
        viewing->take(viewing->viewer, &update);
        if (view->surface.pixels)
            viewing->unref(view->surface.pixels);
        view->surface = update.surface;
        view->base = NULL;
        if (update.surface.pixels)
            view->base =
                (const uint8_t *)viewing->base(update.surface.pixels) + update.surface.offset;
        new_layout |= update.news & VD_NEWS_SURFACE;
        news |= update.news;
        for (uint32_t k = 0; k < update.n_damage && !new_layout; k++) {
            struct vd_rect rect = update.damage[k];
            rect.x += view->x;
            rfb_damage_add(c, rect);
        }
    }
    if (new_layout)
        lay_out(c);
    c->tell_cursor |= news & VD_NEWS_CURSOR;
    if (news & VD_NEWS_CURSOR ||
        (!rfb_cursor_is_told(c) && (new_layout || news & VD_NEWS_CURSOR_MOVED)))
        rfb_cursor_refresh(c);
}

void rfb_screens_drop(struct rfb_client *c) {
    for (uint32_t i = 0; i < c->n_views; i++)
        if (c->view[i].surface.pixels)
            c->view[i].viewing->unref(c->view[i].surface.pixels);
    c->n_views = 0;
}

/* A pixel is read once: the guest draws meanwhile. Neither side needs to be aligned. */
static uint32_t pixel(const uint8_t *from) {
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static void put_pixel(uint8_t *to, uint32_t value) {
    memcpy(to, &value, sizeof value);
}

static void fetch_row(uint32_t format, const uint8_t *from, size_t n, uint8_t *to) {
    if (format == VD_FORMAT_XRGB8888 || format == VD_FORMAT_ARGB8888) {
        for (size_t i = 0; i < n; i++)
            put_pixel(to + 4 * i, pixel(from + 4 * i) & 0xFFFFFF);
        return;
    }
    for (size_t f = 0; f < sizeof FORMATS / sizeof *FORMATS; f++) {
        if (FORMATS[f].format != format)
            continue;
        uint32_t red = FORMATS[f].red, green = FORMATS[f].green, blue = FORMATS[f].blue;
        for (size_t i = 0; i < n; i++) {
            uint32_t value = pixel(from + 4 * i);
            put_pixel(to + 4 * i, (value >> red & 0xFF) << 16 | (value >> green & 0xFF) << 8 |
                                      (value >> blue & 0xFF));
        }
        return;
    }
    memset(to, 0, 4 * n);
}

void rfb_screens_fetch(const struct rfb_client *c, const struct vd_rect *rect, void *pixels) {
    uint8_t *to = pixels;
    uint32_t covered = 0;
    for (uint32_t i = 0; i < c->n_views; i++)
        if (c->view[i].base && rect->x >= c->view[i].x &&
            rect->x + rect->width <= c->view[i].x + c->view[i].surface.width &&
            rect->y + rect->height <= c->view[i].surface.height)
            covered = 1;
    if (!covered)
        memset(to, 0, 4 * (size_t)rect->width * rect->height);
    for (uint32_t i = 0; i < c->n_views; i++) {
        const struct rfb_view *view = &c->view[i];
        const struct vd_surface *surface = &view->surface;
        if (!view->base || rect->x >= view->x + surface->width || rect->x + rect->width <= view->x)
            continue;
        uint32_t left = rect->x > view->x ? rect->x - view->x : 0; /* on the surface */
        uint32_t skip = view->x > rect->x ? view->x - rect->x : 0; /* in the rectangle */
        uint32_t n = rect->width - skip;
        if (n > surface->width - left)
            n = surface->width - left;
        for (uint32_t y = 0; y < rect->height && rect->y + y < surface->height; y++)
            fetch_row(surface->format,
                      view->base + (size_t)(rect->y + y) * surface->stride + 4 * (size_t)left, n,
                      to + 4 * ((size_t)y * rect->width + skip));
    }
    rfb_cursor_draw(c, rect, to);
}

static uint32_t absolute(uint32_t at, uint32_t size) {
    if (size < 2)
        return 0;
    at = at < size ? at : size - 1;
    return (uint32_t)(((uint64_t)at * ABSOLUTE_MAX + (size - 1) / 2) / (size - 1));
}

void rfb_screens_locate(const struct rfb_client *c, uint32_t x, uint32_t y, uint32_t at[2]) {
    at[0] = absolute(x, c->width);
    at[1] = absolute(y, c->height);
}
