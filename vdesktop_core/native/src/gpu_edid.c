/* SPDX-License-Identifier: MIT
 * An EDID base block (VESA E-EDID 1.4): the monitor that the guest believes in. */
#include <string.h>

#include "gpu.h"

#define DOTS_PER_INCH 96u
/* Blanking as in VESA CVT 1.2, reduced: nobody has a cathode ray to fly back. */
#define H_BLANK 160u
#define H_FRONT 48u
#define H_SYNC  32u
#define V_BLANK 35u
#define V_FRONT 3u
#define V_SYNC  5u
/* The pixel clock is 16 bits of 10 kHz: a large picture gets a lower rate. */
#define CLOCK_MAX_HZ UINT64_C(655350000)

/* Offsets of §3: the parts that depend on nothing. */
static const uint8_t fixed[54] = {
    0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,
    /* Manufacturer VDT, five bits a letter; product, serial number, week and year of this model */
    0x58, 0x94, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x24, 0x01, 0x04, /* version 1.4 */
    0xa5,       /* digital, 8 bits a colour, DisplayPort */
    0x00, 0x00, /* size in cm: below */
    0x78,       /* gamma 2.2 */
    0x06,       /* RGB 4:4:4; sRGB; the first timing is the native one */
    /* sRGB's primaries and white point */
    0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54, 0x21, 0x08,
    0x00, /* established timings: 640x480, 800x600, 1024x768, all 60 Hz */
    /* no standard timings */
    0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01};

/* §3.10.3.4: a name of up to 13 bytes, ended by a line feed and padded */
static const uint8_t name[18] = {0,   0,   0,   0xfc, 0,    'v', 'd', 'e', 's',
                                 'k', 't', 'o', 'p',  '\n', ' ', ' ', ' ', ' '};
/* §3.10.3.3: 24..120 Hz, 15..255 kHz, up to 660 MHz, no formula */
static const uint8_t limits[18] = {0,  0,    0,    0xfd, 0,    24,   120,  15,   255,
                                   66, 0x01, 0x0a, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20};
static const uint8_t unused[18] = {0, 0, 0, 0x10};

static uint32_t millimetres(uint32_t pixels) {
    return (pixels * 254 + DOTS_PER_INCH * 5) / (DOTS_PER_INCH * 10);
}

/* §3.10.2 */
static void detailed_timing(uint8_t *to, uint32_t width, uint32_t height) {
    uint64_t total = (uint64_t)(width + H_BLANK) * (height + V_BLANK);
    uint64_t clock = total * 60;
    if (clock > CLOCK_MAX_HZ)
        clock = total * 30;
    uint32_t units = (uint32_t)(clock / 10000);
    uint32_t wide = millimetres(width), high = millimetres(height);
    const uint8_t bytes[18] = {
        (uint8_t)units,
        (uint8_t)(units >> 8),
        (uint8_t)width,
        (uint8_t)H_BLANK,
        (uint8_t)(width >> 8 << 4 | H_BLANK >> 8),
        (uint8_t)height,
        (uint8_t)V_BLANK,
        (uint8_t)(height >> 8 << 4 | V_BLANK >> 8),
        (uint8_t)H_FRONT,
        (uint8_t)H_SYNC,
        (uint8_t)(V_FRONT << 4 | V_SYNC),
        0,
        (uint8_t)wide,
        (uint8_t)high,
        (uint8_t)(wide >> 8 << 4 | high >> 8),
        0,
        0,
        0x1a, /* digital separate sync, vertical negative, horizontal positive */
    };
    memcpy(to, bytes, sizeof bytes);
}

void gpu_edid(uint8_t edid[GPU_EDID_SIZE], uint32_t width, uint32_t height) {
    memset(edid, 0, GPU_EDID_SIZE);
    memcpy(edid, fixed, sizeof fixed);
    uint32_t wide = (millimetres(width) + 5) / 10, high = (millimetres(height) + 5) / 10;
    edid[21] = (uint8_t)(wide < 255 ? wide : 255);
    edid[22] = (uint8_t)(high < 255 ? high : 255);
    detailed_timing(edid + 54, width, height);
    memcpy(edid + 72, name, sizeof name);
    memcpy(edid + 90, limits, sizeof limits);
    memcpy(edid + 108, unused, sizeof unused);
    uint8_t sum = 0;
    for (uint32_t i = 0; i < GPU_EDID_SIZE - 1; i++)
        sum = (uint8_t)(sum + edid[i]);
    edid[GPU_EDID_SIZE - 1] = (uint8_t)(0x100 - sum); /* all bytes sum to 0 (§3.11) */
}
