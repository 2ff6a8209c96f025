/* SPDX-License-Identifier: GPL-2.0-only
 * The registers of a GICv2 (Arm IHI 0048B, chapter 4). */
#include "gicv2_state.h"

/* Distributor, §4.3. Ranges are half open. */
enum {
    GICD_CTLR = 0x000,
    GICD_TYPER = 0x004,
    GICD_IIDR = 0x008,
    GICD_ISENABLER = 0x100,
    GICD_ICENABLER = 0x180,
    GICD_ISPENDR = 0x200,
    GICD_ICPENDR = 0x280,
    GICD_ISACTIVER = 0x300,
    GICD_ICACTIVER = 0x380,
    GICD_IPRIORITYR = 0x400,
    GICD_ITARGETSR = 0x800,
    GICD_ICFGR = 0xc00,
    GICD_SGIR = 0xf00,
    GICD_CPENDSGIR = 0xf10,
    GICD_SPENDSGIR = 0xf20,
    GICD_PIDR2 = 0xfe8,
};
#define GICD_IIDR_VALUE  0x0200043bu /* Arm as implementer */
#define GICD_PIDR2_VALUE 0x2bu       /* architecture version 2 */

/* CPU interface, §4.4. */
enum {
    GICC_CTLR = 0x00,
    GICC_PMR = 0x04,
    GICC_BPR = 0x08,
    GICC_IAR = 0x0c,
    GICC_EOIR = 0x10,
    GICC_RPR = 0x14,
    GICC_HPPIR = 0x18,
    GICC_APR0 = 0xd0,
    GICC_IIDR = 0xfc,
    GICC_DIR = 0x1000,
};
#define GICC_IIDR_VALUE 0x0202043bu
#define PRIORITY_BITS   0xf8u

/* One byte of the byte-accessible arrays. */
static uint8_t read_byte(struct gicv2 *gic, uint32_t cpu, uint32_t at) {
    if (at < GICD_ITARGETSR)
        return at - GICD_IPRIORITYR < GIC_IRQS ? *gicv2_priority(gic, cpu, at - GICD_IPRIORITYR)
                                               : 0;
    if (at < GICD_ICFGR) {
        uint32_t irq = at - GICD_ITARGETSR;
        if (irq < GIC_PRIVATE)
            return (uint8_t)(1u << cpu); /* read-only: how software learns its number */
        return irq < GIC_IRQS ? gic->target[irq] : 0;
    }
    return gic->cpu[cpu].sgi_source[at & 15u];
}

static void write_byte(struct gicv2 *gic, uint32_t cpu, uint32_t at, uint8_t value) {
    if (at < GICD_ITARGETSR) {
        if (at - GICD_IPRIORITYR < GIC_IRQS)
            *gicv2_priority(gic, cpu, at - GICD_IPRIORITYR) = value & PRIORITY_BITS;
    } else if (at < GICD_ICFGR) {
        uint32_t irq = at - GICD_ITARGETSR;
        if (irq >= GIC_PRIVATE && irq < GIC_IRQS)
            gic->target[irq] = value & (uint8_t)((1u << gic->n_cpus) - 1);
    } else {
        struct gic_cpu *c = &gic->cpu[cpu];
        uint32_t sgi = at & 15u;
        if (at < GICD_SPENDSGIR)
            c->sgi_source[sgi] &= (uint8_t)~value;
        else
            c->sgi_source[sgi] |= value & (uint8_t)((1u << gic->n_cpus) - 1);
        uint32_t bit = 1u << sgi;
        c->own.pending = c->sgi_source[sgi] ? c->own.pending | bit : c->own.pending & ~bit;
    }
}

static bool is_bytes(uint32_t at) {
    return (at >= GICD_IPRIORITYR && at < GICD_ICFGR) ||
           (at >= GICD_CPENDSGIR && at < GICD_SPENDSGIR + 16);
}

/* GICD_ICFGR: two bits an interrupt, the upper one: edge-triggered. */
static uint32_t read_config(struct gicv2 *gic, uint32_t cpu, uint32_t index) {
    uint32_t edge = gicv2_bits(gic, cpu, index / 2)->edge >> (index % 2 * 16), value = 0;
    for (uint32_t i = 0; i < 16; i++)
        value |= (edge >> i & 1u) << (2 * i + 1);
    return value;
}

static void write_config(struct gicv2 *gic, uint32_t cpu, uint32_t index, uint32_t value) {
    uint32_t shift = index % 2 * 16, edge = 0;
    if (index == 0)
        return; /* SGIs */
    for (uint32_t i = 0; i < 16; i++)
        edge |= (value >> (2 * i + 1) & 1u) << i;
    struct gic_bits *b = gicv2_bits(gic, cpu, index / 2);
    b->edge = (b->edge & ~(0xffffu << shift)) | edge << shift;
}

static uint32_t read_bits(struct gicv2 *gic, uint32_t cpu, uint32_t at) {
    uint32_t word = (at & 0x7fu) / 4;
    if (word >= GIC_WORDS)
        return 0;
    const struct gic_bits *b = gicv2_bits(gic, cpu, word);
    switch (at & ~0xffu) {
    case GICD_ISENABLER:
        return b->enabled;
    case GICD_ISPENDR:
        return b->pending | (b->level & ~b->edge);
    default:
        return b->active;
    }
}

static void write_bits(struct gicv2 *gic, uint32_t cpu, uint32_t at, uint32_t value) {
    uint32_t word = (at & 0x7fu) / 4;
    if (word >= GIC_WORDS)
        return;
    struct gic_bits *b = gicv2_bits(gic, cpu, word);
    uint32_t sgis = word == 0 ? 0xffffu : 0; /* enabled for ever; pending through SPENDSGIR */
    switch (at & ~0x7fu) {
    case GICD_ISENABLER:
        b->enabled |= value;
        break;
    case GICD_ICENABLER:
        b->enabled &= ~(value & ~sgis);
        break;
    case GICD_ISPENDR:
        b->pending |= value & ~sgis;
        break;
    case GICD_ICPENDR:
        b->pending &= ~(value & ~sgis);
        break;
    case GICD_ISACTIVER:
        b->active |= value;
        break;
    default:
        b->active &= ~value;
        break;
    }
}

static uint64_t distributor_read(void *opaque, uint64_t offset, unsigned width) {
    struct gicv2 *gic = opaque;
    uint32_t cpu = gic->current(gic->opaque), at = (uint32_t)offset, value = 0;
    if (is_bytes(at)) {
        for (unsigned i = 0; i < width && is_bytes(at + i); i++)
            value |= (uint32_t)read_byte(gic, cpu, at + i) << (8 * i);
        return value;
    }
    if (at >= GICD_ISENABLER && at < GICD_IPRIORITYR)
        return read_bits(gic, cpu, at);
    if (at >= GICD_ICFGR && at < GICD_ICFGR + GIC_IRQS / 4)
        return read_config(gic, cpu, (at - GICD_ICFGR) / 4);
    switch (at) {
    case GICD_CTLR:
        return gic->control;
    case GICD_TYPER:
        return (GIC_WORDS - 1) | (gic->n_cpus - 1) << 5;
    case GICD_IIDR:
        return GICD_IIDR_VALUE;
    case GICD_PIDR2:
        return GICD_PIDR2_VALUE;
    default:
        return 0;
    }
}

static void write_sgir(struct gicv2 *gic, uint32_t cpu, uint32_t value) {
    uint32_t sgi = value & 15u, targets, everybody = (1u << gic->n_cpus) - 1;
    switch (value >> 24 & 3u) { /* TargetListFilter, §4.3.15 */
    case 0:
        targets = value >> 16 & everybody;
        break;
    case 1:
        targets = everybody & ~(1u << cpu);
        break;
    case 2:
        targets = 1u << cpu;
        break;
    default:
        return;
    }
    for (uint32_t to = 0; to < gic->n_cpus; to++)
        if (targets >> to & 1u)
            gicv2_send_sgi(gic, cpu, to, sgi);
    gicv2_update(gic);
    for (uint32_t to = 0; to < gic->n_cpus; to++)
        if (to != cpu && targets >> to & 1u)
            gic->sgi_sent(gic->opaque, to);
}

static void distributor_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    struct gicv2 *gic = opaque;
    uint32_t cpu = gic->current(gic->opaque), at = (uint32_t)offset;
    if (at == GICD_SGIR) {
        write_sgir(gic, cpu, (uint32_t)value);
        return;
    }
    if (is_bytes(at))
        for (unsigned i = 0; i < width && is_bytes(at + i); i++)
            write_byte(gic, cpu, at + i, (uint8_t)(value >> (8 * i)));
    else if (at >= GICD_ISENABLER && at < GICD_IPRIORITYR)
        write_bits(gic, cpu, at, (uint32_t)value);
    else if (at >= GICD_ICFGR && at < GICD_ICFGR + GIC_IRQS / 4)
        write_config(gic, cpu, (at - GICD_ICFGR) / 4, (uint32_t)value);
    else if (at == GICD_CTLR)
        gic->control = value & 1u;
    gicv2_update(gic);
}

static uint64_t cpu_read(void *opaque, uint64_t offset, unsigned width) {
    struct gicv2 *gic = opaque;
    uint32_t cpu = gic->current(gic->opaque);
    struct gic_cpu *c = &gic->cpu[cpu];
    (void)width;
    switch (offset) {
    case GICC_CTLR:
        return c->control;
    case GICC_PMR:
        return c->mask;
    case GICC_BPR:
        return c->binary_point;
    case GICC_IAR:
        return gicv2_acknowledge(gic, cpu);
    case GICC_RPR:
        return gicv2_running(c);
    case GICC_HPPIR:
        return gicv2_signalled(gic, cpu);
    case GICC_APR0:
        return c->apr;
    case GICC_IIDR:
        return GICC_IIDR_VALUE;
    default:
        return 0;
    }
}

static void cpu_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    struct gicv2 *gic = opaque;
    uint32_t cpu = gic->current(gic->opaque), irq = value & 0x3ffu;
    struct gic_cpu *c = &gic->cpu[cpu];
    (void)width;
    switch (offset) {
    case GICC_CTLR:
        c->control = value & (1u | GICC_CTLR_EOIMODE);
        break;
    case GICC_PMR:
        c->mask = value & PRIORITY_BITS;
        break;
    case GICC_BPR:
        c->binary_point = (value & 7u) < GICC_BPR_MIN ? GICC_BPR_MIN : value & 7u;
        break;
    case GICC_EOIR:
        gicv2_end(gic, cpu, irq);
        return;
    case GICC_DIR:
        gicv2_deactivate(gic, cpu, irq);
        break;
    case GICC_APR0:
        c->apr = (uint32_t)value;
        break;
    default:
        return;
    }
    gicv2_update(gic);
}

void gicv2_init(struct gicv2 *gic) {
    gic->distributor =
        (struct vd_io){.read = distributor_read, .write = distributor_write, .opaque = gic};
    gic->cpu_interface = (struct vd_io){.read = cpu_read, .write = cpu_write, .opaque = gic};
    gicv2_reset(gic);
}
