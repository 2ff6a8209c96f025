/* SPDX-License-Identifier: MIT
 * virtio-rng (virtio 1.4 §5.4): the host kernel's random bytes. */
#ifndef VDESKTOP_RNG_H
#define VDESKTOP_RNG_H

#include "vdesktop/device.h"
#include "vdesktop/loop.h"

#define VD_RNG_ID 4
/* Bytes given to one request at most; §5.4.6.1 lets a device give less than asked for. */
#define VD_RNG_REQUEST_MAX 65536

struct vd_rng_options {
    uint64_t max_bytes; /* in a period; 0: no limit */
    uint32_t period_ms; /* 1..3600000 where max_bytes is set */
};

struct vd_rng_counters {
    uint64_t requests, bytes;
    uint64_t throttled; /* how often the limit made the guest wait */
};

struct vd_rng;

/* NULL and *error = -errno. */
struct vd_rng *vd_rng_new(const struct vd_host *host, struct vd_mem *mem, const char *name,
                          const struct vd_rng_options *options, struct vd_loop *loop, int *error);
void vd_rng_free(struct vd_rng *rng); /* detached from its slot; NULL is allowed */
struct vd_device *vd_rng_device(struct vd_rng *rng);
void vd_rng_counters(struct vd_rng *rng, struct vd_rng_counters *counters);

#endif
