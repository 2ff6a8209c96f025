/* SPDX-License-Identifier: MIT
 * Inside of a virtio-mmio slot. */
#ifndef VDESKTOP_MMIO_PRIV_H
#define VDESKTOP_MMIO_PRIV_H

#include "lock.h"
#include "transport.h"
#include "vdesktop/mmio.h"

/* name, offset, access, summary: virtio 1.4 §4.2.2, table 4.1. */
#define MMIO_REGISTERS(X)                                                                          \
    X(MagicValue, 0x000, R, "0x74726976, \"virt\"")                                                \
    X(Version, 0x004, R, "2")                                                                      \
    X(DeviceID, 0x008, R, "virtio device type; 0: the slot is empty")                              \
    X(VendorID, 0x00c, R, "0x4b534456, \"VDSK\"")                                                  \
    X(DeviceFeatures, 0x010, R, "32 offered feature bits, from DeviceFeaturesSel * 32")            \
    X(DeviceFeaturesSel, 0x014, W, "word that DeviceFeatures shows")                               \
    X(DriverFeatures, 0x020, W, "32 accepted feature bits, from DriverFeaturesSel * 32")           \
    X(DriverFeaturesSel, 0x024, W, "word that DriverFeatures sets")                                \
    X(QueueSel, 0x030, W, "queue that the Queue* registers mean")                                  \
    X(QueueSizeMax, 0x034, R, "largest size; 0: no such queue")                                    \
    X(QueueSize, 0x038, W, "size the driver uses")                                                 \
    X(QueueReady, 0x044, RW, "1: the queue runs")                                                  \
    X(QueueNotify, 0x050, W, "index of a queue with new buffers")                                  \
    X(InterruptStatus, 0x060, R, "bit 0: used buffers, bit 1: configuration changed")              \
    X(InterruptACK, 0x064, W, "bits of InterruptStatus to clear")                                  \
    X(Status, 0x070, RW, "device status; writing 0 resets")                                        \
    X(QueueDescLow, 0x080, W, "descriptor area, bits 31..0")                                       \
    X(QueueDescHigh, 0x084, W, "descriptor area, bits 63..32")                                     \
    X(QueueDriverLow, 0x090, W, "driver area, bits 31..0")                                         \
    X(QueueDriverHigh, 0x094, W, "driver area, bits 63..32")                                       \
    X(QueueDeviceLow, 0x0a0, W, "device area, bits 31..0")                                         \
    X(QueueDeviceHigh, 0x0a4, W, "device area, bits 63..32")                                       \
    X(SHMSel, 0x0ac, W, "shared memory region that the SHM* registers mean")                       \
    X(SHMLenLow, 0x0b0, R, "its length in bytes, bits 31..0; all ones: no such region")            \
    X(SHMLenHigh, 0x0b4, R, "its length, bits 63..32")                                             \
    X(SHMBaseLow, 0x0b8, R, "its guest-physical address, bits 31..0; all ones: no such region")    \
    X(SHMBaseHigh, 0x0bc, R, "its address, bits 63..32")                                           \
    X(QueueReset, 0x0c0, RW, "1: reset the queue (RING_RESET)")                                    \
    X(ConfigGeneration, 0x0fc, R, "changes whenever the device changes its config space")

enum mmio_offset {
#define X(name, offset, access, summary) REG_##name = offset,
    MMIO_REGISTERS(X)
#undef X
};

#define MMIO_MAGIC   0x74726976u
#define MMIO_VERSION 2u
#define MMIO_VENDOR  0x4b534456u

#define ISR_USED   1u
#define ISR_CONFIG 2u

struct mmio_queue {
    uint32_t size; /* as written, checked when it becomes ready */
    uint64_t desc, driver, device;
    bool ready;
};

struct mmio_events {
    uint32_t kinds; /* 1 << enum vd_event_kind */
    uint64_t features, queue_reset, queue_ready;
    uint32_t config_from, config_to;
};

struct vd_mmio {
    struct vd_transport transport; /* first */
    const struct vd_host *host;
    struct vd_io io;
    struct vd_irq irq;
    uint32_t slot;
    int event_fd;

    struct vd_device *dev; /* atomic; changes under `lock` */
    uint32_t in_notify;    /* atomic: vCPUs that may hold `dev` without the lock */
    uint32_t status;       /* atomic */
    uint64_t ready;        /* atomic: queues, by bit */
    uint64_t kicked;       /* atomic: kicked before DRIVER_OK */

    struct vd_lock lock; /* the registers below, and every operation but notify */
    uint32_t device_features_sel, driver_features_sel, queue_sel, shm_sel;
    uint64_t driver_features;
    bool features_beyond; /* the driver took a bit above 63 */
    struct mmio_queue queue[VD_QUEUES_MAX];

    struct vd_lock irq_lock; /* innermost */
    uint32_t isr;            /* atomic; changes under irq_lock */

    struct vd_lock config_lock; /* dev->config */
    uint32_t generation;        /* atomic */

    struct vd_lock event_lock;
    struct mmio_events events;

    struct vd_mmio_counters counters;
};

/* What register lies at this offset, or NULL. */
const struct vd_mmio_reg *vd_mmio_reg_at(uint64_t offset);

uint32_t vd_mmio_control_read(struct vd_mmio *m, uint32_t offset);
void vd_mmio_control_write(struct vd_mmio *m, uint32_t offset, uint32_t value);
void vd_mmio_reset_locked(struct vd_mmio *m);

void vd_mmio_raise(struct vd_mmio *m, uint32_t bits);
void vd_mmio_acknowledge(struct vd_mmio *m, uint32_t bits);

void vd_mmio_post(struct vd_mmio *m, enum vd_event_kind kind, uint64_t a, uint64_t b);
void vd_mmio_forget_events(struct vd_mmio *m);

static inline uint64_t mmio_offered(const struct vd_device *dev) {
    uint64_t offered = dev->offered | 1ull << VD_F_VERSION_1;
    return dev->ops->queue_reset ? offered : offered & ~(1ull << VD_F_RING_RESET);
}

static inline uint32_t mmio_status(const struct vd_mmio *m) {
    return __atomic_load_n(&m->status, __ATOMIC_SEQ_CST);
}

#endif
