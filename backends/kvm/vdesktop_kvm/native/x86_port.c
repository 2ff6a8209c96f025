/* SPDX-License-Identifier: MIT
 * Port exits: the platform's own ports, and the core's. */
#include "priv.h"

static bool own_port(struct vk_vcpu *vcpu, bool write, uint16_t port, uint32_t width,
                     uint8_t *data) {
    struct vk_vm *vm = vcpu->vm;
    enum vd_x86_power power;

    if (width != 1) {
        return false;
    }
    if (!write) {
        return vd_x86_port_read(&vm->arch->ports, port, data);
    }
    if (!vd_x86_port_write(&vm->arch->ports, port, *data, &power)) {
        return false;
    }
    if (power != VD_X86_STAY) {
        vk_end(vm, power == VD_X86_POWER_OFF ? VK_EXIT_SHUTDOWN : VK_EXIT_RESET, "%s",
               vd_x86_power_text(power));
    }
    return true;
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
