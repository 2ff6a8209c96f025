/* SPDX-License-Identifier: MIT
 *
 * The log of written pages. Xen logs what vCPUs write, in one range of a domain;
 * what this process writes comes by the hook. */
#include "priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void written(void *opaque, uint64_t gpa, uint64_t len) {
    struct vx_vm *vm = opaque;
    struct vx_dirty *log = &vm->dirty;

    if (!__atomic_load_n(&log->size, __ATOMIC_RELAXED) || len == 0) {
        return;
    }
    pthread_mutex_lock(&log->lock);
    if (log->size && gpa < log->gpa + log->size && log->gpa < gpa + len) {
        uint64_t first = gpa > log->gpa ? (gpa - log->gpa) / VX_PAGE : 0;
        uint64_t end = gpa + len - log->gpa < log->size ? gpa + len - log->gpa : log->size;
        for (uint64_t page = first; page * VX_PAGE < end; page++) {
            atomic_fetch_or(&log->pages[page / 64], 1ull << page % 64);
        }
    }
    pthread_mutex_unlock(&log->lock);
}

/* Under the lock. */
static int begin(struct vx_dirty *log, uint64_t gpa, uint64_t size, uint64_t words) {
    _Atomic uint64_t *pages = calloc(2 * words, sizeof *pages);

    if (!pages) {
        return -ENOMEM;
    }
    free((void *)log->pages);
    log->pages = pages;
    log->xens = (uint64_t *)(void *)(pages + words);
    log->gpa = gpa;
    __atomic_store_n(&log->size, size, __ATOMIC_RELAXED);
    memset((void *)pages, 0xFF, words * sizeof *pages);
    return 0;
}

static int take(void *opaque, uint64_t gpa, uint64_t size, uint64_t *bitmap) {
    struct vx_vm *vm = opaque;
    struct vx_dirty *log = &vm->dirty;
    uint64_t words = (size / VX_PAGE + 63) / 64;
    int result = 0;

    if (size == 0 || (gpa | size) % VX_PAGE || gpa + size < gpa) {
        return -EINVAL;
    }
    pthread_mutex_lock(&log->lock);
    if (log->gpa != gpa || log->size != size) {
        result = begin(log, gpa, size, words);
    }
    if (!result && vm->xen.lib.xendevicemodel_track_dirty_vram(
                       vm->xen.devicemodel, (uint16_t)vm->domain, gpa / VX_PAGE,
                       (uint32_t)(size / VX_PAGE), (unsigned long *)log->xens)) {
        result = -errno;
    }
    for (uint64_t i = 0; !result && i < words; i++) {
        bitmap[i] |= log->xens[i] | atomic_exchange(&log->pages[i], 0);
    }
    pthread_mutex_unlock(&log->lock);
    return result;
}

void vx_dirty_init(struct vx_vm *vm) {
    pthread_mutex_init(&vm->dirty.lock, NULL);
    vm->written = (struct vd_written){written, vm};
    vm->dirty.log = (struct vd_dirty){take, vm};
}

void vx_dirty_free(struct vx_vm *vm) {
    free((void *)vm->dirty.pages);
    pthread_mutex_destroy(&vm->dirty.lock);
}

struct vd_dirty *vx_vm_dirty_log(struct vx_vm *vm) {
    return &vm->dirty.log;
}

int vx_vm_dirty(struct vx_vm *vm, uint64_t gpa, uint64_t size, uint64_t *bitmap) {
    return take(vm, gpa, size, bitmap);
}
