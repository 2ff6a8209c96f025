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
    bool own; /* the device's surface is shown, not the backdrop */
    struct vd_surface surface, backdrop;
    int backdrop_fd;
    bool backdrop_told; /* backdrop_fd was woken, or is not to be */
    struct vd_cursor cursor;
    struct vd_viewer *viewers;
};

struct vd_scanout *vd_scanout_new(const struct vd_host *host) {
    struct vd_scanout *scanout = host->alloc(host->opaque, sizeof *scanout);
    if (scanout)
        *scanout = (struct vd_scanout){.host = host, .backdrop_told = true};
    return scanout;
}

void vd_scanout_free(struct vd_scanout *scanout) {
    if (!scanout)
        return;
    vd_pixels_unref(scanout->surface.pixels);
    vd_pixels_unref(scanout->backdrop.pixels);
    scanout->host->free(scanout->host->opaque, scanout);
}

/* Under the lock, as all that follow. */
static const struct vd_surface *shown(const struct vd_scanout *scanout) {
    return scanout->own ? &scanout->surface : &scanout->backdrop;
}

/* A viewer has nothing to look at but what comes. */
static void await_backdrop(struct vd_scanout *scanout) {
    if (scanout->own || !scanout->backdrop.pixels || scanout->backdrop_told)
        return;
    scanout->backdrop_told = true;
    scanout->host->wake(scanout->host->opaque, scanout->backdrop_fd);
}

/* Only the first news since the viewer looked wakes it. */
static void tell(struct vd_viewer *viewer, uint32_t news) {
    const struct vd_host *host = viewer->scanout->host;
    if (!viewer->news)
        host->wake(host->opaque, viewer->wake_fd);
    viewer->news |= news;
}

/* A surface is damaged as a whole for one who has not seen it. */
static void tell_surface(struct vd_viewer *viewer) {
    const struct vd_surface *surface = shown(viewer->scanout);
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
    scanout->own = true;
    for (struct vd_viewer *viewer = scanout->viewers; viewer; viewer = viewer->next)
        tell_surface(viewer);
    vd_unlock(&scanout->lock);
    vd_pixels_unref(old);
}

void vd_scanout_release(struct vd_scanout *scanout) {
    vd_lock(&scanout->lock, scanout->host);
    struct vd_pixels *old = scanout->surface.pixels;
    scanout->surface = (struct vd_surface){0};
    if (scanout->own) {
        scanout->own = false;
        for (struct vd_viewer *viewer = scanout->viewers; viewer; viewer = viewer->next)
            tell_surface(viewer);
    }
    vd_unlock(&scanout->lock);
    vd_pixels_unref(old);
}

void vd_scanout_set_backdrop(struct vd_scanout *scanout, const struct vd_surface *backdrop,
                             int wake_fd) {
    if (backdrop)
        vd_pixels_ref(backdrop->pixels);
    vd_lock(&scanout->lock, scanout->host);
    struct vd_pixels *old = scanout->backdrop.pixels;
    scanout->backdrop = backdrop ? *backdrop : (struct vd_surface){0};
    scanout->backdrop_fd = wake_fd;
    scanout->backdrop_told = !backdrop;
    if (!scanout->own)
        for (struct vd_viewer *viewer = scanout->viewers; viewer; viewer = viewer->next)
            tell_surface(viewer);
    vd_unlock(&scanout->lock);
    vd_pixels_unref(old);
}

bool vd_scanout_backdrop_awaited(struct vd_scanout *scanout) {
    bool awaited = false;
    vd_lock(&scanout->lock, scanout->host);
    if (!scanout->own)
        for (struct vd_viewer *viewer = scanout->viewers; viewer; viewer = viewer->next)
            awaited |= !viewer->news;
    scanout->backdrop_told = awaited;
    vd_unlock(&scanout->lock);
    return awaited;
}

static void damage(struct vd_scanout *scanout, const struct vd_rect *rect, bool own) {
    struct vd_rect inside = *rect;
    vd_lock(&scanout->lock, scanout->host);
    const struct vd_surface *surface = shown(scanout);
    if (scanout->own == own && surface->pixels &&
        vd_rect_clip(&inside, surface->width, surface->height))
        for (struct vd_viewer *viewer = scanout->viewers; viewer; viewer = viewer->next) {
            vd_damage_add(&viewer->damage, inside);
            tell(viewer, VD_NEWS_DAMAGE);
        }
    vd_unlock(&scanout->lock);
}

void vd_scanout_damage(struct vd_scanout *scanout, const struct vd_rect *rect) {
    damage(scanout, rect, true);
}

void vd_scanout_damage_backdrop(struct vd_scanout *scanout, const struct vd_rect *rect) {
    damage(scanout, rect, false);
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
    update->surface = *shown(scanout);
    if (update->surface.pixels)
        vd_pixels_ref(update->surface.pixels);
    viewer->news = 0;
    viewer->damage.n = 0;
    await_backdrop(scanout);
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
