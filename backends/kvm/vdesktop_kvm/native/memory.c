/* SPDX-License-Identifier: MIT
 *
 * Memory slots and the log of what was written. A region's index is its slot. */
#include "priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

static uint64_t words(const struct vk_memory *m) {
    return (m->size / VK_PAGE + 63) / 64;
}

static int install(struct vk_vm *vm, const struct vk_memory *m, bool present) {
    struct kvm_userspace_memory_region region = {
        .slot = (uint32_t)(m - vm->memory),
        .flags = (m->readonly ? KVM_MEM_READONLY : 0u) | (m->dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0u),
        .guest_phys_addr = m->gpa,
        .memory_size = present ? m->size : 0,
        .userspace_addr = (uintptr_t)m->host,
    };
    return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

static void all_dirty(struct vk_memory *m) {
    for (uint64_t i = 0; i < words(m); i++) {
        atomic_store(&m->dirty[i], ~0ull);
    }
}

int vk_memory_install(struct vk_vm *vm) {
    for (uint32_t i = 0; i < VK_MEMORY_MAX; i++) {
        struct vk_memory *m = &vm->memory[i];
        int result = m->used ? install(vm, m, true) : 0;
        if (result) {
            return result;
        }
        if (m->used && m->dirty) {
            all_dirty(m); /* what the VM before this one had logged is gone */
        }
    }
    return 0;
}

void vk_memory_free(struct vk_vm *vm) {
    for (uint32_t i = 0; i < VK_MEMORY_MAX; i++) {
        free((void *)vm->memory[i].dirty);
        vm->memory[i].dirty = NULL;
    }
}

static bool overlaps(const struct vk_memory *m, uint64_t gpa, uint64_t size) {
    return m->used && gpa < m->gpa + m->size && m->gpa < gpa + size;
}

int vk_vm_map(struct vk_vm *vm, uint64_t gpa, uint64_t size, void *host, bool readonly) {
    struct vk_memory *place = NULL;

    if ((gpa | size | (uintptr_t)host) % VK_PAGE || size == 0 || gpa + size < gpa) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < VK_MEMORY_MAX; i++) {
        if (overlaps(&vm->memory[i], gpa, size)) {
            return -EEXIST;
        }
        if (!vm->memory[i].used && !place) {
            place = &vm->memory[i];
        }
    }
    if (!place) {
        return -ENOSPC;
    }
    *place = (struct vk_memory){.gpa = gpa, .size = size, .host = host, .readonly = readonly};
    int result = vm->fd >= 0 ? install(vm, place, true) : 0;
    place->used = result == 0;
    return result;
}

int vk_vm_unmap(struct vk_vm *vm, uint64_t gpa) {
    for (uint32_t i = 0; i < VK_MEMORY_MAX; i++) {
        struct vk_memory *m = &vm->memory[i];
        if (!m->used || m->gpa != gpa) {
            continue;
        }
        int result = vm->fd >= 0 ? install(vm, m, false) : 0;
        if (result == 0) {
            m->used = false;
            free((void *)m->dirty);
            m->dirty = NULL;
        }
        return result;
    }
    return -ENOENT;
}

void vk_memory_written(void *opaque, uint64_t gpa, uint64_t len) {
    struct vk_vm *vm = opaque;

    for (uint32_t i = 0; i < VK_MEMORY_MAX; i++) {
        struct vk_memory *m = &vm->memory[i];
        if (!m->dirty || !overlaps(m, gpa, len)) {
            continue;
        }
        uint64_t first = gpa > m->gpa ? (gpa - m->gpa) / VK_PAGE : 0;
        uint64_t end = gpa + len - m->gpa < m->size ? gpa + len - m->gpa : m->size;
        for (uint64_t page = first; page * VK_PAGE < end; page++) {
            atomic_fetch_or(&m->dirty[page / 64], 1ull << page % 64);
        }
    }
}

/* Adds the kernel's log of a region to ours. */
static int collect(struct vk_vm *vm, struct vk_memory *m) {
    uint64_t *log = calloc(words(m), sizeof *log);
    struct kvm_dirty_log request = {.slot = (uint32_t)(m - vm->memory), .dirty_bitmap = log};

    if (!log) {
        return -ENOMEM;
    }
    int result = ioctl(vm->fd, KVM_GET_DIRTY_LOG, &request) < 0 ? -errno : 0;
    for (uint64_t i = 0; !result && i < words(m); i++) {
        if (log[i]) {
            atomic_fetch_or(&m->dirty[i], log[i]);
        }
    }
    free(log);
    return result;
}

static int begin(struct vk_vm *vm, struct vk_memory *m) {
    m->dirty = calloc(words(m), sizeof *m->dirty);
    if (!m->dirty) {
        return -ENOMEM;
    }
    all_dirty(m);
    int result = vm->fd >= 0 ? install(vm, m, true) : 0;
    if (result) {
        free((void *)m->dirty);
        m->dirty = NULL;
    }
    return result;
}

int vk_vm_dirty(struct vk_vm *vm, uint64_t gpa, uint64_t size, uint64_t *bitmap) {
    struct vk_memory *m = NULL;

    for (uint32_t i = 0; i < VK_MEMORY_MAX; i++) {
        if (overlaps(&vm->memory[i], gpa, size)) {
            m = &vm->memory[i];
            break;
        }
    }
    if (!m || gpa < m->gpa || gpa + size > m->gpa + m->size || (gpa | size) % VK_PAGE) {
        return -EINVAL;
    }
    int result = m->dirty ? vm->fd >= 0 ? collect(vm, m) : 0 : begin(vm, m);
    if (result) {
        return result;
    }
    uint64_t first = (gpa - m->gpa) / VK_PAGE;
    for (uint64_t page = 0; page < size / VK_PAGE; page++) {
        uint64_t at = first + page, bit = 1ull << at % 64;
        if (atomic_fetch_and(&m->dirty[at / 64], ~bit) & bit) {
            bitmap[page / 64] |= 1ull << page % 64;
        }
    }
    return 0;
}

/* The kernel's VM may be built anew meanwhile. */
int vk_memory_take_dirty(void *opaque, uint64_t gpa, uint64_t size, uint64_t *bitmap) {
    struct vk_vm *vm = opaque;

    pthread_mutex_lock(&vm->irq_lock);
    int result = vk_vm_dirty(vm, gpa, size, bitmap);
    pthread_mutex_unlock(&vm->irq_lock);
    return result;
}
