/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Ports: those of power-off and reset (ACPI's hardware-reduced sleep and reset
 * registers, ACPI 6.5 §4.8.3.7 and §4.8.3.6), the reset line of the keyboard
 * controller, which Linux tries first, the clock's, and the core's. */
#include "x86.h"

enum {
    PORT_KEYBOARD_COMMAND = 0x64,
    PORT_RTC_INDEX = 0x70,
    PORT_RTC_DATA = 0x71,
    PORT_SLEEP_CONTROL = 0x600,
    PORT_SLEEP_STATUS = 0x601,
    PORT_RESET = 0x602,
};

#define KEYBOARD_PULSE_RESET 0xFEu
#define SLEEP_ENABLE         (1u << 5)
#define SLEEP_TYPE(value)    ((value) >> 2 & 7u)
#define SLEEP_TYPE_S5        5u
#define RESET_VALUE          1u
#define RTC_INDEX_MASK       0x7Fu /* bit 7 masks NMIs on a PC */

/* Returns whether the port is one of ours. */
static bool write_own(struct tcg_vm *vm, uint32_t port, uint32_t value) {
    switch (port) {
    case PORT_RTC_INDEX:
        x86_vm(vm)->rtc_index = value & RTC_INDEX_MASK;
        return true;
    case PORT_RTC_DATA:
        return true; /* the time of day is the host's */
    case PORT_SLEEP_CONTROL:
        if (value & SLEEP_ENABLE && SLEEP_TYPE(value) == SLEEP_TYPE_S5) {
            tcg_vm_exit(vm, TCG_EXIT_SHUTDOWN, "ACPI S5");
        }
        return true;
    case PORT_RESET:
        if (value == RESET_VALUE) {
            tcg_vm_exit(vm, TCG_EXIT_RESET, "ACPI reset register");
        }
        return true;
    case PORT_SLEEP_STATUS:
        return true; /* WAK_STS is never set: nothing to clear */
    case PORT_KEYBOARD_COMMAND:
        if (value == KEYBOARD_PULSE_RESET) {
            tcg_vm_exit(vm, TCG_EXIT_RESET, "keyboard controller reset");
            return true;
        }
        return false;
    default:
        return false;
    }
}

static void out(void *env, uint32_t port, unsigned width, uint32_t value) {
    struct tcg_vm *vm = x86_vcpu_of_env(env)->vm;

    port &= 0xFFFF;
    if (width != 1 || !write_own(vm, port, value)) {
        tcg_pio_write(vm, port, width, value);
    }
}

static bool read_own(struct tcg_vm *vm, uint32_t port, uint64_t *value) {
    switch (port) {
    case PORT_RTC_DATA:
        *value = x86_rtc_read(x86_vm(vm)->rtc_index);
        return true;
    case PORT_SLEEP_CONTROL:
    case PORT_SLEEP_STATUS:
        *value = 0;
        return true;
    default:
        return false;
    }
}

static uint64_t in(void *env, uint32_t port, unsigned width) {
    struct tcg_vm *vm = x86_vcpu_of_env(env)->vm;

    port &= 0xFFFF;
    uint64_t value;
    if (width == 1 && read_own(vm, port, &value)) {
        return value;
    }
    return tcg_pio_read(vm, port, width);
}

void x86_outb(void *env, uint32_t port, uint32_t value) {
    if (x86_vcpu_of_env(env)) {
        out(env, port, 1, value & 0xFF);
    } else {
        x86_stock.outb(env, port, value);
    }
}

void x86_outw(void *env, uint32_t port, uint32_t value) {
    if (x86_vcpu_of_env(env)) {
        out(env, port, 2, value & 0xFFFF);
    } else {
        x86_stock.outw(env, port, value);
    }
}

void x86_outl(void *env, uint32_t port, uint32_t value) {
    if (x86_vcpu_of_env(env)) {
        out(env, port, 4, value);
    } else {
        x86_stock.outl(env, port, value);
    }
}

uint64_t x86_inb(void *env, uint32_t port) {
    return x86_vcpu_of_env(env) ? in(env, port, 1) : x86_stock.inb(env, port);
}

uint64_t x86_inw(void *env, uint32_t port) {
    return x86_vcpu_of_env(env) ? in(env, port, 2) : x86_stock.inw(env, port);
}

uint64_t x86_inl(void *env, uint32_t port) {
    return x86_vcpu_of_env(env) ? in(env, port, 4) : x86_stock.inl(env, port);
}
