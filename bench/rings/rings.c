/* SPDX-License-Identifier: MIT
 * Time of a chain, pop and push, in batches of 32, EVENT_IDX on. The driver's
 * half runs between the measured parts; the two readings of the clock around a
 * batch are part of the figure, about 1 ns a chain. Prints one JSON object a line. */
#include "rings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { SIZE = 256, BATCH = 32, REPEATS = 20000, DATA = 0x100000, TABLES = 0x80000, RAM = 64 << 20 };

static uint8_t *ram;
static struct ring ring;
static uint16_t avail_idx, next;
static bool wrap;

static uint64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void put64(uint64_t gpa, uint64_t a, uint64_t b) {
    memcpy(ram + gpa, &a, 8);
    memcpy(ram + gpa + 8, &b, 8);
}

/* Element i of a chain: the first is read by the device, the others written. */
static uint64_t address(unsigned chain, unsigned i) {
    return DATA + (chain * 8 + i) * 4096ull;
}

static void add_split(unsigned chain, unsigned descs, bool indirect) {
    uint64_t table = indirect ? TABLES + chain * 256 : ring.desc;
    uint16_t head = next;
    for (unsigned i = 0; i < descs; i++) {
        uint64_t flags = (i + 1 < descs) | (i ? 2 : 0), at = indirect ? i : (next + i) % SIZE;
        uint64_t following = indirect ? at + 1 : (at + 1) % SIZE;
        put64(table + 16 * at, address(chain, i), 512 | flags << 32 | following << 48);
    }
    if (indirect)
        put64(ring.desc + 16 * head, table, 16 * descs | 4ull << 32);
    next = (uint16_t)((next + (indirect ? 1 : descs)) % SIZE);
    memcpy(ram + ring.driver + 4 + 2 * (avail_idx++ % SIZE), &head, 2);
    __atomic_store_n((uint16_t *)(void *)(ram + ring.driver + 2), avail_idx, __ATOMIC_RELEASE);
}

static void put_packed(uint64_t addr, uint64_t len, unsigned id, unsigned flags) {
    flags |= wrap ? 1u << 7 : 1u << 15;
    put64(ring.desc + 16ull * next, addr, len | (uint64_t)id << 32 | (uint64_t)flags << 48);
    if (++next == SIZE) {
        next = 0;
        wrap = !wrap;
    }
}

static void add_packed(unsigned chain, unsigned descs, bool indirect) {
    uint64_t table = TABLES + chain * 256;
    for (unsigned i = 0; i < descs; i++) {
        unsigned flags = i ? 2 : 0;
        if (indirect)
            put64(table + 16 * i, address(chain, i), 512 | (uint64_t)flags << 48);
        else
            put_packed(address(chain, i), 512, chain, flags | (i + 1 < descs));
    }
    if (indirect)
        put_packed(table, 16 * descs, chain, 4);
}

/* The driver has just added a batch and wants an interrupt for the next one: so
 * the decision is taken, and no implementation makes a system call. */
static void want_interrupt(void) {
    if (ring.packed) {
        uint32_t event = ((uint32_t)next | (uint32_t)wrap << 15) | 2u << 16;
        memcpy(ram + ring.driver, &event, 4);
    } else {
        memcpy(ram + ring.driver + 4 + 2 * SIZE, &avail_idx, 2);
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(bool packed, unsigned descs, bool indirect) {
    static double ns[REPEATS];
    memset(ram, 0, TABLES);
    ring = (struct ring){.ram = ram, .ram_size = RAM, .size = SIZE, .packed = packed};
    ring.driver = 16 * SIZE;
    ring.device = ring.driver + 4096;
    avail_idx = next = 0;
    wrap = true;
    if (!device_start(&ring))
        return;
    for (unsigned r = 0; r < REPEATS; r++) {
        for (unsigned c = 0; c < BATCH; c++)
            (packed ? add_packed : add_split)(c, descs, indirect);
        want_interrupt();
        uint64_t start = now_ns();
        unsigned done = device_round(BATCH);
        ns[r] = (double)(now_ns() - start) / BATCH;
        if (done != BATCH) {
            fprintf(stderr, "%s: %u of %d chains\n", implementation, done, BATCH);
            exit(1);
        }
    }
    qsort(ns, REPEATS, sizeof ns[0], compare);
    printf("{\"implementation\": \"%s\", \"ring\": \"%s\", \"shape\": \"%s%u\", \"ns\": %.2f}\n",
           implementation, packed ? "packed" : "split", indirect ? "indirect " : "", descs,
           ns[REPEATS / 10]);
}

int main(void) {
    static const struct {
        unsigned descs;
        bool indirect;
    } shape[] = {{1, false}, {2, false}, {3, false}, {8, false}, {3, true}, {8, true}};
    ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ram == MAP_FAILED)
        return 1;
    for (int packed = 0; packed < 2; packed++)
        for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++)
            measure(packed, shape[i].descs, shape[i].indirect);
    return 0;
}
