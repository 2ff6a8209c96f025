/* SPDX-License-Identifier: MIT
 *
 * Ports of the platform's own that Xen does not answer: power, reset, and the reset
 * line of the keyboard controller. The time of day is Xen's. */
#include "priv.h"

#include "vdesktop/platform/x86_ports.h"

static uint64_t port_read(uint16_t port, unsigned width) {
    const struct vd_x86_ports ports = {0};
    uint8_t value;

    return width == 1 && vd_x86_port_read(&ports, port, &value) ? value : UINT64_MAX;
}

static void port_write(struct vx_vm *vm, uint16_t port, unsigned width, uint64_t value) {
    struct vd_x86_ports ports = {0};
    enum vd_x86_power power;

    if (width == 1 && vd_x86_port_write(&ports, port, (uint8_t)value, &power) &&
        power != VD_X86_STAY) {
        vx_end(vm, power == VD_X86_POWER_OFF ? VX_EXIT_SHUTDOWN : VX_EXIT_RESET,
               vd_x86_power_text(power));
    }
}

static uint64_t power_read(void *opaque, uint64_t offset, unsigned width) {
    (void)opaque;
    return port_read((uint16_t)(VD_X86_SLEEP_CONTROL + offset), width);
}

static void power_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    port_write(opaque, (uint16_t)(VD_X86_SLEEP_CONTROL + offset), width, value);
}

static uint64_t keyboard_read(void *opaque, uint64_t offset, unsigned width) {
    (void)opaque, (void)offset;
    return port_read(VD_X86_KEYBOARD_COMMAND, width);
}

static void keyboard_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    (void)offset;
    port_write(opaque, VD_X86_KEYBOARD_COMMAND, width, value);
}

int vx_arch_ports(struct vx_vm *vm) {
    vm->power_io = (struct vd_io){power_read, power_write, vm};
    vm->keyboard_io = (struct vd_io){keyboard_read, keyboard_write, vm};
    int result = vx_vm_add_io(vm, true, VD_X86_SLEEP_CONTROL,
                              VD_X86_RESET - VD_X86_SLEEP_CONTROL + 1, &vm->power_io);
    return result ? result : vx_vm_add_io(vm, true, VD_X86_KEYBOARD_COMMAND, 1, &vm->keyboard_io);
}
