/* SPDX-License-Identifier: MIT
 * The configuration space of virtio-blk, as data. */
#include <string.h>

#include "blk_internal.h"

/* virtio 1.4 §5.2.4, struct virtio_blk_config, as far as features we offer need it. */
static const struct vd_blk_field layout[BLK_CONFIG_FIELDS] = {
    [BLK_CONFIG_CAPACITY] = {"capacity", 0, 8, -1},
    [BLK_CONFIG_SIZE_MAX] = {"size_max", 8, 4, BLK_F_SIZE_MAX},
    [BLK_CONFIG_SEG_MAX] = {"seg_max", 12, 4, BLK_F_SEG_MAX},
    [BLK_CONFIG_CYLINDERS] = {"cylinders", 16, 2, BLK_F_GEOMETRY},
    [BLK_CONFIG_HEADS] = {"heads", 18, 1, BLK_F_GEOMETRY},
    [BLK_CONFIG_SECTORS] = {"sectors", 19, 1, BLK_F_GEOMETRY},
    [BLK_CONFIG_BLK_SIZE] = {"blk_size", 20, 4, BLK_F_BLK_SIZE},
    [BLK_CONFIG_PHYSICAL_BLOCK_EXP] = {"physical_block_exp", 24, 1, BLK_F_TOPOLOGY},
    [BLK_CONFIG_ALIGNMENT_OFFSET] = {"alignment_offset", 25, 1, BLK_F_TOPOLOGY},
    [BLK_CONFIG_MIN_IO_SIZE] = {"min_io_size", 26, 2, BLK_F_TOPOLOGY},
    [BLK_CONFIG_OPT_IO_SIZE] = {"opt_io_size", 28, 4, BLK_F_TOPOLOGY},
    [BLK_CONFIG_WRITEBACK] = {"writeback", 32, 1, BLK_F_CONFIG_WCE},
    [BLK_CONFIG_NUM_QUEUES] = {"num_queues", 34, 2, BLK_F_MQ},
    [BLK_CONFIG_MAX_DISCARD_SECTORS] = {"max_discard_sectors", 36, 4, BLK_F_DISCARD},
    [BLK_CONFIG_MAX_DISCARD_SEG] = {"max_discard_seg", 40, 4, BLK_F_DISCARD},
    [BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT] = {"discard_sector_alignment", 44, 4, BLK_F_DISCARD},
    [BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS] = {"max_write_zeroes_sectors", 48, 4, BLK_F_WRITE_ZEROES},
    [BLK_CONFIG_MAX_WRITE_ZEROES_SEG] = {"max_write_zeroes_seg", 52, 4, BLK_F_WRITE_ZEROES},
    [BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP] = {"write_zeroes_may_unmap", 56, 1, BLK_F_WRITE_ZEROES},
};
/* With the three bytes that pad the last field. */
#define CONFIG_LEN 60

const struct vd_blk_field *vd_blk_config_layout(uint32_t *n) {
    *n = BLK_CONFIG_FIELDS;
    return layout;
}

void blk_config_put(struct vd_device *dev, enum blk_config_field field, uint64_t value) {
    for (uint32_t i = 0; i < layout[field].width; i++)
        dev->config[layout[field].offset + i] = (uint8_t)(value >> 8 * i);
}

uint64_t blk_config_get(const struct vd_device *dev, enum blk_config_field field) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < layout[field].width; i++)
        value |= (uint64_t)dev->config[layout[field].offset + i] << 8 * i;
    return value;
}

uint32_t blk_config_offset(enum blk_config_field field) {
    return layout[field].offset;
}

bool blk_config_touches(enum blk_config_field field, uint32_t offset, uint32_t len) {
    return offset < layout[field].offset + layout[field].width &&
           (uint64_t)offset + len > layout[field].offset;
}

/* §5.2.3. SIZE_MAX and GEOMETRY are not offered: a segment may have any length,
 * and the disk has no cylinders. */
static uint64_t features(const struct vd_blk_store *store, const struct vd_blk_options *options) {
    uint64_t bits =
        1u << BLK_F_SEG_MAX | 1u << BLK_F_BLK_SIZE | 1u << BLK_F_TOPOLOGY | 1u << BLK_F_FLUSH;
    if (options->queues > 1)
        bits |= 1u << BLK_F_MQ;
    if (store->read_only)
        return bits | 1u << BLK_F_RO;
    if (!options->write_through) /* else the host has decided */
        bits |= 1u << BLK_F_CONFIG_WCE;
    if (store->discard && !options->no_discard)
        bits |= 1u << BLK_F_DISCARD;
    if (store->write_zeroes)
        bits |= 1u << BLK_F_WRITE_ZEROES;
    return bits;
}

void blk_config_fill(struct vd_device *dev, const struct vd_blk_store *store,
                     const struct vd_blk_options *options) {
    uint32_t block_size = options->block_size ? options->block_size : store->block_size;
    uint32_t granularity = store->discard_granularity ? store->discard_granularity : block_size;
    uint64_t physical = (uint64_t)store->block_size << store->physical_exp;
    uint8_t physical_exp = 0;
    while ((uint64_t)block_size << physical_exp < physical)
        physical_exp++;
    const struct {
        enum blk_config_field field;
        uint64_t value;
    } values[] = {
        {BLK_CONFIG_CAPACITY, store->size / VD_BLK_SECTOR},
        /* Header and status take a descriptor each. */
        {BLK_CONFIG_SEG_MAX, options->queue_size - 2u},
        {BLK_CONFIG_BLK_SIZE, block_size},
        {BLK_CONFIG_PHYSICAL_BLOCK_EXP, physical_exp},
        {BLK_CONFIG_MIN_IO_SIZE, store->min_io},
        {BLK_CONFIG_OPT_IO_SIZE, store->opt_io},
        {BLK_CONFIG_WRITEBACK, !options->write_through},
        {BLK_CONFIG_NUM_QUEUES, options->queues},
        {BLK_CONFIG_MAX_DISCARD_SECTORS, BLK_DISCARD_SECTORS},
        {BLK_CONFIG_MAX_DISCARD_SEG, BLK_DISCARD_SEGS},
        {BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT, granularity / VD_BLK_SECTOR},
        {BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS, BLK_ZEROES_SECTORS},
        {BLK_CONFIG_MAX_WRITE_ZEROES_SEG, BLK_ZEROES_SEGS},
        {BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP, !options->no_discard},
    };
    dev->offered |= features(store, options);
    dev->config_len = CONFIG_LEN;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        int32_t feature = layout[values[i].field].feature;
        if (feature < 0 || dev->offered >> feature & 1)
            blk_config_put(dev, values[i].field, values[i].value);
    }
    if (dev->offered >> BLK_F_CONFIG_WCE & 1)
        dev->config_writable[layout[BLK_CONFIG_WRITEBACK].offset] = 0xff;
}
