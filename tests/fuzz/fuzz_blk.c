/* SPDX-License-Identifier: MIT
 * libFuzzer target: a guest's memory and kicks against a virtio-blk device on a
 * virtio-mmio slot. The first operation byte says how many kicks. The store checks
 * what the device asks of it; the rest is the sanitizers' to find. */
#include <string.h>

#include "harness.h"
#include "vdesktop/blk.h"

#define DISK       (64u << 10)
#define WCE_OFFSET 32u /* §5.2.4 */

enum { OPT_WRITE_THROUGH = 16 };

static struct {
    struct vd_blk_store store;
    struct vd_blk *blk;
    uint8_t disk[DISK];
} rig;

static uint64_t total(const struct vd_iov *iov, uint32_t n) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += iov[i].len;
    fuzz_check(n && sum && sum % VD_BLK_SECTOR == 0);
    return sum;
}

static void check_range(uint64_t offset, uint64_t len) {
    fuzz_check(offset % VD_BLK_SECTOR == 0 && offset <= DISK && len <= DISK - offset);
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

static void set_up(struct fuzz *f) {
    struct vd_blk_options options = {.queues = 1,
                                     .queue_size = FUZZ_QUEUE_SIZE,
                                     .workers = 1,
                                     .inline_bytes = UINT32_MAX, /* kicks are served at once */
                                     .serial = "fuzz"};
    int error;
    rig.store = (struct vd_blk_store){.readv = store_readv,
                                      .writev = store_writev,
                                      .flush = store_flush,
                                      .discard = store_discard,
                                      .write_zeroes = store_write_zeroes,
                                      .size = DISK,
                                      .block_size = VD_BLK_SECTOR};
    rig.blk = vd_blk_new(&f->host, f->mem, "fuzz", &rig.store, &options, &f->loop, &error);
    fuzz_check(rig.blk && !vd_mmio_attach(f->mmio, vd_blk_device(rig.blk)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz *f = fuzz_rig();
    struct fuzz_input ops;
    if (!rig.blk)
        set_up(f);
    uint8_t options = fuzz_begin(f, data, size, &ops);
    uint64_t mask = options & FUZZ_PLAIN ? VD_FEATURES_COMMON : UINT64_MAX;
    fuzz_bring_up(f, vd_blk_device(rig.blk), options, mask, 1);
    if (options & OPT_WRITE_THROUGH)
        f->io->write(f->io->opaque, VD_MMIO_CONFIG + WCE_OFFSET, 1, 0);
    for (unsigned kicks = (unsigned)fuzz_take(&ops, 1) % 4; kicks; kicks--)
        fuzz_put(f, REG_QueueNotify, 0);
    fuzz_put(f, REG_Status, 0); /* waits for the worker */
    return 0;
}
