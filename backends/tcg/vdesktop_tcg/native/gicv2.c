/* SPDX-License-Identifier: GPL-2.0-only
 * The state of a GICv2: what is pending, what is active, who is interrupted.
 * Section numbers are those of Arm IHI 0048B. Registers are in gicv2_mmio.c. */
#include "gicv2.h"

#include <string.h>

#include "gicv2_state.h"

/* 32 priorities are implemented: the low three bits are RAZ/WI. */
#define PRIORITY_SHIFT 3u

struct gic_bits *gicv2_bits(struct gicv2 *gic, uint32_t cpu, uint32_t word) {
    return word == 0 ? &gic->cpu[cpu].own : &gic->shared[word];
}

uint8_t *gicv2_priority(struct gicv2 *gic, uint32_t cpu, uint32_t irq) {
    return irq < GIC_PRIVATE ? &gic->cpu[cpu].priority[irq] : &gic->priority[irq];
}

/* §3.3: highest priority first, then lowest number. */
static uint32_t highest_pending(struct gicv2 *gic, uint32_t cpu, uint8_t *priority) {
    uint32_t best = GIC_SPURIOUS;
    *priority = 0xff;
    for (uint32_t w = 0; w < GIC_WORDS; w++) {
        const struct gic_bits *b = gicv2_bits(gic, cpu, w);
        uint32_t ready = b->enabled & (b->pending | (b->level & ~b->edge)) & ~b->active;
        for (; ready; ready &= ready - 1) {
            uint32_t irq = w * 32 + (uint32_t)__builtin_ctz(ready);
            if (w > 0 && !(gic->target[irq] >> cpu & 1u))
                continue;
            uint8_t p = *gicv2_priority(gic, cpu, irq);
            if (best == GIC_SPURIOUS || p < *priority) {
                best = irq;
                *priority = p;
            }
        }
    }
    return best;
}

/* §3.3.3: the group priority field of a priority value. */
static uint8_t group_priority(const struct gic_cpu *c, uint8_t priority) {
    return (uint8_t)(priority & (0xffu << (c->binary_point + 1)));
}

uint8_t gicv2_running(const struct gic_cpu *c) {
    return c->apr ? (uint8_t)(__builtin_ctz(c->apr) << PRIORITY_SHIFT) : 0xff;
}

uint32_t gicv2_signalled(struct gicv2 *gic, uint32_t cpu) {
    struct gic_cpu *c = &gic->cpu[cpu];
    uint8_t priority;
    if (!(gic->control & 1u) || !(c->control & 1u))
        return GIC_SPURIOUS;
    uint32_t irq = highest_pending(gic, cpu, &priority);
    if (irq == GIC_SPURIOUS || priority >= c->mask)
        return GIC_SPURIOUS;
    return c->apr && group_priority(c, priority) >= gicv2_running(c) ? GIC_SPURIOUS : irq;
}

void gicv2_update(struct gicv2 *gic) {
    for (uint32_t cpu = 0; cpu < gic->n_cpus; cpu++)
        gic->output(gic->opaque, cpu, gicv2_signalled(gic, cpu) != GIC_SPURIOUS);
}

uint32_t gicv2_acknowledge(struct gicv2 *gic, uint32_t cpu) {
    struct gic_cpu *c = &gic->cpu[cpu];
    uint32_t irq = gicv2_signalled(gic, cpu), source = 0;
    if (irq == GIC_SPURIOUS)
        return irq;
    struct gic_bits *b = gicv2_bits(gic, cpu, irq / 32);
    uint32_t bit = 1u << (irq % 32);
    b->active |= bit;
    if (irq < 16) {
        source = (uint32_t)__builtin_ctz(c->sgi_source[irq]);
        c->sgi_source[irq] &= (uint8_t)(c->sgi_source[irq] - 1);
        if (!c->sgi_source[irq])
            b->pending &= ~bit;
    } else {
        b->pending &= ~bit; /* a level that is still high stays pending */
    }
    c->apr |= 1u << (group_priority(c, *gicv2_priority(gic, cpu, irq)) >> PRIORITY_SHIFT);
    if (gic->n_acknowledged)
        ++*gic->n_acknowledged;
    gicv2_update(gic);
    return irq | source << 10;
}

void gicv2_deactivate(struct gicv2 *gic, uint32_t cpu, uint32_t irq) {
    if (irq < GIC_IRQS)
        gicv2_bits(gic, cpu, irq / 32)->active &= ~(1u << (irq % 32));
}

void gicv2_end(struct gicv2 *gic, uint32_t cpu, uint32_t irq) {
    struct gic_cpu *c = &gic->cpu[cpu];
    if (irq >= GIC_IRQS)
        return;
    c->apr &= c->apr - 1;
    if (!(c->control & GICC_CTLR_EOIMODE))
        gicv2_deactivate(gic, cpu, irq);
    gicv2_update(gic);
}

void gicv2_send_sgi(struct gicv2 *gic, uint32_t from, uint32_t to, uint32_t sgi) {
    gic->cpu[to].sgi_source[sgi] |= (uint8_t)(1u << from);
    gic->cpu[to].own.pending |= 1u << sgi;
}

static void set_line(struct gicv2 *gic, uint32_t cpu, uint32_t irq, bool level) {
    struct gic_bits *b = gicv2_bits(gic, cpu, irq / 32);
    uint32_t bit = 1u << (irq % 32);
    if (level && !(b->level & bit) && (b->edge & bit))
        b->pending |= bit;
    b->level = level ? b->level | bit : b->level & ~bit;
    gicv2_update(gic);
}

void gicv2_spi(struct gicv2 *gic, uint32_t spi, bool level) {
    if (spi < GIC_SPIS)
        set_line(gic, 0, GIC_PRIVATE + spi, level);
}

void gicv2_ppi(struct gicv2 *gic, uint32_t cpu, uint32_t intid, bool level) {
    if (!(gic->cpu[cpu].own.level >> intid & 1u) != !level)
        set_line(gic, cpu, intid, level);
}

void gicv2_reset(struct gicv2 *gic) {
    gic->control = 0;
    memset(gic->shared, 0, sizeof gic->shared);
    memset(gic->priority, 0, sizeof gic->priority);
    memset(gic->target, 0, sizeof gic->target);
    memset(gic->cpu, 0, sizeof gic->cpu);
    for (uint32_t cpu = 0; cpu < GIC_CPUS_MAX; cpu++) {
        gic->cpu[cpu].own.enabled = 0xffff; /* SGIs: permanently (§3.2.2) */
        gic->cpu[cpu].own.edge = 0xffff;
        gic->cpu[cpu].binary_point = GICC_BPR_MIN;
    }
}
