/* SPDX-License-Identifier: MIT
 *
 * Ports of the platform's own: ACPI's hardware-reduced sleep and reset registers
 * (ACPI 6.5 §4.8.3.7, §4.8.3.6) and the reset line of the keyboard controller. The
 * clock is Xen's. */
#include "priv.h"

enum { PORT_KEYBOARD_COMMAND = 0x64, PORT_SLEEP_CONTROL = 0x600 };
enum { SLEEP_CONTROL, SLEEP_STATUS, RESET, POWER_PORTS };

#define KEYBOARD_PULSE_RESET 0xFEu
#define SLEEP_S5_ENABLE      (5u << 2 | 1u << 5)
#define SLEEP_MASK           0x3Cu
#define RESET_VALUE          1u

static uint64_t power_read(void *opaque, uint64_t offset, unsigned width) {
    (void)opaque;
    return width == 1 && offset != RESET ? 0 : UINT64_MAX;
}

static void power_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    struct vx_vm *vm = opaque;

    if (width != 1) {
        return;
    }
    if (offset == SLEEP_CONTROL && (value & SLEEP_MASK) == SLEEP_S5_ENABLE) {
        vx_end(vm, VX_EXIT_SHUTDOWN, "ACPI S5");
    } else if (offset == RESET && value == RESET_VALUE) {
        vx_end(vm, VX_EXIT_RESET, "ACPI reset register");
    }
}

static uint64_t keyboard_read(void *opaque, uint64_t offset, unsigned width) {
    (void)opaque, (void)offset, (void)width;
    return UINT64_MAX;
}

static void keyboard_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    (void)offset;
    if (width == 1 && value == KEYBOARD_PULSE_RESET) {
        vx_end(opaque, VX_EXIT_RESET, "keyboard controller reset");
    }
}

int vx_arch_ports(struct vx_vm *vm) {
    vm->power_io = (struct vd_io){power_read, power_write, vm};
    vm->keyboard_io = (struct vd_io){keyboard_read, keyboard_write, vm};
    int result = vx_vm_add_io(vm, true, PORT_SLEEP_CONTROL, POWER_PORTS, &vm->power_io);
    return result ? result : vx_vm_add_io(vm, true, PORT_KEYBOARD_COMMAND, 1, &vm->keyboard_io);
}
