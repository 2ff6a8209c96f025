/* SPDX-License-Identifier: MIT
 * A disk in a file or on a block device. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vdesktop/blk.h"

_Static_assert(sizeof(struct vd_iov) == sizeof(struct iovec), "vd_iov is an iovec");

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO  (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

struct file_store {
    struct vd_blk_store store; /* first */
    const struct vd_host *host;
    int fd, direct_fd;
    uint32_t direct_align;
    bool block_device;
    bool never_blocks;  /* lives in memory */
    bool nowait_writes; /* atomic: RWF_NOWAIT writes are known not to be refused as such */
    bool flush_failed;  /* atomic */
};

static const char zeroes[64 << 10];

static bool aligned(const struct file_store *file, const struct vd_iov *iov, uint32_t n,
                    uint64_t offset) {
    uint64_t bits = offset;
    for (uint32_t i = 0; i < n; i++)
        bits |= (uintptr_t)iov[i].base | iov[i].len;
    return !(bits & (file->direct_align - 1));
}

static ssize_t transfer(int fd, const struct vd_iov *iov, uint32_t n, uint64_t offset, int flags,
                        bool write) {
    ssize_t done;
    do
        done = write ? pwritev2(fd, (const struct iovec *)iov, (int)n, (off_t)offset, flags)
                     : preadv2(fd, (const struct iovec *)iov, (int)n, (off_t)offset, flags);
    while (done < 0 && errno == EINTR);
    return done < 0 ? -errno : done;
}

/* All of it, resuming short transfers a segment at a time. */
static int transfer_all(int fd, const struct vd_iov *iov, uint32_t n, uint64_t offset, bool write) {
    ssize_t done = transfer(fd, iov, n, offset, 0, write);
    if (done < 0)
        return (int)done;
    size_t skip = (size_t)done;
    offset += skip;
    for (uint32_t i = 0; i < n; i++) {
        struct vd_iov rest = iov[i];
        if (skip >= rest.len) {
            skip -= rest.len;
            continue;
        }
        rest.base = (char *)rest.base + skip;
        rest.len -= skip;
        skip = 0;
        while (rest.len) {
            done = transfer(fd, &rest, 1, offset, 0, write);
            if (done < 0)
                return (int)done;
            if (!done) /* the file was truncated under us */
                return -EIO;
            rest.base = (char *)rest.base + done;
            rest.len -= (size_t)done;
            offset += (uint64_t)done;
        }
    }
    return 0;
}

static int transfer_nowait(struct file_store *file, int fd, const struct vd_iov *iov, uint32_t n,
                           uint64_t offset, bool write) {
    if (write && !__atomic_load_n(&file->nowait_writes, __ATOMIC_RELAXED))
        return -EAGAIN;
    size_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += iov[i].len;
    ssize_t done = transfer(fd, iov, n, offset, RWF_NOWAIT, write);
    if (done >= 0)
        return (size_t)done == total ? 0 : -EAGAIN; /* part of it was cached */
    if (write && done == -EOPNOTSUPP)
        __atomic_store_n(&file->nowait_writes, false, __ATOMIC_RELAXED);
    /* Whatever it is, the attempt that may wait finds out. */
    return -EAGAIN;
}

static int rw(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n, uint64_t offset,
              uint32_t flags, bool write) {
    struct file_store *file = (struct file_store *)store;
    bool direct = file->direct_fd >= 0 && aligned(file, iov, n, offset);
    int fd = direct ? file->direct_fd : file->fd;
    if ((flags & VD_BLK_NOWAIT) && !file->never_blocks)
        return direct ? -EAGAIN : transfer_nowait(file, fd, iov, n, offset, write);
    return transfer_all(fd, iov, n, offset, write);
}

static int file_readv(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n,
                      uint64_t offset, uint32_t flags) {
    return rw(store, iov, n, offset, flags, false);
}

static int file_writev(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n,
                       uint64_t offset, uint32_t flags) {
    return rw(store, iov, n, offset, flags, true);
}

static int file_flush(struct vd_blk_store *store, uint32_t flags) {
    struct file_store *file = (struct file_store *)store;
    if ((flags & VD_BLK_NOWAIT) && !file->never_blocks)
        return -EAGAIN;
    /* Linux reports a lost page once and then forgets it: a later success would
     * be a lie about writes that came before the failure. */
    if (__atomic_load_n(&file->flush_failed, __ATOMIC_RELAXED))
        return -EIO;
    if (!fdatasync(file->fd))
        return 0;
    int error = -errno;
    __atomic_store_n(&file->flush_failed, true, __ATOMIC_RELAXED);
    return error;
}

static bool unsupported(int error) {
    return error == -EOPNOTSUPP || error == -ENOSYS || error == -ENOTTY || error == -EINVAL;
}

static int allocate(const struct file_store *file, int mode, uint64_t offset, uint64_t len) {
    int result;
    do
        result = fallocate(file->fd, mode, (off_t)offset, (off_t)len);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

static int file_discard(struct vd_blk_store *store, uint64_t offset, uint64_t len) {
    struct file_store *file = (struct file_store *)store;
    int error = 0;
    if (!file->block_device) {
        error = allocate(file, PUNCH, offset, len);
    } else {
        uint64_t range[2] = {offset, len};
        if (ioctl(file->fd, BLKDISCARD, range) < 0)
            error = -errno;
    }
    return unsupported(error) ? 0 : error; /* it is a hint (§5.2.6.2) */
}

static int write_zeroes_by_hand(const struct file_store *file, uint64_t offset, uint64_t len) {
    while (len) {
        struct vd_iov iov = {(void *)zeroes, len < sizeof zeroes ? (size_t)len : sizeof zeroes};
        int error = transfer_all(file->fd, &iov, 1, offset, true);
        if (error)
            return error;
        offset += iov.len;
        len -= iov.len;
    }
    return 0;
}

static int file_write_zeroes(struct vd_blk_store *store, uint64_t offset, uint64_t len,
                             bool unmap) {
    struct file_store *file = (struct file_store *)store;
    int error = -EOPNOTSUPP;
    if (unmap)
        error = allocate(file, PUNCH, offset, len);
    if (unsupported(error))
        error = allocate(file, ZERO, offset, len);
    if (unsupported(error))
        error = write_zeroes_by_hand(file, offset, len);
    return error;
}

static void file_close(struct vd_blk_store *store) {
    struct file_store *file = (struct file_store *)store;
    close(file->fd);
    if (file->direct_fd >= 0)
        close(file->direct_fd);
    file->host->free(file->host->opaque, file);
}

static uint8_t log2_of(uint64_t ratio) {
    uint8_t log = 0;
    while (ratio >> (log + 1))
        log++;
    return log;
}

static int probe_block_device(struct file_store *file) {
    struct vd_blk_store *store = &file->store;
    int logical = 0;
    unsigned physical = 0, min_io = 0, opt_io = 0;
    if (ioctl(file->fd, BLKGETSIZE64, &store->size) < 0 || ioctl(file->fd, BLKSSZGET, &logical) < 0)
        return -errno;
    if (logical < VD_BLK_SECTOR || logical > 65536)
        return -EINVAL;
    store->block_size = (uint32_t)logical;
    if (!ioctl(file->fd, BLKPBSZGET, &physical) && physical > (unsigned)logical)
        store->physical_exp = log2_of(physical / (unsigned)logical);
    if (!ioctl(file->fd, BLKIOMIN, &min_io) && min_io / (unsigned)logical <= UINT16_MAX)
        store->min_io = (uint16_t)(min_io / (unsigned)logical);
    if (!ioctl(file->fd, BLKIOOPT, &opt_io))
        store->opt_io = opt_io / (unsigned)logical;
    return 0;
}

static int probe(struct file_store *file) {
    struct vd_blk_store *store = &file->store;
    struct stat st;
    struct statfs fs;
    if (fstat(file->fd, &st) < 0 || fstatfs(file->fd, &fs) < 0)
        return -errno;
    store->block_size = VD_BLK_SECTOR;
    if (S_ISBLK(st.st_mode)) {
        file->block_device = true;
        return probe_block_device(file);
    }
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    file->never_blocks = fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC;
    store->size = (uint64_t)st.st_size;
    /* The host rewrites whole blocks of its file system: let the guest align to them. */
    if (st.st_blksize > VD_BLK_SECTOR && st.st_blksize <= 65536) {
        store->physical_exp = log2_of((uint64_t)st.st_blksize / VD_BLK_SECTOR);
        store->discard_granularity = (uint32_t)st.st_blksize;
    }
    return 0;
}

struct vd_blk_store *vd_blk_file_open(const struct vd_host *host, int fd, int direct_fd,
                                      uint32_t direct_align, bool read_only, int *error) {
    struct file_store *file = host->alloc(host->opaque, sizeof *file);
    *error = -ENOMEM;
    if (file) {
        *file = (struct file_store){
            .store = {.readv = file_readv,
                      .writev = file_writev,
                      .flush = file_flush,
                      .discard = file_discard,
                      .write_zeroes = file_write_zeroes,
                      .close = file_close,
                      .read_only = read_only},
            .host = host,
            .fd = fd,
            .direct_fd = direct_fd,
            .direct_align = direct_align,
            .nowait_writes = true,
        };
        *error = probe(file);
        if (!*error && (!file->store.size || file->store.size % VD_BLK_SECTOR))
            *error = -EINVAL;
        if (!*error)
            return &file->store;
        host->free(host->opaque, file);
    }
    close(fd);
    if (direct_fd >= 0)
        close(direct_fd);
    return NULL;
}

void vd_blk_store_close(struct vd_blk_store *store) {
    if (store)
        store->close(store);
}
