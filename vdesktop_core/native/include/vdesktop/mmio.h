/* SPDX-License-Identifier: MIT
 * The virtio-mmio register file (virtio 1.4 §4.2.2), one slot of 4 KiB. */
#ifndef VDESKTOP_MMIO_H
#define VDESKTOP_MMIO_H

#include "vdesktop/device.h"

struct vd_mmio;

/* What Python hears of; see vd_mmio_events. */
enum vd_event_kind {
    VD_EVENT_FEATURES_OK = 1,
    VD_EVENT_DRIVER_OK,
    VD_EVENT_QUEUE_READY,
    VD_EVENT_QUEUE_RESET,
    VD_EVENT_CONFIG_WRITTEN,
    VD_EVENT_RESET,
    VD_EVENT_NEEDS_RESET,
};
struct vd_event {
    uint32_t slot, kind;
    uint64_t a, b;
};

/* An empty slot answers DeviceID 0. irq is copied. event_fd: an eventfd that is
 * written when vd_mmio_poll_event has news, or -1. */
struct vd_mmio *vd_mmio_new(const struct vd_host *host, uint32_t slot, const struct vd_irq *irq,
                            int event_fd);
void vd_mmio_free(struct vd_mmio *mmio);
int vd_mmio_attach(struct vd_mmio *mmio, struct vd_device *dev);
/* Resets the device, then leaves the slot empty. */
struct vd_device *vd_mmio_detach(struct vd_mmio *mmio);
/* Machine reset: status 0, queues stopped, interrupt lowered. */
void vd_mmio_reset(struct vd_mmio *mmio);
/* The handler a backend maps at the slot's address. */
const struct vd_io *vd_mmio_io(struct vd_mmio *mmio);
/* 1 and an event, or 0. The queue is bounded: a flood of identical events
 * coalesces, and nothing the guest does makes it grow. */
int vd_mmio_poll_event(struct vd_mmio *mmio, struct vd_event *event);

#endif
