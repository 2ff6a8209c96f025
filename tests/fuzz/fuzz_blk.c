/* SPDX-License-Identifier: MIT
 * libFuzzer target: a guest's memory and kicks against a virtio-blk device on a
 * virtio-mmio slot.
 *
 * Input: one byte of options, one of kicks, then guest memory from its start,
 * where the driver has put its rings: descriptors at 0, driver area at 0x400,
 * device area at 0x600. The store checks what the device asks of it; the rest is
 * the sanitizers' to find. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vdesktop/blk.h"
#include "vdesktop/host.h"
#include "vdesktop/mmio.h"

#define GPA        0x1000u
#define RAM        0x8000u
#define HOLE       0x1000u
#define DISK       (64u << 10)
#define QUEUE_SIZE 32u

enum { DESC = 0, DRIVER = 0x400, DEVICE = 0x600 };
enum {
    REG_DRIVER_FEATURES = 0x20,
    REG_DRIVER_FEATURES_SEL = 0x24,
    REG_QUEUE_SIZE = 0x38,
    REG_QUEUE_READY = 0x44,
    REG_NOTIFY = 0x50,
    REG_STATUS = 0x70,
    REG_DESC = 0x80,
    REG_DRIVER = 0x90,
    REG_DEVICE = 0xa0,
};
enum { OPT_PACKED = 1, OPT_EVENT_IDX = 2, OPT_INDIRECT = 4, OPT_PLAIN = 8, OPT_WRITE_THROUGH = 16 };

static struct {
    struct vd_mmio *mmio;
    const struct vd_io *io;
    struct vd_blk_store store;
    struct vd_blk *blk;
    uint8_t *ram, *more; /* two regions with a hole between them */
    uint8_t disk[DISK];
} rig;

static void check(bool good) {
    if (!good)
        abort();
}

static uint64_t total(const struct vd_iov *iov, uint32_t n) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += iov[i].len;
    check(n && sum && sum % VD_BLK_SECTOR == 0);
    return sum;
}

static void check_range(uint64_t offset, uint64_t len) {
    check(offset % VD_BLK_SECTOR == 0 && offset <= DISK && len <= DISK - offset);
}

static int store_readv(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n,
                       uint64_t offset, uint32_t flags) {
    (void)store, (void)flags;
    check_range(offset, total(iov, n));
    for (uint32_t i = 0; i < n; offset += iov[i++].len)
        memcpy(iov[i].base, rig.disk + offset, iov[i].len);
    return 0;
}

static int store_writev(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n,
                        uint64_t offset, uint32_t flags) {
    (void)store, (void)flags;
    check_range(offset, total(iov, n));
    for (uint32_t i = 0; i < n; offset += iov[i++].len)
        memcpy(rig.disk + offset, iov[i].base, iov[i].len);
    return 0;
}

static int store_flush(struct vd_blk_store *store, uint32_t flags) {
    (void)store, (void)flags;
    return 0;
}

static int store_discard(struct vd_blk_store *store, uint64_t offset, uint64_t len) {
    (void)store;
    check_range(offset, len);
    return 0;
}

static int store_write_zeroes(struct vd_blk_store *store, uint64_t offset, uint64_t len,
                              bool unmap) {
    (void)store, (void)unmap;
    check_range(offset, len);
    memset(rig.disk + offset, 0, len);
    return 0;
}

static void put(uint32_t reg, uint64_t value) {
    rig.io->write(rig.io->opaque, reg, 4, value);
}

static void put64(uint32_t reg, uint64_t value) {
    put(reg, value & UINT32_MAX);
    put(reg + 4, value >> 32);
}

static void set_up(void) {
    static const struct vd_irq irq;
    struct vd_host *host = vd_host_posix_new(-1);
    struct vd_mem *mem = vd_mem_new(host);
    struct vd_loop *loop = vd_loop_new(host, "fuzz"); /* never started: kicks are served here */
    struct vd_blk_options options = {.queues = 1,
                                     .queue_size = QUEUE_SIZE,
                                     .workers = 1,
                                     .inline_bytes = UINT32_MAX,
                                     .serial = "fuzz"};
    int error;
    rig.ram = malloc(RAM);
    rig.more = malloc(RAM);
    vd_mem_add(mem, GPA, RAM, rig.ram, 0);
    vd_mem_add(mem, GPA + RAM + HOLE, RAM, rig.more, 0);
    rig.store = (struct vd_blk_store){.readv = store_readv,
                                      .writev = store_writev,
                                      .flush = store_flush,
                                      .discard = store_discard,
                                      .write_zeroes = store_write_zeroes,
                                      .size = DISK,
                                      .block_size = VD_BLK_SECTOR};
    rig.blk = vd_blk_new(host, mem, "fuzz", &rig.store, &options, &loop, &error);
    rig.mmio = vd_mmio_new(host, 0, &irq, -1);
    rig.io = vd_mmio_io(rig.mmio);
    check(rig.blk && !vd_mmio_attach(rig.mmio, vd_blk_device(rig.blk)));
}

static void negotiate(uint8_t options) {
    uint64_t features = vd_blk_device(rig.blk)->offered | UINT64_C(1) << VD_F_VERSION_1;
    if (!(options & OPT_PACKED))
        features &= ~(UINT64_C(1) << VD_F_RING_PACKED);
    if (!(options & OPT_EVENT_IDX))
        features &= ~(UINT64_C(1) << VD_F_EVENT_IDX);
    if (!(options & OPT_INDIRECT))
        features &= ~(UINT64_C(1) << VD_F_INDIRECT_DESC);
    if (options & OPT_PLAIN)
        features &= UINT64_C(1) << VD_F_VERSION_1 | UINT64_C(1) << VD_F_RING_PACKED;
    put(REG_STATUS, 0);
    put(REG_STATUS, VD_STATUS_ACKNOWLEDGE | VD_STATUS_DRIVER);
    for (uint32_t word = 0; word < 2; word++) {
        put(REG_DRIVER_FEATURES_SEL, word);
        put(REG_DRIVER_FEATURES, features >> 32 * word & UINT32_MAX);
    }
    put(REG_STATUS, VD_STATUS_ACKNOWLEDGE | VD_STATUS_DRIVER | VD_STATUS_FEATURES_OK);
    put(REG_QUEUE_SIZE, QUEUE_SIZE);
    put64(REG_DESC, GPA + DESC);
    put64(REG_DRIVER, GPA + DRIVER);
    put64(REG_DEVICE, GPA + DEVICE);
    put(REG_QUEUE_READY, 1);
    put(REG_STATUS,
        VD_STATUS_ACKNOWLEDGE | VD_STATUS_DRIVER | VD_STATUS_FEATURES_OK | VD_STATUS_DRIVER_OK);
    if (options & OPT_WRITE_THROUGH)
        rig.io->write(rig.io->opaque, VD_MMIO_CONFIG + 32, 1, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!rig.mmio)
        set_up();
    if (size < 2)
        return -1;
    memset(rig.ram, 0, RAM);
    memset(rig.more, 0, RAM);
    negotiate(data[0]);
    size_t len = size - 2 < RAM ? size - 2 : RAM;
    memcpy(rig.ram, data + 2, len);
    for (unsigned kicks = data[1] % 4; kicks; kicks--)
        put(REG_NOTIFY, 0);
    put(REG_STATUS, 0); /* waits for the worker */
    return 0;
}
