/* SPDX-License-Identifier: MIT
 * What a transport does for a device; the first member of every transport. */
#ifndef VDESKTOP_TRANSPORT_H
#define VDESKTOP_TRANSPORT_H

#include "vdesktop/device.h"

struct vd_transport {
    void (*interrupt)(struct vd_transport *t, uint16_t queue);
    /* Ranges are within the device's config_len. Another device may have taken the place of
     * this one by now. */
    void (*config_get)(struct vd_transport *t, struct vd_device *dev, uint32_t offset, void *to,
                       uint32_t len);
    void (*config_set)(struct vd_transport *t, struct vd_device *dev, uint32_t offset,
                       const void *from, uint32_t len);
    /* Sets DEVICE_NEEDS_RESET; true if it was not set. */
    bool (*needs_reset)(struct vd_transport *t);
};

#endif
