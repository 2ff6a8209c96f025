/* SPDX-License-Identifier: MIT
 * What the fuzz targets share: guest memory, a slot, and how an input is read.
 *
 * An input is one byte of options, a 16-bit length and that many bytes of
 * operations, then guest memory from its start. What is missing reads as 0. */
#ifndef FUZZ_HARNESS_H
#define FUZZ_HARNESS_H

#include "mmio.h"
#include "vdesktop/host.h"
#include "vdesktop/loop.h"

/* Guest memory: two regions that touch, a hole, a page that devices only read. */
#define FUZZ_GPA     0x1000u
#define FUZZ_RAM     0x6000u
#define FUZZ_SECOND  0x2000u
#define FUZZ_HOLE    0x1000u
#define FUZZ_ROM     0x1000u
#define FUZZ_GUEST   (FUZZ_RAM + FUZZ_SECOND)
#define FUZZ_ROM_GPA (FUZZ_GPA + FUZZ_GUEST + FUZZ_HOLE)

/* Where the driver of every target puts queue i, from FUZZ_GPA on. */
#define FUZZ_QUEUE_SIZE 16u
enum { FUZZ_QUEUE = 0x200, FUZZ_DRIVER = 0x100, FUZZ_DEVICE = 0x140 };

enum { FUZZ_PACKED = 1, FUZZ_EVENT_IDX = 2, FUZZ_INDIRECT = 4, FUZZ_PLAIN = 8 };

struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

struct fuzz {
    struct vd_host host;
    struct vd_mem *mem;
    struct vd_loop *loop; /* see loop.c */
    struct vd_mmio *mmio;
    const struct vd_io *io;
    uint8_t *ram, *second, *rom;
    bool line;       /* the interrupt's level */
    unsigned warned; /* log records of warning level since fuzz_begin */
};

/* Crashes where a promise of the core's is not kept. */
void fuzz_check(bool good);
/* The surroundings, made at the first call. */
struct fuzz *fuzz_rig(void);
/* Fills guest memory, sets `ops` to the operations and returns the options. */
uint8_t fuzz_begin(struct fuzz *f, const uint8_t *data, size_t size, struct fuzz_input *ops);
/* The next n <= 8 bytes, little-endian. */
uint64_t fuzz_take(struct fuzz_input *in, unsigned n);
/* Up to n bytes as they are. */
struct fuzz_input fuzz_bytes(struct fuzz_input *in, size_t n);
/* Writes guest memory as the guest does; what is outside is dropped. */
void fuzz_poke(struct fuzz *f, uint32_t offset, struct fuzz_input bytes);
/* Checks a chain that was popped: each segment in memory, sums as announced. */
void fuzz_check_chain(const struct fuzz *f, const struct vd_chain *chain);

uint32_t fuzz_get(struct fuzz *f, uint32_t reg);
void fuzz_put(struct fuzz *f, uint32_t reg, uint32_t value);
void fuzz_put64(struct fuzz *f, uint32_t reg, uint64_t value);
/* What a driver does: features by `options` (of those in `mask`), n queues, DRIVER_OK. */
void fuzz_bring_up(struct fuzz *f, const struct vd_device *dev, uint8_t options, uint64_t mask,
                   uint32_t n_queues);
/* Gives the loop its turns, until it has nothing more to do. */
void fuzz_pump(struct vd_loop *loop);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
