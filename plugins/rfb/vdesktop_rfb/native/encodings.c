/* SPDX-License-Identifier: MIT
 * What a client says it understands. */
#include "client.h"

static void add(struct rfb_capabilities *can, int32_t code, bool zlib, bool *chosen) {
    if (code >= ENCODING_JPEG_QUALITY_0 && code <= ENCODING_JPEG_QUALITY_9)
        can->quality = (int8_t)(code - ENCODING_JPEG_QUALITY_0);
    if (code >= ENCODING_COMPRESSION_0 && code <= ENCODING_COMPRESSION_9)
        can->effort = (int8_t)(code - ENCODING_COMPRESSION_0);
    switch (code) {
    case ENCODING_RAW:
    case ENCODING_TIGHT:
    case ENCODING_ZRLE:
        if (!*chosen && (code == ENCODING_RAW || zlib)) { /* the first is what it likes best */
            can->encoding = code;
            *chosen = true;
        }
        break;
    case ENCODING_DESKTOP_SIZE:
        can->desktop_size = true;
        break;
    case ENCODING_EXTENDED_DESKTOP_SIZE:
        can->extended_desktop_size = true;
        break;
    case ENCODING_CURSOR:
        can->cursor = true;
        break;
    case ENCODING_CURSOR_ALPHA:
        can->cursor_alpha = true;
        break;
    case ENCODING_QEMU_KEY:
        can->qemu_key = true;
        break;
    case ENCODING_QEMU_LED:
        can->qemu_led = true;
        break;
    case ENCODING_FENCE:
        can->fence = true;
        break;
    case ENCODING_CONTINUOUS_UPDATES:
        can->continuous = true;
        break;
    case ENCODING_EXTENDED_MOUSE:
        can->extended_mouse = true;
        break;
    case ENCODING_EXTENDED_CLIPBOARD:
        can->extended_clipboard = true;
        break;
    case ENCODING_VDESKTOP:
        can->vdesktop = true;
        break;
    }
}

void rfb_set_encodings(struct rfb_capabilities *can, const uint8_t *codes, uint32_t n, bool zlib) {
    bool chosen = false;
    *can = (struct rfb_capabilities){.encoding = ENCODING_RAW, .quality = -1, .effort = -1};
    for (uint32_t i = 0; i < n; i++)
        add(can, (int32_t)get32(codes + 4 * (size_t)i), zlib, &chosen);
    can->continuous &= can->fence; /* rfbproto: without fences nobody knows how far a client is */
}
