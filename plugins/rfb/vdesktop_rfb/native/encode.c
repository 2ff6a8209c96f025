/* SPDX-License-Identifier: MIT
 * The encodings of rectangles, and Raw: RFC 6143 §7.7.1. */
#include "client.h"

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
    encode_raw(c, rect);
}

void rfb_encoders_free(struct rfb_client *c) {
    (void)c;
}
