/* SPDX-License-Identifier: MIT
 * The control registers of a virtio-mmio slot and what writing them does.
 * Called with the slot's lock held and a device attached. */
#include "mmio.h"

#define R  VD_MMIO_R
#define W  VD_MMIO_W
#define RW VD_MMIO_RW

static const struct vd_mmio_reg registers[] = {
#define X(name, offset, access, summary) {#name, summary, offset, access},
    MMIO_REGISTERS(X)
#undef X
};
#define N_REGISTERS (sizeof registers / sizeof registers[0])

/* Index + 1 of the register at offset / 4. */
enum {
#define X(name, offset, access, summary) INDEX_##name,
    MMIO_REGISTERS(X)
#undef X
};
static const uint8_t by_offset[VD_MMIO_CONFIG / 4] = {
#define X(name, offset, access, summary) [(offset) / 4] = INDEX_##name + 1,
    MMIO_REGISTERS(X)
#undef X
};

#undef R
#undef W
#undef RW

const struct vd_mmio_reg *vd_mmio_regs(uint32_t *n) {
    *n = N_REGISTERS;
    return registers;
}

const struct vd_mmio_reg *vd_mmio_reg_at(uint64_t offset) {
    uint8_t i = offset < VD_MMIO_CONFIG ? by_offset[offset / 4] : 0;
    return i ? &registers[i - 1] : NULL;
}

static uint32_t half(uint64_t value, bool high) {
    return (uint32_t)(high ? value >> 32 : value);
}

static void set_half(uint64_t *to, uint32_t value, bool high) {
    *to = high ? (*to & UINT32_MAX) | (uint64_t)value << 32 : (*to & ~(uint64_t)UINT32_MAX) | value;
}

uint32_t vd_mmio_control_read(struct vd_mmio *m, uint32_t offset) {
    const struct vd_device *dev = m->dev;
    bool have_queue = m->queue_sel < dev->n_queues;
    bool have_shm = m->shm_sel < VD_SHM_MAX && dev->shm[m->shm_sel].len;
    switch (offset) {
    case REG_DeviceFeatures:
        return m->device_features_sel < 2 ? half(mmio_offered(dev), m->device_features_sel) : 0;
    case REG_QueueSizeMax:
        return have_queue ? dev->queue_size_max[m->queue_sel] : 0;
    case REG_QueueReady:
        return have_queue && m->queue[m->queue_sel].ready;
    case REG_SHMLenLow:
    case REG_SHMLenHigh:
        return have_shm ? half(dev->shm[m->shm_sel].len, offset == REG_SHMLenHigh) : UINT32_MAX;
    case REG_SHMBaseLow:
    case REG_SHMBaseHigh:
        return have_shm ? half(dev->shm[m->shm_sel].base, offset == REG_SHMBaseHigh) : UINT32_MAX;
    default: /* QueueReset: a reset is over before the write returns */
        return 0;
    }
}

static void queue_stop(struct vd_mmio *m, uint32_t i) {
    __atomic_fetch_and(&m->ready, ~(1ull << i), __ATOMIC_SEQ_CST);
    m->queue[i].ready = false;
    vd_queue_stop(m->dev->queue[i]);
}

static void queue_start(struct vd_mmio *m, uint32_t i) {
    struct vd_device *dev = m->dev;
    struct mmio_queue *q = &m->queue[i];
    uint64_t f = dev->driver_features;
    if (q->size > dev->queue_size_max[i]) {
        vd_device_protocol_error(dev, "QueueSize above QueueSizeMax (virtio 1.4 §4.2.2.2)");
        return;
    }
    struct vd_queue_config config = {
        .size = (uint16_t)q->size,
        .desc = q->desc,
        .driver = q->driver,
        .device = q->device,
        .packed = f >> VD_F_RING_PACKED & 1,
        .indirect = f >> VD_F_INDIRECT_DESC & 1,
        .event_idx = f >> VD_F_EVENT_IDX & 1,
    };
    int error = vd_queue_start(dev->queue[i], &config);
    if (error == VD_RING_NO_MEMORY)
        vd_device_failed(dev, vd_ring_strerror(error));
    else if (error)
        vd_device_protocol_error(dev, vd_ring_strerror(error));
    if (error)
        return;
    q->ready = true;
    if (dev->ops->queue_ready)
        dev->ops->queue_ready(dev, (uint16_t)i);
    __atomic_fetch_or(&m->ready, 1ull << i, __ATOMIC_SEQ_CST);
    vd_mmio_post(m, VD_EVENT_QUEUE_READY, i, 0);
}

static bool queue_reset(struct vd_mmio *m, uint32_t i) {
    struct vd_device *dev = m->dev;
    if (dev->ops->queue_reset)
        dev->ops->queue_reset(dev, (uint16_t)i);
    else if (mmio_status(m) & VD_STATUS_DRIVER_OK)
        return false; /* this device stops as a whole only */
    queue_stop(m, i);
    vd_mmio_post(m, VD_EVENT_QUEUE_RESET, i, 0);
    return true;
}

/* Returns false if the state does not allow the write. */
static bool queue_write(struct vd_mmio *m, uint32_t offset, uint32_t value) {
    if (m->queue_sel >= m->dev->n_queues)
        return false;
    uint32_t i = m->queue_sel;
    struct mmio_queue *q = &m->queue[i];
    uint32_t status = mmio_status(m);

    if (offset == REG_QueueReset) {
        /* §2.6.1: one by one, after DRIVER_OK, if negotiated. */
        if (value != 1 || !(m->driver_features >> VD_F_RING_RESET & 1) ||
            !(status & VD_STATUS_DRIVER_OK))
            return false;
        if (q->ready)
            queue_reset(m, i);
        *q = (struct mmio_queue){0};
        return true;
    }
    if (offset == REG_QueueReady && value == 0)
        return !q->ready || queue_reset(m, i);
    if (q->ready || !(status & VD_STATUS_FEATURES_OK)) {
        /* Geometry is copied when a queue becomes ready and then fixed. Before
         * that, the registers themselves may be written at any time. */
        if (q->ready || offset == REG_QueueReady)
            return false;
    }
    switch (offset) {
    case REG_QueueSize:
        q->size = value;
        break;
    case REG_QueueDescLow:
    case REG_QueueDescHigh:
        set_half(&q->desc, value, offset == REG_QueueDescHigh);
        break;
    case REG_QueueDriverLow:
    case REG_QueueDriverHigh:
        set_half(&q->driver, value, offset == REG_QueueDriverHigh);
        break;
    case REG_QueueDeviceLow:
    case REG_QueueDeviceHigh:
        set_half(&q->device, value, offset == REG_QueueDeviceHigh);
        break;
    case REG_QueueReady:
        if (value != 1)
            return false;
        queue_start(m, i);
        break;
    }
    return true;
}

static bool features_write(struct vd_mmio *m, uint32_t value) {
    if (mmio_status(m) & VD_STATUS_FEATURES_OK)
        return false; /* §3.1.1: fixed from here on */
    if (m->driver_features_sel < 2)
        set_half(&m->driver_features, value, m->driver_features_sel);
    else if (value)
        m->features_beyond = true;
    return true;
}

static bool features_acceptable(const struct vd_mmio *m) {
    uint64_t f = m->driver_features;
    /* §2.2.2 and §6.1: a subset of what is offered, VERSION_1 among it. */
    return !m->features_beyond && !(f & ~mmio_offered(m->dev)) && (f >> VD_F_VERSION_1 & 1);
}

static void kick_early_queues(struct vd_mmio *m) {
    uint64_t kicked = __atomic_exchange_n(&m->kicked, 0, __ATOMIC_SEQ_CST) & m->ready;
    for (; kicked; kicked &= kicked - 1)
        m->dev->ops->notify(m->dev, (uint16_t)__builtin_ctzll(kicked));
}

static bool status_write(struct vd_mmio *m, uint32_t value) {
    struct vd_device *dev = m->dev;
    uint32_t old = mmio_status(m), added = value & ~old;
    if (value == 0) {
        vd_mmio_reset_locked(m);
        return true;
    }
    /* §2.1.1: the driver does not clear a bit, and NEEDS_RESET is the device's. */
    bool legal = !(old & ~value & ~(uint32_t)VD_STATUS_NEEDS_RESET) && value < 256;
    __atomic_fetch_or(&m->status,
                      added & (VD_STATUS_ACKNOWLEDGE | VD_STATUS_DRIVER | VD_STATUS_FAILED),
                      __ATOMIC_SEQ_CST);
    if ((added & VD_STATUS_FEATURES_OK) && features_acceptable(m)) {
        dev->driver_features = m->driver_features;
        __atomic_fetch_or(&m->status, VD_STATUS_FEATURES_OK, __ATOMIC_SEQ_CST);
        vd_mmio_post(m, VD_EVENT_FEATURES_OK, m->driver_features, 0);
    }
    if (added & VD_STATUS_DRIVER_OK) {
        uint32_t now = mmio_status(m);
        /* FAILED is the driver's own note. Linux sets it where a driver's probe fails, and does not
         * reset the device before the next one (drivers/virtio/virtio.c), against §2.1.1. */
        if (!(now & VD_STATUS_FEATURES_OK) || (now & VD_STATUS_NEEDS_RESET))
            return false;
        __atomic_fetch_or(&m->status, VD_STATUS_DRIVER_OK, __ATOMIC_SEQ_CST);
        if (dev->ops->driver_ok)
            dev->ops->driver_ok(dev);
        vd_mmio_post(m, VD_EVENT_DRIVER_OK, 0, 0);
        kick_early_queues(m);
    }
    return legal;
}

void vd_mmio_reset_locked(struct vd_mmio *m) {
    struct vd_device *dev = m->dev;
    if (dev) {
        if (dev->ops->reset)
            dev->ops->reset(dev);
        for (uint32_t i = 0; i < dev->n_queues; i++)
            queue_stop(m, i);
        dev->driver_features = 0;
        vd_count(&dev->n_resets);
    }
    for (uint32_t i = 0; i < VD_QUEUES_MAX; i++)
        m->queue[i] = (struct mmio_queue){0};
    m->device_features_sel = m->driver_features_sel = m->queue_sel = m->shm_sel = 0;
    m->driver_features = 0;
    m->features_beyond = false;
    __atomic_store_n(&m->kicked, 0, __ATOMIC_SEQ_CST);
    vd_mmio_acknowledge(m, UINT32_MAX);
    /* Last: a driver that polls for 0 then finds everything done. */
    __atomic_store_n(&m->status, 0, __ATOMIC_SEQ_CST);
    /* Who hears of it finds the status 0, too. */
    if (dev)
        vd_mmio_post(m, VD_EVENT_RESET, 0, 0);
}

void vd_mmio_control_write(struct vd_mmio *m, uint32_t offset, uint32_t value) {
    bool legal = true;
    switch (offset) {
    case REG_DeviceFeaturesSel:
        m->device_features_sel = value;
        break;
    case REG_DriverFeaturesSel:
        m->driver_features_sel = value;
        break;
    case REG_QueueSel:
        m->queue_sel = value;
        break;
    case REG_SHMSel:
        m->shm_sel = value;
        break;
    case REG_DriverFeatures:
        legal = features_write(m, value);
        break;
    case REG_Status:
        legal = status_write(m, value);
        break;
    default:
        legal = queue_write(m, offset, value);
        break;
    }
    if (!legal)
        vd_count(&m->counters.out_of_turn);
}
