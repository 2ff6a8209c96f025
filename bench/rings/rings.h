/* SPDX-License-Identifier: MIT
 * What the ring benchmark asks of a device-side implementation. */
#ifndef BENCH_RINGS_H
#define BENCH_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
    uint8_t *ram; /* guest-physical address 0 */
    size_t ram_size;
    uint16_t size;
    uint64_t desc, driver, device;
    bool packed;
};

extern const char *const implementation;
/* False: this implementation has no such ring. EVENT_IDX and INDIRECT_DESC are on. */
bool device_start(const struct ring *ring);
/* Pops up to `batch` chains, completes each with its writable length, publishes
 * once and takes one interrupt decision. Returns how many chains. */
unsigned device_round(unsigned batch);

#endif
