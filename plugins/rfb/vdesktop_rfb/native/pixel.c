/* SPDX-License-Identifier: MIT
 * Pixels for a client: from 0x00RRGGBB to the format it asked for. */
#include <string.h>

#include "client.h"

enum { RED, GREEN, BLUE };

void rfb_format_default(struct rfb_format *format) {
    *format =
        (struct rfb_format){.bits = 32, .depth = 24, .max = {255, 255, 255}, .shift = {16, 8, 0}};
}

/* Bits of a maximum, which is 2^n - 1, n 1..8; or 0. */
static uint32_t width(uint16_t max) {
    uint32_t bits = (uint32_t)__builtin_popcount(max);
    return max && bits <= 8 && max == (1u << bits) - 1 ? bits : 0;
}

bool rfb_format_read(struct rfb_format *format, const uint8_t *wire) {
    uint64_t used = 0;
    *format = (struct rfb_format){.bits = wire[0], .depth = wire[1], .big_endian = wire[2]};
    if ((wire[0] != 8 && wire[0] != 16 && wire[0] != 32) || !wire[3])
        return false;
    for (int i = 0; i < 3; i++) {
        format->max[i] = get16(wire + 4 + 2 * i);
        format->shift[i] = wire[10 + i];
        uint64_t mask = (uint64_t)format->max[i] << (format->shift[i] & 31);
        if (!width(format->max[i]) || format->shift[i] > 31 || mask >> format->bits || mask & used)
            return false;
        used |= mask;
    }
    return true;
}

void rfb_format_write(uint8_t *wire) {
    static const uint8_t OURS[16] = {32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0};
    memcpy(wire, OURS, sizeof OURS);
}

bool rfb_format_native(const struct rfb_format *f) {
    struct rfb_format ours;
    rfb_format_default(&ours);
    return f->bits == 32 && !f->big_endian && !memcmp(f->max, ours.max, sizeof ours.max) &&
           !memcmp(f->shift, ours.shift, sizeof ours.shift);
}

static uint32_t convert(const struct rfb_format *f, const uint32_t drop[3], uint32_t pixel) {
    uint32_t red = pixel >> 16 & 0xFF, green = pixel >> 8 & 0xFF, blue = pixel & 0xFF;
    return red >> drop[RED] << f->shift[RED] | green >> drop[GREEN] << f->shift[GREEN] |
           blue >> drop[BLUE] << f->shift[BLUE];
}

static void find_drop(const struct rfb_format *f, uint32_t drop[3]) {
    for (int i = 0; i < 3; i++)
        drop[i] = 8 - width(f->max[i]);
}

uint8_t *rfb_pack(const struct rfb_format *f, const uint32_t *pixels, size_t n, uint8_t *to) {
    uint32_t drop[3];
    find_drop(f, drop);
    if (rfb_format_native(f)) {
        memcpy(to, pixels, 4 * n);
        return to + 4 * n;
    }
    if (f->bits == 32) {
        for (size_t i = 0; i < n; i++) {
            uint32_t value = convert(f, drop, pixels[i]);
            value = f->big_endian ? __builtin_bswap32(value) : value;
            memcpy(to + 4 * i, &value, 4);
        }
    } else if (f->bits == 16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t value = (uint16_t)convert(f, drop, pixels[i]);
            value = f->big_endian ? __builtin_bswap16(value) : value;
            memcpy(to + 2 * i, &value, 2);
        }
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = (uint8_t)convert(f, drop, pixels[i]);
    }
    return to + n * (f->bits / 8);
}

/* RFC 6143 §7.7.5: three bytes where all colours are in three of the four. */
static int cpixel_skip(const struct rfb_format *f) {
    uint32_t mask = 0;
    for (int i = 0; i < 3; i++)
        mask |= (uint32_t)f->max[i] << f->shift[i];
    if (f->bits != 32 || f->depth > 24)
        return -1;
    if (!(mask & 0xFF000000))
        return f->big_endian ? 0 : 3; /* the byte that is left out */
    if (!(mask & 0xFF))
        return f->big_endian ? 3 : 0;
    return -1;
}

uint8_t *rfb_pack_cpixel(const struct rfb_format *f, const uint32_t *pixels, size_t n,
                         uint8_t *to) {
    int skip = cpixel_skip(f);
    if (skip < 0)
        return rfb_pack(f, pixels, n, to);
    uint32_t drop[3];
    find_drop(f, drop);
    /* The three bytes that stay, lowest first, or highest first. */
    bool from_top = f->big_endian, upper = (skip == 0) != from_top;
    for (size_t i = 0; i < n; i++, to += 3) {
        uint32_t value = convert(f, drop, pixels[i]) >> (upper ? 8 : 0);
        to[from_top ? 2 : 0] = (uint8_t)value;
        to[1] = (uint8_t)(value >> 8);
        to[from_top ? 0 : 2] = (uint8_t)(value >> 16);
    }
    return to;
}

/* rfbproto "Tight": red, green, blue where the format is 32 bits of depth 24, 8 bits each. */
uint8_t *rfb_pack_tpixel(const struct rfb_format *f, const uint32_t *pixels, size_t n,
                         uint8_t *to) {
    if (f->bits != 32 || f->depth != 24 || f->max[0] != 255 || f->max[1] != 255 || f->max[2] != 255)
        return rfb_pack(f, pixels, n, to);
    for (size_t i = 0; i < n; i++, to += 3) {
        to[0] = (uint8_t)(pixels[i] >> 16);
        to[1] = (uint8_t)(pixels[i] >> 8);
        to[2] = (uint8_t)pixels[i];
    }
    return to;
}
