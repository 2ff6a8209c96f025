/* SPDX-License-Identifier: MIT
 * Tight: rfbproto "Tight Encoding". A rectangle is one colour, a few colours by number, a JPEG
 * where the client takes losses, or its pixels. */
#include "encode.h"
#include "palette.h"

enum { /* the first byte, and what may follow it */
       CONTROL_STREAM_SHIFT = 4,
       CONTROL_FILTER = 0x40,
       CONTROL_FILL = 0x80,
       CONTROL_JPEG = 0x90,
       FILTER_PALETTE = 1,
       STREAM_FULL = 0,
       STREAM_MONO = 1,
       STREAM_INDEXED = 2,
       COMPRESS_FROM = 12, /* bytes: less goes as it is, without a length */
       LENGTH_SIZE = 3,
};
enum { JPEG_PIXELS_MIN = 64 }; /* the tables of a file are longer than fewer pixels */

/* What 0 .. 9 mean to libjpeg, and where colours lose half their resolution. */
static const uint8_t JPEG_QUALITY[10] = {15, 30, 40, 50, 60, 70, 80, 86, 92, 98};
enum { JPEG_FULL_COLOUR_FROM = 8 };

/* A length in the form of three bytes, whatever it is: it is known only after what it is of. */
static void put_length(uint8_t *to, size_t length) {
    to[0] = (uint8_t)(0x80 | (length & 0x7F));
    to[1] = (uint8_t)(0x80 | (length >> 7 & 0x7F));
    to[2] = (uint8_t)(length >> 14);
}

/* Bytes of a stream, compressed where that is worth it. */
static void write_bytes(struct rfb_client *c, uint32_t stream, enum rfb_effort effort,
                        const uint8_t *bytes, size_t n) {
    if (n < COMPRESS_FROM)
        return rfb_write(c, bytes, n);
    uint8_t *to = rfb_room(c, LENGTH_SIZE + rfb_deflate_bound(n));
    if (!to)
        return;
    size_t length = rfb_deflate(c, ZLIB_TIGHT + stream, effort, bytes, n, to + LENGTH_SIZE);
    if (stream == STREAM_FULL)
        rfb_effort_done(c, effort, n, length);
    put_length(to, length);
    rfb_wrote(c, to + LENGTH_SIZE + length);
}

static void write_fill(struct rfb_client *c, uint32_t colour) {
    uint8_t bytes[5] = {CONTROL_FILL};
    rfb_write(c, bytes, (size_t)(rfb_pack_tpixel(&c->format, &colour, 1, bytes + 1) - bytes));
}

static void write_palette(struct rfb_client *c, struct palette *palette,
                          const struct vd_rect *rect) {
    const uint32_t *pixels = c->tile;
    uint32_t stream = palette->n == 2 ? STREAM_MONO : STREAM_INDEXED;
    uint8_t head[3 + 4 * PALETTE_MAX], *to = head, *packed = c->packed;
    to = put8(to, stream << CONTROL_STREAM_SHIFT | CONTROL_FILTER);
    to = put8(put8(to, FILTER_PALETTE), palette->n - 1);
    to = rfb_pack_tpixel(&c->format, palette->colour, palette->n, to);
    rfb_write(c, head, (size_t)(to - head));
    uint32_t last = ~pixels[0], index = 0;
    for (uint32_t y = 0; y < rect->height; y++) {
        const uint32_t *row = pixels + (size_t)y * rect->width;
        if (stream == STREAM_INDEXED) {
            for (uint32_t x = 0; x < rect->width; x++) {
                if (row[x] != last)
                    index = palette_index(palette, last = row[x]);
                *packed++ = (uint8_t)index;
            }
            continue;
        }
        for (uint32_t x = 0; x < rect->width; x += 8) {
            uint32_t byte = 0, most = rect->width - x < 8 ? rect->width - x : 8;
            for (uint32_t i = 0; i < most; i++)
                byte |= (uint32_t)(row[x + i] == palette->colour[1]) << (7 - i);
            *packed++ = (uint8_t)byte;
        }
    }
    write_bytes(c, stream, EFFORT_ALL, c->packed, (size_t)(packed - c->packed));
}

static void write_full(struct rfb_client *c, size_t n) {
    if (!rfb_room(c, 1 + LENGTH_SIZE + rfb_deflate_bound(4 * n))) /* no waiting in between */
        return;
    uint64_t since = rfb_now();
    size_t before = c->n_out;
    rfb_write(c, (uint8_t[]){STREAM_FULL << CONTROL_STREAM_SHIFT}, 1);
    uint8_t *end = rfb_pack_tpixel(&c->format, c->tile, n, c->packed);
    write_bytes(c, STREAM_FULL, rfb_effort_next(c), c->packed, (size_t)(end - c->packed));
    rfb_pace_saved(c, n, c->n_out - before, rfb_now() - since);
}

/* false: it has to be done without. */
static bool write_jpeg(struct rfb_client *c, const struct vd_rect *rect) {
    const struct libraries *l = rfb_libraries(c);
    int subsampling = c->can.quality >= JPEG_FULL_COLOUR_FROM ? JPEG_444 : JPEG_420;
    unsigned long room = l->tjBufSize((int)rect->width, (int)rect->height, subsampling),
                  size = room;
    if (!c->jpeg)
        c->jpeg = l->tjInitCompress();
    if (!c->jpeg || room > OUT_SIZE / 2)
        return false;
    uint8_t *to = rfb_room(c, 1 + LENGTH_SIZE + room);
    if (!to)
        return true;
    unsigned char *jpeg = to + 1 + LENGTH_SIZE;
    if (l->tjCompress2(c->jpeg, (const unsigned char *)c->tile, (int)rect->width, 0,
                       (int)rect->height, JPEG_BGRX, &jpeg, &size, subsampling,
                       JPEG_QUALITY[c->can.quality], JPEG_FLAGS) != 0)
        return false;
    put_length(put8(to, CONTROL_JPEG), size);
    rfb_wrote(c, jpeg + size);
    return true;
}

static bool may_be_jpeg(const struct rfb_client *c, size_t n) {
    return c->can.quality >= 0 && c->format.bits >= 16 && n >= JPEG_PIXELS_MIN &&
           rfb_libraries(c)->turbojpeg;
}

void rfb_encode_tight(struct rfb_client *c, const struct vd_rect *rect) {
    struct palette palette;
    size_t n = (size_t)rect->width * rect->height;
    /* A palette has to be shorter than the pixels. */
    uint32_t most = n / 4 < PALETTE_MAX ? (uint32_t)(n / 4) + 1 : PALETTE_MAX;
    rfb_screens_fetch(c, rect, c->tile);
    bool few = palette_find(&palette, c->tile, n, most);
    bool jpeg = !few && may_be_jpeg(c, n);
    if (!few && !jpeg && rfb_pace_raw(c, n))
        return rfb_encode_raw(c, rect);
    rfb_rectangle(c, rect, ENCODING_TIGHT);
    if (few && palette.n == 1)
        write_fill(c, palette.colour[0]);
    else if (few)
        write_palette(c, &palette, rect);
    else if (!jpeg || !write_jpeg(c, rect))
        write_full(c, n);
}
