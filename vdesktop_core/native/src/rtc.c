/* SPDX-License-Identifier: MIT */
#include "vdesktop/rtc.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"

#define NS_PER_S 1000000000ull

struct model {
    uint32_t (*get)(struct vd_rtc *rtc, uint64_t offset);
    void (*set)(struct vd_rtc *rtc, uint64_t offset, uint32_t value);
};

struct vd_rtc {
    const struct vd_host *host;
    const struct model *model;
    struct vd_loop *loop;
    struct vd_irq irq;
    struct vd_io io;
    int timer_fd;
    struct vd_lock lock; /* everything below */
    bool armed, came, wanted, level;
    uint64_t alarm_ns;
    uint32_t match;                 /* PL031 */
    uint32_t time_high, alarm_high; /* goldfish */
};

/* PeriphID0-3 of a PL031 r1, and the PrimeCell's own four. */
static const uint8_t pl031_id[] = {0x31, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1};

static uint64_t now_ns(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* All that follow, up to the operations: under the lock, so that the line
 * cannot be left in an older state. */
static void drive(struct vd_rtc *rtc) {
    bool level = rtc->came && rtc->wanted;
    if (level != rtc->level)
        rtc->irq.set(rtc->irq.opaque, level);
    rtc->level = level;
}

static void set_timer(struct vd_rtc *rtc, uint64_t at_ns) {
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S)}};
    timerfd_settime(rtc->timer_fd, TFD_TIMER_ABSTIME, &when, NULL); /* 0: disarms it */
}

static void disarm(struct vd_rtc *rtc) {
    rtc->armed = false;
    set_timer(rtc, 0);
}

/* The host's clock may step: what counts is its time when the timer is served. */
static void arm(struct vd_rtc *rtc, uint64_t at_ns) {
    if (at_ns <= now_ns()) {
        disarm(rtc);
        rtc->came = true;
        drive(rtc);
        return;
    }
    rtc->armed = true;
    rtc->alarm_ns = at_ns;
    set_timer(rtc, at_ns);
}

static void expired(void *opaque, uint32_t events) {
    struct vd_rtc *rtc = opaque;
    uint64_t times;
    (void)events;
    if (read(rtc->timer_fd, &times, sizeof times) != (ssize_t)sizeof times)
        return; /* disarmed meanwhile */
    vd_lock(&rtc->lock, rtc->host);
    if (rtc->armed)
        arm(rtc, rtc->alarm_ns);
    vd_unlock(&rtc->lock);
}

static void want(struct vd_rtc *rtc, bool wanted) {
    rtc->wanted = wanted;
    drive(rtc);
}

static void clear(struct vd_rtc *rtc) {
    rtc->came = false;
    drive(rtc);
}

/* PL031 */

static uint32_t pl031_get(struct vd_rtc *rtc, uint64_t offset) {
    if (offset >= VD_PL031_ID && offset < VD_RTC_SIZE)
        return pl031_id[(offset - VD_PL031_ID) / 4];
    switch (offset) {
    case VD_PL031_DATA:
        return (uint32_t)(now_ns() / NS_PER_S);
    case VD_PL031_MATCH:
        return rtc->match;
    case VD_PL031_CONTROL:
        return 1;
    case VD_PL031_MASK:
        return rtc->wanted;
    case VD_PL031_RAW:
        return rtc->came;
    case VD_PL031_MASKED:
        return rtc->came && rtc->wanted;
    default:
        return 0;
    }
}

static void pl031_set(struct vd_rtc *rtc, uint64_t offset, uint32_t value) {
    uint64_t now_s = now_ns() / NS_PER_S;
    switch (offset) {
    case VD_PL031_MATCH:
        rtc->match = value;
        /* When 32 bits of the time are equal: a moment that is past comes round. */
        arm(rtc, (now_s + (uint32_t)(value - (uint32_t)now_s)) * NS_PER_S);
        break;
    case VD_PL031_MASK:
        want(rtc, value & 1);
        break;
    case VD_PL031_CLEAR:
        if (value & 1)
            clear(rtc);
        break;
    default:
        break;
    }
}

/* Goldfish */

static uint32_t goldfish_get(struct vd_rtc *rtc, uint64_t offset) {
    uint64_t now;
    switch (offset) {
    case VD_GOLDFISH_TIME_LOW:
        now = now_ns();
        rtc->time_high = (uint32_t)(now >> 32);
        return (uint32_t)now;
    case VD_GOLDFISH_TIME_HIGH:
        return rtc->time_high;
    case VD_GOLDFISH_ALARM_LOW:
        return (uint32_t)rtc->alarm_ns;
    case VD_GOLDFISH_ALARM_HIGH:
        return (uint32_t)(rtc->alarm_ns >> 32);
    case VD_GOLDFISH_IRQ_ENABLED:
        return rtc->wanted;
    case VD_GOLDFISH_ALARM_STATUS:
        return rtc->armed;
    default:
        return 0;
    }
}

static void goldfish_set(struct vd_rtc *rtc, uint64_t offset, uint32_t value) {
    switch (offset) {
    case VD_GOLDFISH_ALARM_HIGH:
        rtc->alarm_high = value;
        break;
    case VD_GOLDFISH_ALARM_LOW:
        arm(rtc, (uint64_t)rtc->alarm_high << 32 | value);
        break;
    case VD_GOLDFISH_IRQ_ENABLED:
        want(rtc, value & 1);
        break;
    case VD_GOLDFISH_CLEAR_ALARM:
        disarm(rtc);
        break;
    case VD_GOLDFISH_CLEAR_INTERRUPT:
        clear(rtc);
        break;
    default:
        break;
    }
}

static const struct model models[] = {
    [VD_RTC_PL031] = {pl031_get, pl031_set},
    [VD_RTC_GOLDFISH] = {goldfish_get, goldfish_set},
};

static uint64_t rtc_read(void *opaque, uint64_t offset, unsigned width) {
    struct vd_rtc *rtc = opaque;
    if (width != 4 || offset % 4)
        return 0;
    vd_lock(&rtc->lock, rtc->host);
    uint32_t value = rtc->model->get(rtc, offset);
    vd_unlock(&rtc->lock);
    return value;
}

static void rtc_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    struct vd_rtc *rtc = opaque;
    if (width != 4 || offset % 4)
        return;
    vd_lock(&rtc->lock, rtc->host);
    rtc->model->set(rtc, offset, (uint32_t)value);
    vd_unlock(&rtc->lock);
}

struct vd_rtc *vd_rtc_new(const struct vd_host *host, struct vd_loop *loop,
                          const struct vd_irq *irq, uint32_t model) {
    if (model >= sizeof models / sizeof *models)
        return NULL;
    struct vd_rtc *rtc = host->alloc(host->opaque, sizeof *rtc);
    if (!rtc)
        return NULL;
    rtc->host = host;
    rtc->loop = loop;
    rtc->irq = *irq;
    rtc->model = &models[model];
    rtc->io = (struct vd_io){.read = rtc_read, .write = rtc_write, .opaque = rtc};
    rtc->timer_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (rtc->timer_fd < 0 || vd_loop_add(loop, rtc->timer_fd, EPOLLIN, expired, rtc) != 0) {
        if (rtc->timer_fd >= 0)
            close(rtc->timer_fd);
        host->free(host->opaque, rtc);
        return NULL;
    }
    return rtc;
}

void vd_rtc_free(struct vd_rtc *rtc) {
    if (!rtc)
        return;
    vd_loop_remove(rtc->loop, rtc->timer_fd);
    close(rtc->timer_fd);
    rtc->host->free(rtc->host->opaque, rtc);
}

const struct vd_io *vd_rtc_io(struct vd_rtc *rtc) {
    return &rtc->io;
}

void vd_rtc_reset(struct vd_rtc *rtc) {
    vd_lock(&rtc->lock, rtc->host);
    disarm(rtc);
    rtc->came = rtc->wanted = false;
    rtc->match = rtc->alarm_high = rtc->time_high = 0;
    rtc->alarm_ns = 0;
    drive(rtc);
    vd_unlock(&rtc->lock);
}
