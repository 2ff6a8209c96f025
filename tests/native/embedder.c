/* SPDX-License-Identifier: MIT
 * A C program with no Python: a slot, a device, one request. Prints what the
 * driver sees. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vdesktop/host.h"
#include "vdesktop/mmio.h"

static void serve(struct vd_device *dev, uint16_t index) {
    static struct vd_iov iov[VD_CHAIN_SEGS_MAX];
    static uint64_t gpa[VD_CHAIN_SEGS_MAX];
    struct vd_chain chain = {.iov = iov, .gpa = gpa};
    while (vd_queue_pop(dev->queue[index], &chain) == 1)
        vd_queue_push(dev->queue[index], &chain,
                      (uint32_t)vd_chain_write(&chain, 0, "embedded", 8));
    if (vd_queue_publish(dev->queue[index]))
        vd_device_interrupt(dev, index);
}

static void irq_set(void *opaque, bool level) {
    *(bool *)opaque = level;
}

int main(void) {
    static const struct vd_device_ops ops = {.notify = serve};
    static _Alignas(4096) uint8_t ram[65536];
    bool line = false;
    struct vd_host *host = vd_host_posix_new(-1);
    struct vd_mem *mem = vd_mem_new(host);
    vd_mem_add(mem, 0, sizeof ram, ram, 0);
    struct vd_device *dev = calloc(1, sizeof *dev);
    *dev = (struct vd_device){
        .ops = &ops, .virtio_id = 65535, .n_queues = 1, .mem = mem, .host = host};
    dev->queue[0] = vd_queue_new(host, mem);
    dev->queue_size_max[0] = 8;
    struct vd_irq irq = {irq_set, &line};
    struct vd_mmio *slot = vd_mmio_new(host, 0, &irq, -1);
    vd_mmio_attach(slot, dev);
    const struct vd_io *io = vd_mmio_io(slot);

    static const uint32_t bring_up[][2] = {
        {0x070, 3}, {0x024, 1},      {0x020, 1},      {0x070, 11}, {0x030, 0},  {0x038, 8},
        {0x080, 0}, {0x090, 0x1000}, {0x0a0, 0x2000}, {0x044, 1},  {0x070, 15},
    };
    for (size_t i = 0; i < sizeof bring_up / sizeof bring_up[0]; i++)
        io->write(io->opaque, bring_up[i][0], 4, bring_up[i][1]);
    memcpy(ram, (uint64_t[]){0x3000, 16 | 2ull << 32}, 16); /* one writable descriptor */
    ram[0x1002] = 1;                                        /* avail idx */
    io->write(io->opaque, 0x050, 4, 0);
    printf("%s used=%u len=%u line=%d isr=%u\n", (char *)&ram[0x3000], ram[0x2002], ram[0x2008],
           line, (unsigned)io->read(io->opaque, 0x060, 4));

    vd_mmio_free(slot);
    vd_queue_free(dev->queue[0]);
    free(dev);
    vd_mem_free(mem);
    vd_host_posix_free(host);
    return 0;
}
