/* SPDX-License-Identifier: MIT
 * The encodings of rectangles; Raw: RFC 6143 §7.7.1. */
#include "encode.h"

#include <stdlib.h>

enum { WINDOW_BITS = 15, MEMORY_LEVEL = 8 };
enum { LEVEL = 1, LEVEL_MAX = 3, LEVEL_SLOW = 6 };
/* <zconf.h>: (1 << (window_bits + 2)) + (1 << (mem_level + 9)), and a few KiB. */
enum { STREAM_MEMORY = (1 << (WINDOW_BITS + 2)) + (1 << (MEMORY_LEVEL + 9)) + (6 << 10) };

/* What the client wants, within what keeps up with a moving picture. */
static int level_of(const struct rfb_client *c) {
    bool slow = rfb_pace_slow(c);
    int most = slow ? LEVEL_SLOW : LEVEL_MAX;
    if (c->can.effort < 0)
        return slow ? LEVEL_SLOW : LEVEL;
    return c->can.effort < most ? c->can.effort : most;
}

enum rfb_effort rfb_effort_next(struct rfb_client *c) {
    if (!c->effort_tiles)
        return EFFORT_ALL;
    c->effort_tiles--;
    return c->effort;
}

void rfb_effort_done(struct rfb_client *c, enum rfb_effort effort, size_t n, size_t length) {
    if (effort != EFFORT_ALL || length < n / 2)
        return;
    c->effort = length > n - n / 8 ? EFFORT_STORED : EFFORT_HUFFMAN;
    c->effort_tiles = EFFORT_TILES;
}

size_t rfb_deflate_bound(size_t n) {
    return n + n / 64 + 256;
}

static struct zlib_stream *open_stream(struct rfb_client *c, uint32_t index) {
    const struct libraries *l = rfb_libraries(c);
    struct zlib_stream *stream = calloc(1, sizeof *stream);
    if (stream && l->deflateInit2_(stream, level_of(c), ZLIB_DEFLATED, WINDOW_BITS, MEMORY_LEVEL, 0,
                                   l->zlibVersion(), (int)sizeof *stream) != ZLIB_OK) {
        free(stream);
        stream = NULL;
    }
    if (!stream) {
        rfb_fail(c, "the host is out of memory");
        return NULL;
    }
    c->stats.memory += sizeof *stream + STREAM_MEMORY;
    c->zlib_level[index] = level_of(c);
    c->zlib_strategy[index] = ZLIB_DEFAULT_STRATEGY;
    return c->zlib[index] = stream;
}

size_t rfb_deflate(struct rfb_client *c, uint32_t index, enum rfb_effort effort,
                   const uint8_t *from, size_t n, uint8_t *to) {
    const struct libraries *l = rfb_libraries(c);
    struct zlib_stream *stream = c->zlib[index] ? c->zlib[index] : open_stream(c, index);
    if (!stream)
        return 0;
    stream->next_out = to;
    stream->avail_out = (unsigned)rfb_deflate_bound(n);
    int level = effort == EFFORT_STORED ? 0 : level_of(c);
    int strategy = effort == EFFORT_HUFFMAN ? ZLIB_HUFFMAN_ONLY : ZLIB_DEFAULT_STRATEGY;
    if (c->zlib_level[index] != level || c->zlib_strategy[index] != strategy) {
        stream->avail_in = 0;
        l->deflateParams(stream, level, strategy);
        c->zlib_level[index] = level;
        c->zlib_strategy[index] = strategy;
    }
    stream->next_in = from;
    stream->avail_in = (unsigned)n;
    int result = l->deflate(stream, ZLIB_SYNC_FLUSH);
    if (result != ZLIB_OK || stream->avail_in || !stream->avail_out) {
        rfb_fail(c, "zlib failed");
        return 0;
    }
    return (size_t)(stream->next_out - to);
}

void rfb_encoders_free(struct rfb_client *c) {
    for (uint32_t i = 0; i < ZLIB_STREAMS; i++)
        if (c->zlib[i]) {
            rfb_libraries(c)->deflateEnd(c->zlib[i]);
            free(c->zlib[i]);
        }
    if (c->jpeg)
        rfb_libraries(c)->tjDestroy(c->jpeg);
}

void rfb_encode_raw(struct rfb_client *c, const struct vd_rect *rect) {
    size_t n = (size_t)rect->width * rect->height;
    rfb_rectangle(c, rect, ENCODING_RAW);
    uint8_t *to = rfb_room(c, n * (c->format.bits / 8));
    if (to)
        rfb_wrote(c, rfb_pack(&c->format, c->tile, n, to));
}

/* As above, from the screen; without the way round by c->tile where it can be. */
static void fetch_raw(struct rfb_client *c, const struct vd_rect *rect) {
    if (!rfb_format_native(&c->format)) {
        rfb_screens_fetch(c, rect, c->tile);
        return rfb_encode_raw(c, rect);
    }
    rfb_rectangle(c, rect, ENCODING_RAW);
    uint8_t *to = rfb_room(c, 4 * (size_t)rect->width * rect->height);
    if (!to)
        return;
    rfb_screens_fetch(c, rect, to);
    rfb_wrote(c, to + 4 * (size_t)rect->width * rect->height);
}

void rfb_encode(struct rfb_client *c, const struct vd_rect *rect) {
    switch (c->can.encoding) {
    case ENCODING_TIGHT:
        rfb_encode_tight(c, rect);
        break;
    case ENCODING_ZRLE:
        rfb_encode_zrle(c, rect);
        break;
    default:
        fetch_raw(c, rect);
    }
}
