/* SPDX-License-Identifier: GPL-2.0-only */
#include "x86_lapic.h"

#include <string.h>

/* Register offsets (SDM vol. 3, "Local APIC Register Address Map"). */
enum {
    REG_ID = 0x020,
    REG_VERSION = 0x030,
    REG_TPR = 0x080,
    REG_PPR = 0x0A0,
    REG_EOI = 0x0B0,
    REG_LDR = 0x0D0,
    REG_DFR = 0x0E0,
    REG_SVR = 0x0F0,
    REG_ISR = 0x100,
    REG_TMR = 0x180,
    REG_IRR = 0x200,
    REG_BITS_END = 0x280,
    REG_ESR = 0x280,
    REG_ICR_LOW = 0x300,
    REG_ICR_HIGH = 0x310,
    REG_LVT = 0x320, /* six of them */
    REG_LVT_END = 0x380,
    REG_TIMER_INITIAL = 0x380,
    REG_TIMER_CURRENT = 0x390,
    REG_TIMER_DIVIDE = 0x3E0,
};

#define VERSION (0x14u | (LVT_COUNT - 1) << 16)

#define SVR_WRITABLE 0x3FFu

#define ICR_WRITABLE 0x000CCFFFu

static const uint32_t lvt_writable[LVT_COUNT] = {
    [LVT_TIMER] = LVT_VECTOR | LVT_MASKED | LVT_MODE,
    [LVT_THERMAL] = LVT_VECTOR | 7u << 8 | LVT_MASKED,
    [LVT_PERF] = LVT_VECTOR | 7u << 8 | LVT_MASKED,
    [LVT_LINT0] = LVT_VECTOR | 7u << 8 | 1u << 13 | 1u << 15 | LVT_MASKED,
    [LVT_LINT1] = LVT_VECTOR | 7u << 8 | 1u << 13 | 1u << 15 | LVT_MASKED,
    [LVT_ERROR] = LVT_VECTOR | LVT_MASKED,
};

static void end_of_interrupt(struct apic_bus *bus, uint32_t cpu) {
    struct lapic *apic = &bus->lapic[cpu];
    int vector = apic_bits_highest(&apic->isr);

    if (vector < 0) {
        return;
    }
    apic_bits_set(&apic->isr, (uint8_t)vector, false);
    if (apic_bits_get(&apic->tmr, (uint8_t)vector)) {
        ioapic_end_of_interrupt(bus, (uint8_t)vector);
    }
    lapic_update(bus, cpu);
}

int lapic_acknowledge(struct apic_bus *bus, uint32_t cpu) {
    struct lapic *apic = &bus->lapic[cpu];

    if (!apic->enabled) {
        return -1;
    }
    int vector = lapic_pending(apic);
    if (vector < 0) {
        bus->n_spurious++;
        lapic_update(bus, cpu);
        return (int)(apic->svr & LVT_VECTOR);
    }
    apic_bits_set(&apic->irr, (uint8_t)vector, false);
    apic_bits_set(&apic->isr, (uint8_t)vector, true);
    lapic_update(bus, cpu);
    return vector;
}

static void write_lvt(struct apic_bus *bus, uint32_t cpu, enum lapic_lvt which, uint32_t value) {
    struct lapic *apic = &bus->lapic[cpu];
    uint32_t before = apic->lvt[which];

    value &= lvt_writable[which];
    if (!(apic->svr & SVR_ENABLE)) {
        value |= LVT_MASKED;
    }
    apic->lvt[which] = value;
    if (which == LVT_TIMER && (before ^ value) & LVT_MODE) {
        /* Into or out of TSC-deadline mode: disarmed. Else: counting goes on. */
        if ((before | value) & LVT_DEADLINE) {
            lapic_timer_disarm(bus, cpu);
        }
    }
}

static void write_svr(struct apic_bus *bus, uint32_t cpu, uint32_t value) {
    struct lapic *apic = &bus->lapic[cpu];

    apic->svr = value & SVR_WRITABLE;
    if (!(value & SVR_ENABLE)) {
        for (uint32_t i = 0; i < LVT_COUNT; i++) {
            apic->lvt[i] |= LVT_MASKED;
        }
    }
    lapic_update(bus, cpu);
}

static const struct apic_bits *bits_register(const struct lapic *apic, uint32_t offset) {
    return offset < REG_TMR ? &apic->isr : offset < REG_IRR ? &apic->tmr : &apic->irr;
}

uint32_t lapic_read(struct apic_bus *bus, uint32_t cpu, uint32_t offset) {
    const struct lapic *apic = &bus->lapic[cpu];

    if (offset >= REG_ISR && offset < REG_BITS_END && !(offset & 0xF)) {
        return bits_register(apic, offset)->word[offset >> 4 & 7];
    }
    if (offset >= REG_LVT && offset < REG_LVT_END && !(offset & 0xF)) {
        return apic->lvt[(offset - REG_LVT) >> 4];
    }
    switch (offset) {
    case REG_ID:
        return cpu << 24;
    case REG_VERSION:
        return VERSION;
    case REG_TPR:
        return apic->tpr;
    case REG_PPR:
        return lapic_priority(apic);
    case REG_LDR:
        return apic->ldr;
    case REG_DFR:
        return apic->dfr;
    case REG_SVR:
        return apic->svr;
    case REG_ESR:
        return apic->esr;
    case REG_ICR_LOW:
        return apic->icr_low; /* never busy: sent at once */
    case REG_ICR_HIGH:
        return apic->icr_high;
    case REG_TIMER_INITIAL:
        return apic->timer_initial;
    case REG_TIMER_CURRENT:
        return lapic_timer_count(bus, cpu);
    case REG_TIMER_DIVIDE:
        return apic->divide;
    case REG_EOI:
        return 0; /* write-only */
    default:
        lapic_error(bus, cpu, ESR_REGISTER);
        return 0;
    }
}

void lapic_write(struct apic_bus *bus, uint32_t cpu, uint32_t offset, uint32_t value) {
    struct lapic *apic = &bus->lapic[cpu];

    if (offset >= REG_LVT && offset < REG_LVT_END && !(offset & 0xF)) {
        write_lvt(bus, cpu, (enum lapic_lvt)((offset - REG_LVT) >> 4), value);
        return;
    }
    switch (offset) {
    case REG_EOI:
        end_of_interrupt(bus, cpu);
        break;
    case REG_TPR:
        apic->tpr = value & 0xFF;
        lapic_update(bus, cpu);
        break;
    case REG_LDR:
        apic->ldr = value & 0xFF000000u;
        break;
    case REG_DFR:
        apic->dfr = value | 0x0FFFFFFFu;
        break;
    case REG_SVR:
        write_svr(bus, cpu, value);
        break;
    case REG_ESR:
        apic->esr = apic->esr_pending;
        apic->esr_pending = 0;
        break;
    case REG_ICR_LOW:
        apic->icr_low = value & ICR_WRITABLE;
        lapic_send_ipi(bus, cpu);
        break;
    case REG_ICR_HIGH:
        apic->icr_high = value & 0xFF000000u;
        break;
    case REG_TIMER_INITIAL:
        if ((apic->lvt[LVT_TIMER] & LVT_MODE) != LVT_DEADLINE) {
            apic->timer_initial = value;
            lapic_timer_start(bus, cpu);
        }
        break;
    case REG_TIMER_DIVIDE:
        apic->divide = value & 0xB;
        break;
    case REG_ID:      /* read-only since the Nehalem */
    case REG_VERSION: /* read-only, as the rest below */
    case REG_PPR:
    case REG_TIMER_CURRENT:
        break;
    default:
        if (offset < REG_ISR || offset >= REG_BITS_END || offset & 0xF) {
            lapic_error(bus, cpu, ESR_REGISTER);
        }
        break;
    }
}

uint32_t lapic_task_priority(const struct apic_bus *bus, uint32_t cpu) {
    return bus->lapic[cpu].tpr >> 4;
}

void lapic_set_task_priority(struct apic_bus *bus, uint32_t cpu, uint32_t priority) {
    lapic_write(bus, cpu, REG_TPR, (priority & 0xF) << 4);
}

void lapic_enable(struct apic_bus *bus, uint32_t cpu, bool enabled) {
    if (bus->lapic[cpu].enabled && !enabled) {
        lapic_reset(bus, cpu); /* SDM: as at power-up when it is enabled again */
    }
    bus->lapic[cpu].enabled = enabled;
    lapic_update(bus, cpu);
}

void lapic_reset(struct apic_bus *bus, uint32_t cpu) {
    struct lapic *apic = &bus->lapic[cpu];

    int64_t tsc_offset = apic->tsc_offset; /* no part of the APIC, and INIT leaves it */

    memset(apic, 0, sizeof *apic);
    apic->tsc_offset = tsc_offset;
    apic->enabled = true;
    apic->dfr = 0xFFFFFFFFu;
    apic->svr = 0xFF;
    apic->timer_deadline = APIC_NEVER;
    for (uint32_t i = 0; i < LVT_COUNT; i++) {
        apic->lvt[i] = LVT_MASKED;
    }
    lapic_update(bus, cpu);
}

void apic_bus_reset(struct apic_bus *bus, uint32_t cpus) {
    bus->cpus = cpus;
    bus->lowest_next = 0;
    for (uint32_t cpu = 0; cpu < cpus; cpu++) {
        bus->lapic[cpu].tsc_offset = 0;
        lapic_reset(bus, cpu);
    }
    ioapic_reset(bus);
}
