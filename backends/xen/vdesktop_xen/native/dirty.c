/* SPDX-License-Identifier: MIT
 *
 * The log of written pages. Xen logs what vCPUs write, in one range of a domain;
 * what this process writes comes by the hook. */
#include "priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void vx_dirty_written(void *opaque, uint64_t gpa, uint64_t len) {
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
    _Atomic uint64_t *pages = calloc(words, sizeof *pages);

    if (!pages) {
        return -ENOMEM;
    }
    free((void *)log->pages);
    log->pages = pages;
    log->gpa = gpa;
    __atomic_store_n(&log->size, size, __ATOMIC_RELAXED);
    memset((void *)pages, 0xFF, words * sizeof *pages);
    return 0;
}

int vx_vm_dirty(struct vx_vm *vm, uint64_t gpa, uint64_t size, uint64_t *bitmap) {
    struct vx_dirty *log = &vm->dirty;
    uint64_t words = (size / VX_PAGE + 63) / 64;
    int result = 0;

    if (size == 0 || (gpa | size) % VX_PAGE || gpa + size < gpa) {
        return -EINVAL;
    }
    memset(bitmap, 0, words * sizeof *bitmap);
    if (vm->xen.lib.xendevicemodel_track_dirty_vram(vm->xen.devicemodel, (uint16_t)vm->domain,
                                                    gpa / VX_PAGE, (uint32_t)(size / VX_PAGE),
                                                    (unsigned long *)bitmap)) {
        return -errno;
    }
    pthread_mutex_lock(&log->lock);
    if (log->gpa != gpa || log->size != size) {
        result = begin(log, gpa, size, words);
    }
    for (uint64_t i = 0; !result && i < words; i++) {
        bitmap[i] |= atomic_exchange(&log->pages[i], 0);
    }
    pthread_mutex_unlock(&log->lock);
    return result;
}
