/* SPDX-License-Identifier: MIT
 * Inside of the input plane: input.c (the device), input_frames.c (what waits
 * for the driver), input_config.c (what the device says that it is). */
#ifndef VD_INPUT_PRIVATE_H
#define VD_INPUT_PRIVATE_H

#include "lock.h"
#include "plane.h"
#include "vdesktop/input.h"

enum { INPUT_EVENT_QUEUE = 0, INPUT_STATUS_QUEUE = 1, INPUT_QUEUES = 2 };
#define INPUT_QUEUE_SIZE 64

/* <linux/input-event-codes.h>: the few that mean something here */
enum { EV_SYN = 0, EV_KEY = 1, EV_REL = 2, EV_ABS = 3, EV_LED = 0x11 };
enum { ABS_MT_SLOT = 0x2f, ABS_MT_TRACKING_ID = 0x39 };

_Static_assert(sizeof(struct vd_input_event) == 8, "struct virtio_input_event, §5.8.6");

/* Whole frames, each ended by a SYN_REPORT. */
struct input_frames {
    struct vd_lock lock;
    bool open;                 /* a driver is there */
    uint32_t head, tail, last; /* free-running: first event, past the last one, the last frame */
    struct vd_input_event event[VD_INPUT_WAITING_MAX];
};

/* A driver's buffer that waits until there is one for every event of a frame. An
 * event's bytes lie in 8 pieces at most. */
struct input_buffer {
    struct vd_chain chain;
    struct vd_iov iov[sizeof(struct vd_input_event)];
    uint64_t gpa[sizeof(struct vd_input_event)];
};

struct vd_input {
    struct vd_plane plane; /* first */
    char name[VD_INPUT_NAME_MAX + 1], serial[VD_INPUT_NAME_MAX + 1];
    uint16_t ids[4];
    uint32_t properties;
    struct vd_input_bits types[VD_INPUT_TYPES_MAX];
    uint32_t n_types;
    struct vd_input_axis axes[VD_INPUT_AXES_MAX];
    uint32_t n_axes;
    int status_fd;
    uint32_t leds; /* atomic */
    struct input_frames frames;
    uint32_t n_buffers;
    struct input_buffer buffer[VD_INPUT_FRAME_MAX + 1];
    struct vd_input_counters counters; /* atomic */
};

/* input_frames.c, under frames->lock. 0 (or 1: went into the frame before), -ENOSPC. */
int input_frames_put(struct input_frames *frames, const struct vd_input_event *events, uint32_t n);
/* Events of the first frame, its SYN_REPORT included; 0: there is none. */
uint32_t input_frames_first(const struct input_frames *frames);
void input_frames_take(struct input_frames *frames, struct vd_input_event *to, uint32_t n);
/* Returns how many frames were dropped. */
uint32_t input_frames_clear(struct input_frames *frames);

/* input_config.c */
#define INPUT_CONFIG_LEN       136u
#define INPUT_CONFIG_SELECTORS 2u /* writable bytes at its start */
void input_config_select(const struct vd_input *input, uint8_t config[INPUT_CONFIG_LEN]);

#endif
