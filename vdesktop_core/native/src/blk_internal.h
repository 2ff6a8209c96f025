/* SPDX-License-Identifier: MIT
 * virtio-blk, between its own files. */
#ifndef VD_BLK_INTERNAL_H
#define VD_BLK_INTERNAL_H

#include <pthread.h>

#include "vdesktop/blk.h"

/* virtio 1.4 §5.2.3 */
enum blk_feature {
    BLK_F_SIZE_MAX = 1,
    BLK_F_SEG_MAX = 2,
    BLK_F_GEOMETRY = 4,
    BLK_F_RO = 5,
    BLK_F_BLK_SIZE = 6,
    BLK_F_FLUSH = 9,
    BLK_F_TOPOLOGY = 10,
    BLK_F_CONFIG_WCE = 11,
    BLK_F_MQ = 12,
    BLK_F_DISCARD = 13,
    BLK_F_WRITE_ZEROES = 14,
};

/* §5.2.6 */
enum blk_type {
    BLK_T_IN = 0,
    BLK_T_OUT = 1,
    BLK_T_FLUSH = 4,
    BLK_T_GET_ID = 8,
    BLK_T_DISCARD = 11,
    BLK_T_WRITE_ZEROES = 13,
};
enum blk_status { BLK_S_OK = 0, BLK_S_IOERR = 1, BLK_S_UNSUPP = 2 };

struct blk_header { /* little-endian */
    uint32_t type, reserved;
    uint64_t sector;
};
struct blk_range { /* of a discard or write-zeroes request, little-endian */
    uint64_t sector;
    uint32_t num_sectors, flags;
};
#define BLK_RANGE_UNMAP 1u

/* Ranges in one request, and sectors in one range, at most: what bounds the
 * work of one request. */
#define BLK_DISCARD_SEGS    64u
#define BLK_DISCARD_SECTORS (1u << 22)
#define BLK_ZEROES_SEGS     1u
#define BLK_ZEROES_SECTORS  (1u << 17)

/* blk_config.c: offered features and configuration space from store and options. */
enum blk_config_field {
    BLK_CONFIG_CAPACITY,
    BLK_CONFIG_SIZE_MAX,
    BLK_CONFIG_SEG_MAX,
    BLK_CONFIG_CYLINDERS,
    BLK_CONFIG_HEADS,
    BLK_CONFIG_SECTORS,
    BLK_CONFIG_BLK_SIZE,
    BLK_CONFIG_PHYSICAL_BLOCK_EXP,
    BLK_CONFIG_ALIGNMENT_OFFSET,
    BLK_CONFIG_MIN_IO_SIZE,
    BLK_CONFIG_OPT_IO_SIZE,
    BLK_CONFIG_WRITEBACK,
    BLK_CONFIG_NUM_QUEUES,
    BLK_CONFIG_MAX_DISCARD_SECTORS,
    BLK_CONFIG_MAX_DISCARD_SEG,
    BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT,
    BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS,
    BLK_CONFIG_MAX_WRITE_ZEROES_SEG,
    BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP,
    BLK_CONFIG_FIELDS
};
void blk_config_fill(struct vd_device *dev, const struct vd_blk_store *store,
                     const struct vd_blk_options *options);
uint32_t blk_config_offset(enum blk_config_field field);
/* True if config bytes [offset, offset+len) touch the field. */
bool blk_config_touches(enum blk_config_field field, uint32_t offset, uint32_t len);
uint64_t blk_config_get(const struct vd_device *dev, enum blk_config_field field);
void blk_config_put(struct vd_device *dev, enum blk_config_field field, uint64_t value);

/* blk_request.c: one request, from a chain to a status. Touches the store and
 * the chain's memory, nothing of the plane. */
struct blk_rules { /* what the driver negotiated */
    uint64_t features;
    bool read_only, write_through;
    const char *serial; /* VD_BLK_SERIAL_LEN bytes */
};
struct blk_request {
    struct vd_chain chain;
    uint32_t type;
    uint64_t offset;   /* bytes */
    uint32_t data_len; /* bytes of data in the direction of `type` */
    struct vd_iov *data;
    uint32_t n_data;
    bool write_through;
    bool from_device; /* data goes to the guest */
};
/* Reads the header once and checks it. 0: run it. > 0: finish with status
 * (value - 1). < 0: the driver broke the protocol; *what names the clause.
 * `data` has room for every segment of the chain. */
int blk_request_parse(struct blk_request *request, const struct blk_rules *rules,
                      const struct vd_blk_store *store, struct vd_iov *data, const char **what);
/* 0, or -errno; -EAGAIN only with VD_BLK_NOWAIT: nothing was changed that a
 * second run does not do again. */
int blk_request_run(const struct blk_request *request, const struct blk_rules *rules,
                    struct vd_blk_store *store, uint32_t flags);
/* Writes the status byte, and zeroes over data that was not read, so that all
 * of `written`, which it returns, was written (§2.7.8.2). */
uint32_t blk_request_finish(const struct blk_request *request, enum blk_status status);

/* blk_pool.c: threads for what would block. */
struct blk_job {
    struct blk_job *next;
    const void *owner;
};
struct blk_pool;
struct blk_pool *blk_pool_new(const struct vd_host *host, const char *name, uint32_t threads,
                              void (*run)(struct blk_job *job));
void blk_pool_free(struct blk_pool *pool); /* runs what is queued, joins */
/* Never blocks. Starts a thread if none is idle; where that fails and there is
 * none at all: -EAGAIN, and the job is not taken. */
int blk_pool_submit(struct blk_pool *pool, struct blk_job *job);
/* Takes back the owner's jobs that have not begun, as a list. */
struct blk_job *blk_pool_cancel(struct blk_pool *pool, const void *owner);

#endif
