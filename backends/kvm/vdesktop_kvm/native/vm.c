/* SPDX-License-Identifier: MIT
 *
 * Creation of a VM, and the kernel's objects behind it. */
#include "priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int vk_complain(char *error, size_t size, const char *what, int code) {
    const char *advice = "";

    if (code == EBUSY) {
        advice = ": another hypervisor holds the processor's virtualisation, end it first";
    } else if (code == ENOMEM) {
        advice = ": give the machine less memory or fewer CPUs";
    } else if (code == EMFILE || code == ENFILE) {
        advice = ": raise the limit of open files";
    }
    snprintf(error, size, "kvm cannot %s: %s%s", what, strerror(code), advice);
    return -code;
}

int vk_open(const char *device, char *error, size_t size) {
    int fd = open(device, O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        const char *advice =
            errno == ENOENT || errno == ENODEV || errno == ENXIO ? vk_arch_driver_advice
            : errno == EACCES || errno == EPERM ? "add yourself to the group kvm and log in again"
                                                : "see the kernel's log";
        snprintf(error, size, "cannot open %s (%s): %s", device, strerror(errno), advice);
        return -1;
    }
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        snprintf(error, size, "%s is not a KVM of API version %d", device, KVM_API_VERSION);
        close(fd);
        return -1;
    }
    return fd;
}

static void line_set(void *opaque, bool level) {
    struct vk_line *line = opaque;
    struct vk_vm *vm = line->vm;

    pthread_mutex_lock(&vm->irq_lock);
    line->level = level;
    if (vm->fd >= 0) {
        vk_arch_set_line(vm, line->number, level);
    }
    pthread_mutex_unlock(&vm->irq_lock);
    if (level) {
        atomic_fetch_add_explicit(&vm->interrupts, 1, memory_order_relaxed);
    }
}

static int build_vcpu(struct vk_vcpu *vcpu, char *error, size_t size) {
    struct vk_vm *vm = vcpu->vm;

    vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)vcpu->index);
    if (vcpu->fd < 0) {
        return vk_complain(error, size, "create a vCPU", errno);
    }
    void *run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED) {
        return vk_complain(error, size, "map a vCPU", errno);
    }
    vcpu->run = run;
    return vk_arch_vcpu_init(vcpu, error, size);
}

static int install(struct vk_vm *vm, char *error, size_t size) {
    int result = vk_arch_vm_init(vm, error, size);

    if (result) {
        return result;
    }
    result = vk_memory_install(vm);
    if (result) {
        return vk_complain(error, size, "map the guest's memory", -result);
    }
    result = vk_doorbells_install(vm);
    if (result) {
        return vk_complain(error, size, "install a doorbell", -result);
    }
    for (uint32_t i = 0; i < vm->vcpus; i++) {
        result = build_vcpu(&vm->vcpu[i], error, size);
        if (result) {
            return result;
        }
    }
    return vk_arch_vm_ready(vm, error, size);
}

int vk_create_vm(int kvm) {
    int fd;

    do {
        fd = ioctl(kvm, KVM_CREATE_VM, 0ul);
    } while (fd < 0 && errno == EINTR); /* a signal while the kernel waits for itself */
    return fd;
}

int vk_build(struct vk_vm *vm, char *error, size_t size) {
    int fd = vk_create_vm(vm->kvm);

    if (fd < 0) {
        return vk_complain(error, size, "create a VM", errno);
    }
    pthread_mutex_lock(&vm->irq_lock);
    vm->fd = fd;
    vm->used = false;
    int result = install(vm, error, size);
    for (uint32_t i = 0; !result && i < VK_LINES; i++) {
        if (vm->line[i].level) {
            vk_arch_set_line(vm, i, true);
        }
    }
    pthread_mutex_unlock(&vm->irq_lock);
    if (result) {
        vk_drop(vm);
    }
    return result;
}

void vk_drop(struct vk_vm *vm) {
    pthread_mutex_lock(&vm->irq_lock); /* lines use what is closed here */
    for (uint32_t i = 0; i < vm->vcpus; i++) {
        struct vk_vcpu *vcpu = &vm->vcpu[i];
        if (vcpu->run) {
            munmap(vcpu->run, vm->run_size);
            vcpu->run = NULL;
        }
        if (vcpu->fd >= 0) {
            close(vcpu->fd);
            vcpu->fd = -1;
        }
    }
    vk_arch_vm_drop(vm);
    if (vm->fd >= 0) {
        close(vm->fd);
        vm->fd = -1;
    }
    pthread_mutex_unlock(&vm->irq_lock);
}

uint32_t vk_max_vcpus(int kvm) {
    int told = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    uint32_t most = told > 0 && (uint32_t)told < VK_VCPUS_MAX ? (uint32_t)told : VK_VCPUS_MAX;
    uint32_t arch = vk_arch_max_vcpus(kvm);

    return arch < most ? arch : most;
}

static bool check(struct vk_vm *vm, char *error, size_t size) {
    uint32_t most = vk_max_vcpus(vm->kvm);

    if (vm->vcpus == 0 || vm->vcpus > most) {
        snprintf(error, size, "kvm runs 1 to %u CPUs here, not %u", most, vm->vcpus);
        return false;
    }
    int bytes = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (bytes < (int)sizeof(struct kvm_run)) {
        snprintf(error, size, "kvm tells no size of a vCPU's state");
        return false;
    }
    vm->run_size = (size_t)bytes;
    return true;
}

struct vk_vm *vk_vm_new(const char *device, uint32_t vcpus, char *error, size_t size) {
    struct vk_vm *vm = calloc(1, sizeof *vm);
    struct vk_entry *entry = vk_arch_entry_new();
    struct vk_arch *arch = vm ? vk_arch_new(vm) : NULL;

    if (!vm || !entry || !arch) {
        vk_arch_free(arch);
        free(entry);
        free(vm);
        snprintf(error, size, "kvm cannot create a VM: the host is out of memory");
        return NULL;
    }
    vm->entry = entry;
    vm->arch = arch;
    vm->vcpus = vcpus;
    vm->fd = -1;
    vm->written = (struct vd_written){vk_memory_written, vm};
    vm->dirty = (struct vd_dirty){vk_memory_take_dirty, vm};
    atomic_init(&vm->want, VK_WANT_STOP);
    pthread_mutex_init(&vm->irq_lock, NULL);
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->changed, NULL);
    for (uint32_t i = 0; i < VK_VCPUS_MAX; i++) {
        vm->vcpu[i].vm = vm;
        vm->vcpu[i].index = i;
        vm->vcpu[i].fd = -1;
    }
    for (uint32_t i = 0; i < VK_LINES; i++) {
        vm->line[i] = (struct vk_line){{line_set, &vm->line[i]}, vm, i, false};
    }
    vm->kvm = vk_open(device, error, size);
    if (vm->kvm < 0) {
        vm->vcpus = 0; /* nothing to take down */
        vk_vm_free(vm);
        return NULL;
    }
    if (!check(vm, error, size)) {
        vm->vcpus = 0;
        vk_vm_free(vm);
        return NULL;
    }
    if (vk_build(vm, error, size)) {
        vk_vm_free(vm);
        return NULL;
    }
    return vm;
}

void vk_vm_free(struct vk_vm *vm) {
    if (!vm) {
        return;
    }
    vk_vm_stop(vm);
    vk_drop(vm);
    vk_memory_free(vm);
    if (vm->kvm >= 0) {
        close(vm->kvm);
    }
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
    pthread_mutex_destroy(&vm->irq_lock);
    vk_arch_free(vm->arch);
    free(vm->entry);
    free(vm);
}

struct vd_irq *vk_vm_irq(struct vk_vm *vm, uint32_t line) {
    return line < VK_LINES ? &vm->line[line].irq : NULL;
}

uint32_t vk_vm_lines(struct vk_vm *vm) {
    (void)vm;
    return VK_LINES;
}

struct vd_written *vk_vm_written(struct vk_vm *vm) {
    return &vm->written;
}

struct vd_dirty *vk_vm_dirty_log(struct vk_vm *vm) {
    return &vm->dirty;
}

uint64_t vk_vm_timer_hz(struct vk_vm *vm) {
    return vm->timer_hz;
}

uint64_t vk_vm_cpu_id(struct vk_vm *vm, uint32_t index) {
    return vk_arch_cpu_id(vm, index);
}

void vk_vm_cpu_model(struct vk_vm *vm, char *text, size_t size) {
    vk_arch_cpu_model(vm, text, size);
}

const char *vk_vm_controller(struct vk_vm *vm) {
    return vk_arch_controller(vm);
}

void vk_vm_clear_entry(struct vk_vm *vm) {
    vk_arch_entry_clear(vm->entry);
}

int vk_vm_set_entry(struct vk_vm *vm, const char *name, uint64_t value) {
    return vk_arch_entry_set(vm->entry, name, value);
}

int vk_vm_counter_at(struct vk_vm *vm, uint32_t index, char *name, size_t size, uint64_t *value) {
    static const char *const names[VK_COUNTS + 1] = {
        "exits_mmio",      "exits_port",      "exits_kick", "exits_other",
        "unassigned_mmio", "unassigned_port", "interrupts",
    };

    if (index > VK_COUNTS) {
        return -ENOENT;
    }
    snprintf(name, size, "%s", names[index]);
    *value = 0;
    if (index == VK_COUNTS) {
        *value = atomic_load(&vm->interrupts);
        return 0;
    }
    for (uint32_t i = 0; i < vm->vcpus; i++) {
        *value += atomic_load(&vm->vcpu[i].counts[index]);
    }
    return 0;
}
