/* SPDX-License-Identifier: MIT
 *
 * Accesses that are not memory, to whoever answers them; doorbells. */
#include "priv.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

void vk_io_access(struct vk_vcpu *vcpu, bool port, bool write, uint64_t address, uint32_t width,
                  void *data) {
    struct vk_vm *vm = vcpu->vm;

    vk_tally(vcpu, port ? VK_COUNT_PORT : VK_COUNT_MMIO);
    vcpu->trace[vcpu->traced++ % VK_TRACE] =
        (struct vk_access){address, (uint8_t)width, port, write};
    const struct vd_io_range *range =
        vd_io_ranges_find(port ? &vm->port : &vm->mmio, address, width);
    bool regular = width == 1 || width == 2 || width == 4 || width == 8;
    if (!range || !regular) {
        vk_tally(vcpu, port ? VK_COUNT_UNASSIGNED_PORT : VK_COUNT_UNASSIGNED_MMIO);
        if (!write) {
            memset(data, 0xFF, width);
        }
        return;
    }
    const struct vd_io *io = &range->io;
    uint64_t value = 0; /* hosts of KVM are little-endian */
    if (write) {
        memcpy(&value, data, width);
        io->write(io->opaque, address - range->base, width, value);
    } else {
        value = io->read(io->opaque, address - range->base, width);
        memcpy(data, &value, width);
    }
}

/* Takes the vCPUs out of the guest; returns whether to let them in again. */
static bool quiet(struct vk_vm *vm) {
    bool running = atomic_load(&vm->want) == VK_WANT_RUN;

    if (running) {
        vk_vm_pause(vm);
    }
    return running;
}

int vk_vm_add_io(struct vk_vm *vm, bool port, uint64_t base, uint64_t size,
                 const struct vd_io *io) {
    struct vd_io_range range = {.base = base, .size = size, .io = *io};
    bool running = quiet(vm);
    int result = port ? vd_io_ranges_add(&vm->port, &range, VD_IO_LAST_PORT)
                      : vd_io_ranges_add(&vm->mmio, &range, UINT64_MAX);
    if (running) {
        vk_vm_resume(vm);
    }
    return result;
}

int vk_vm_remove_io(struct vk_vm *vm, bool port, uint64_t base) {
    bool running = quiet(vm);
    int result = vd_io_ranges_remove(port ? &vm->port : &vm->mmio, base);

    if (running) {
        vk_vm_resume(vm);
    }
    return result;
}

static int install(struct vk_vm *vm, const struct vk_doorbell *bell, bool present) {
    struct kvm_ioeventfd request = {
        .datamatch = bell->value,
        .addr = bell->address,
        .len = bell->width,
        .fd = bell->fd,
        .flags = (bell->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u) |
                 (present ? 0u : KVM_IOEVENTFD_FLAG_DEASSIGN),
    };
    if (vm->fd < 0) {
        return 0; /* the next start installs it */
    }
    return ioctl(vm->fd, KVM_IOEVENTFD, &request) < 0 ? -errno : 0;
}

int vk_doorbells_install(struct vk_vm *vm) {
    for (uint32_t i = 0; i < vm->doorbells; i++) {
        int result = install(vm, &vm->doorbell[i], true);
        if (result) {
            return result;
        }
    }
    return 0;
}

int vk_vm_add_doorbell(struct vk_vm *vm, uint64_t address, uint32_t width, bool match,
                       uint64_t value, int fd) {
    if (vm->doorbells == VK_DOORBELLS_MAX) {
        return -ENOSPC;
    }
    struct vk_doorbell bell = {address, value, width, match, fd};
    int result = install(vm, &bell, true);
    if (result == 0) {
        vm->doorbell[vm->doorbells++] = bell;
    }
    return result;
}

int vk_vm_remove_doorbell(struct vk_vm *vm, uint64_t address, uint32_t width, bool match,
                          uint64_t value, int fd) {
    for (uint32_t i = 0; i < vm->doorbells; i++) {
        struct vk_doorbell *bell = &vm->doorbell[i];
        if (bell->address == address && bell->width == width && bell->match == match &&
            bell->value == value && bell->fd == fd) {
            int result = install(vm, bell, false);
            *bell = vm->doorbell[--vm->doorbells];
            return result;
        }
    }
    return -ENOENT;
}
