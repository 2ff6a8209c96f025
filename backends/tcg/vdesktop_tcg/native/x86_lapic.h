/* SPDX-License-Identifier: GPL-2.0-only
 * What the files of the local APIC model share. */
#ifndef X86_LAPIC_H
#define X86_LAPIC_H

#include "x86_apic.h"

#define SVR_ENABLE 0x100u

#define LVT_VECTOR   0xFFu
#define LVT_MASKED   (1u << 16)
#define LVT_MODE     (3u << 17)
#define LVT_PERIODIC (1u << 17)
#define LVT_DEADLINE (2u << 17)

#define ESR_SEND_VECTOR    (1u << 5)
#define ESR_RECEIVE_VECTOR (1u << 6)
#define ESR_REGISTER       (1u << 7)

#define FIRST_VECTOR 16u /* below: illegal */

static inline void apic_bits_set(struct apic_bits *bits, uint8_t vector, bool value) {
    uint32_t bit = 1u << (vector & 31);

    bits->word[vector >> 5] = (bits->word[vector >> 5] & ~bit) | (value ? bit : 0);
}

static inline bool apic_bits_get(const struct apic_bits *bits, uint8_t vector) {
    return bits->word[vector >> 5] >> (vector & 31) & 1;
}

/* The highest vector, or -1. */
static inline int apic_bits_highest(const struct apic_bits *bits) {
    for (int i = APIC_VECTORS / 32 - 1; i >= 0; i--) {
        if (bits->word[i]) {
            return i * 32 + 31 - __builtin_clz(bits->word[i]);
        }
    }
    return -1;
}

static inline bool lapic_software_enabled(const struct lapic *apic) {
    return apic->enabled && apic->svr & SVR_ENABLE;
}

/* x86_apic_bus.c */
uint32_t lapic_priority(const struct lapic *apic); /* PPR */
int lapic_pending(const struct lapic *apic);       /* a vector, or -1 */
void lapic_update(struct apic_bus *bus, uint32_t cpu);
void lapic_accept(struct apic_bus *bus, uint32_t cpu, uint8_t vector, bool level);
void lapic_error(struct apic_bus *bus, uint32_t cpu, uint32_t error);
void lapic_send_ipi(struct apic_bus *bus, uint32_t cpu);

/* x86_lapic_timer.c */
void lapic_timer_start(struct apic_bus *bus, uint32_t cpu);
void lapic_timer_disarm(struct apic_bus *bus, uint32_t cpu);
uint32_t lapic_timer_count(struct apic_bus *bus, uint32_t cpu);

#endif
