/* SPDX-License-Identifier: MIT
 * A lock that needs no C library: for sections of a few instructions, and for
 * the registers of a slot, which two vCPUs seldom touch at once. */
#ifndef VDESKTOP_LOCK_H
#define VDESKTOP_LOCK_H

#include "vdesktop/abi.h"

struct vd_lock {
    uint32_t held;
};

static inline void vd_relax(const struct vd_host *host, unsigned spins) {
    if (spins > 20 && host->relax)
        host->relax(host->opaque, spins);
}

static inline void vd_lock(struct vd_lock *lock, const struct vd_host *host) {
    for (unsigned spins = 0; __atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE); spins++)
        while (__atomic_load_n(&lock->held, __ATOMIC_RELAXED))
            vd_relax(host, spins++);
}

static inline void vd_unlock(struct vd_lock *lock) {
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}

/* Counters are read by other threads at any time. */
static inline void vd_count(uint64_t *counter) {
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

#endif
