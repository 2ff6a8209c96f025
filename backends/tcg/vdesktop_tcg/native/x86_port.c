/* SPDX-License-Identifier: GPL-2.0-only
 *
 * IN and OUT: the platform's own ports, and the core's. */
#include "x86.h"

static bool write_own(struct tcg_vm *vm, uint32_t port, uint32_t value) {
    enum vd_x86_power power;
    if (!vd_x86_port_write(&x86_vm(vm)->ports, (uint16_t)port, (uint8_t)value, &power)) {
        return false;
    }
    if (power != VD_X86_STAY) {
        tcg_vm_exit(vm, power == VD_X86_POWER_OFF ? TCG_EXIT_SHUTDOWN : TCG_EXIT_RESET,
                    vd_x86_power_text(power));
    }
    return true;
}

static void out(void *env, uint32_t port, unsigned width, uint32_t value) {
    struct tcg_vm *vm = x86_vcpu_of_env(env)->vm;

    port &= 0xFFFF;
    if (width != 1 || !write_own(vm, port, value)) {
        tcg_pio_write(vm, port, width, value);
    }
}

static uint64_t in(void *env, uint32_t port, unsigned width) {
    struct tcg_vm *vm = x86_vcpu_of_env(env)->vm;

    port &= 0xFFFF;
    uint8_t value;
    if (width == 1 && vd_x86_port_read(&x86_vm(vm)->ports, (uint16_t)port, &value)) {
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
