/* SPDX-License-Identifier: MIT
 * The boot framebuffer: memory that a guest draws on with no driver of ours. It is
 * the backdrop of a scanout, where it shows until a display device's driver does. */
#ifndef VDESKTOP_BOOTFB_H
#define VDESKTOP_BOOTFB_H

#include "vdesktop/display.h"
#include "vdesktop/loop.h"

struct vd_bootfb_options {
    /* The memory: a memfd, sealed against shrinking and the caller's, which viewers look at as it
     * is; or, where no other process can map it, -1, and a copy is kept for them. */
    int fd;
    const void *memory; /* the same in this process; used with fd -1 only */
    uint64_t gpa;       /* where the guest finds it, for `dirty` */
    uint64_t size;      /* a multiple of VD_DIRTY_PAGE; all pixels fit */
    uint32_t width, height, stride, format;
    /* NULL: there is no log, and what has changed is found by comparing. Copied. */
    const struct vd_dirty *dirty;
};

struct vd_bootfb_counters {
    uint64_t scans, changed; /* looks at the memory; those that found something new */
    uint64_t scan_ns;        /* time that they took, in all */
};

struct vd_bootfb;

/* Looks at the memory on the loop's thread, and only while a viewer waits for something new to
 * see. NULL and *error = -errno. */
struct vd_bootfb *vd_bootfb_new(const struct vd_host *host, struct vd_loop *loop,
                                const struct vd_bootfb_options *options, int *error);
void vd_bootfb_free(struct vd_bootfb *bootfb); /* on no scanout but its own; NULL is allowed */
/* A scanout that shows nothing else, for a machine without a display device. */
struct vd_scanout *vd_bootfb_scanout(struct vd_bootfb *bootfb);
/* Makes it the backdrop of this scanout, and no longer of the one before. NULL: of its own. */
void vd_bootfb_attach(struct vd_bootfb *bootfb, struct vd_scanout *scanout);
/* While held, the memory is not touched. The next look finds what has changed meanwhile. */
void vd_bootfb_hold(struct vd_bootfb *bootfb, bool held);
/* Brings the copy up to date, where there is one, so that who begins to look sees what is there
 * now. Not on the loop's thread. */
void vd_bootfb_refresh(struct vd_bootfb *bootfb);
void vd_bootfb_counters(const struct vd_bootfb *bootfb, struct vd_bootfb_counters *counters);

#endif
