/* SPDX-License-Identifier: MIT
 * A virtio device as the transport sees it, and the transport as a device
 * sees it. A device never sees a register offset. */
#ifndef VDESKTOP_DEVICE_H
#define VDESKTOP_DEVICE_H

#include "vdesktop/ring.h"

#define VD_QUEUES_MAX 64
#define VD_CONFIG_MAX 4096
#define VD_SHM_MAX    4

/* Feature bits that every device may offer (§6). */
enum vd_feature {
    VD_F_INDIRECT_DESC = 28,
    VD_F_EVENT_IDX = 29,
    VD_F_VERSION_1 = 32,
    VD_F_RING_PACKED = 34,
    VD_F_NOTIFICATION_DATA = 38,
    VD_F_RING_RESET = 40,
};
/* The bits the rings and transports of this core implement for any device:
 * INDIRECT_DESC, EVENT_IDX, VERSION_1, RING_PACKED, RING_RESET. */
#define VD_FEATURES_COMMON 0x10530000000

/* Device status bits (§2.1). */
enum vd_status {
    VD_STATUS_ACKNOWLEDGE = 1,
    VD_STATUS_DRIVER = 2,
    VD_STATUS_DRIVER_OK = 4,
    VD_STATUS_FEATURES_OK = 8,
    VD_STATUS_NEEDS_RESET = 64,
    VD_STATUS_FAILED = 128,
};

struct vd_device;
struct vd_transport;

/* Where not said otherwise, called with the transport's lock held, on a vCPU or
 * control thread. Of the transport, they may call the functions at the end of
 * this file only: those take no lock that is held while an operation runs, so
 * that an I/O thread can call them while `reset` waits for it. Any may be NULL,
 * but for `notify`; without `queue_reset`, RING_RESET is not offered. */
struct vd_device_ops {
    /* DRIVER_OK was written: features and queues are fixed. Kicks that came
     * earlier follow as `notify`. */
    void (*driver_ok)(struct vd_device *dev);
    /* Returns when no request is in flight and guest memory will not be
     * touched again (virtio 1.4 §2.4). */
    void (*reset)(struct vd_device *dev);
    void (*queue_ready)(struct vd_device *dev, uint16_t queue);
    void (*queue_reset)(struct vd_device *dev, uint16_t queue); /* as reset, one queue (§2.6.1) */
    /* The driver kicked a queue that is ready, after DRIVER_OK. Not under the
     * lock: on any vCPU thread, several at once; must not block. */
    void (*notify)(struct vd_device *dev, uint16_t queue);
    /* An eventfd, the device's own until it is freed, whose signal is a kick of this
     * queue, heard on the device's thread: what a backend signals without leaving
     * the kernel. Nobody checks such a kick: the device must bear one at any time, of
     * a queue that is not ready, too. -1: this queue has none. */
    int (*doorbell)(struct vd_device *dev, uint16_t queue);
    /* The driver changed config bytes [offset, offset+len), already stored. */
    void (*config_written)(struct vd_device *dev, uint32_t offset, uint32_t len);
    /* The host takes away what stands behind the device, whatever its driver is at:
     * completes or fails all that is in flight, and from now on fails at once what would
     * need it, so that no driver waits for ever. When it returns, nothing that the device
     * was made over is used any more. NULL: what is in flight can only be dropped, by a
     * reset. */
    void (*lose)(struct vd_device *dev);
};

struct vd_shm {
    uint64_t base, len; /* guest-physical */
};

struct vd_device {
    const struct vd_device_ops *ops;
    void *opaque; /* the device's own */
    uint32_t virtio_id;
    uint64_t offered;         /* feature bits 0..63; the transport adds VERSION_1 */
    uint64_t driver_features; /* what the driver took, valid after FEATURES_OK */
    uint16_t n_queues;
    uint16_t queue_size_max[VD_QUEUES_MAX];
    struct vd_queue *queue[VD_QUEUES_MAX]; /* the device's; the transport starts and stops them */
    uint32_t config_len;
    uint8_t config[VD_CONFIG_MAX];
    uint8_t config_writable[VD_CONFIG_MAX]; /* 0xff where the driver may write */
    struct vd_shm shm[VD_SHM_MAX];          /* by shmid; len 0: absent */
    struct vd_mem *mem;
    const struct vd_host *host;
    struct vd_transport *transport; /* set when attached */
    char name[32];
    /* Counters every device has; a plane keeps its own beside them. Doorbells are no n_kicks. */
    uint64_t n_kicks, n_interrupts, n_config_writes, n_resets, n_protocol_errors;
};

/* Transport functions a device may call from any thread, also from its
 * operations; on a detached device they only do what needs no transport. */
void vd_device_interrupt(struct vd_device *dev, uint16_t queue); /* used buffers */
/* Changes config bytes, bumps the generation, raises the config interrupt.
 * Bytes past config_len are dropped. */
void vd_device_config_set(struct vd_device *dev, uint32_t offset, const void *from, uint32_t len);
/* Copies config bytes out, whole with respect to the driver's writes. Bytes past
 * config_len read as 0. */
void vd_device_config_get(struct vd_device *dev, uint32_t offset, void *to, uint32_t len);
/* The device itself cannot go on: DEVICE_NEEDS_RESET + config interrupt, logs
 * once per reset at error level. */
void vd_device_failed(struct vd_device *dev, const char *what);
/* A protocol error of the driver: DEVICE_NEEDS_RESET + config interrupt, counts, logs once
 * per reset; `what` names the clause. */
void vd_device_protocol_error(struct vd_device *dev, const char *what);

#endif
