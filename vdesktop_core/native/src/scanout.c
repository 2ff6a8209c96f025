/* SPDX-License-Identifier: MIT
 * A scanout and its viewers. All state is under one lock that is held for a few
 * hundred instructions at most, so neither a device nor a viewer waits for the
 * other; a viewer that does not look keeps one bounded list of rectangles. */
#include <string.h>

#include "damage.h"
#include "lock.h"

struct vd_viewer {
    struct vd_scanout *scanout;
    struct vd_viewer *next;
    int wake_fd;
    uint32_t news;
    struct vd_damage damage;
};

struct vd_scanout {
    const struct vd_host *host;
    struct vd_lock lock;
    struct vd_surface surface;
    struct vd_cursor cursor;
    struct vd_viewer *viewers;
};

struct vd_scanout *vd_scanout_new(const struct vd_host *host) {
    struct vd_scanout *scanout = host->alloc(host->opaque, sizeof *scanout);
    if (scanout)
        scanout->host = host;
    return scanout;
}

void vd_scanout_free(struct vd_scanout *scanout) {
    if (!scanout)
        return;
    vd_pixels_unref(scanout->surface.pixels);
    scanout->host->free(scanout->host->opaque, scanout);
}

/* Under the lock. Only the first news since the viewer looked wakes it. */
static void tell(struct vd_viewer *viewer, uint32_t news) {
    const struct vd_host *host = viewer->scanout->host;
    if (!viewer->news)
        host->wake(host->opaque, viewer->wake_fd);
    viewer->news |= news;
}

/* A surface is damaged as a whole for one who has not seen it. */
static void tell_surface(struct vd_viewer *viewer) {
    const struct vd_surface *surface = &viewer->scanout->surface;
    viewer->damage.n = 0;
    if (surface->pixels)
        vd_damage_add(&viewer->damage, (struct vd_rect){0, 0, surface->width, surface->height});
    tell(viewer, VD_NEWS_SURFACE | VD_NEWS_DAMAGE);
}

void vd_scanout_show(struct vd_scanout *scanout, const struct vd_surface *surface) {
    if (surface)
        vd_pixels_ref(surface->pixels);
    vd_lock(&scanout->lock, scanout->host);
    struct vd_pixels *old = scanout->surface.pixels;
    scanout->surface = surface ? *surface : (struct vd_surface){0};
    for (struct vd_viewer *viewer = scanout->viewers; viewer; viewer = viewer->next)
        tell_surface(viewer);
    vd_unlock(&scanout->lock);
    vd_pixels_unref(old);
}

void vd_scanout_damage(struct vd_scanout *scanout, const struct vd_rect *rect) {
    struct vd_rect inside = *rect;
    vd_lock(&scanout->lock, scanout->host);
    if (scanout->surface.pixels &&
        vd_rect_clip(&inside, scanout->surface.width, scanout->surface.height))
        for (struct vd_viewer *viewer = scanout->viewers; viewer; viewer = viewer->next) {
            vd_damage_add(&viewer->damage, inside);
            tell(viewer, VD_NEWS_DAMAGE);
        }
    vd_unlock(&scanout->lock);
}

static void tell_all(struct vd_scanout *scanout, uint32_t news) {
    for (struct vd_viewer *viewer = scanout->viewers; viewer; viewer = viewer->next)
        tell(viewer, news);
}

void vd_scanout_set_cursor(struct vd_scanout *scanout, const struct vd_cursor *cursor) {
    vd_lock(&scanout->lock, scanout->host);
    scanout->cursor = *cursor;
    tell_all(scanout, VD_NEWS_CURSOR);
    vd_unlock(&scanout->lock);
}

void vd_scanout_move_cursor(struct vd_scanout *scanout, int32_t x, int32_t y) {
    vd_lock(&scanout->lock, scanout->host);
    if (scanout->cursor.x != x || scanout->cursor.y != y) {
        scanout->cursor.x = x;
        scanout->cursor.y = y;
        tell_all(scanout, VD_NEWS_CURSOR_MOVED);
    }
    vd_unlock(&scanout->lock);
}

struct vd_viewer *vd_viewer_new(struct vd_scanout *scanout, int wake_fd) {
    const struct vd_host *host = scanout->host;
    struct vd_viewer *viewer = host->alloc(host->opaque, sizeof *viewer);
    if (!viewer)
        return NULL;
    viewer->scanout = scanout;
    viewer->wake_fd = wake_fd;
    vd_lock(&scanout->lock, host);
    viewer->next = scanout->viewers;
    scanout->viewers = viewer;
    tell_surface(viewer);
    tell(viewer, VD_NEWS_CURSOR);
    vd_unlock(&scanout->lock);
    return viewer;
}

void vd_viewer_free(struct vd_viewer *viewer) {
    if (!viewer)
        return;
    struct vd_scanout *scanout = viewer->scanout;
    vd_lock(&scanout->lock, scanout->host);
    struct vd_viewer **link = &scanout->viewers;
    while (*link != viewer)
        link = &(*link)->next;
    *link = viewer->next;
    vd_unlock(&scanout->lock);
    scanout->host->free(scanout->host->opaque, viewer);
}

uint32_t vd_viewer_take(struct vd_viewer *viewer, struct vd_update *update) {
    struct vd_scanout *scanout = viewer->scanout;
    vd_lock(&scanout->lock, scanout->host);
    update->news = viewer->news;
    update->n_damage = viewer->damage.n;
    memcpy(update->damage, viewer->damage.rect, sizeof update->damage);
    update->surface = scanout->surface;
    if (update->surface.pixels)
        vd_pixels_ref(update->surface.pixels);
    viewer->news = 0;
    viewer->damage.n = 0;
    vd_unlock(&scanout->lock);
    return update->news;
}

void vd_viewer_cursor(struct vd_viewer *viewer, struct vd_cursor *cursor) {
    struct vd_scanout *scanout = viewer->scanout;
    vd_lock(&scanout->lock, scanout->host);
    *cursor = scanout->cursor;
    vd_unlock(&scanout->lock);
}

void vd_viewer_viewing(struct vd_viewer *viewer, struct vd_viewing *viewing) {
    *viewing = (struct vd_viewing){
        .viewer = viewer,
        .wake_fd = viewer->wake_fd,
        .take = vd_viewer_take,
        .cursor = vd_viewer_cursor,
        .base = vd_pixels_base,
        .unref = vd_pixels_unref,
    };
}
