/* SPDX-License-Identifier: MIT
 *
 * aarch64: the kernel's interrupt controller, a GICv3 where the host has one, else
 * a GICv2, at the places of the recommended memory map. */
#include "priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GICD       0x08000000ull
#define GICC       0x08010000ull
#define GICR       0x080A0000ull
#define FIRST_SPI  32u
#define V2_VCPUS   8u
#define INTERRUPTS (FIRST_SPI + VK_LINES)

static bool can_create(int vm, uint32_t type) {
    struct kvm_create_device request = {.type = type, .flags = KVM_CREATE_DEVICE_TEST};

    return ioctl(vm, KVM_CREATE_DEVICE, &request) == 0;
}

static int set_attribute(int gic, uint32_t group, uint64_t attribute, void *value) {
    const struct kvm_device_attr request = {
        .group = group, .attr = attribute, .addr = (uintptr_t)value};

    return ioctl(gic, KVM_SET_DEVICE_ATTR, &request) < 0 ? -errno : 0;
}

static int place(int gic, uint64_t what, uint64_t where) {
    return set_attribute(gic, KVM_DEV_ARM_VGIC_GRP_ADDR, what, &where);
}

struct vk_arch *vk_arch_new(struct vk_vm *vm) {
    struct vk_arch *arch = calloc(1, sizeof *arch);

    (void)vm;
    if (arch) {
        arch->gic = -1;
    }
    return arch;
}

void vk_arch_free(struct vk_arch *arch) {
    free(arch);
}

int vk_arm64_gic_type(int vm) {
    return can_create(vm, KVM_DEV_TYPE_ARM_VGIC_V3)   ? KVM_DEV_TYPE_ARM_VGIC_V3
           : can_create(vm, KVM_DEV_TYPE_ARM_VGIC_V2) ? KVM_DEV_TYPE_ARM_VGIC_V2
                                                      : -ENODEV;
}

uint32_t vk_arch_max_vcpus(int kvm) {
    int vm = vk_create_vm(kvm);
    bool v2 = vm >= 0 && vk_arm64_gic_type(vm) == KVM_DEV_TYPE_ARM_VGIC_V2;

    if (vm >= 0) {
        close(vm);
    }
    return v2 ? V2_VCPUS : UINT32_MAX;
}

int vk_arch_vm_init(struct vk_vm *vm, char *error, size_t size) {
    struct kvm_enable_cap nisv = {.cap = KVM_CAP_ARM_NISV_TO_USER};
    int type = vk_arm64_gic_type(vm->fd);
    struct kvm_create_device request = {.type = (uint32_t)type};

    if (type < 0 || ioctl(vm->fd, KVM_CREATE_DEVICE, &request) < 0) {
        return vk_complain(error, size, "create an interrupt controller", type < 0 ? -type : errno);
    }
    vm->arch->gic = (int)request.fd;
    vm->arch->v3 = type == KVM_DEV_TYPE_ARM_VGIC_V3;
    /* Without it KVM_RUN fails there, which is reported, too. */
    (void)ioctl(vm->fd, KVM_ENABLE_CAP, &nisv);
    return 0;
}

int vk_arch_vm_ready(struct vk_vm *vm, char *error, size_t size) {
    int gic = vm->arch->gic;
    uint32_t interrupts = INTERRUPTS;
    int result = set_attribute(gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts);

    if (!result && vm->arch->v3) {
        result = place(gic, KVM_VGIC_V3_ADDR_TYPE_DIST, GICD);
        result = result ? result : place(gic, KVM_VGIC_V3_ADDR_TYPE_REDIST, GICR);
    } else if (!result) {
        result = place(gic, KVM_VGIC_V2_ADDR_TYPE_DIST, GICD);
        result = result ? result : place(gic, KVM_VGIC_V2_ADDR_TYPE_CPU, GICC);
    }
    if (!result) {
        result = set_attribute(gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
    }
    return result ? vk_complain(error, size, "place its interrupt controller", -result) : 0;
}

void vk_arch_vm_drop(struct vk_vm *vm) {
    if (vm->arch->gic >= 0) {
        close(vm->arch->gic);
        vm->arch->gic = -1;
    }
}

const char *vk_arch_controller(const struct vk_vm *vm) {
    return vm->arch->v3 ? "gicv3" : "gicv2";
}

int vk_arch_set_line(struct vk_vm *vm, uint32_t line, bool level) {
    const struct kvm_irq_level request = {
        .irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | (FIRST_SPI + line),
        .level = level,
    };
    return ioctl(vm->fd, KVM_IRQ_LINE, &request) < 0 ? -errno : 0;
}
