/* SPDX-License-Identifier: MIT
 *
 * Ports of the platform's own: ACPI's hardware-reduced sleep and reset registers
 * (ACPI 6.5 §4.8.3.7, §4.8.3.6), the reset line of the keyboard controller,
 * which Linux tries before ACPI, and the time of day. */
#include "priv.h"

#include <time.h>

enum {
    PORT_KEYBOARD_COMMAND = 0x64,
    PORT_RTC_INDEX = 0x70,
    PORT_RTC_DATA = 0x71,
    PORT_SLEEP_CONTROL = 0x600,
    PORT_SLEEP_STATUS = 0x601,
    PORT_RESET = 0x602,
};

#define KEYBOARD_PULSE_RESET 0xFEu
#define SLEEP_S5_ENABLE      (5u << 2 | 1u << 5)
#define SLEEP_MASK           0x3Cu
#define RESET_VALUE          1u

/* An MC146818, as far as one reads the time of it: BCD, 24 hours. */
static uint8_t bcd(int value) {
    return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static uint8_t rtc(unsigned index) {
    time_t now = time(NULL);
    struct tm t;

    gmtime_r(&now, &t);
    switch (index) {
    case 0x00:
        return bcd(t.tm_sec);
    case 0x02:
        return bcd(t.tm_min);
    case 0x04:
        return bcd(t.tm_hour);
    case 0x06:
        return bcd(t.tm_wday + 1);
    case 0x07:
        return bcd(t.tm_mday);
    case 0x08:
        return bcd(t.tm_mon + 1);
    case 0x09:
        return bcd(t.tm_year % 100);
    case 0x0A:
        return 0x26; /* 32.768 kHz, 1024 Hz, no update in progress */
    case 0x0B:
        return 0x02; /* 24 hours, BCD */
    case 0x0D:
        return 0x80; /* valid */
    case 0x32:
        return bcd(t.tm_year / 100 + 19);
    default:
        return 0;
    }
}

static bool written(struct vk_vm *vm, uint16_t port, uint8_t value) {
    switch (port) {
    case PORT_KEYBOARD_COMMAND:
        if (value != KEYBOARD_PULSE_RESET) {
            return false;
        }
        vk_end(vm, VK_EXIT_RESET, "keyboard controller reset");
        return true;
    case PORT_RTC_INDEX:
        /* A race of two vCPUs for the index is the guest's own. */
        __atomic_store_n(&vm->arch->rtc_index, value & 0x7Fu, __ATOMIC_RELAXED);
        return true;
    case PORT_SLEEP_CONTROL:
        if ((value & SLEEP_MASK) == SLEEP_S5_ENABLE) {
            vk_end(vm, VK_EXIT_SHUTDOWN, "ACPI S5");
        }
        return true;
    case PORT_RESET:
        if (value == RESET_VALUE) {
            vk_end(vm, VK_EXIT_RESET, "ACPI reset register");
        }
        return true;
    case PORT_RTC_DATA:
    case PORT_SLEEP_STATUS:
        return true;
    default:
        return false;
    }
}

static bool own_port(struct vk_vcpu *vcpu, bool write, uint16_t port, uint32_t width,
                     uint8_t *data) {
    if (width != 1) {
        return false;
    }
    if (write) {
        return written(vcpu->vm, port, *data);
    }
    switch (port) {
    case PORT_RTC_DATA:
        *data = rtc(__atomic_load_n(&vcpu->vm->arch->rtc_index, __ATOMIC_RELAXED));
        return true;
    case PORT_SLEEP_CONTROL:
    case PORT_SLEEP_STATUS:
        *data = 0;
        return true;
    default:
        return false;
    }
}

bool vk_arch_exit(struct vk_vcpu *vcpu) {
    struct kvm_run *run = vcpu->run;

    if (run->exit_reason != KVM_EXIT_IO) {
        return false;
    }
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    bool write = run->io.direction == KVM_EXIT_IO_OUT;
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        if (own_port(vcpu, write, run->io.port, run->io.size, data)) {
            vk_tally(vcpu, VK_COUNT_PORT);
        } else {
            vk_io_access(vcpu, true, write, run->io.port, run->io.size, data);
        }
    }
    return true;
}
