/* SPDX-License-Identifier: MIT
 *
 * The ports of the x86_64 platform's own, for every backend that has to answer
 * them: ACPI's hardware-reduced sleep and reset registers (ACPI 6.5 §4.8.3.7,
 * §4.8.3.6), the reset line of the keyboard controller, which Linux tries before
 * ACPI, and the time of day. The first three are in the memory map
 * (vdesktop_core/arch/memory_map.py), which a test compares.
 *
 * Inline, as backends are built and linked on their own. */
#ifndef VDESKTOP_PLATFORM_X86_PORTS_H
#define VDESKTOP_PLATFORM_X86_PORTS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum vd_x86_port {
    VD_X86_SLEEP_CONTROL = 0x600,
    VD_X86_SLEEP_STATUS = 0x601,
    VD_X86_RESET = 0x602,
    VD_X86_KEYBOARD_COMMAND = 0x64,
    VD_X86_RTC_INDEX = 0x70,
    VD_X86_RTC_DATA = 0x71,
};

enum {
    VD_X86_SLEEP_MASK = 0x3C, /* SLP_TYP, SLP_EN */
    VD_X86_SLEEP_S5 = 5 << 2 | 1 << 5,
    VD_X86_RESET_VALUE = 1,
    VD_X86_KEYBOARD_PULSE_RESET = 0xFE,
    VD_X86_RTC_INDEX_MASK = 0x7F, /* bit 7 masks NMIs on a PC */
};

/* Registers of an MC146818. */
enum vd_x86_rtc {
    VD_X86_RTC_SECONDS = 0x00,
    VD_X86_RTC_MINUTES = 0x02,
    VD_X86_RTC_HOURS = 0x04,
    VD_X86_RTC_WEEKDAY = 0x06,
    VD_X86_RTC_DAY = 0x07,
    VD_X86_RTC_MONTH = 0x08,
    VD_X86_RTC_YEAR = 0x09,
    VD_X86_RTC_A = 0x0A,
    VD_X86_RTC_B = 0x0B,
    VD_X86_RTC_D = 0x0D,
    VD_X86_RTC_CENTURY = 0x32,
};

/* What a write asks of the machine. */
enum vd_x86_power { VD_X86_STAY, VD_X86_POWER_OFF, VD_X86_REBOOT_ACPI, VD_X86_REBOOT_KEYBOARD };

/* One a machine, zero at reset. */
struct vd_x86_ports {
    uint8_t rtc_index; /* a race of two vCPUs for it is the guest's own */
};

static inline uint8_t vd_x86_bcd(int value) {
    return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

/* The time of day: 24 hours, BCD, UTC. Linux reads it at boot whatever ACPI
 * says, and waits a second for one that is absent. Nothing else of the chip is
 * here: no alarm, no interrupts, and time cannot be set. */
static inline uint8_t vd_x86_rtc_read(uint8_t index) {
    time_t now = time(NULL);
    struct tm utc;

    if (!gmtime_r(&now, &utc))
        return 0;
    switch (index) {
    case VD_X86_RTC_SECONDS:
        return vd_x86_bcd(utc.tm_sec);
    case VD_X86_RTC_MINUTES:
        return vd_x86_bcd(utc.tm_min);
    case VD_X86_RTC_HOURS:
        return vd_x86_bcd(utc.tm_hour);
    case VD_X86_RTC_WEEKDAY:
        return vd_x86_bcd(utc.tm_wday + 1);
    case VD_X86_RTC_DAY:
        return vd_x86_bcd(utc.tm_mday);
    case VD_X86_RTC_MONTH:
        return vd_x86_bcd(utc.tm_mon + 1);
    case VD_X86_RTC_YEAR:
        return vd_x86_bcd(utc.tm_year % 100);
    case VD_X86_RTC_CENTURY:
        return vd_x86_bcd((utc.tm_year + 1900) / 100);
    case VD_X86_RTC_A:
        return 0x26; /* 32.768 kHz, no update in progress */
    case VD_X86_RTC_B:
        return 0x02; /* 24 hours, BCD */
    case VD_X86_RTC_D:
        return 0x80; /* valid */
    default:
        return 0;
    }
}

/* A write of one byte. Returns whether the port is one of these. */
static inline bool vd_x86_port_write(struct vd_x86_ports *ports, uint16_t port, uint8_t value,
                                     enum vd_x86_power *power) {
    *power = VD_X86_STAY;
    switch (port) {
    case VD_X86_KEYBOARD_COMMAND:
        if (value != VD_X86_KEYBOARD_PULSE_RESET)
            return false;
        *power = VD_X86_REBOOT_KEYBOARD;
        return true;
    case VD_X86_RTC_INDEX:
        __atomic_store_n(&ports->rtc_index, value & VD_X86_RTC_INDEX_MASK, __ATOMIC_RELAXED);
        return true;
    case VD_X86_SLEEP_CONTROL:
        if ((value & VD_X86_SLEEP_MASK) == VD_X86_SLEEP_S5)
            *power = VD_X86_POWER_OFF;
        return true;
    case VD_X86_RESET:
        if (value == VD_X86_RESET_VALUE)
            *power = VD_X86_REBOOT_ACPI;
        return true;
    case VD_X86_RTC_DATA:     /* the time of day is the host's */
    case VD_X86_SLEEP_STATUS: /* WAK_STS is never set: nothing to clear */
        return true;
    default:
        return false;
    }
}

/* A read of one byte. Returns whether the port is one of these. */
static inline bool vd_x86_port_read(const struct vd_x86_ports *ports, uint16_t port,
                                    uint8_t *value) {
    switch (port) {
    case VD_X86_RTC_DATA:
        *value = vd_x86_rtc_read(__atomic_load_n(&ports->rtc_index, __ATOMIC_RELAXED));
        return true;
    case VD_X86_SLEEP_CONTROL:
    case VD_X86_SLEEP_STATUS:
        *value = 0;
        return true;
    default:
        return false;
    }
}

/* One line for the log and the machine's result. */
static inline const char *vd_x86_power_text(enum vd_x86_power power) {
    switch (power) {
    case VD_X86_POWER_OFF:
        return "ACPI S5";
    case VD_X86_REBOOT_ACPI:
        return "ACPI reset register";
    case VD_X86_REBOOT_KEYBOARD:
        return "keyboard controller reset";
    default:
        return "";
    }
}

#endif
