/* SPDX-License-Identifier: MIT
 * virtio-input (virtio 1.4 §5.8): keyboards, mice, tablets, touch screens. What
 * a device is, is a table; what it says is frames of evdev events. */
#ifndef VDESKTOP_INPUT_H
#define VDESKTOP_INPUT_H

#include "vdesktop/device.h"
#include "vdesktop/loop.h"

#define VD_INPUT_ID        18
#define VD_INPUT_NAME_MAX  128 /* bytes of the config union, §5.8.4 */
#define VD_INPUT_TYPES_MAX 32  /* EV_* of <linux/input-event-codes.h> */
#define VD_INPUT_AXES_MAX  64
/* Events of one frame at most, without the SYN_REPORT that ends it. */
#define VD_INPUT_FRAME_MAX 63
/* Events that wait for the driver at most. */
#define VD_INPUT_WAITING_MAX 2048

struct vd_input_event {
    uint16_t type, code;
    int32_t value;
};

/* Which codes of one type the device has, bit by bit; size 0: type not there. */
struct vd_input_bits {
    uint8_t type, size; /* bytes, 1..128 */
    uint8_t bits[128];
};

struct vd_input_axis {
    uint8_t code; /* ABS_* */
    int32_t min, max, fuzz, flat, resolution;
};

struct vd_input_options {
    const char *name, *serial;
    uint16_t bustype, vendor, product, version; /* §5.8.4, struct virtio_input_devids */
    uint32_t properties;                        /* 1 << INPUT_PROP_* */
    const struct vd_input_bits *types;
    uint32_t n_types;
    const struct vd_input_axis *axes;
    uint32_t n_axes;
    int status_fd; /* an eventfd, written when the driver changed a LED; or -1. Stays the caller's
                    */
};

struct vd_input_counters {
    uint64_t frames;  /* delivered */
    uint64_t merged;  /* motions that went into the one before, which still waited */
    uint64_t dropped; /* frames that no driver was there for, or that found no room */
    uint64_t status;  /* events of the driver's */
};

struct vd_input;

/* NULL and *error = -errno. */
struct vd_input *vd_input_new(const struct vd_host *host, struct vd_mem *mem, struct vd_loop *loop,
                              const char *name, const struct vd_input_options *options, int *error);
void vd_input_free(struct vd_input *input); /* detached; NULL is allowed */
struct vd_device *vd_input_device(struct vd_input *input);
/* A frame: n events, 1..VD_INPUT_FRAME_MAX, without SYN_REPORT. It reaches the
 * guest as a whole or not at all. 0, -EINVAL, -ENOTCONN (no driver), or -ENOSPC
 * (the guest does not keep up): frames that press something are refused at half
 * of the room, so that there is always some for those that release. Any thread. */
int vd_input_send(struct vd_input *input, const struct vd_input_event *events, uint32_t n);
/* LEDs that the guest has lit: 1 << LED_*. */
uint32_t vd_input_leds(const struct vd_input *input);
void vd_input_counters(const struct vd_input *input, struct vd_input_counters *counters);

#endif
