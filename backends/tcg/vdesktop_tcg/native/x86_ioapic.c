/* SPDX-License-Identifier: GPL-2.0-only */
#include "x86_apic.h"

#include <string.h>

enum { IOREGSEL = 0x00, IOWIN = 0x10, IOEOI = 0x40 };
enum { REG_ID = 0x00, REG_VERSION = 0x01, REG_ARBITRATION = 0x02, REG_TABLE = 0x10 };

#define VERSION 0x20u

#define RTE_VECTOR            0xFFull
#define RTE_MODE_SHIFT        8
#define RTE_LOGICAL           (1ull << 11)
#define RTE_STATUS            (1ull << 12)
#define RTE_POLARITY          (1ull << 13)
#define RTE_REMOTE_IRR        (1ull << 14)
#define RTE_LEVEL             (1ull << 15)
#define RTE_MASKED            (1ull << 16)
#define RTE_DESTINATION_SHIFT 56
#define RTE_WRITABLE                                                                               \
    (RTE_VECTOR | 7ull << RTE_MODE_SHIFT | RTE_LOGICAL | RTE_POLARITY | RTE_LEVEL | RTE_MASKED |   \
     0xFFull << RTE_DESTINATION_SHIFT)

static void deliver(struct apic_bus *bus, uint32_t pin) {
    uint64_t *entry = &bus->ioapic.entry[pin];
    bool level = *entry & RTE_LEVEL;

    if (*entry & RTE_MASKED || (level && *entry & RTE_REMOTE_IRR)) {
        return;
    }
    struct apic_message message = {
        .vector = (uint8_t)(*entry & RTE_VECTOR),
        .mode = (enum apic_mode)(*entry >> RTE_MODE_SHIFT & 7),
        .logical = *entry & RTE_LOGICAL,
        .level = level,
        .destination = (uint8_t)(*entry >> RTE_DESTINATION_SHIFT),
    };
    bool takes_eoi = message.mode == APIC_FIXED || message.mode == APIC_LOWEST;
    if (!takes_eoi && message.mode != APIC_NMI) {
        return; /* SMI, INIT and ExtINT have no source behind a pin here */
    }
    if (apic_send(bus, &message) && level && takes_eoi) {
        *entry |= RTE_REMOTE_IRR;
    }
}

/* The polarity bit says how the wire works, not whether the line is asserted:
 * a level here is "asserted", so the bit is only kept. */
void ioapic_set_levels(struct apic_bus *bus, uint64_t changed, uint64_t levels) {
    struct ioapic *io = &bus->ioapic;

    changed &= (1ull << IOAPIC_PINS) - 1;
    uint64_t rose = changed & levels & ~io->levels;
    io->levels = (io->levels & ~changed) | (levels & changed);
    for (; rose; rose &= rose - 1) {
        deliver(bus, (uint32_t)__builtin_ctzll(rose));
    }
}

static void end_pin(struct apic_bus *bus, uint32_t pin) {
    bus->ioapic.entry[pin] &= ~RTE_REMOTE_IRR;
    if (bus->ioapic.levels >> pin & 1) {
        deliver(bus, pin);
    }
}

void ioapic_end_of_interrupt(struct apic_bus *bus, uint8_t vector) {
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t entry = bus->ioapic.entry[pin];
        if ((entry & RTE_VECTOR) == vector && entry & RTE_REMOTE_IRR) {
            end_pin(bus, pin);
        }
    }
}

static uint32_t read_register(const struct ioapic *io) {
    uint32_t pin = (io->select - REG_TABLE) / 2u;

    switch (io->select) {
    case REG_ID:
    case REG_ARBITRATION:
        return (uint32_t)io->id << 24;
    case REG_VERSION:
        return (IOAPIC_PINS - 1) << 16 | VERSION;
    default:
        if (io->select < REG_TABLE || pin >= IOAPIC_PINS) {
            return 0;
        }
        return (uint32_t)(io->entry[pin] >> (io->select & 1 ? 32 : 0));
    }
}

static void write_entry(struct apic_bus *bus, uint32_t pin, bool high, uint32_t value) {
    uint64_t *entry = &bus->ioapic.entry[pin];
    uint64_t half = high ? 0xFFFFFFFFull << 32 : 0xFFFFFFFFull;
    uint64_t writable = RTE_WRITABLE & half;

    *entry = (*entry & ~writable) | ((uint64_t)value << (high ? 32 : 0) & writable);
    if (!(*entry & RTE_LEVEL)) {
        *entry &= ~RTE_REMOTE_IRR; /* how software clears a stuck one: SDM has no other way before
                                      EOI existed */
    } else if (!high && bus->ioapic.levels >> pin & 1) {
        deliver(bus, pin); /* asserted while it was masked */
    }
}

uint32_t ioapic_read(struct apic_bus *bus, uint32_t offset) {
    switch (offset) {
    case IOREGSEL:
        return bus->ioapic.select;
    case IOWIN:
        return read_register(&bus->ioapic);
    default:
        return 0;
    }
}

void ioapic_write(struct apic_bus *bus, uint32_t offset, uint32_t value) {
    struct ioapic *io = &bus->ioapic;
    uint32_t pin = (io->select - REG_TABLE) / 2u;

    switch (offset) {
    case IOREGSEL:
        io->select = (uint8_t)value;
        break;
    case IOWIN:
        if (io->select == REG_ID) {
            io->id = value >> 24 & 0xF;
        } else if (io->select >= REG_TABLE && pin < IOAPIC_PINS) {
            write_entry(bus, pin, io->select & 1, value);
        }
        break;
    case IOEOI:
        ioapic_end_of_interrupt(bus, (uint8_t)value);
        break;
    default:
        break;
    }
}

void ioapic_reset(struct apic_bus *bus) {
    uint64_t levels = bus->ioapic.levels; /* the devices' own; they lower them at their reset */

    memset(&bus->ioapic, 0, sizeof bus->ioapic);
    bus->ioapic.levels = levels;
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
        bus->ioapic.entry[pin] = RTE_MASKED;
    }
}
