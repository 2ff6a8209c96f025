/* SPDX-License-Identifier: MIT
 * The time of day and an alarm, for guests that find devices in a device tree:
 * a platform device that stock kernels have a built-in driver for. */
#ifndef VDESKTOP_RTC_H
#define VDESKTOP_RTC_H

#include "vdesktop/abi.h"
#include "vdesktop/loop.h"

/* Size of the registers: 32 bits each, at an aligned offset; other accesses read
 * 0 and are dropped. Time is the host's, UTC since 1970; a guest cannot set it. */
#define VD_RTC_SIZE 0x1000

enum vd_rtc_model {
    /* Arm's PrimeCell (DDI 0224): seconds. For aarch64. */
    VD_RTC_PL031 = 0,
    /* That of Android's emulator (Linux, include/clocksource/timer-goldfish.h):
     * nanoseconds. For riscv64. */
    VD_RTC_GOLDFISH = 1,
};

enum vd_rtc_pl031 {
    VD_PL031_DATA = 0x000,    /* read-only: the time */
    VD_PL031_MATCH = 0x004,   /* the alarm is when the time is this */
    VD_PL031_LOAD = 0x008,    /* would set the time */
    VD_PL031_CONTROL = 0x00C, /* bit 0: it runs, always */
    VD_PL031_MASK = 0x010,    /* bit 0: interrupt */
    VD_PL031_RAW = 0x014,     /* read-only: bit 0: the alarm has come */
    VD_PL031_MASKED = 0x018,  /* read-only: RAW & MASK */
    VD_PL031_CLEAR = 0x01C,   /* write-only: 1 clears RAW */
    VD_PL031_ID = 0xFE0,      /* read-only: eight registers of a byte each */
};

enum vd_rtc_goldfish {
    VD_GOLDFISH_TIME_LOW = 0x00, /* reading it latches the high half */
    VD_GOLDFISH_TIME_HIGH = 0x04,
    VD_GOLDFISH_ALARM_LOW = 0x08, /* writing it sets the alarm */
    VD_GOLDFISH_ALARM_HIGH = 0x0C,
    VD_GOLDFISH_IRQ_ENABLED = 0x10,
    VD_GOLDFISH_CLEAR_ALARM = 0x14,
    VD_GOLDFISH_ALARM_STATUS = 0x18, /* read-only: 1: an alarm is to come */
    VD_GOLDFISH_CLEAR_INTERRUPT = 0x1C,
};

struct vd_rtc;

/* `irq` is copied: high while an alarm that came is not cleared, if the guest
 * wants it. NULL: out of memory or descriptors. */
struct vd_rtc *vd_rtc_new(const struct vd_host *host, struct vd_loop *loop,
                          const struct vd_irq *irq, uint32_t model);
/* The backend must no longer route accesses here. Not under a lock that the irq takes. */
void vd_rtc_free(struct vd_rtc *rtc);
/* Valid until vd_rtc_free. */
const struct vd_io *vd_rtc_io(struct vd_rtc *rtc);
/* As at power-on: no alarm. From any thread. */
void vd_rtc_reset(struct vd_rtc *rtc);

#endif
