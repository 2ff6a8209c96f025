/* SPDX-License-Identifier: MIT
 *
 * The binary contract between the C core, backends and plugins.
 *
 * Separately built extensions (a backend's, a plugin's) share nothing at link
 * time: they hand each other pointers to the small structures of this file.
 * Python passes such a pointer as an integer (`int(ffi.cast("uintptr_t", p))`).
 */
#ifndef VDESKTOP_ABI_H
#define VDESKTOP_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VD_ABI_VERSION 1u

/* An interrupt line, host to guest: supplied by the backend. `set` may be called
 * from any native thread, never blocks for long, and must not call back into the
 * caller. Where the guest's controller takes the line's level, a call that does not
 * change it does nothing. Where it takes edges, each call with `true` is one. */
struct vd_irq {
    void (*set)(void *opaque, bool level);
    void *opaque;
};

/* A range of MMIO or port addresses: supplied by the core (a transport) or by
 * a platform device; called by the backend on a vCPU thread. `offset` is
 * relative to the range, `width` is 1, 2, 4 or 8 bytes. Values are in host
 * order. An access of 8 bytes may also arrive as two of 4, low half first. A
 * handler never re-enters the backend's run loop. */
struct vd_io {
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned width);
    void (*write)(void *opaque, uint64_t offset, unsigned width, uint64_t value);
    void *opaque;
};

/* Told after a device wrote guest memory, before the guest can learn of it
 * (used ring not yet published). A software CPU drops translated code here, a
 * migration log marks pages. May be called from any native thread. NULL `fn`:
 * the backend does not need it. */
struct vd_written {
    void (*fn)(void *opaque, uint64_t gpa, uint64_t len);
    void *opaque;
};

/* A log of what the guest writes, a bit a page: supplied by a backend that has one.
 * `take` sets in `bitmap` the bits of those pages of [gpa, gpa + size) that were
 * written since the last call (bit i of word i / 64: page i; the first call may
 * set all), and begins anew. 0 or -errno. One thread at a time. */
#define VD_DIRTY_PAGE 4096
struct vd_dirty {
    int (*take)(void *opaque, uint64_t gpa, uint64_t size, uint64_t *bitmap);
    void *opaque;
};

enum vd_log_level { VD_LOG_DEBUG = 10, VD_LOG_INFO = 20, VD_LOG_WARNING = 30, VD_LOG_ERROR = 40 };

/* What the C core takes from its surroundings, so that it can also live where
 * there is no Python and no C library. All functions are thread-safe. */
struct vd_host {
    void *(*alloc)(void *opaque, size_t size); /* zeroed, 64-byte aligned; NULL: out of memory */
    void (*free)(void *opaque, void *p);
    uint64_t (*now_ns)(void *opaque); /* monotonic */
    void (*log)(void *opaque, int level, const char *component, const char *message);
    /* Makes an event descriptor readable, such as an eventfd; never blocks. */
    void (*wake)(void *opaque, int fd);
    /* Called in a loop that waits for another thread, `spins` times so far: may
     * yield or sleep a little. */
    void (*relax)(void *opaque, unsigned spins);
    void *opaque;
};

#endif
