/* SPDX-License-Identifier: MIT
 * A virtio device as the transport sees it, and the transport as a device
 * sees it. A device never sees a register offset. */
#ifndef VDESKTOP_DEVICE_H
#define VDESKTOP_DEVICE_H

#include "vdesktop/ring.h"

#define VD_QUEUES_MAX 64
#define VD_CONFIG_MAX 4096
#define VD_SHM_MAX 4

struct vd_device;

/* All are called with the transport's lock held, on a vCPU or control thread;
 * none may call back into the transport but for the functions marked below. */
struct vd_device_ops {
    /* DRIVER_OK was written: features and queues are fixed. */
    void (*driver_ok)(struct vd_device *dev);
    /* Returns when no request is in flight and guest memory will not be
     * touched again (virtio 1.4 §2.4). */
    void (*reset)(struct vd_device *dev);
    void (*queue_ready)(struct vd_device *dev, uint16_t queue);
    void (*queue_reset)(struct vd_device *dev, uint16_t queue); /* as reset, one queue (§2.6.1) */
    /* The driver kicked a queue (not called under the lock; any vCPU thread). */
    void (*notify)(struct vd_device *dev, uint16_t queue);
    /* The driver changed config bytes [offset, offset+len), already stored. */
    void (*config_written)(struct vd_device *dev, uint32_t offset, uint32_t len);
};

struct vd_shm {
    uint64_t base, len; /* guest-physical */
};

struct vd_device {
    const struct vd_device_ops *ops;
    void *opaque; /* the device's own */
    uint32_t virtio_id;
    uint64_t offered; /* feature bits 0..63 */
    uint64_t driver_features; /* what the driver took, valid after FEATURES_OK */
    uint16_t n_queues;
    uint16_t queue_size_max[VD_QUEUES_MAX];
    struct vd_queue *queue[VD_QUEUES_MAX];
    uint32_t config_len;
    uint8_t config[VD_CONFIG_MAX];
    uint8_t config_writable[VD_CONFIG_MAX]; /* 0xff where the driver may write */
    struct vd_shm shm[VD_SHM_MAX]; /* by shmid; len 0: absent */
    struct vd_mem *mem;
    const struct vd_host *host;
    struct vd_transport *transport; /* set when attached */
    char name[32];
    /* Counters every device has; a plane keeps its own beside them. */
    uint64_t n_kicks, n_interrupts, n_config_writes, n_resets, n_protocol_errors;
};

/* Transport functions a device may call from any thread: */
void vd_device_interrupt(struct vd_device *dev, uint16_t queue); /* used buffers */
/* Changes config bytes, bumps the generation, raises the config interrupt. */
void vd_device_config_set(struct vd_device *dev, uint32_t offset, const void *from, uint32_t len);
/* A protocol error: DEVICE_NEEDS_RESET + config interrupt, counts, logs once
 * per reset; `what` names the clause. */
void vd_device_protocol_error(struct vd_device *dev, const char *what);

#endif
