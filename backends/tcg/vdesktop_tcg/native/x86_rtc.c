/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The time of day in the registers of an MC146818 (24 hours, BCD, UTC). Linux
 * on x86 reads it at boot whatever ACPI says, and waits a second for one that
 * is absent; with it the guest starts with the right time. Nothing else of the
 * chip is here: no alarm, no interrupts, and time cannot be set. */
#define _GNU_SOURCE
#include <time.h>

#include "x86.h"

enum {
    RTC_SECONDS = 0x00,
    RTC_MINUTES = 0x02,
    RTC_HOURS = 0x04,
    RTC_WEEKDAY = 0x06,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0A,
    RTC_B = 0x0B,
    RTC_D = 0x0D,
    RTC_CENTURY = 0x32,
};

#define RTC_A_32KHZ 0x26u /* no update in progress */
#define RTC_B_24H   0x02u
#define RTC_D_VALID 0x80u

static uint8_t bcd(int value) {
    return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

uint8_t x86_rtc_read(uint8_t index) {
    struct timespec now;
    struct tm utc;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    switch (index) {
    case RTC_SECONDS:
        return bcd(utc.tm_sec);
    case RTC_MINUTES:
        return bcd(utc.tm_min);
    case RTC_HOURS:
        return bcd(utc.tm_hour);
    case RTC_WEEKDAY:
        return bcd(utc.tm_wday + 1);
    case RTC_DAY:
        return bcd(utc.tm_mday);
    case RTC_MONTH:
        return bcd(utc.tm_mon + 1);
    case RTC_YEAR:
        return bcd(utc.tm_year % 100);
    case RTC_CENTURY:
        return bcd((utc.tm_year + 1900) / 100);
    case RTC_A:
        return RTC_A_32KHZ;
    case RTC_B:
        return RTC_B_24H;
    case RTC_D:
        return RTC_D_VALID;
    default:
        return 0;
    }
}
