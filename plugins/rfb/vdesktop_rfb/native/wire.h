/* SPDX-License-Identifier: MIT
 * RFB's numbers and sizes, once. RFC 6143; "rfbproto" is the community's
 * description of what came after it. All numbers are big-endian on the wire. */
#ifndef RFB_WIRE_H
#define RFB_WIRE_H

#include <stdint.h>

enum { RFB_VERSION_SIZE = 12, RFB_CHALLENGE_SIZE = 16, RFB_PASSWORD_SIZE = 8 };

enum rfb_security { /* RFC 6143 §7.1.2, rfbproto "Security types" */
                    SECURITY_INVALID = 0,
                    SECURITY_NONE = 1,
                    SECURITY_VNC = 2,
                    SECURITY_VENCRYPT = 19,
};
enum rfb_vencrypt { /* rfbproto "VeNCrypt" */
                    VENCRYPT_X509_NONE = 260,
                    VENCRYPT_X509_VNC = 261,
                    VENCRYPT_X509_PLAIN = 262,
};

enum rfb_client_message {
    CLIENT_SET_PIXEL_FORMAT = 0,
    CLIENT_SET_ENCODINGS = 2,
    CLIENT_UPDATE_REQUEST = 3,
    CLIENT_KEY = 4,
    CLIENT_POINTER = 5,
    CLIENT_CUT_TEXT = 6,
    CLIENT_CONTINUOUS_UPDATES = 150,
    CLIENT_VDESKTOP = 214, /* ours: docs/rfb.md */
    CLIENT_FENCE = 248,
    CLIENT_SET_DESKTOP_SIZE = 251,
    CLIENT_QEMU = 255,
};
enum rfb_server_message {
    SERVER_UPDATE = 0,
    SERVER_CUT_TEXT = 3,
    SERVER_END_OF_CONTINUOUS_UPDATES = 150,
    SERVER_VDESKTOP = 214,
    SERVER_FENCE = 248,
};
enum { QEMU_EXTENDED_KEY = 0 }; /* sub-type of CLIENT_QEMU */

enum rfb_encoding {
    ENCODING_RAW = 0,
    ENCODING_TIGHT = 7,
    ENCODING_ZRLE = 16,
    /* Pseudo-encodings: what a client understands. */
    ENCODING_JPEG_QUALITY_0 = -32, /* .. -23: quality 0 .. 9 */
    ENCODING_JPEG_QUALITY_9 = -23,
    ENCODING_DESKTOP_SIZE = -223,
    ENCODING_LAST_RECT = -224,
    ENCODING_CURSOR = -239,
    ENCODING_COMPRESSION_0 = -256, /* .. -247: zlib's effort 0 .. 9 */
    ENCODING_COMPRESSION_9 = -247,
    ENCODING_QEMU_KEY = -258,
    ENCODING_QEMU_LED = -261,
    ENCODING_EXTENDED_DESKTOP_SIZE = -308,
    ENCODING_FENCE = -312,
    ENCODING_CONTINUOUS_UPDATES = -313,
    ENCODING_CURSOR_ALPHA = -314,
    ENCODING_EXTENDED_MOUSE = -316,
    ENCODING_EXTENDED_CLIPBOARD = (int32_t)0xC0A1E5CE,
    ENCODING_VDESKTOP = 0x76640001, /* ours: docs/rfb.md */
};

enum { /* FenceFlags */
       FENCE_BLOCK_BEFORE = 1u,
       FENCE_BLOCK_AFTER = 2u,
       FENCE_SYNC_NEXT = 4u,
       FENCE_REQUEST = 1u << 31,
       FENCE_KNOWN = FENCE_BLOCK_BEFORE | FENCE_BLOCK_AFTER | FENCE_SYNC_NEXT,
       FENCE_PAYLOAD_MAX = 64,
};

enum rfb_resize_reason { RESIZE_SERVER = 0, RESIZE_CLIENT = 1, RESIZE_OTHER_CLIENT = 2 };
enum rfb_resize_status {
    RESIZE_OK = 0,
    RESIZE_PROHIBITED = 1,
    RESIZE_INVALID = 3,
    RESIZE_FORWARDED = 4,
};

/* Ours. Both ways: u8 214, u8 kind, u16 0, u32 length, payload. */
enum rfb_vdesktop_kind { VDESKTOP_TOUCH = 1 /* the others are opaque here */ };
enum rfb_touch_phase { TOUCH_BEGIN = 0, TOUCH_UPDATE = 1, TOUCH_END = 2, TOUCH_MORE = 0x100 };
enum {
    TOUCH_SLOTS = 10,
    TOUCH_SIZE = 8, /* u8 phase, u8 slot, u16 0, u16 x, u16 y: framebuffer pixels */
    VDESKTOP_HEADER = 8,
    VDESKTOP_PAYLOAD_MAX = 1 << 17,
};

/* Bounds of ours. */
enum {
    ENCODINGS_MAX = 1024,            /* in one SetEncodings */
    CUT_TEXT_MAX = 4 << 20,          /* taken; more is skipped */
    CUT_TEXT_SKIP_MAX = 256 << 20,   /* skipped; more is nonsense */
    SIZE_MAX_PIXELS = 16384,         /* a screen's width or height that a client may ask for */
    WEBSOCKET_FRAME_MAX = 256 << 20, /* they are taken piece by piece */
};

/* Websocket frames: RFC 6455 §5.2. */
enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10,
};
enum { WS_CONTROL_MAX = 125, WS_HEADER_MAX = 14, WS_SERVER_HEADER_MAX = 10 };

static inline uint16_t get16(const uint8_t *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t get32(const uint8_t *p) {
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}
static inline uint64_t get64(const uint8_t *p) {
    return (uint64_t)get32(p) << 32 | get32(p + 4);
}
static inline uint8_t *put8(uint8_t *p, uint32_t value) {
    *p = (uint8_t)value;
    return p + 1;
}
static inline uint8_t *put16(uint8_t *p, uint32_t value) {
    return put8(put8(p, value >> 8), value);
}
static inline uint8_t *put32(uint8_t *p, uint32_t value) {
    return put16(put16(p, value >> 16), value);
}

#endif
