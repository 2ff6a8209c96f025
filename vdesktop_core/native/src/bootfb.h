/* SPDX-License-Identifier: MIT
 * How the boot framebuffer's changes are found: bootfb_scan.c. */
#ifndef VD_BOOTFB_PRIVATE_H
#define VD_BOOTFB_PRIVATE_H

#include "vdesktop/bootfb.h"

struct bootfb_scan {
    const uint8_t *pixels;
    uint32_t width, height, stride; /* of what is looked at */
    uint8_t *shadow;  /* what was there the last time, without padding; NULL: there is a log */
    uint64_t *bitmap; /* scratch, with a log */
    uint64_t gpa, size;
    struct vd_dirty dirty;
    struct vd_scanout *out; /* is told what is damaged */
};

/* Whether anything had changed. */
bool bootfb_compare(struct bootfb_scan *scan);
bool bootfb_read_log(struct bootfb_scan *scan);

#endif
