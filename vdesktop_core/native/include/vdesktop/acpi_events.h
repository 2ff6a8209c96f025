/* SPDX-License-Identifier: MIT
 * The registers behind the machine's ACPI event device (ACPI 6.5 §5.6.9,
 * "GED"): what happened, and which slots the guest is to see. The tables'
 * AML reads them; see vdesktop_core/arch/acpi. */
#ifndef VDESKTOP_ACPI_EVENTS_H
#define VDESKTOP_ACPI_EVENTS_H

#include "vdesktop/abi.h"

/* 32 bits each, at an aligned offset; other accesses read 0 and are dropped. */
#define VD_ACPI_EVENTS_PENDING 0x0 /* enum vd_acpi_event bits; writing 1s clears them */
#define VD_ACPI_EVENTS_SLOTS   0x4 /* read-only: bit i: slot i is present */
#define VD_ACPI_EVENTS_SIZE    0x8

enum vd_acpi_event {
    VD_ACPI_EVENT_SLOTS = 1,        /* look at the slots again */
    VD_ACPI_EVENT_POWER_BUTTON = 2, /* was pressed */
};

struct vd_acpi_events;

/* `irq` is copied: high while an event is pending. NULL: no memory. */
struct vd_acpi_events *vd_acpi_events_new(const struct vd_host *host, const struct vd_irq *irq);
/* The backend must no longer route accesses here. */
void vd_acpi_events_free(struct vd_acpi_events *events);
/* Valid until vd_acpi_events_free. */
const struct vd_io *vd_acpi_events_io(struct vd_acpi_events *events);

/* From any thread. */
void vd_acpi_events_set_slots(struct vd_acpi_events *events, uint32_t present);
void vd_acpi_events_raise(struct vd_acpi_events *events, uint32_t bits);
/* As at power-on: nothing pending. The slots stay. */
void vd_acpi_events_reset(struct vd_acpi_events *events);
/* Events that the guest has not taken yet. */
uint32_t vd_acpi_events_pending(const struct vd_acpi_events *events);

#endif
