/* SPDX-License-Identifier: GPL-2.0-only
 *
 * An Arm Generic Interrupt Controller, architecture version 2 (Arm IHI 0048B),
 * without the Security Extensions. Knows nothing of the engine. */
#ifndef TCG_GICV2_H
#define TCG_GICV2_H

#include <stdbool.h>
#include <stdint.h>

#include "vdesktop/abi.h"

#define GIC_CPUS_MAX 8u
#define GIC_SPIS     128u
#define GIC_PRIVATE  32u /* SGIs 0-15 and PPIs 16-31, banked */
#define GIC_IRQS     (GIC_PRIVATE + GIC_SPIS)
#define GIC_WORDS    (GIC_IRQS / 32u)
#define GICD_SIZE    0x10000u
#define GICC_SIZE    0x10000u
#define GIC_SPURIOUS 1023u

/* Bit i of a word: interrupt 32 * word + i. Word 0 is banked, in gic_cpu. */
struct gic_bits {
    uint32_t enabled, pending, active, level, edge;
};

struct gic_cpu {
    struct gic_bits own;
    uint8_t priority[GIC_PRIVATE];
    uint8_t sgi_source[16]; /* a bit a requesting CPU */
    uint32_t control, apr;  /* apr: a bit an active group priority */
    uint8_t mask, binary_point;
};

struct gicv2 {
    uint32_t n_cpus;
    uint32_t control;
    struct gic_bits shared[GIC_WORDS]; /* [0] unused */
    uint8_t priority[GIC_IRQS], target[GIC_IRQS];
    struct gic_cpu cpu[GIC_CPUS_MAX];
    struct vd_io distributor, cpu_interface;
    uint64_t *n_acknowledged;

    /* Supplied by the machine. */
    void *opaque;
    uint32_t (*current)(void *opaque);                      /* which CPU accesses a register */
    void (*output)(void *opaque, uint32_t cpu, bool level); /* the IRQ signal of a CPU */
    void (*sgi_sent)(void *opaque, uint32_t cpu);           /* to another CPU; after output */
};

/* Everything but the callbacks, n_cpus and counters, to its reset state. */
void gicv2_reset(struct gicv2 *gic);
/* Fills in `distributor` and `cpu_interface`. */
void gicv2_init(struct gicv2 *gic);
void gicv2_spi(struct gicv2 *gic, uint32_t spi, bool level);
void gicv2_ppi(struct gicv2 *gic, uint32_t cpu, uint32_t intid, bool level);

#endif
