/* SPDX-License-Identifier: GPL-2.0-only
 * The timer of a local APIC: one-shot, periodic and TSC-deadline mode (SDM
 * vol. 3, "APIC Timer"). Deadlines are kept in ticks of the bus's clock; the
 * guest's TSC may be offset from it. */
#include "x86_lapic.h"

static uint32_t divisor_shift(const struct lapic *apic) {
    uint32_t code = (apic->divide & 3) | (apic->divide >> 1 & 4);

    return (code + 1) & 7; /* 0: by 2 … 6: by 128, 7: by 1 */
}

static uint64_t period(const struct lapic *apic) {
    return (uint64_t)apic->timer_initial << divisor_shift(apic);
}

static void arm(struct apic_bus *bus, uint32_t cpu, uint64_t deadline) {
    bus->lapic[cpu].timer_deadline = deadline;
    if (deadline != APIC_NEVER) {
        bus->host.timer(bus->host.opaque, cpu, deadline);
    }
}

static uint64_t periodic_ticks(const struct lapic *apic) {
    uint64_t ticks = period(apic);

    return ticks < LAPIC_PERIOD_MIN ? LAPIC_PERIOD_MIN : ticks;
}

void lapic_timer_start(struct apic_bus *bus, uint32_t cpu) {
    struct lapic *apic = &bus->lapic[cpu];
    uint32_t mode = apic->lvt[LVT_TIMER] & LVT_MODE;

    if (mode == LVT_DEADLINE || !apic->timer_initial) {
        arm(bus, cpu, APIC_NEVER);
        return;
    }
    apic->timer_start = bus->host.now(bus->host.opaque);
    arm(bus, cpu, apic->timer_start + (mode == LVT_PERIODIC ? periodic_ticks(apic) : period(apic)));
}

uint32_t lapic_timer_count(struct apic_bus *bus, uint32_t cpu) {
    const struct lapic *apic = &bus->lapic[cpu];
    uint64_t now = bus->host.now(bus->host.opaque);

    if (apic->timer_deadline == APIC_NEVER || (apic->lvt[LVT_TIMER] & LVT_MODE) == LVT_DEADLINE ||
        now >= apic->timer_deadline) {
        return 0;
    }
    return (uint32_t)((apic->timer_deadline - now) >> divisor_shift(apic));
}

uint64_t lapic_timer(struct apic_bus *bus, uint32_t cpu, uint64_t now) {
    struct lapic *apic = &bus->lapic[cpu];
    uint32_t lvt = apic->lvt[LVT_TIMER];

    if (apic->timer_deadline > now) {
        return apic->timer_deadline;
    }
    if ((lvt & LVT_MODE) == LVT_PERIODIC) {
        uint64_t ticks = periodic_ticks(apic);
        /* Periods that were missed are lost, and the phase is kept. */
        apic->timer_deadline += ((now - apic->timer_deadline) / ticks + 1) * ticks;
    } else {
        apic->timer_deadline = APIC_NEVER;
        apic->tsc_deadline = 0;
    }
    if (!(lvt & LVT_MASKED) && lapic_software_enabled(apic)) {
        if ((lvt & LVT_VECTOR) < FIRST_VECTOR) {
            lapic_error(bus, cpu, ESR_RECEIVE_VECTOR);
        } else {
            lapic_accept(bus, cpu, (uint8_t)(lvt & LVT_VECTOR), false);
        }
    }
    return apic->timer_deadline;
}

uint64_t lapic_tsc_deadline(const struct apic_bus *bus, uint32_t cpu) {
    const struct lapic *apic = &bus->lapic[cpu];

    return (apic->lvt[LVT_TIMER] & LVT_MODE) == LVT_DEADLINE ? apic->tsc_deadline : 0;
}

/* When the guest's TSC reads `value`, on the bus's clock. */
static uint64_t clock_of_tsc(const struct lapic *apic, uint64_t value) {
    uint64_t clock;

    if (__builtin_sub_overflow(value, apic->tsc_offset, &clock)) {
        return apic->tsc_offset > 0 ? 0 : APIC_NEVER - 1;
    }
    return clock == APIC_NEVER ? clock - 1 : clock;
}

static void arm_deadline(struct apic_bus *bus, uint32_t cpu) {
    const struct lapic *apic = &bus->lapic[cpu];

    arm(bus, cpu, apic->tsc_deadline ? clock_of_tsc(apic, apic->tsc_deadline) : APIC_NEVER);
}

void lapic_set_tsc_deadline(struct apic_bus *bus, uint32_t cpu, uint64_t value) {
    struct lapic *apic = &bus->lapic[cpu];

    if ((apic->lvt[LVT_TIMER] & LVT_MODE) == LVT_DEADLINE) {
        apic->tsc_deadline = value;
        arm_deadline(bus, cpu);
    }
}

int64_t lapic_tsc_offset(const struct apic_bus *bus, uint32_t cpu) {
    return bus->lapic[cpu].tsc_offset;
}

void lapic_set_tsc_offset(struct apic_bus *bus, uint32_t cpu, int64_t offset) {
    struct lapic *apic = &bus->lapic[cpu];

    apic->tsc_offset = offset;
    if ((apic->lvt[LVT_TIMER] & LVT_MODE) == LVT_DEADLINE) {
        arm_deadline(bus, cpu);
    }
}

void lapic_timer_disarm(struct apic_bus *bus, uint32_t cpu) {
    bus->lapic[cpu].tsc_deadline = 0;
    arm(bus, cpu, APIC_NEVER);
}
