/* SPDX-License-Identifier: MIT */
#include "damage.h"

static uint64_t area(const struct vd_rect *r) {
    return (uint64_t)r->width * r->height;
}

static struct vd_rect join(const struct vd_rect *a, const struct vd_rect *b) {
    uint32_t x = a->x < b->x ? a->x : b->x, y = a->y < b->y ? a->y : b->y;
    uint32_t right = a->x + a->width > b->x + b->width ? a->x + a->width : b->x + b->width;
    uint32_t bottom = a->y + a->height > b->y + b->height ? a->y + a->height : b->y + b->height;
    return (struct vd_rect){x, y, right - x, bottom - y};
}

bool vd_rect_clip(struct vd_rect *rect, uint32_t width, uint32_t height) {
    if (rect->x >= width || rect->y >= height)
        return false;
    if (rect->width > width - rect->x)
        rect->width = width - rect->x;
    if (rect->height > height - rect->y)
        rect->height = height - rect->y;
    return rect->width && rect->height;
}

/* Takes every rectangle out that joining with `rect` costs no pixel more than both have. */
static bool absorb(struct vd_damage *damage, struct vd_rect *rect) {
    for (uint32_t i = 0; i < damage->n; i++) {
        struct vd_rect both = join(rect, &damage->rect[i]);
        if (area(&both) > area(rect) + area(&damage->rect[i]))
            continue;
        *rect = both;
        damage->rect[i] = damage->rect[--damage->n];
        return true;
    }
    return false;
}

/* The rectangle that grows least by taking `rect` in. */
static uint32_t cheapest(const struct vd_damage *damage, const struct vd_rect *rect) {
    uint32_t best = 0;
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < damage->n; i++) {
        struct vd_rect both = join(rect, &damage->rect[i]);
        uint64_t growth = area(&both) - area(&damage->rect[i]);
        if (growth < least) {
            least = growth;
            best = i;
        }
    }
    return best;
}

void vd_damage_add(struct vd_damage *damage, struct vd_rect rect) {
    while (absorb(damage, &rect))
        continue;
    while (damage->n == VD_DAMAGE_MAX) {
        uint32_t i = cheapest(damage, &rect);
        rect = join(&rect, &damage->rect[i]);
        damage->rect[i] = damage->rect[--damage->n];
        while (absorb(damage, &rect))
            continue;
    }
    damage->rect[damage->n++] = rect;
}
