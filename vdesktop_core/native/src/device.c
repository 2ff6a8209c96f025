/* SPDX-License-Identifier: MIT
 * What a device may ask of whatever transport it is attached to. */
#include "vdesktop/device.h"

#include <string.h>

#include "lock.h"
#include "transport.h"

/* Once an operation: the device may be detached in the middle of it, by another thread. Transports
 * outlive that. */
static struct vd_transport *transport_of(const struct vd_device *dev) {
    return __atomic_load_n(&dev->transport, __ATOMIC_ACQUIRE);
}

void vd_device_interrupt(struct vd_device *dev, uint16_t queue) {
    struct vd_transport *t = transport_of(dev);
    if (!t)
        return;
    vd_count(&dev->n_interrupts);
    t->interrupt(t, queue);
}

void vd_device_config_set(struct vd_device *dev, uint32_t offset, const void *from, uint32_t len) {
    if (offset >= dev->config_len)
        return;
    if (len > dev->config_len - offset)
        len = dev->config_len - offset;
    struct vd_transport *t = transport_of(dev);
    if (t)
        t->config_set(t, dev, offset, from, len);
    else
        memcpy(&dev->config[offset], from, len);
}

void vd_device_config_get(struct vd_device *dev, uint32_t offset, void *to, uint32_t len) {
    uint32_t room = offset < dev->config_len ? dev->config_len - offset : 0;
    uint32_t part = len < room ? len : room;
    memset(to, 0, len);
    struct vd_transport *t = transport_of(dev);
    if (t)
        t->config_get(t, dev, offset, to, part);
    else if (part)
        memcpy(to, &dev->config[offset], part);
}

static void needs_reset(struct vd_device *dev, int level, const char *what) {
    struct vd_transport *t = transport_of(dev);
    if (!t || t->needs_reset(t))
        dev->host->log(dev->host->opaque, level, dev->name, what);
}

void vd_device_failed(struct vd_device *dev, const char *what) {
    needs_reset(dev, VD_LOG_ERROR, what);
}

void vd_device_protocol_error(struct vd_device *dev, const char *what) {
    vd_count(&dev->n_protocol_errors);
    needs_reset(dev, VD_LOG_WARNING, what);
}
