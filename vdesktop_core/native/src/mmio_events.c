/* SPDX-License-Identifier: MIT
 * What the control thread hears of a slot, and the slot's counters. */
#include "mmio.h"

void vd_mmio_post(struct vd_mmio *m, enum vd_event_kind kind, uint64_t a, uint64_t b) {
    struct mmio_events *e = &m->events;
    vd_lock(&m->event_lock, m->host);
    bool idle = !e->kinds;
    switch (kind) {
    case VD_EVENT_RESET:
        *e = (struct mmio_events){0};
        break;
    case VD_EVENT_FEATURES_OK:
        e->features = a;
        break;
    case VD_EVENT_QUEUE_RESET:
        e->queue_reset |= 1ull << a;
        e->queue_ready &= ~(1ull << a);
        if (!e->queue_ready)
            e->kinds &= ~(1u << VD_EVENT_QUEUE_READY);
        break;
    case VD_EVENT_QUEUE_READY:
        e->queue_ready |= 1ull << a;
        break;
    case VD_EVENT_CONFIG_WRITTEN: {
        bool first = !(e->kinds & 1u << kind);
        uint32_t from = (uint32_t)a, to = (uint32_t)(a + b);
        e->config_from = first || from < e->config_from ? from : e->config_from;
        e->config_to = first || to > e->config_to ? to : e->config_to;
        break;
    }
    case VD_EVENT_DRIVER_OK:
    case VD_EVENT_NEEDS_RESET:
        break;
    }
    e->kinds |= 1u << kind;
    vd_unlock(&m->event_lock);
    if (idle && m->event_fd >= 0)
        m->host->wake(m->host->opaque, m->event_fd);
}

void vd_mmio_forget_events(struct vd_mmio *m) {
    vd_lock(&m->event_lock, m->host);
    m->events = (struct mmio_events){0};
    vd_unlock(&m->event_lock);
}

/* Takes one queue out of a set; true if it was the last. */
static bool take_queue(uint64_t *set, uint64_t *queue) {
    *queue = (uint64_t)__builtin_ctzll(*set);
    *set &= *set - 1;
    return !*set;
}

int vd_mmio_poll_event(struct vd_mmio *m, struct vd_event *event) {
    struct mmio_events *e = &m->events;
    bool done = true;
    vd_lock(&m->event_lock, m->host);
    if (!e->kinds) {
        vd_unlock(&m->event_lock);
        return 0;
    }
    *event = (struct vd_event){.slot = m->slot, .kind = (uint32_t)__builtin_ctz(e->kinds)};
    switch (event->kind) {
    case VD_EVENT_FEATURES_OK:
        event->a = e->features;
        break;
    case VD_EVENT_QUEUE_RESET:
        done = take_queue(&e->queue_reset, &event->a);
        break;
    case VD_EVENT_QUEUE_READY:
        done = take_queue(&e->queue_ready, &event->a);
        break;
    case VD_EVENT_CONFIG_WRITTEN:
        event->a = e->config_from;
        event->b = e->config_to - e->config_from;
        break;
    default:
        break;
    }
    if (done)
        e->kinds &= ~(1u << event->kind);
    vd_unlock(&m->event_lock);
    return 1;
}

void vd_mmio_counters(const struct vd_mmio *m, struct vd_mmio_counters *to) {
    const struct vd_mmio_counters *from = &m->counters;
    *to = (struct vd_mmio_counters){
        .bad_width = __atomic_load_n(&from->bad_width, __ATOMIC_RELAXED),
        .no_register = __atomic_load_n(&from->no_register, __ATOMIC_RELAXED),
        .out_of_turn = __atomic_load_n(&from->out_of_turn, __ATOMIC_RELAXED),
        .config_bounds = __atomic_load_n(&from->config_bounds, __ATOMIC_RELAXED),
        .early_kicks = __atomic_load_n(&from->early_kicks, __ATOMIC_RELAXED),
        .irq_raised = __atomic_load_n(&from->irq_raised, __ATOMIC_RELAXED),
    };
}
