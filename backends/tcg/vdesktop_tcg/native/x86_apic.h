/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The interrupt controllers of x86: one local APIC a vCPU (Intel SDM vol. 3,
 * chapter "APIC") and one I/O APIC (82093AA data sheet, with the EOI register
 * of version 0x20).
 *
 * Self-contained: what it needs from its surroundings is in struct apic_host.
 * One thread at a time touches a `struct apic_bus`; the models take no locks.
 * Time is in ticks of the TSC, which is also the clock of the timers.
 */
#ifndef X86_APIC_H
#define X86_APIC_H

#include <stdbool.h>
#include <stdint.h>

#define APIC_CPUS_MAX 8u
#define APIC_VECTORS  256u
#define APIC_NEVER    UINT64_MAX

#define LAPIC_BASE  0xFEE00000u
#define LAPIC_SIZE  0x1000u
#define IOAPIC_BASE 0xFEC00000u
#define IOAPIC_SIZE 0x1000u
#define IOAPIC_PINS 48u

/* Ticks of a periodic timer at least, so that a guest cannot ask for more
 * interrupts than the host can account for. */
#define LAPIC_PERIOD_MIN 20000u

/* What the models need. None may call back into them but `sipi` and `init`,
 * which may call lapic_reset. */
struct apic_host {
    uint64_t (*now)(void *opaque);
    /* The interrupt input of `cpu` is, or is no longer, asserted. */
    void (*interrupt)(void *opaque, uint32_t cpu, bool level);
    /* An inter-processor interrupt was sent to `cpu`: run it soon. */
    void (*prefer)(void *opaque, uint32_t cpu);
    void (*nmi)(void *opaque, uint32_t cpu);
    void (*init)(void *opaque, uint32_t cpu);
    void (*sipi)(void *opaque, uint32_t cpu, uint8_t page);
    /* lapic_timer wants to be called no later than `deadline`. */
    void (*timer)(void *opaque, uint32_t cpu, uint64_t deadline);
    void *opaque;
};

struct apic_bits {
    uint32_t word[APIC_VECTORS / 32];
};

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

struct lapic {
    bool enabled; /* globally, IA32_APIC_BASE bit 11 */
    uint32_t tpr, ldr, dfr, svr, icr_high, icr_low, divide;
    uint32_t esr, esr_pending;
    uint32_t lvt[LVT_COUNT];
    struct apic_bits isr, tmr, irr;
    uint32_t timer_initial;
    uint64_t timer_start;    /* of the current period */
    uint64_t timer_deadline; /* APIC_NEVER: not armed */
    uint64_t tsc_deadline;   /* IA32_TSC_DEADLINE */
    int64_t tsc_offset;      /* IA32_TSC_ADJUST */
};

/* A redirection entry, as the guest sees it. */
struct ioapic {
    uint8_t select;
    uint8_t id;
    uint64_t entry[IOAPIC_PINS];
    uint64_t levels; /* of the pins */
};

struct apic_bus {
    struct apic_host host;
    uint32_t cpus;
    uint32_t lowest_next; /* where the search for the lowest priority starts */
    struct lapic lapic[APIC_CPUS_MAX];
    struct ioapic ioapic;
    uint64_t n_ipis, n_spurious, n_errors;
};

/* All controllers into their reset state; 1 ≤ cpus ≤ APIC_CPUS_MAX. */
void apic_bus_reset(struct apic_bus *bus, uint32_t cpus);

/* The state after INIT (SDM vol. 3, "Local APIC State After It Receives an INIT IPI"). */
void lapic_reset(struct apic_bus *bus, uint32_t cpu);
uint32_t lapic_read(struct apic_bus *bus, uint32_t cpu, uint32_t offset);
void lapic_write(struct apic_bus *bus, uint32_t cpu, uint32_t offset, uint32_t value);
/* The guest takes an interrupt: its vector, moved from IRR to ISR; the spurious
 * vector if nothing is pending any more; -1 if the APIC is disabled. */
int lapic_acknowledge(struct apic_bus *bus, uint32_t cpu);
/* Fires what is due; returns the next deadline or APIC_NEVER. */
uint64_t lapic_timer(struct apic_bus *bus, uint32_t cpu, uint64_t now);
void lapic_enable(struct apic_bus *bus, uint32_t cpu, bool enabled);
/* IA32_TSC_DEADLINE. Reads 0 and ignores writes outside of TSC-deadline mode. */
uint64_t lapic_tsc_deadline(const struct apic_bus *bus, uint32_t cpu);
void lapic_set_tsc_deadline(struct apic_bus *bus, uint32_t cpu, uint64_t value);
/* The guest's TSC minus the bus's clock (IA32_TSC_ADJUST). */
int64_t lapic_tsc_offset(const struct apic_bus *bus, uint32_t cpu);
void lapic_set_tsc_offset(struct apic_bus *bus, uint32_t cpu, int64_t offset);
/* Task priority as CR8 has it, 0..15. */
uint32_t lapic_task_priority(const struct apic_bus *bus, uint32_t cpu);
void lapic_set_task_priority(struct apic_bus *bus, uint32_t cpu, uint32_t priority);

/* Delivery modes of ICR and redirection entries (SDM, "Interrupt Command Register"). */
enum apic_mode {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_STARTUP = 6,
    APIC_EXTINT = 7,
};

/* A message on the APIC bus. Returns whether any APIC accepted it. */
struct apic_message {
    uint8_t vector;
    enum apic_mode mode;
    bool logical, level;
    uint8_t destination;
};
bool apic_send(struct apic_bus *bus, const struct apic_message *message);
/* As apic_send, to a set of CPUs given as a mask. */
bool apic_send_mask(struct apic_bus *bus, const struct apic_message *message, uint32_t mask);

uint32_t ioapic_read(struct apic_bus *bus, uint32_t offset);
void ioapic_write(struct apic_bus *bus, uint32_t offset, uint32_t value);
/* Pins whose bit is set in `changed` now have the level in `levels` (true: asserted). */
void ioapic_set_levels(struct apic_bus *bus, uint64_t changed, uint64_t levels);
void ioapic_end_of_interrupt(struct apic_bus *bus, uint8_t vector);
void ioapic_reset(struct apic_bus *bus);

#endif
