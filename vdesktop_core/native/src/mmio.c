/* SPDX-License-Identifier: MIT
 * A virtio-mmio slot: decoding, interrupts, config space, attach and detach. */
#include "mmio.h"

#include <errno.h>
#include <string.h>

_Static_assert(VD_MMIO_QUEUE_NOTIFY == REG_QueueNotify, "the register table and the header agree");

/* Interrupts */

static void set_isr_locked(struct vd_mmio *m, uint32_t isr) {
    bool was = m->isr, is = isr;
    __atomic_store_n(&m->isr, isr, __ATOMIC_SEQ_CST);
    if (was == is)
        return;
    if (is)
        vd_count(&m->counters.irq_raised);
    if (m->irq.set)
        m->irq.set(m->irq.opaque, is);
}

void vd_mmio_raise(struct vd_mmio *m, uint32_t bits) {
    /* Still unacknowledged: the driver acknowledges first and looks at the rings
     * afterwards, so it will see what was published before this load. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if ((__atomic_load_n(&m->isr, __ATOMIC_SEQ_CST) & bits) == bits)
        return;
    /* §3.1.1: no notification before DRIVER_OK. */
    if (!(mmio_status(m) & VD_STATUS_DRIVER_OK))
        return;
    vd_lock(&m->irq_lock, m->host);
    set_isr_locked(m, m->isr | bits);
    vd_unlock(&m->irq_lock);
}

void vd_mmio_acknowledge(struct vd_mmio *m, uint32_t bits) {
    vd_lock(&m->irq_lock, m->host);
    uint32_t left = m->isr & ~bits;
    set_isr_locked(m, left);
    /* What came after the driver looked: an edge-triggered controller forgot the line's rise. */
    if (left && m->irq.set)
        m->irq.set(m->irq.opaque, true);
    vd_unlock(&m->irq_lock);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* What the device asks for; see transport.h */

static void transport_interrupt(struct vd_transport *t, uint16_t queue) {
    (void)queue; /* one line and one bit for all queues (§4.2.3.4) */
    vd_mmio_raise((struct vd_mmio *)t, ISR_USED);
}

static void transport_config_set(struct vd_transport *t, struct vd_device *dev, uint32_t offset,
                                 const void *from, uint32_t len) {
    struct vd_mmio *m = (struct vd_mmio *)t;
    vd_lock(&m->config_lock, m->host);
    memcpy(&dev->config[offset], from, len);
    bool attached = m->dev == dev;
    if (attached)
        __atomic_fetch_add(&m->generation, 1, __ATOMIC_SEQ_CST);
    vd_unlock(&m->config_lock);
    if (attached)
        vd_mmio_raise(m, ISR_CONFIG);
}

static void transport_config_get(struct vd_transport *t, struct vd_device *dev, uint32_t offset,
                                 void *to, uint32_t len) {
    struct vd_mmio *m = (struct vd_mmio *)t;
    vd_lock(&m->config_lock, m->host);
    memcpy(to, &dev->config[offset], len);
    vd_unlock(&m->config_lock);
}

static bool transport_needs_reset(struct vd_transport *t) {
    struct vd_mmio *m = (struct vd_mmio *)t;
    uint32_t old = __atomic_fetch_or(&m->status, VD_STATUS_NEEDS_RESET, __ATOMIC_SEQ_CST);
    if (old & VD_STATUS_NEEDS_RESET)
        return false;
    vd_mmio_raise(m, ISR_CONFIG); /* §2.1.2 */
    vd_mmio_post(m, VD_EVENT_NEEDS_RESET, 0, 0);
    return true;
}

/* Guest accesses */

/* Holds the device for a vCPU that has not taken the lock; see vd_mmio_detach. */
static struct vd_device *device_get(struct vd_mmio *m) {
    __atomic_fetch_add(&m->in_notify, 1, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&m->dev, __ATOMIC_SEQ_CST);
}

static void device_put(struct vd_mmio *m) {
    __atomic_fetch_sub(&m->in_notify, 1, __ATOMIC_SEQ_CST);
}

static void notify(struct vd_mmio *m, uint32_t value) {
    struct vd_device *dev = device_get(m);
    if (dev) {
        bool data = dev->driver_features >> VD_F_NOTIFICATION_DATA & 1;
        uint32_t queue = data ? value & 0xffff : value;
        uint64_t bit = 1ull << (queue & 63);
        vd_count(&dev->n_kicks);
        if (queue >= dev->n_queues) {
            vd_device_protocol_error(dev,
                                     "notify of a queue that does not exist (virtio 1.4 §4.2.2)");
        } else if (!(mmio_status(m) & VD_STATUS_DRIVER_OK)) {
            vd_count(&m->counters.early_kicks);
            __atomic_fetch_or(&m->kicked, bit, __ATOMIC_SEQ_CST);
            /* DRIVER_OK may have come meanwhile and missed the bit. */
            if ((mmio_status(m) & VD_STATUS_DRIVER_OK) &&
                (__atomic_load_n(&m->ready, __ATOMIC_SEQ_CST) & bit))
                dev->ops->notify(dev, (uint16_t)queue);
        } else if (__atomic_load_n(&m->ready, __ATOMIC_SEQ_CST) & bit) {
            dev->ops->notify(dev, (uint16_t)queue);
        } else {
            vd_count(&m->counters.early_kicks);
        }
    }
    device_put(m);
}

static uint64_t config_read(struct vd_mmio *m, uint64_t offset, unsigned width) {
    uint8_t bytes[8] = {0};
    vd_lock(&m->config_lock, m->host);
    const struct vd_device *dev = m->dev;
    uint64_t room = dev && offset < dev->config_len ? dev->config_len - offset : 0;
    if (room)
        memcpy(bytes, &dev->config[offset], room < width ? room : width);
    vd_unlock(&m->config_lock);
    if (room < width)
        vd_count(&m->counters.config_bounds);
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static void config_write(struct vd_mmio *m, uint64_t offset, unsigned width, uint64_t value) {
    uint8_t bytes[8];
    unsigned stored = 0;
    memcpy(bytes, &value, sizeof bytes);
    vd_lock(&m->lock, m->host);
    struct vd_device *dev = m->dev;
    if (dev) {
        vd_lock(&m->config_lock, m->host);
        for (unsigned i = 0; i < width; i++) {
            if (offset + i < dev->config_len && dev->config_writable[offset + i]) {
                dev->config[offset + i] = bytes[i];
                stored++;
            }
        }
        vd_unlock(&m->config_lock);
        if (stored) {
            vd_count(&dev->n_config_writes);
            if (dev->ops->config_written)
                dev->ops->config_written(dev, (uint32_t)offset, width);
            vd_mmio_post(m, VD_EVENT_CONFIG_WRITTEN, offset, width);
        }
    }
    vd_unlock(&m->lock);
    if (stored < width)
        vd_count(&m->counters.config_bounds);
}

/* The register a guest access means, or NULL, which is counted. */
static const struct vd_mmio_reg *decode(struct vd_mmio *m, uint64_t offset, unsigned width,
                                        enum vd_mmio_access access) {
    if (width != 4 || offset % 4) {
        vd_count(&m->counters.bad_width); /* §4.2.2.2 */
        return NULL;
    }
    const struct vd_mmio_reg *reg = vd_mmio_reg_at(offset);
    if (reg && (reg->access & access))
        return reg;
    vd_count(&m->counters.no_register);
    return NULL;
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned width) {
    struct vd_mmio *m = opaque;
    if (offset >= VD_MMIO_CONFIG)
        return config_read(m, offset - VD_MMIO_CONFIG, width);
    const struct vd_mmio_reg *reg = decode(m, offset, width, VD_MMIO_R);
    if (!reg)
        return 0;
    uint32_t value = 0;
    switch (reg->offset) {
    case REG_MagicValue:
        return MMIO_MAGIC;
    case REG_Version:
        return MMIO_VERSION;
    case REG_VendorID:
        return MMIO_VENDOR;
    case REG_InterruptStatus:
        return __atomic_load_n(&m->isr, __ATOMIC_SEQ_CST);
    case REG_Status:
        return mmio_status(m);
    case REG_ConfigGeneration:
        return __atomic_load_n(&m->generation, __ATOMIC_SEQ_CST);
    case REG_DeviceID: {
        const struct vd_device *dev = device_get(m);
        value = dev ? dev->virtio_id : 0;
        device_put(m);
        return value;
    }
    default:
        vd_lock(&m->lock, m->host);
        value = m->dev ? vd_mmio_control_read(m, reg->offset) : 0;
        vd_unlock(&m->lock);
        return value;
    }
}

static void mmio_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    struct vd_mmio *m = opaque;
    if (offset >= VD_MMIO_CONFIG) {
        config_write(m, offset - VD_MMIO_CONFIG, width, value);
        return;
    }
    const struct vd_mmio_reg *reg = decode(m, offset, width, VD_MMIO_W);
    if (!reg)
        return;
    switch (reg->offset) {
    case REG_QueueNotify:
        notify(m, (uint32_t)value);
        return;
    case REG_InterruptACK:
        vd_mmio_acknowledge(m, (uint32_t)value);
        return;
    default:
        vd_lock(&m->lock, m->host);
        if (m->dev)
            vd_mmio_control_write(m, reg->offset, (uint32_t)value);
        vd_unlock(&m->lock);
    }
}

/* Life cycle */

struct vd_mmio *vd_mmio_new(const struct vd_host *host, uint32_t slot, const struct vd_irq *irq,
                            int event_fd) {
    struct vd_mmio *m = host->alloc(host->opaque, sizeof *m);
    if (!m)
        return NULL;
    m->transport = (struct vd_transport){
        .interrupt = transport_interrupt,
        .config_get = transport_config_get,
        .config_set = transport_config_set,
        .needs_reset = transport_needs_reset,
    };
    m->host = host;
    m->io = (struct vd_io){.read = mmio_read, .write = mmio_write, .opaque = m};
    if (irq)
        m->irq = *irq;
    m->slot = slot;
    m->event_fd = event_fd;
    return m;
}

void vd_mmio_free(struct vd_mmio *m) {
    if (!m)
        return;
    vd_mmio_detach(m);
    m->host->free(m->host->opaque, m);
}

int vd_mmio_attach(struct vd_mmio *m, struct vd_device *dev) {
    if (!dev->virtio_id || !dev->ops || !dev->ops->notify || dev->n_queues > VD_QUEUES_MAX ||
        dev->config_len > VD_CONFIG_MAX || VD_MMIO_CONFIG + dev->config_len > VD_MMIO_SIZE)
        return -EINVAL;
    for (uint32_t i = 0; i < dev->n_queues; i++)
        if (!dev->queue[i] || dev->queue_size_max[i] > VD_QUEUE_SIZE_MAX)
            return -EINVAL;
    vd_lock(&m->lock, m->host);
    if (m->dev) {
        vd_unlock(&m->lock);
        return -EBUSY;
    }
    __atomic_store_n(&dev->transport, &m->transport, __ATOMIC_RELEASE);
    dev->driver_features = 0;
    vd_lock(&m->config_lock, m->host);
    __atomic_store_n(&m->dev, dev, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&m->generation, 1, __ATOMIC_SEQ_CST);
    vd_unlock(&m->config_lock);
    vd_mmio_forget_events(m); /* those of the last device, if nobody fetched them */
    vd_unlock(&m->lock);
    return 0;
}

struct vd_device *vd_mmio_detach(struct vd_mmio *m) {
    vd_lock(&m->lock, m->host);
    struct vd_device *dev = m->dev;
    if (dev) {
        vd_mmio_reset_locked(m);
        vd_lock(&m->config_lock, m->host);
        __atomic_store_n(&m->dev, NULL, __ATOMIC_SEQ_CST);
        vd_unlock(&m->config_lock);
        /* vCPUs that saw the device before are out of it soon. */
        for (unsigned spins = 0; __atomic_load_n(&m->in_notify, __ATOMIC_SEQ_CST); spins++)
            vd_relax(m->host, spins);
        /* One of them may have complained since the reset. */
        __atomic_store_n(&m->status, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&dev->transport, NULL, __ATOMIC_RELEASE);
    }
    vd_unlock(&m->lock);
    return dev;
}

bool vd_mmio_lose(struct vd_mmio *m) {
    vd_lock(&m->lock, m->host);
    bool able = m->dev && m->dev->ops->lose;
    if (able)
        m->dev->ops->lose(m->dev);
    vd_unlock(&m->lock);
    return able;
}

uint32_t vd_mmio_queues(struct vd_mmio *m) {
    vd_lock(&m->lock, m->host);
    uint32_t queues = m->dev ? m->dev->n_queues : 0;
    vd_unlock(&m->lock);
    return queues;
}

int vd_mmio_doorbell(struct vd_mmio *m, uint32_t queue) {
    vd_lock(&m->lock, m->host);
    struct vd_device *dev = m->dev;
    bool has = dev && queue < dev->n_queues && dev->ops->doorbell;
    int fd = has ? dev->ops->doorbell(dev, (uint16_t)queue) : -1;
    vd_unlock(&m->lock);
    return fd;
}

void vd_mmio_reset(struct vd_mmio *m) {
    vd_lock(&m->lock, m->host);
    vd_mmio_reset_locked(m);
    vd_unlock(&m->lock);
}

const struct vd_io *vd_mmio_io(struct vd_mmio *m) {
    return &m->io;
}

uint32_t vd_mmio_status(const struct vd_mmio *m) {
    return mmio_status(m);
}
