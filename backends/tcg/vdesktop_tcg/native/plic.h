/* SPDX-License-Identifier: GPL-2.0-only
 * The RISC-V Platform-Level Interrupt Controller (PLIC specification 1.0.0),
 * with one S-mode context a hart: context i is hart i's. Not locked: one thread. */
#ifndef TCG_PLIC_H
#define TCG_PLIC_H

#include <stdbool.h>
#include <stdint.h>

#define TCG_PLIC_SIZE         0x4000000u
#define TCG_PLIC_SOURCES      96u /* 1 to 95; source 0 means "none" */
#define TCG_PLIC_PRIORITY_MAX 7u

struct tcg_plic;

/* A context's external-interrupt output. It must not call back. */
struct tcg_plic_output {
    void (*set)(void *opaque, unsigned context, bool level);
    void *opaque;
};

/* NULL: out of memory. */
struct tcg_plic *tcg_plic_new(unsigned contexts, const struct tcg_plic_output *output);
void tcg_plic_free(struct tcg_plic *plic);

/* As after power-on, but lines keep the level their devices give them. */
void tcg_plic_reset(struct tcg_plic *plic);

/* A level-triggered source. False: no such source. */
bool tcg_plic_set(struct tcg_plic *plic, unsigned source, bool level);

/* The register file (PLIC 1.0.0, chapter 3). Registers are 32 bits wide and
 * aligned; anything else, and reserved registers, read 0 and ignore writes. */
uint64_t tcg_plic_read(struct tcg_plic *plic, uint64_t offset, unsigned width);
void tcg_plic_write(struct tcg_plic *plic, uint64_t offset, unsigned width, uint64_t value);

/* A context's output, as `set` was told last. */
bool tcg_plic_output_level(const struct tcg_plic *plic, unsigned context);

/* Interrupts claimed since creation. */
uint64_t tcg_plic_claims(const struct tcg_plic *plic);

#endif
