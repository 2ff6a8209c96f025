/* SPDX-License-Identifier: MIT
 * The colours of a piece of a picture, as long as they are few. */
#ifndef RFB_PALETTE_H
#define RFB_PALETTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { PALETTE_MAX = 256, PALETTE_HASH = 1024, PALETTE_HASH_BITS = 10 };

struct palette {
    uint32_t n;
    uint32_t colour[PALETTE_MAX];
    uint16_t place[PALETTE_HASH]; /* 1 + index of a colour; 0: free */
};

static inline void palette_clear(struct palette *p) {
    p->n = 0;
    memset(p->place, 0, sizeof p->place);
}

static inline uint16_t *palette_place(struct palette *p, uint32_t colour) {
    uint32_t at = colour * 0x9E3779B1u >> (32 - PALETTE_HASH_BITS);
    while (p->place[at] && p->colour[p->place[at] - 1] != colour)
        at = (at + 1) % PALETTE_HASH;
    return &p->place[at];
}

/* Index of a colour that is in it. */
static inline uint32_t palette_index(struct palette *p, uint32_t colour) {
    return *palette_place(p, colour) - 1u;
}

/* Returns its index; `most` where it is another and there are so many already. */
static inline uint32_t palette_add(struct palette *p, uint32_t colour, uint32_t most) {
    uint16_t *place = palette_place(p, colour);
    if (!*place) {
        if (p->n == most)
            return most;
        p->colour[p->n++] = colour;
        *place = (uint16_t)p->n;
    }
    return *place - 1u;
}

/* How many pixels from the first on are one of two colours; in steps that the compiler makes
 * vector instructions of: nearly all of a screen with text is like that. */
static inline size_t palette_two(const uint32_t *pixels, size_t n, uint32_t a, uint32_t b) {
    enum { STEP = 64 };
    size_t at = 0;
    for (; at + STEP <= n; at += STEP) {
        uint32_t other = 0;
        for (size_t i = 0; i < STEP; i++)
            other |= (pixels[at + i] ^ a) && (pixels[at + i] ^ b);
        if (other)
            break;
    }
    return at;
}

/* All colours, of which there are `most` at most; false: there are more. */
static inline bool palette_find(struct palette *palette, const uint32_t *pixels, size_t n,
                                uint32_t most) {
    palette_clear(palette);
    uint32_t last = pixels[0], before = last; /* the two that were seen last */
    if (palette_add(palette, last, most) == most)
        return false;
    for (size_t i = 0; i < n;) {
        i += palette_two(pixels + i, n - i, last, before);
        for (size_t end = n - i < 64 ? n : i + 64; i < end; i++) {
            if (pixels[i] == last)
                continue;
            if (pixels[i] != before && palette_add(palette, pixels[i], most) == most)
                return false;
            before = last;
            last = pixels[i];
        }
    }
    return true;
}

#endif
