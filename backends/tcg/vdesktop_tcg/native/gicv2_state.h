/* SPDX-License-Identifier: GPL-2.0-only
 * Between gicv2.c (state) and gicv2_mmio.c (registers). */
#ifndef TCG_GICV2_STATE_H
#define TCG_GICV2_STATE_H

#include "gicv2.h"

#define GICC_CTLR_EOIMODE (1u << 9)
#define GICC_BPR_MIN      2u

struct gic_bits *gicv2_bits(struct gicv2 *gic, uint32_t cpu, uint32_t word);
uint8_t *gicv2_priority(struct gicv2 *gic, uint32_t cpu, uint32_t irq);
uint8_t gicv2_running(const struct gic_cpu *c);
/* The interrupt a CPU would acknowledge now, or GIC_SPURIOUS. */
uint32_t gicv2_signalled(struct gicv2 *gic, uint32_t cpu);
uint32_t gicv2_acknowledge(struct gicv2 *gic, uint32_t cpu);
void gicv2_end(struct gicv2 *gic, uint32_t cpu, uint32_t irq);
void gicv2_deactivate(struct gicv2 *gic, uint32_t cpu, uint32_t irq);
void gicv2_send_sgi(struct gicv2 *gic, uint32_t from, uint32_t to, uint32_t sgi);
void gicv2_update(struct gicv2 *gic);

#endif
