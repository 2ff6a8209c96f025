/* SPDX-License-Identifier: MIT
 * What has changed on the boot framebuffer. The guest may draw at any time: what
 * is drawn during a scan is found by this one or by the next. */
#include <string.h>

#include "bootfb.h"

#define BYTES_PER_PIXEL 4u
/* Rows that make one rectangle: about a line of a console's text. */
#define BAND 16u
/* Bytes that are compared, and copied, at once. */
#define CHUNK 64u

/* Chunks of a row that differ: from the first to behind the last. */
struct span {
    uint32_t from, to;
};

static uint32_t chunk_len(uint32_t row_len, uint32_t at) {
    return row_len - at < CHUNK ? row_len - at : CHUNK;
}

static struct span differing(const uint8_t *now, const uint8_t *before, uint32_t len) {
    struct span span = {0, len};
    while (span.from < len &&
           !memcmp(now + span.from, before + span.from, chunk_len(len, span.from)))
        span.from += CHUNK;
    while (span.to > span.from) {
        uint32_t at = (span.to - 1) / CHUNK * CHUNK;
        if (memcmp(now + at, before + at, chunk_len(len, at)))
            break;
        span.to = at;
    }
    return span;
}

static void tell(const struct bootfb_scan *scan, struct span span, uint32_t y, uint32_t rows) {
    uint32_t left = span.from / BYTES_PER_PIXEL;
    uint32_t right = (span.to + BYTES_PER_PIXEL - 1) / BYTES_PER_PIXEL;
    vd_scanout_damage_backdrop(scan->out, &(struct vd_rect){left, y, right - left, rows});
}

bool bootfb_compare(struct bootfb_scan *scan) {
    uint32_t len = scan->width * BYTES_PER_PIXEL;
    bool any = false;
    for (uint32_t top = 0; top < scan->height; top += BAND) {
        uint32_t end = scan->height - top < BAND ? scan->height : top + BAND;
        /* Rows without padding lie in one piece, as they do in the shadow. */
        if (scan->stride == len &&
            !memcmp(scan->pixels + (uint64_t)top * len, scan->shadow + (uint64_t)top * len,
                    (size_t)(end - top) * len))
            continue;
        struct span all = {len, 0};
        uint32_t first = end, last = top;
        for (uint32_t y = top; y < end; y++) {
            const uint8_t *now = scan->pixels + (uint64_t)y * scan->stride;
            uint8_t *before = scan->shadow + (uint64_t)y * len;
            if (!memcmp(now, before, len))
                continue;
            struct span span = differing(now, before, len);
            if (span.from >= span.to)
                continue; /* it has changed back meanwhile */
            /* Not more than is told: beyond it, the guest may have drawn since. */
            memcpy(before + span.from, now + span.from, span.to - span.from);
            all.from = span.from < all.from ? span.from : all.from;
            all.to = span.to > all.to ? span.to : all.to;
            first = y < first ? y : first;
            last = y;
        }
        if (first < end) {
            tell(scan, all, first, last - first + 1);
            any = true;
        }
    }
    return any;
}

static bool marked(const struct bootfb_scan *scan, uint64_t page) {
    return scan->bitmap[page / 64] >> page % 64 & 1;
}

/* Pages first .. last as a rectangle: whole rows, unless they are part of one. */
static void tell_pages(const struct bootfb_scan *scan, uint64_t first, uint64_t last) {
    uint64_t from = first * VD_DIRTY_PAGE, to = (last + 1) * VD_DIRTY_PAGE;
    uint64_t top = from / scan->stride, bottom = (to - 1) / scan->stride;
    struct span span = {0, scan->width * BYTES_PER_PIXEL};
    if (top == bottom) {
        uint64_t row = top * scan->stride;
        span.from = from - row < span.to ? (uint32_t)(from - row) : span.to;
        span.to = to - row < span.to ? (uint32_t)(to - row) : span.to;
    }
    if (top < scan->height && span.from < span.to)
        tell(scan, span, (uint32_t)top, (uint32_t)(bottom - top + 1));
}

bool bootfb_read_log(struct bootfb_scan *scan) {
    uint64_t pages = scan->size / VD_DIRTY_PAGE;
    memset(scan->bitmap, 0, (pages + 63) / 64 * sizeof *scan->bitmap);
    if (scan->dirty.take(scan->dirty.opaque, scan->gpa, scan->size, scan->bitmap))
        memset(scan->bitmap, 0xff, (pages + 63) / 64 * sizeof *scan->bitmap);
    bool any = false;
    for (uint64_t page = 0; page < pages; page++) {
        if (!marked(scan, page))
            continue;
        uint64_t first = page;
        while (page + 1 < pages && marked(scan, page + 1))
            page++;
        tell_pages(scan, first, page);
        any = true;
    }
    return any;
}
