/* SPDX-License-Identifier: MIT
 * ZRLE: RFC 6143 §7.7.6. Tiles of 64 x 64 pixels, each in the form that is shortest. */
#include "encode.h"
#include "palette.h"

enum { SIDE = 64, PACKED_COLOURS = 16, RLE_COLOURS = 127 };
enum { TILE_RAW = 0, TILE_SOLID = 1, TILE_PLAIN_RLE = 128, TILE_PALETTE_RLE = 128 };

struct tile {
    uint32_t pixels[SIDE * SIDE];
    uint32_t width, height, n;
    struct palette palette;
    bool few;                              /* all colours are in the palette */
    size_t plain_rle, palette_rle, cpixel; /* bytes */
};

/* How many bytes tell a run's length. */
static size_t length_bytes(uint32_t run) {
    return (run - 1) / 255 + 1;
}

static void look(struct tile *tile) {
    palette_clear(&tile->palette);
    tile->few = true;
    tile->plain_rle = tile->palette_rle = 0;
    for (uint32_t i = 0, run; i < tile->n; i += run) {
        uint32_t colour = tile->pixels[i];
        for (run = 1; i + run < tile->n && tile->pixels[i + run] == colour; run++)
            continue;
        if (tile->few && palette_add(&tile->palette, colour, RLE_COLOURS) == RLE_COLOURS)
            tile->few = false;
        tile->plain_rle += tile->cpixel + length_bytes(run);
        tile->palette_rle += run == 1 ? 1 : 1 + length_bytes(run);
    }
    tile->palette_rle += tile->palette.n * tile->cpixel;
}

static uint32_t index_bits(uint32_t colours) {
    return colours == 2 ? 1 : colours <= 4 ? 2 : 4;
}

static uint8_t *write_length(uint8_t *to, uint32_t run) {
    for (run--; run >= 255; run -= 255)
        *to++ = 255;
    *to++ = (uint8_t)run;
    return to;
}

static uint8_t *write_rle(const struct rfb_format *f, struct tile *tile, bool palette,
                          uint8_t *to) {
    *to++ = (uint8_t)(palette ? TILE_PALETTE_RLE + tile->palette.n : TILE_PLAIN_RLE);
    if (palette)
        to = rfb_pack_cpixel(f, tile->palette.colour, tile->palette.n, to);
    for (uint32_t i = 0, run; i < tile->n; i += run) {
        uint32_t colour = tile->pixels[i];
        for (run = 1; i + run < tile->n && tile->pixels[i + run] == colour; run++)
            continue;
        if (!palette)
            to = write_length(rfb_pack_cpixel(f, &colour, 1, to), run);
        else if (run == 1)
            *to++ = (uint8_t)palette_index(&tile->palette, colour);
        else
            to = write_length(put8(to, 128 + palette_index(&tile->palette, colour)), run);
    }
    return to;
}

static uint8_t *write_packed(const struct rfb_format *f, struct tile *tile, uint8_t *to) {
    uint32_t bits = index_bits(tile->palette.n);
    *to++ = (uint8_t)tile->palette.n;
    to = rfb_pack_cpixel(f, tile->palette.colour, tile->palette.n, to);
    for (uint32_t y = 0; y < tile->height; y++) {
        uint32_t byte = 0, filled = 0;
        for (uint32_t x = 0; x < tile->width; x++) {
            byte = byte << bits | palette_index(&tile->palette, tile->pixels[y * tile->width + x]);
            filled += bits;
            if (filled == 8) {
                *to++ = (uint8_t)byte;
                byte = filled = 0;
            }
        }
        if (filled)
            *to++ = (uint8_t)(byte << (8 - filled));
    }
    return to;
}

static uint8_t *write_tile(const struct rfb_format *f, struct tile *tile, uint8_t *to) {
    look(tile);
    if (tile->few && tile->palette.n == 1)
        return rfb_pack_cpixel(f, tile->palette.colour, 1, put8(to, TILE_SOLID));
    size_t best = tile->n * tile->cpixel, packed = SIZE_MAX;
    if (tile->few && tile->palette.n <= PACKED_COLOURS)
        packed = tile->palette.n * tile->cpixel +
                 tile->height * ((tile->width * index_bits(tile->palette.n) + 7) / 8);
    best = packed < best ? packed : best;
    best = tile->plain_rle < best ? tile->plain_rle : best;
    if (tile->few && tile->palette_rle < best)
        return write_rle(f, tile, true, to);
    if (best == packed)
        return write_packed(f, tile, to);
    if (best == tile->plain_rle)
        return write_rle(f, tile, false, to);
    return rfb_pack_cpixel(f, tile->pixels, tile->n, put8(to, TILE_RAW));
}

static void cut_tile(const uint32_t *pixels, const struct vd_rect *rect, uint32_t x, uint32_t y,
                     struct tile *tile) {
    tile->width = rect->width - x < SIDE ? rect->width - x : SIDE;
    tile->height = rect->height - y < SIDE ? rect->height - y : SIDE;
    tile->n = tile->width * tile->height;
    for (uint32_t row = 0; row < tile->height; row++)
        memcpy(tile->pixels + row * tile->width, pixels + (size_t)(y + row) * rect->width + x,
               tile->width * sizeof *pixels);
}

void rfb_encode_zrle(struct rfb_client *c, const struct vd_rect *rect) {
    struct tile tile;
    uint8_t probe[4], *to = c->packed;
    uint32_t black = 0;
    size_t pixels = (size_t)rect->width * rect->height;
    rfb_screens_fetch(c, rect, c->tile);
    bool many = !palette_find(&tile.palette, c->tile, pixels, PALETTE_MAX);
    if (many && rfb_pace_raw(c, pixels))
        return rfb_encode_raw(c, rect);
    uint64_t since = rfb_now();
    tile.cpixel = (size_t)(rfb_pack_cpixel(&c->format, &black, 1, probe) - probe);
    for (uint32_t y = 0; y < rect->height; y += SIDE)
        for (uint32_t x = 0; x < rect->width; x += SIDE) {
            cut_tile(c->tile, rect, x, y, &tile);
            to = write_tile(&c->format, &tile, to);
        }
    size_t n = (size_t)(to - c->packed);
    uint64_t spent = rfb_now() - since;
    rfb_rectangle(c, rect, ENCODING_ZRLE);
    uint8_t *out = rfb_room(c, 4 + rfb_deflate_bound(n));
    if (!out)
        return;
    since = rfb_now();
    enum rfb_effort effort = rfb_effort_next(c);
    size_t length = rfb_deflate(c, ZLIB_ZRLE, effort, c->packed, n, out + 4);
    rfb_effort_done(c, effort, n, length);
    if (many)
        rfb_pace_saved(c, pixels, length, spent + rfb_now() - since);
    put32(out, (uint32_t)length);
    rfb_wrote(c, out + 4 + length);
}
