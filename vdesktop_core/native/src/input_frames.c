/* SPDX-License-Identifier: MIT
 * Frames that wait for the driver's buffers. */
#include <errno.h>

#include "input.h"

static struct vd_input_event *at(struct input_frames *frames, uint32_t place) {
    return &frames->event[place % VD_INPUT_WAITING_MAX];
}

static bool is_press(const struct vd_input_event *event) {
    return (event->type == EV_KEY && event->value) ||
           (event->type == EV_ABS && event->code == ABS_MT_TRACKING_ID && event->value >= 0);
}

/* Whether `new` says the same as `old` does, only later: a motion of the same thing. */
static bool same_motion(const struct vd_input_event *old, const struct vd_input_event *new) {
    if (old->type != new->type || old->code != new->code)
        return false;
    if (new->type == EV_ABS &&new->code == ABS_MT_SLOT)
        return old->value == new->value;
    return new->type == EV_REL || (new->type == EV_ABS &&new->code != ABS_MT_TRACKING_ID);
}

static int32_t sum(int32_t a, int32_t b) {
    int64_t both = (int64_t)a + b;
    return both > INT32_MAX ? INT32_MAX : both < INT32_MIN ? INT32_MIN : (int32_t)both;
}

/* Motion that nobody has seen yet is overtaken by more of it. */
static bool merge(struct input_frames *frames, const struct vd_input_event *events, uint32_t n) {
    if (frames->head == frames->tail || frames->tail - frames->last != n + 1)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (!same_motion(at(frames, frames->last + i), &events[i]))
            return false;
    for (uint32_t i = 0; i < n; i++) {
        struct vd_input_event *old = at(frames, frames->last + i);
        old->value = events[i].type == EV_REL ? sum(old->value, events[i].value) : events[i].value;
    }
    return true;
}

int input_frames_put(struct input_frames *frames, const struct vd_input_event *events, uint32_t n) {
    uint32_t room = VD_INPUT_WAITING_MAX - (frames->tail - frames->head);
    bool press = false;
    if (merge(frames, events, n))
        return 1;
    for (uint32_t i = 0; i < n; i++)
        press |= is_press(&events[i]);
    if (room < n + 1 + (press ? VD_INPUT_WAITING_MAX / 2 : 0))
        return -ENOSPC;
    frames->last = frames->tail;
    for (uint32_t i = 0; i < n; i++)
        *at(frames, frames->tail++) = events[i];
    *at(frames, frames->tail++) = (struct vd_input_event){EV_SYN, 0, 0};
    return 0;
}

uint32_t input_frames_first(const struct input_frames *frames) {
    for (uint32_t place = frames->head; place != frames->tail; place++)
        if (frames->event[place % VD_INPUT_WAITING_MAX].type == EV_SYN)
            return place - frames->head + 1;
    return 0;
}

void input_frames_take(struct input_frames *frames, struct vd_input_event *to, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        to[i] = *at(frames, frames->head++);
}

uint32_t input_frames_clear(struct input_frames *frames) {
    uint32_t dropped = 0;
    for (; frames->head != frames->tail; frames->head++)
        dropped += at(frames, frames->head)->type == EV_SYN;
    return dropped;
}
