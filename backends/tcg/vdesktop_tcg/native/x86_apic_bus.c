/* SPDX-License-Identifier: GPL-2.0-only
 * How interrupts get from a source to a local APIC: priorities, destinations,
 * acceptance, and the messages between processors. */
#include "x86_lapic.h"

#define ICR_LOGICAL (1u << 11)
#define ICR_ASSERT  (1u << 14)
#define ICR_LEVEL   (1u << 15)

#define DFR_FLAT 0xFu

uint32_t lapic_priority(const struct lapic *apic) {
    int served = apic_bits_highest(&apic->isr);
    uint32_t class = served < 0 ? 0 : (uint32_t)served & 0xF0;

    return (apic->tpr & 0xF0) >= class ? apic->tpr : class;
}

int lapic_pending(const struct lapic *apic) {
    int vector = apic_bits_highest(&apic->irr);

    if (vector < 0 || ((uint32_t)vector & 0xF0) <= (lapic_priority(apic) & 0xF0)) {
        return -1;
    }
    return vector;
}

void lapic_update(struct apic_bus *bus, uint32_t cpu) {
    const struct lapic *apic = &bus->lapic[cpu];

    bus->host.interrupt(bus->host.opaque, cpu, apic->enabled && lapic_pending(apic) >= 0);
}

void lapic_accept(struct apic_bus *bus, uint32_t cpu, uint8_t vector, bool level) {
    struct lapic *apic = &bus->lapic[cpu];

    apic_bits_set(&apic->irr, vector, true);
    apic_bits_set(&apic->tmr, vector, level);
    lapic_update(bus, cpu);
}

void lapic_error(struct apic_bus *bus, uint32_t cpu, uint32_t error) {
    struct lapic *apic = &bus->lapic[cpu];
    uint32_t lvt = apic->lvt[LVT_ERROR];
    bool fresh = !(apic->esr_pending & error);

    apic->esr_pending |= error;
    bus->n_errors++;
    /* An illegal vector here would be an error again, without end. */
    if (fresh && !(lvt & LVT_MASKED) && (lvt & LVT_VECTOR) >= FIRST_VECTOR) {
        lapic_accept(bus, cpu, (uint8_t)(lvt & LVT_VECTOR), false);
    }
}

static bool accept_fixed(struct apic_bus *bus, uint32_t cpu, const struct apic_message *message) {
    if (!lapic_software_enabled(&bus->lapic[cpu])) {
        return false;
    }
    if (message->vector < FIRST_VECTOR) {
        lapic_error(bus, cpu, ESR_RECEIVE_VECTOR);
        return false;
    }
    lapic_accept(bus, cpu, message->vector, message->level);
    return true;
}

static bool matches(const struct lapic *apic, uint32_t cpu, const struct apic_message *message) {
    uint8_t logical = (uint8_t)(apic->ldr >> 24);

    if (!message->logical) {
        return message->destination == 0xFF || message->destination == cpu;
    }
    if (apic->dfr >> 28 == DFR_FLAT) {
        return logical & message->destination;
    }
    uint8_t cluster = message->destination >> 4;
    return (cluster == 0xF || cluster == logical >> 4) && logical & message->destination & 0xF;
}

/* Of the CPUs of `mask` that can take it, the one with the lowest priority;
 * in turn where several have the same. */
static uint32_t lowest(struct apic_bus *bus, uint32_t mask) {
    uint32_t best = APIC_CPUS_MAX, priority = 0;

    for (uint32_t i = 0; i < bus->cpus; i++) {
        uint32_t cpu = (bus->lowest_next + i) % bus->cpus;
        const struct lapic *apic = &bus->lapic[cpu];
        if (!(mask >> cpu & 1) || !lapic_software_enabled(apic)) {
            continue;
        }
        if (best == APIC_CPUS_MAX || lapic_priority(apic) < priority) {
            best = cpu;
            priority = lapic_priority(apic);
        }
    }
    if (best != APIC_CPUS_MAX) {
        bus->lowest_next = (best + 1) % bus->cpus;
    }
    return best;
}

bool apic_send_mask(struct apic_bus *bus, const struct apic_message *message, uint32_t mask) {
    bool accepted = false;

    if (message->mode == APIC_LOWEST) {
        uint32_t cpu = lowest(bus, mask);
        return cpu != APIC_CPUS_MAX && accept_fixed(bus, cpu, message);
    }
    for (uint32_t cpu = 0; cpu < bus->cpus; cpu++) {
        if (!(mask >> cpu & 1) || !bus->lapic[cpu].enabled) {
            continue;
        }
        switch (message->mode) {
        case APIC_FIXED:
            accepted |= accept_fixed(bus, cpu, message);
            break;
        case APIC_NMI:
            bus->host.nmi(bus->host.opaque, cpu);
            accepted = true;
            break;
        case APIC_INIT:
            bus->host.init(bus->host.opaque, cpu);
            accepted = true;
            break;
        case APIC_STARTUP:
            bus->host.sipi(bus->host.opaque, cpu, message->vector);
            accepted = true;
            break;
        default:
            break;
        }
    }
    return accepted;
}

bool apic_send(struct apic_bus *bus, const struct apic_message *message) {
    uint32_t mask = 0;

    for (uint32_t cpu = 0; cpu < bus->cpus; cpu++) {
        mask |= (uint32_t)matches(&bus->lapic[cpu], cpu, message) << cpu;
    }
    return apic_send_mask(bus, message, mask);
}

void lapic_send_ipi(struct apic_bus *bus, uint32_t cpu) {
    const struct lapic *apic = &bus->lapic[cpu];
    uint32_t icr = apic->icr_low, all = (1u << bus->cpus) - 1, mask;
    struct apic_message message = {
        .vector = (uint8_t)icr,
        .mode = (enum apic_mode)(icr >> 8 & 7),
        .logical = icr & ICR_LOGICAL,
        .destination = (uint8_t)(apic->icr_high >> 24),
    };

    bus->n_ipis++;
    if (message.mode == APIC_INIT && icr & ICR_LEVEL && !(icr & ICR_ASSERT)) {
        return; /* INIT level de-assert: a no-op since the Pentium 4 */
    }
    if ((message.mode == APIC_FIXED || message.mode == APIC_LOWEST) &&
        message.vector < FIRST_VECTOR) {
        lapic_error(bus, cpu, ESR_SEND_VECTOR);
        return;
    }
    switch (icr >> 18 & 3) {
    case 0:
        mask = 0;
        for (uint32_t to = 0; to < bus->cpus; to++) {
            mask |= (uint32_t)matches(&bus->lapic[to], to, &message) << to;
        }
        break;
    case 1:
        mask = 1u << cpu;
        break;
    case 2:
        mask = all;
        break;
    default:
        mask = all & ~(1u << cpu);
        break;
    }
    if (!apic_send_mask(bus, &message, mask)) {
        return;
    }
    mask &= ~(1u << cpu);
    if (mask) {
        bus->host.prefer(bus->host.opaque, (uint32_t)__builtin_ctz(mask));
    }
}
