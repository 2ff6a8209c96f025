/* SPDX-License-Identifier: MIT
 * What a device may ask of whatever transport it is attached to. */
#include "vdesktop/device.h"

#include <string.h>

#include "lock.h"
#include "transport.h"

void vd_device_interrupt(struct vd_device *dev, uint16_t queue)
{
    struct vd_transport *t = dev->transport;
    if (!t)
        return;
    vd_count(&dev->n_interrupts);
    t->interrupt(t, queue);
}

void vd_device_config_set(struct vd_device *dev, uint32_t offset, const void *from, uint32_t len)
{
    if (offset >= dev->config_len)
        return;
    if (len > dev->config_len - offset)
        len = dev->config_len - offset;
    if (dev->transport)
        dev->transport->config_set(dev->transport, offset, from, len);
    else
        memcpy(&dev->config[offset], from, len);
}

void vd_device_protocol_error(struct vd_device *dev, const char *what)
{
    vd_count(&dev->n_protocol_errors);
    if (!dev->transport || dev->transport->needs_reset(dev->transport))
        dev->host->log(dev->host->opaque, VD_LOG_WARNING, dev->name, what);
}
