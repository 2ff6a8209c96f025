/* SPDX-License-Identifier: MIT
 * The virtio-mmio register file (virtio 1.4 §4.2.2), one slot of 4 KiB. */
#ifndef VDESKTOP_MMIO_H
#define VDESKTOP_MMIO_H

#include "vdesktop/device.h"

struct vd_mmio;

/* What the control thread hears of. Events say what is true now, not every step
 * that led there: a reset makes earlier ones void, repeats coalesce, and they
 * are handed out in the order of this list. So the memory they take is constant
 * whatever the guest does, and none is ever lost. */
enum vd_event_kind {
    VD_EVENT_RESET = 1,
    VD_EVENT_FEATURES_OK, /* a: the features the driver took */
    VD_EVENT_QUEUE_RESET, /* a: queue */
    VD_EVENT_QUEUE_READY, /* a: queue */
    VD_EVENT_DRIVER_OK,
    VD_EVENT_CONFIG_WRITTEN, /* a: offset, b: length of a range with all writes */
    VD_EVENT_NEEDS_RESET,
};
struct vd_event {
    uint32_t slot, kind;
    uint64_t a, b;
};

/* The registers, as data. */
#define VD_MMIO_SIZE   4096
#define VD_MMIO_CONFIG 256 /* offset of the device's config space */
enum vd_mmio_access { VD_MMIO_R = 1, VD_MMIO_W = 2, VD_MMIO_RW = 3 };
struct vd_mmio_reg {
    const char *name; /* as in the table of §4.2.2 */
    const char *summary;
    uint32_t offset, access;
};
/* Control registers in ascending order; *n: how many. All are 32 bits wide. */
const struct vd_mmio_reg *vd_mmio_regs(uint32_t *n);

/* Accesses the register file refused or ignored, and why. Monotonic. */
struct vd_mmio_counters {
    uint64_t bad_width;     /* control register not accessed as an aligned 32-bit word */
    uint64_t no_register;   /* no such register, or read-only written, or write-only read */
    uint64_t out_of_turn;   /* written in a state that does not allow it */
    uint64_t config_bounds; /* config space past its end, or a read-only byte written */
    uint64_t early_kicks;   /* before DRIVER_OK: delivered then; or queue not ready: dropped */
    uint64_t irq_raised;
};

/* An empty slot answers DeviceID 0. irq is copied; NULL: no interrupt. event_fd
 * is given to host->wake when vd_mmio_poll_event has news; -1: nobody listens.
 * NULL: no memory. */
struct vd_mmio *vd_mmio_new(const struct vd_host *host, uint32_t slot, const struct vd_irq *irq,
                            int event_fd);
void vd_mmio_free(struct vd_mmio *mmio);
/* 0, -EBUSY (not empty) or -EINVAL (the device declares more than there is room
 * for, or lacks a queue). The guest sees a device in reset. */
int vd_mmio_attach(struct vd_mmio *mmio, struct vd_device *dev);
/* Resets the device, then leaves the slot empty: when this returns, no vCPU is
 * inside an operation of the device. Returns it, or NULL if there was none. */
struct vd_device *vd_mmio_detach(struct vd_mmio *mmio);
/* Takes away what stands behind the device, which goes on answering in its slot: see
 * vd_device_ops.lose. false: the slot is empty, or its device knows nothing of that. */
bool vd_mmio_lose(struct vd_mmio *mmio);
/* How many queues the device in the slot has; 0: the slot is empty. */
uint32_t vd_mmio_queues(struct vd_mmio *mmio);
/* The eventfd whose signal is a write of `queue` to QueueNotify, or -1: the slot is
 * empty, or this queue has to be kicked by the write. The device's: valid until it is
 * detached and freed. Control thread. */
int vd_mmio_doorbell(struct vd_mmio *mmio, uint32_t queue);
#define VD_MMIO_QUEUE_NOTIFY 0x50 /* offset of QueueNotify, where doorbells go */
/* Machine reset: status 0, queues stopped, interrupt lowered. */
void vd_mmio_reset(struct vd_mmio *mmio);
/* The handler a backend maps at the slot's address. */
const struct vd_io *vd_mmio_io(struct vd_mmio *mmio);
/* 1 and an event, or 0. Any thread. */
int vd_mmio_poll_event(struct vd_mmio *mmio, struct vd_event *event);
uint32_t vd_mmio_status(const struct vd_mmio *mmio);
void vd_mmio_counters(const struct vd_mmio *mmio, struct vd_mmio_counters *counters);

#endif
