/* SPDX-License-Identifier: MIT */
#include "vdesktop/acpi_events.h"

#include "lock.h"

struct vd_acpi_events {
    const struct vd_host *host;
    struct vd_irq irq;
    struct vd_io io;
    struct vd_lock lock;
    uint32_t pending; /* atomic; changes under `lock` */
    uint32_t slots;   /* atomic */
};

/* Under the lock, so that the line cannot be left in the state of an older value. */
static void change(struct vd_acpi_events *e, uint32_t clear, uint32_t set) {
    vd_lock(&e->lock, e->host);
    uint32_t was = e->pending, is = (was & ~clear) | set;
    __atomic_store_n(&e->pending, is, __ATOMIC_SEQ_CST);
    if (!was != !is)
        e->irq.set(e->irq.opaque, is);
    vd_unlock(&e->lock);
}

static uint64_t events_read(void *opaque, uint64_t offset, unsigned width) {
    const struct vd_acpi_events *e = opaque;
    if (width != 4)
        return 0;
    switch (offset) {
    case VD_ACPI_EVENTS_PENDING:
        return __atomic_load_n(&e->pending, __ATOMIC_SEQ_CST);
    case VD_ACPI_EVENTS_SLOTS:
        return __atomic_load_n(&e->slots, __ATOMIC_SEQ_CST);
    default:
        return 0;
    }
}

static void events_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    if (width == 4 && offset == VD_ACPI_EVENTS_PENDING)
        change(opaque, (uint32_t)value, 0);
}

struct vd_acpi_events *vd_acpi_events_new(const struct vd_host *host, const struct vd_irq *irq) {
    struct vd_acpi_events *e = host->alloc(host->opaque, sizeof *e);
    if (!e)
        return NULL;
    e->host = host;
    e->irq = *irq;
    e->io = (struct vd_io){.read = events_read, .write = events_write, .opaque = e};
    return e;
}

void vd_acpi_events_free(struct vd_acpi_events *e) {
    if (e)
        e->host->free(e->host->opaque, e);
}

const struct vd_io *vd_acpi_events_io(struct vd_acpi_events *e) {
    return &e->io;
}

void vd_acpi_events_set_slots(struct vd_acpi_events *e, uint32_t present) {
    __atomic_store_n(&e->slots, present, __ATOMIC_SEQ_CST);
}

void vd_acpi_events_raise(struct vd_acpi_events *e, uint32_t bits) {
    change(e, 0, bits);
}

void vd_acpi_events_reset(struct vd_acpi_events *e) {
    change(e, UINT32_MAX, 0);
}

uint32_t vd_acpi_events_pending(const struct vd_acpi_events *e) {
    return __atomic_load_n(&e->pending, __ATOMIC_SEQ_CST);
}
