/* SPDX-License-Identifier: MIT
 * virtio-blk (virtio 1.4 §5.2): the data plane, and the stores behind it. */
#ifndef VDESKTOP_BLK_H
#define VDESKTOP_BLK_H

#include "vdesktop/device.h"
#include "vdesktop/loop.h"

#define VD_BLK_ID         2
#define VD_BLK_QUEUES_MAX 16
#define VD_BLK_SECTOR     512
#define VD_BLK_SERIAL_LEN 20

/* For readv, writev and flush: fail with -EAGAIN rather than block. A store that
 * cannot promise that always answers -EAGAIN. */
#define VD_BLK_NOWAIT 1

/* What stands behind a disk. Functions move the whole range or fail: 0 or
 * -errno; offsets and lengths are bytes, within `size`, multiples of 512, and
 * memory is any host memory. All but `close` are called on many threads at
 * once. flush: everything whose function returned before is on stable storage.
 * discard and write_zeroes may be NULL: the device does not offer them then. */
struct vd_blk_store {
    int (*readv)(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n, uint64_t offset,
                 uint32_t flags);
    int (*writev)(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n, uint64_t offset,
                  uint32_t flags);
    int (*flush)(struct vd_blk_store *store, uint32_t flags);
    int (*discard)(struct vd_blk_store *store, uint64_t offset, uint64_t len);
    int (*write_zeroes)(struct vd_blk_store *store, uint64_t offset, uint64_t len, bool unmap);
    void (*close)(struct vd_blk_store *store); /* frees it; data that was not flushed may be lost */
    uint64_t size;                             /* bytes, a multiple of 512 */
    uint32_t block_size;                       /* logical, 512..65536, a power of two */
    uint8_t physical_exp;                      /* log2(physical / logical block) */
    uint16_t min_io;                           /* suggested, in logical blocks; 0: unknown */
    uint32_t opt_io;                           /* likewise */
    uint32_t discard_granularity;              /* bytes; 0: block_size */
    bool read_only;
    void *opaque;
};

/* A file or block device, through `fd` (closed with the store, also on failure).
 * With `direct_fd` >= 0 (the same file, opened O_DIRECT) requests that are
 * aligned to `direct_align` bytes bypass the page cache. *error: 0 or -errno. */
struct vd_blk_store *vd_blk_file_open(const struct vd_host *host, int fd, int direct_fd,
                                      uint32_t direct_align, bool read_only, int *error);

/* An NBD server on a UNIX socket, over `connections` connections (one where the
 * server cannot keep several coherent), through libnbd, which is loaded at run
 * time. Failing, says why in `message`. */
struct vd_blk_store *vd_blk_nbd_open(const struct vd_host *host, const char *socket_path,
                                     uint32_t connections, bool read_only, char *message,
                                     size_t message_len);
void vd_blk_store_close(struct vd_blk_store *store);

/* One field of the configuration space (virtio 1.4 §5.2.4). */
struct vd_blk_field {
    const char *name;
    uint32_t offset, width;
    int32_t feature; /* the bit it depends on; -1: always valid */
};
/* The whole layout, in order. */
const struct vd_blk_field *vd_blk_config_layout(uint32_t *n);

struct vd_blk_options {
    uint16_t queues;       /* 1..VD_BLK_QUEUES_MAX */
    uint16_t queue_size;   /* a power of two, 4..VD_QUEUE_SIZE_MAX */
    uint32_t block_size;   /* 0: the store's */
    uint32_t workers;      /* threads for requests that block, at most; >= 1 */
    uint32_t inline_bytes; /* a kick's bytes served on the kicking thread; 0: never there */
    bool write_through;    /* every write is on stable storage when acknowledged */
    bool no_discard;       /* offer neither discard nor unmap */
    char serial[VD_BLK_SERIAL_LEN + 1];
};

struct vd_blk_counters {
    uint64_t reads, writes, read_bytes, written_bytes;
    uint64_t flushes, discards, write_zeroes, get_ids;
    uint64_t errors, unsupported;
    uint64_t deferred;   /* requests a worker did */
    uint64_t latency_ns; /* summed over all requests, from pop to publication */
};

struct vd_blk;

/* A device over `store`, which stays the caller's and outlives it. Queue i is
 * served on loops[i] (an array of options->queues). NULL and *error = -errno. */
struct vd_blk *vd_blk_new(const struct vd_host *host, struct vd_mem *mem, const char *name,
                          struct vd_blk_store *store, const struct vd_blk_options *options,
                          struct vd_loop *const *loops, int *error);
/* Detached from its slot. Finishes what a worker has begun, drops the rest
 * unacknowledged, flushes the store. */
void vd_blk_free(struct vd_blk *blk);
struct vd_device *vd_blk_device(struct vd_blk *blk);
void vd_blk_counters(struct vd_blk *blk, struct vd_blk_counters *counters);

#endif
