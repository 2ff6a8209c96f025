/* SPDX-License-Identifier: MIT
 * One virtio-blk request (virtio 1.4 §5.2.6). Everything of it is the guest's:
 * it is copied once, checked here, and used from the copy. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "blk_internal.h"

/* [skip, skip+len) of the segments, host-contiguous neighbours joined. */
static uint32_t slice(const struct vd_iov *from, uint32_t n, size_t skip, size_t len,
                      struct vd_iov *to) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < n && len; i++) {
        if (skip >= from[i].len) {
            skip -= from[i].len;
            continue;
        }
        char *base = (char *)from[i].base + skip;
        size_t part = from[i].len - skip < len ? from[i].len - skip : len;
        skip = 0;
        len -= part;
        if (count && (char *)to[count - 1].base + to[count - 1].len == base)
            to[count - 1].len += part;
        else
            to[count++] = (struct vd_iov){base, part};
    }
    return count;
}

static bool inside(const struct vd_blk_store *store, uint64_t sector, uint64_t sectors) {
    uint64_t capacity = store->size / VD_BLK_SECTOR;
    return sector <= capacity && sectors <= capacity - sector;
}

static int with(enum blk_status status) {
    return (int)status + 1;
}

int blk_request_parse(struct blk_request *request, const struct blk_rules *rules,
                      const struct vd_blk_store *store, struct vd_iov *data, const char **what) {
    const struct vd_chain *chain = &request->chain;
    struct blk_header header;
    request->type = UINT32_MAX;
    request->from_device = false;
    request->data_len = request->n_data = 0;
    if (chain->write_len < 1) {
        *what = "request without a status byte (virtio 1.4 5.2.6)";
        return -EPROTO;
    }
    if (vd_chain_read(chain, 0, &header, sizeof header) < sizeof header) {
        *what = "request header shorter than 16 bytes (virtio 1.4 5.2.6)";
        return -EPROTO;
    }
    request->type = le32toh(header.type);
    request->write_through = rules->write_through;
    request->data = data;
    request->data_len = chain->read_len - (uint32_t)sizeof header;
    bool writes = request->type == BLK_T_OUT;
    uint64_t sector = le64toh(header.sector);
    switch (request->type) {
    case BLK_T_IN:
    case BLK_T_OUT:
        if (!writes) {
            request->from_device = true;
            request->data_len = chain->write_len - 1;
        }
        if ((writes && rules->read_only) || request->data_len % VD_BLK_SECTOR ||
            !inside(store, sector, request->data_len / VD_BLK_SECTOR))
            return with(BLK_S_IOERR);
        request->offset = sector * VD_BLK_SECTOR;
        request->n_data =
            writes ? slice(chain->iov, chain->n_read, sizeof header, request->data_len, data)
                   : slice(chain->iov + chain->n_read, chain->n_write, 0, request->data_len, data);
        return 0;
    case BLK_T_GET_ID:
        request->from_device = true;
        request->data_len = chain->write_len - 1;
        return 0;
    case BLK_T_FLUSH:
        return 0;
    case BLK_T_DISCARD:
    case BLK_T_WRITE_ZEROES: {
        bool discard = request->type == BLK_T_DISCARD;
        uint32_t most = discard ? BLK_DISCARD_SEGS : BLK_ZEROES_SEGS;
        if (rules->read_only)
            return with(BLK_S_IOERR); /* §5.2.6.2: where VIRTIO_BLK_F_RO is offered */
        if (!(rules->features >> (discard ? BLK_F_DISCARD : BLK_F_WRITE_ZEROES) & 1))
            return with(BLK_S_UNSUPP);
        if (!request->data_len || request->data_len % sizeof(struct blk_range) ||
            request->data_len / sizeof(struct blk_range) > most)
            return with(BLK_S_IOERR);
        return 0;
    }
    default:
        return with(BLK_S_UNSUPP);
    }
}

/* -ENOTSUP: an unknown flag, which §5.2.6.2 answers with UNSUPP. */
static int check_range(const struct blk_range *range, bool discard,
                       const struct vd_blk_store *store) {
    if (range->flags & ~(discard ? 0u : BLK_RANGE_UNMAP))
        return -ENOTSUP;
    if (range->num_sectors > (discard ? BLK_DISCARD_SECTORS : BLK_ZEROES_SECTORS) ||
        !inside(store, range->sector, range->num_sectors))
        return -EINVAL;
    return 0;
}

/* All ranges are checked before the first is acted on. */
static int run_ranges(const struct blk_request *request, struct vd_blk_store *store) {
    bool discard = request->type == BLK_T_DISCARD;
    struct blk_range ranges[BLK_DISCARD_SEGS];
    size_t n = request->data_len / sizeof *ranges;
    vd_chain_read(&request->chain, sizeof(struct blk_header), ranges, request->data_len);
    for (size_t i = 0; i < n; i++) {
        ranges[i] = (struct blk_range){le64toh(ranges[i].sector), le32toh(ranges[i].num_sectors),
                                       le32toh(ranges[i].flags)};
        int error = check_range(&ranges[i], discard, store);
        if (error)
            return error;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t offset = ranges[i].sector * VD_BLK_SECTOR;
        uint64_t len = (uint64_t)ranges[i].num_sectors * VD_BLK_SECTOR;
        if (!len)
            continue;
        int error =
            discard ? store->discard(store, offset, len)
                    : store->write_zeroes(store, offset, len, ranges[i].flags & BLK_RANGE_UNMAP);
        if (error)
            return error;
    }
    return 0;
}

int blk_request_run(const struct blk_request *request, const struct blk_rules *rules,
                    struct vd_blk_store *store, uint32_t flags) {
    int error = 0;
    switch (request->type) {
    case BLK_T_IN:
        return request->n_data
                   ? store->readv(store, request->data, request->n_data, request->offset, flags)
                   : 0;
    case BLK_T_OUT:
        if (request->n_data)
            error = store->writev(store, request->data, request->n_data, request->offset, flags);
        break;
    case BLK_T_FLUSH:
        return store->flush(store, flags);
    case BLK_T_GET_ID: {
        const struct vd_chain *chain = &request->chain;
        uint32_t len =
            request->data_len < VD_BLK_SERIAL_LEN ? request->data_len : VD_BLK_SERIAL_LEN;
        vd_chain_write(chain, 0, rules->serial, len);
        return 0;
    }
    default: /* parse lets nothing else through */
        if (flags & VD_BLK_NOWAIT)
            return -EAGAIN;
        error = run_ranges(request, store);
    }
    if (!error && request->write_through)
        error = store->flush(store, flags);
    return error;
}

uint32_t blk_request_finish(const struct blk_request *request, enum blk_status status) {
    const struct vd_chain *chain = &request->chain;
    uint32_t valid = 0;
    if (status == BLK_S_OK && request->type == BLK_T_IN)
        valid = request->data_len;
    else if (status == BLK_S_OK && request->type == BLK_T_GET_ID)
        valid = request->data_len < VD_BLK_SERIAL_LEN ? request->data_len : VD_BLK_SERIAL_LEN;
    uint32_t position = 0, last = chain->write_len - 1;
    for (uint32_t i = chain->n_read; i < chain->n_read + (uint32_t)chain->n_write; i++) {
        uint32_t len = (uint32_t)chain->iov[i].len;
        char *base = chain->iov[i].base;
        uint32_t end = position + len;
        uint32_t from = valid > position ? valid : position;
        uint32_t to = end < last ? end : last;
        if (from < to)
            memset(base + (from - position), 0, to - from);
        if (end == chain->write_len)
            base[len - 1] = (char)status;
        position = end;
    }
    return chain->write_len;
}
