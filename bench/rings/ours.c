/* SPDX-License-Identifier: MIT
 * The ring benchmark on libvdesktop. */
#include <stdlib.h>

#include "rings.h"
#include "vdesktop/host.h"
#include "vdesktop/ring.h"

const char *const implementation = "vdesktop";

static struct vd_queue *queue;
static struct vd_chain chain[32];
static volatile bool interrupt;

bool device_start(const struct ring *ring) {
    struct vd_host *host = vd_host_posix_new(-1);
    struct vd_mem *mem = vd_mem_new(host);
    vd_mem_add(mem, 0, ring->ram_size, ring->ram, 0);
    queue = vd_queue_new(host, mem);
    for (unsigned i = 0; i < 32; i++) {
        chain[i].iov = malloc(VD_CHAIN_SEGS_MAX * sizeof *chain[i].iov);
        chain[i].gpa = malloc(VD_CHAIN_SEGS_MAX * sizeof *chain[i].gpa);
    }
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
    unsigned n = 0;
    while (n < batch && vd_queue_pop(queue, &chain[n]) == 1)
        n++;
    for (unsigned i = 0; i < n; i++)
        vd_queue_push(queue, &chain[i], chain[i].write_len);
    interrupt = vd_queue_publish(queue);
    return n;
}
