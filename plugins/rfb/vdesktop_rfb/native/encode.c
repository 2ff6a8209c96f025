/* SPDX-License-Identifier: MIT
 * The encodings of rectangles; Raw: RFC 6143 §7.7.1. */
#include "encode.h"

#include <stdlib.h>

enum { WINDOW_BITS = 15, MEMORY_LEVEL = 8, EFFORT_MAX = 3 };
/* <zconf.h>: (1 << (window_bits + 2)) + (1 << (mem_level + 9)), and a few KiB. */
enum { STREAM_MEMORY = (1 << (WINDOW_BITS + 2)) + (1 << (MEMORY_LEVEL + 9)) + (6 << 10) };

int rfb_effort(const struct rfb_client *c) {
    return c->can.effort < 0 ? 1 : c->can.effort < EFFORT_MAX ? c->can.effort : EFFORT_MAX;
}

size_t rfb_deflate_bound(size_t n) {
    return n + n / 64 + 256;
}

static struct zlib_stream *open_stream(struct rfb_client *c, uint32_t index) {
    const struct libraries *l = rfb_libraries(c);
    struct zlib_stream *stream = calloc(1, sizeof *stream);
    if (stream && l->deflateInit2_(stream, rfb_effort(c), ZLIB_DEFLATED, WINDOW_BITS, MEMORY_LEVEL,
                                   0, l->zlibVersion(), (int)sizeof *stream) != ZLIB_OK) {
        free(stream);
        stream = NULL;
    }
    if (!stream) {
        rfb_fail(c, "the host is out of memory");
        return NULL;
    }
    c->stats.memory += sizeof *stream + STREAM_MEMORY;
    c->zlib_level[index] = rfb_effort(c);
    return c->zlib[index] = stream;
}

size_t rfb_deflate(struct rfb_client *c, uint32_t index, int level, const uint8_t *from, size_t n,
                   uint8_t *to) {
    const struct libraries *l = rfb_libraries(c);
    struct zlib_stream *stream = c->zlib[index] ? c->zlib[index] : open_stream(c, index);
    if (!stream)
        return 0;
    stream->next_out = to;
    stream->avail_out = (unsigned)rfb_deflate_bound(n);
    if (c->zlib_level[index] != level) {
        stream->avail_in = 0;
        l->deflateParams(stream, level, 0);
        c->zlib_level[index] = level;
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

static void encode_raw(struct rfb_client *c, const struct vd_rect *rect) {
    size_t n = (size_t)rect->width * rect->height;
    rfb_rectangle(c, rect, ENCODING_RAW);
    uint8_t *to = rfb_room(c, n * (c->format.bits / 8));
    if (!to)
        return;
    rfb_screens_fetch(c, rect, c->tile);
    rfb_wrote(c, rfb_pack(&c->format, c->tile, n, to));
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
        encode_raw(c, rect);
    }
}
