/* SPDX-License-Identifier: MIT
 * What a device may ask of whatever transport it is attached to. */
#include "vdesktop/device.h"

#include <string.h>

#include "lock.h"
#include "transport.h"

void vd_device_interrupt(struct vd_device *dev, uint16_t queue) {
    struct vd_transport *t = dev->transport;
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
    if (dev->transport)
        dev->transport->config_set(dev->transport, offset, from, len);
    else
        memcpy(&dev->config[offset], from, len);
}

void vd_device_config_get(struct vd_device *dev, uint32_t offset, void *to, uint32_t len) {
    uint32_t room = offset < dev->config_len ? dev->config_len - offset : 0;
    uint32_t part = len < room ? len : room;
    memset(to, 0, len);
    if (dev->transport)
        dev->transport->config_get(dev->transport, offset, to, part);
    else if (part)
        memcpy(to, &dev->config[offset], part);
}

static void needs_reset(struct vd_device *dev, int level, const char *what) {
    if (!dev->transport || dev->transport->needs_reset(dev->transport))
        dev->host->log(dev->host->opaque, level, dev->name, what);
}

void vd_device_failed(struct vd_device *dev, const char *what) {
    needs_reset(dev, VD_LOG_ERROR, what);
}

void vd_device_protocol_error(struct vd_device *dev, const char *what) {
    vd_count(&dev->n_protocol_errors);
    needs_reset(dev, VD_LOG_WARNING, what);
}
