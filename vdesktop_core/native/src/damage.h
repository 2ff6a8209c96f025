/* SPDX-License-Identifier: MIT
 * What has changed since somebody looked: a list of rectangles of bounded length
 * that together cover every changed pixel, and few others. */
#ifndef VD_DAMAGE_H
#define VD_DAMAGE_H

#include "vdesktop/display.h"

struct vd_damage {
    uint32_t n;
    struct vd_rect rect[VD_DAMAGE_MAX];
};

/* rect is not empty, and its far edges are below 2^32. */
void vd_damage_add(struct vd_damage *damage, struct vd_rect rect);
/* Cuts rect to width x height; false: nothing is left. */
bool vd_rect_clip(struct vd_rect *rect, uint32_t width, uint32_t height);

#endif
