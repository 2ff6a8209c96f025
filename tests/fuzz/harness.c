/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void fuzz_check(bool good) {
    if (!good)
        abort();
}

static void on_line(void *opaque, bool level) {
    struct fuzz *f = opaque;
    fuzz_check(level || f->line); /* a rise may be told again: abi.h, struct vd_irq */
    f->line = level;
}

static void on_log(void *opaque, int level, const char *component, const char *message) {
    (void)opaque;
    struct fuzz *f = fuzz_rig();
    fuzz_check(component && message[0]);
    f->warned += level == VD_LOG_WARNING;
}

static void on_written(void *opaque, uint64_t gpa, uint64_t len) {
    const struct fuzz *f = opaque;
    while (len) {
        void *base;
        uint64_t span = vd_mem_span(f->mem, gpa, len, true, &base);
        fuzz_check(span);
        gpa += span;
        len -= span;
    }
}

struct fuzz *fuzz_rig(void) {
    static struct fuzz rig;
    struct fuzz *f = &rig;
    if (f->mem)
        return f;
    f->host = *vd_host_posix_new(-1);
    f->host.log = on_log;
    f->mem = vd_mem_new(&f->host);
    f->loop = vd_loop_new(&f->host, "fuzz");
    f->ram = malloc(FUZZ_RAM);
    /* As a guest's memory is: it can be mapped once more. */
    f->second = mmap(NULL, FUZZ_SECOND, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    f->rom = malloc(FUZZ_ROM);
    fuzz_check(f->mem && f->loop && f->ram && f->second != MAP_FAILED && f->rom);
    fuzz_check(!vd_mem_add(f->mem, FUZZ_GPA, FUZZ_RAM, f->ram, 0));
    fuzz_check(!vd_mem_add(f->mem, FUZZ_GPA + FUZZ_RAM, FUZZ_SECOND, f->second, 0));
    fuzz_check(!vd_mem_add(f->mem, FUZZ_ROM_GPA, FUZZ_ROM, f->rom, VD_MEM_READONLY));
    vd_mem_on_written(f->mem, &(struct vd_written){on_written, f});
    f->mmio = vd_mmio_new(&f->host, 0, &(struct vd_irq){on_line, f}, -1);
    fuzz_check(f->mmio);
    f->io = vd_mmio_io(f->mmio);
    return f;
}

uint64_t fuzz_take(struct fuzz_input *in, unsigned n) {
    uint64_t value = 0;
    struct fuzz_input bytes = fuzz_bytes(in, n);
    for (size_t i = 0; i < bytes.left; i++)
        value |= (uint64_t)bytes.at[i] << 8 * i;
    return value;
}

struct fuzz_input fuzz_bytes(struct fuzz_input *in, size_t n) {
    struct fuzz_input bytes = {in->at, n < in->left ? n : in->left};
    in->at += bytes.left;
    in->left -= bytes.left;
    return bytes;
}

void fuzz_poke(struct fuzz *f, uint32_t offset, struct fuzz_input bytes) {
    for (; bytes.left && offset < FUZZ_GUEST; offset++, bytes.at++, bytes.left--)
        *(offset < FUZZ_RAM ? f->ram + offset : f->second + (offset - FUZZ_RAM)) = *bytes.at;
}

uint8_t fuzz_begin(struct fuzz *f, const uint8_t *data, size_t size, struct fuzz_input *ops) {
    struct fuzz_input in = {data, size};
    uint8_t options = (uint8_t)fuzz_take(&in, 1);
    uint16_t length = (uint16_t)fuzz_take(&in, 2);
    *ops = fuzz_bytes(&in, length);
    memset(f->ram, 0, FUZZ_RAM);
    memset(f->second, 0, FUZZ_SECOND);
    memset(f->rom, 0, FUZZ_ROM);
    fuzz_poke(f, 0, in);
    f->warned = 0;
    return options;
}

void fuzz_check_chain(const struct fuzz *f, const struct vd_chain *chain) {
    uint64_t sum[2] = {0, 0};
    fuzz_check(chain->n_read + chain->n_write <= (int)VD_CHAIN_SEGS_MAX);
    for (uint32_t i = 0; i < (uint32_t)chain->n_read + chain->n_write; i++) {
        bool write = i >= chain->n_read;
        const struct vd_iov *iov = &chain->iov[i];
        fuzz_check(iov->len && iov->base == vd_mem_ptr(f->mem, chain->gpa[i], iov->len, write));
        sum[write] += iov->len;
    }
    fuzz_check(sum[0] == chain->read_len && sum[1] == chain->write_len);
}

uint32_t fuzz_get(struct fuzz *f, uint32_t reg) {
    return (uint32_t)f->io->read(f->io->opaque, reg, 4);
}

void fuzz_put(struct fuzz *f, uint32_t reg, uint32_t value) {
    f->io->write(f->io->opaque, reg, 4, value);
}

void fuzz_put64(struct fuzz *f, uint32_t reg, uint64_t value) {
    fuzz_put(f, reg, (uint32_t)value);
    fuzz_put(f, reg + 4, (uint32_t)(value >> 32));
}

static void set_up_queue(struct fuzz *f, uint32_t i) {
    uint64_t at = FUZZ_GPA + (uint64_t)i * FUZZ_QUEUE;
    fuzz_put(f, REG_QueueSel, i);
    fuzz_put(f, REG_QueueSize, FUZZ_QUEUE_SIZE);
    fuzz_put64(f, REG_QueueDescLow, at);
    fuzz_put64(f, REG_QueueDriverLow, at + FUZZ_DRIVER);
    fuzz_put64(f, REG_QueueDeviceLow, at + FUZZ_DEVICE);
    fuzz_put(f, REG_QueueReady, 1);
    fuzz_check(fuzz_get(f, REG_QueueReady) == 1);
}

void fuzz_bring_up(struct fuzz *f, const struct vd_device *dev, uint8_t options, uint64_t mask,
                   uint32_t n_queues) {
    static const struct {
        uint8_t option, feature;
    } rings[] = {{FUZZ_PACKED, VD_F_RING_PACKED},
                 {FUZZ_EVENT_IDX, VD_F_EVENT_IDX},
                 {FUZZ_INDIRECT, VD_F_INDIRECT_DESC}};
    uint64_t features = (dev->offered & mask) | UINT64_C(1) << VD_F_VERSION_1;
    for (size_t i = 0; i < sizeof rings / sizeof rings[0]; i++)
        if (!(options & rings[i].option))
            features &= ~(UINT64_C(1) << rings[i].feature);
    uint32_t status = 0;
    fuzz_put(f, REG_Status, 0);
    fuzz_put(f, REG_Status, status |= VD_STATUS_ACKNOWLEDGE | VD_STATUS_DRIVER);
    for (uint32_t word = 0; word < 2; word++) {
        fuzz_put(f, REG_DriverFeaturesSel, word);
        fuzz_put(f, REG_DriverFeatures, (uint32_t)(features >> 32 * word));
    }
    fuzz_put(f, REG_Status, status |= VD_STATUS_FEATURES_OK);
    for (uint32_t i = 0; i < n_queues; i++)
        set_up_queue(f, i);
    fuzz_put(f, REG_Status, status |= VD_STATUS_DRIVER_OK);
    fuzz_check(fuzz_get(f, REG_Status) == status);
}
