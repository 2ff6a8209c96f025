/* SPDX-License-Identifier: MIT
 * Pictures on their way from a display device to those who show them. Neither
 * side knows the other: a device shows surfaces on a scanout, viewers hear what
 * changed. Pixels stay where they are: guest memory, or memory that other processes can map. */
#ifndef VDESKTOP_DISPLAY_H
#define VDESKTOP_DISPLAY_H

#include "vdesktop/abi.h"

/* Pixel formats by the codes of Linux's <drm/drm_fourcc.h>: 32-bit words, little-endian, so
 * that XRGB8888 is B, G, R, X in memory. */
#define VD_FORMAT_XRGB8888 0x34325258
#define VD_FORMAT_ARGB8888 0x34325241
#define VD_FORMAT_XBGR8888 0x34324258
#define VD_FORMAT_ABGR8888 0x34324241
#define VD_FORMAT_RGBX8888 0x34325852
#define VD_FORMAT_RGBA8888 0x34324152
#define VD_FORMAT_BGRX8888 0x34325842
#define VD_FORMAT_BGRA8888 0x34324142

#define VD_DAMAGE_MAX  16
#define VD_CURSOR_SIZE 64 /* width and height of a cursor's picture */

struct vd_rect {
    uint32_t x, y, width, height;
};

/* Shared memory of fixed size (a sealed memfd), counted by its users. */
struct vd_pixels;
/* Zeroed. NULL and *error = -errno. */
struct vd_pixels *vd_pixels_new(const struct vd_host *host, uint64_t size, int *error);
/* The first `size` bytes of a memfd that is sealed against shrinking, such as guest memory; fd
 * stays the caller's. NULL and *error = -errno, -EINVAL: it is not such a file, or shorter. */
struct vd_pixels *vd_pixels_map(const struct vd_host *host, int fd, uint64_t size, int *error);
/* Pieces of shared mappings of this process, such as guest memory, one after the other, to be read:
 * another mapping of the same pages, which stays when those go. Of whole pages, but for the last
 * one's length. NULL and *error = -errno, -EINVAL: not of such memory, or too many. */
#define VD_PIECES_MAX 1024
struct vd_piece {
    const void *base;
    uint64_t len;
};
struct vd_pixels *vd_pixels_view(const struct vd_host *host, const struct vd_piece *pieces,
                                 uint32_t n, int *error);
void vd_pixels_ref(struct vd_pixels *pixels);
void vd_pixels_unref(struct vd_pixels *pixels);   /* NULL is allowed */
int vd_pixels_fd(const struct vd_pixels *pixels); /* -1: of pieces; no other process can map it */
void *vd_pixels_base(const struct vd_pixels *pixels);
uint64_t vd_pixels_size(const struct vd_pixels *pixels);

/* A picture in shared memory. pixels NULL: there is none. */
struct vd_surface {
    struct vd_pixels *pixels;
    uint64_t offset;        /* of the first pixel, in bytes */
    uint32_t width, height; /* in pixels */
    uint32_t stride;        /* from row to row, in bytes */
    uint32_t format;        /* VD_FORMAT_* */
};

/* ARGB8888, alpha premultiplied. (x, y) is where the picture's upper left corner lies on the
 * surface, (hot_x, hot_y) the pixel of it that points. */
struct vd_cursor {
    bool visible;
    int32_t x, y;
    uint32_t hot_x, hot_y;
    uint32_t pixels[VD_CURSOR_SIZE * VD_CURSOR_SIZE];
};

/* The device's side. Any thread; calls for one scanout do not overlap. */
struct vd_scanout;
struct vd_scanout *vd_scanout_new(const struct vd_host *host); /* NULL: no memory */
void vd_scanout_free(struct vd_scanout *scanout); /* without viewers; NULL is allowed */
/* Takes a reference of its own. NULL: a black screen. All of it counts as damaged. */
void vd_scanout_show(struct vd_scanout *scanout, const struct vd_surface *surface);
/* The part of `rect` that is inside of the surface has changed. */
void vd_scanout_damage(struct vd_scanout *scanout, const struct vd_rect *rect);
void vd_scanout_set_cursor(struct vd_scanout *scanout, const struct vd_cursor *cursor);
void vd_scanout_move_cursor(struct vd_scanout *scanout, int32_t x, int32_t y);

/* What is shown while the device shows nothing of its own: before its first vd_scanout_show, and
 * after vd_scanout_release. NULL: nothing. Takes a reference of its own. wake_fd is given to
 * host->wake when somebody looks whom vd_scanout_backdrop_awaited did not find. */
void vd_scanout_set_backdrop(struct vd_scanout *scanout, const struct vd_surface *backdrop,
                             int wake_fd);
/* The device has no picture any more: its driver is gone. */
void vd_scanout_release(struct vd_scanout *scanout);
/* Whether a viewer that has taken all news is looking at the backdrop. */
bool vd_scanout_backdrop_awaited(struct vd_scanout *scanout);
/* As vd_scanout_damage, for the backdrop. */
void vd_scanout_damage_backdrop(struct vd_scanout *scanout, const struct vd_rect *rect);

/* A viewer's side, any thread. */
enum vd_news {
    VD_NEWS_SURFACE = 1, /* another picture, or none; comes with damage of all of it */
    VD_NEWS_DAMAGE = 2,
    VD_NEWS_CURSOR = 4,       /* another picture of the cursor, or none */
    VD_NEWS_CURSOR_MOVED = 8, /* its position only */
};
struct vd_update {
    uint32_t news;
    uint32_t n_damage;
    struct vd_rect damage[VD_DAMAGE_MAX]; /* may overlap */
    struct vd_surface surface; /* what is shown; a reference of the caller's, who drops it */
};
struct vd_viewer;
/* wake_fd is given to host->wake when vd_viewer_take has news, once until it is called. What is
 * shown now is the first news. NULL: no memory. */
struct vd_viewer *vd_viewer_new(struct vd_scanout *scanout, int wake_fd);
void vd_viewer_free(struct vd_viewer *viewer); /* NULL is allowed */
/* Takes all news; returns update->news. What changes later is news again. */
uint32_t vd_viewer_take(struct vd_viewer *viewer, struct vd_update *update);
void vd_viewer_cursor(struct vd_viewer *viewer, struct vd_cursor *cursor);

/* The same for viewers in an extension that was built separately: one viewer, and the core's
 * functions for it. */
struct vd_viewing {
    struct vd_viewer *viewer;
    int wake_fd; /* an eventfd: to be read before taking */
    uint32_t (*take)(struct vd_viewer *viewer, struct vd_update *update);
    void (*cursor)(struct vd_viewer *viewer, struct vd_cursor *cursor);
    void *(*base)(const struct vd_pixels *pixels);
    void (*unref)(struct vd_pixels *pixels);
};
void vd_viewer_viewing(struct vd_viewer *viewer, struct vd_viewing *viewing);

#endif
