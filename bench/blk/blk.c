/* SPDX-License-Identifier: MIT
 * A driver that reads random blocks of a disk as fast as it can, on a real slot;
 * and, as the floor, preadv of the same blocks with nothing in between.
 *
 * blk FILE MODE DEPTH BLOCK_BYTES SECONDS; MODE: inline, loop or preadv. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "vdesktop/blk.h"
#include "vdesktop/host.h"
#include "vdesktop/mmio.h"

#define QUEUE_SIZE 512u
#define DEPTH_MAX  128u
#define RAM_SIZE   (64u << 20)
#define SLOT_SIZE  (256u << 10) /* of one request: header, status, data from 4096 on */
#define BUFFERS    (1u << 20)
enum { DESC = 0, AVAIL = 0x4000, USED = 0x8000 };
enum { DESC_NEXT = 1, DESC_WRITE = 2 };

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

static struct {
    uint8_t *ram;
    const struct vd_io *io;
    int irq_fd;
    uint16_t avail, used;
    uint32_t block;
    uint64_t blocks, random;
} rig;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double seconds_of(struct timeval t) {
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

static double wall_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t next_block(void) {
    rig.random ^= rig.random << 13;
    rig.random ^= rig.random >> 7;
    rig.random ^= rig.random << 17;
    return rig.random % rig.blocks;
}

static void put(uint32_t reg, uint32_t value) {
    rig.io->write(rig.io->opaque, reg, 4, value);
}

static void raise_irq(void *opaque, bool level) {
    uint64_t one = 1;
    (void)opaque;
    if (level && write(rig.irq_fd, &one, sizeof one) < 0)
        die("eventfd");
}

/* Request i's descriptors never change; only its sector does. */
static void prepare(uint16_t i) {
    uint64_t at = BUFFERS + (uint64_t)i * SLOT_SIZE;
    struct desc *desc = (struct desc *)(rig.ram + DESC) + 3 * i;
    desc[0] = (struct desc){at, 16, DESC_NEXT, (uint16_t)(3 * i + 1)};
    desc[1] = (struct desc){at + 4096, rig.block, DESC_NEXT | DESC_WRITE, (uint16_t)(3 * i + 2)};
    desc[2] = (struct desc){at + 64, 1, DESC_WRITE, 0};
}

static void submit(uint16_t i) {
    uint64_t *header = (uint64_t *)(rig.ram + BUFFERS + (uint64_t)i * SLOT_SIZE);
    header[0] = 0;
    header[1] = next_block() * (rig.block / VD_BLK_SECTOR);
    uint16_t *avail = (uint16_t *)(rig.ram + AVAIL);
    avail[2 + rig.avail % QUEUE_SIZE] = (uint16_t)(3 * i);
    rig.avail++;
}

static void kick(void) {
    uint16_t *avail = (uint16_t *)(rig.ram + AVAIL);
    uint16_t before = __atomic_load_n(&avail[1], __ATOMIC_RELAXED);
    __atomic_store_n(&avail[1], rig.avail, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint16_t event = *(volatile uint16_t *)(rig.ram + USED + 4 + 8 * QUEUE_SIZE);
    if ((uint16_t)(rig.avail - event - 1) < (uint16_t)(rig.avail - before))
        put(0x50, 0);
}

/* Waits for the interrupt if nothing is used, resubmits what came back. */
static unsigned reap(void) {
    uint16_t *used = (uint16_t *)(rig.ram + USED);
    uint16_t *used_event = (uint16_t *)(rig.ram + AVAIL) + 2 + QUEUE_SIZE;
    unsigned done = 0;
    for (;;) {
        uint16_t now = __atomic_load_n(&used[1], __ATOMIC_ACQUIRE);
        for (; rig.used != now; rig.used++, done++) {
            uint32_t head = *(uint32_t *)(rig.ram + USED + 4 + 8 * (rig.used % QUEUE_SIZE));
            if (rig.ram[BUFFERS + head / 3 * SLOT_SIZE + 64])
                die("a request failed");
            submit((uint16_t)(head / 3));
        }
        __atomic_store_n(used_event, rig.used, __ATOMIC_SEQ_CST);
        if (done || __atomic_load_n(&used[1], __ATOMIC_SEQ_CST) != rig.used) {
            if (done)
                return done;
            continue;
        }
        uint64_t count;
        if (read(rig.irq_fd, &count, sizeof count) < 0)
            die("eventfd");
        put(0x64, 1);
    }
}

static void negotiate(const struct vd_device *dev) {
    uint64_t features = (dev->offered & ~(UINT64_C(1) << VD_F_RING_PACKED)) | UINT64_C(1)
                                                                                  << VD_F_VERSION_1;
    const uint32_t areas[][2] = {{0x80, DESC}, {0x90, AVAIL}, {0xa0, USED}};
    put(0x70, VD_STATUS_ACKNOWLEDGE | VD_STATUS_DRIVER);
    for (uint32_t word = 0; word < 2; word++) {
        put(0x24, word);
        put(0x20, (uint32_t)(features >> 32 * word));
    }
    put(0x70, VD_STATUS_ACKNOWLEDGE | VD_STATUS_DRIVER | VD_STATUS_FEATURES_OK);
    put(0x38, QUEUE_SIZE);
    for (unsigned i = 0; i < 3; i++)
        put(areas[i][0], areas[i][1]);
    put(0x44, 1);
    put(0x70,
        VD_STATUS_ACKNOWLEDGE | VD_STATUS_DRIVER | VD_STATUS_FEATURES_OK | VD_STATUS_DRIVER_OK);
}

static uint64_t run_device(int fd, bool inline_kicks, unsigned depth, double until) {
    struct vd_host *host = vd_host_posix_new(-1);
    struct vd_mem *mem = vd_mem_new(host);
    struct vd_loop *loop = vd_loop_new(host, "bench");
    struct vd_irq irq = {raise_irq, NULL};
    struct vd_blk_options options = {.queues = 1,
                                     .queue_size = QUEUE_SIZE,
                                     .workers = 8,
                                     .inline_bytes = inline_kicks ? 64u << 10 : 0};
    int error;
    vd_mem_add(mem, 0, RAM_SIZE, rig.ram, 0);
    struct vd_blk_store *store = vd_blk_file_open(host, fd, -1, 4096, true, &error);
    errno = -error;
    if (!store)
        die("file");
    struct vd_blk *blk = vd_blk_new(host, mem, "bench", store, &options, &loop, &error);
    struct vd_mmio *mmio = vd_mmio_new(host, 0, &irq, -1);
    if (!blk || vd_loop_start(loop) || vd_mmio_attach(mmio, vd_blk_device(blk)))
        die("device");
    rig.io = vd_mmio_io(mmio);
    rig.blocks = store->size / rig.block;
    negotiate(vd_blk_device(blk));
    uint64_t done = 0;
    for (uint16_t i = 0; i < depth; i++) {
        prepare(i);
        submit(i);
    }
    kick();
    while (wall_seconds() < until) {
        for (unsigned i = 0; i < 16; i++) {
            done += reap();
            kick();
        }
    }
    vd_mmio_detach(mmio);
    vd_blk_free(blk);
    return done;
}

static uint64_t run_preadv(int fd, unsigned depth, double until) {
    uint64_t done = 0;
    rig.blocks = (uint64_t)lseek(fd, 0, SEEK_END) / rig.block;
    while (wall_seconds() < until) {
        for (unsigned i = 0; i < depth * 16; i++, done++) {
            struct iovec iov = {rig.ram + BUFFERS + i % depth * SLOT_SIZE, rig.block};
            if (preadv(fd, &iov, 1, (off_t)(next_block() * rig.block)) != (ssize_t)rig.block)
                die("preadv");
        }
    }
    return done;
}

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    unsigned depth = (unsigned)atoi(argv[3]);
    double seconds = atof(argv[5]);
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(argv[1]);
    rig.block = (uint32_t)atoi(argv[4]);
    rig.random = UINT64_C(0x9e3779b97f4a7c15);
    rig.irq_fd = eventfd(0, EFD_CLOEXEC);
    rig.ram = aligned_alloc(4096, RAM_SIZE);
    if (!depth || depth > DEPTH_MAX || rig.block < VD_BLK_SECTOR || rig.block > SLOT_SIZE - 4096 ||
        !rig.ram)
        return 2;
    memset(rig.ram, 0, RAM_SIZE);
    double cpu = cpu_seconds(), wall = wall_seconds();
    uint64_t done = strcmp(argv[2], "preadv")
                        ? run_device(fd, !strcmp(argv[2], "inline"), depth, wall + seconds)
                        : run_preadv(fd, depth, wall + seconds);
    wall = wall_seconds() - wall;
    cpu = cpu_seconds() - cpu;
    printf("{\"mode\": \"%s\", \"depth\": %u, \"iops\": %.0f, \"cpu_us\": %.3f}\n", argv[2], depth,
           (double)done / wall, cpu * 1e6 / (double)done);
    return 0;
}
