/* SPDX-License-Identifier: MIT
 * The ring benchmark on libvdesktop. */
#include "rings.h"
#include "vdesktop/host.h"
#include "vdesktop/ring.h"

const char *const implementation = "vdesktop";

static struct vd_queue *queue;
static struct vd_iov iov[VD_CHAIN_SEGS_MAX];
static uint64_t gpa[VD_CHAIN_SEGS_MAX];
static volatile bool interrupt;

bool device_start(const struct ring *ring) {
    struct vd_host *host = vd_host_posix_new(-1);
    struct vd_mem *mem = vd_mem_new(host);
    vd_mem_add(mem, 0, ring->ram_size, ring->ram, 0);
    queue = vd_queue_new(host, mem);
    return vd_queue_start(queue, &(struct vd_queue_config){
                                     .size = ring->size,
                                     .desc = ring->desc,
                                     .driver = ring->driver,
                                     .device = ring->device,
                                     .packed = ring->packed,
                                     .indirect = true,
                                     .event_idx = true,
                                 }) == VD_RING_OK;
}

unsigned device_round(unsigned batch) {
    struct vd_chain chain = {.iov = iov, .gpa = gpa};
    unsigned n = 0;
    for (; n < batch && vd_queue_pop(queue, &chain) == 1; n++)
        vd_queue_push(queue, &chain, chain.write_len);
    interrupt = vd_queue_publish(queue);
    return n;
}
