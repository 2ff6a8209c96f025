/* SPDX-License-Identifier: MIT
 * The ring benchmark on QEMU's libvhost-user, whose source is given at build
 * time: pop, fill, one flush and one decision a batch. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#include "libvhost-user.h"
#include "rings.h"

/* virtiofsd's copy takes more arguments than QEMU's: -DPOP_MORE=,NULL,NULL. */
#ifndef POP_MORE
#define POP_MORE
#endif

const char *const implementation = "libvhost-user";

static VuDev dev;

static void panic(VuDev *d, const char *error) {
    (void)d;
    fprintf(stderr, "libvhost-user: %s\n", error);
    exit(1);
}

static int no_watch_set(void) {
    return 0;
}

bool device_start(const struct ring *ring) {
    static const VuDevIface iface;
    if (ring->packed)
        return false;
    if (!vu_init(&dev, 1, 0, panic, NULL, (vu_set_watch_cb)(void *)no_watch_set,
                 (vu_remove_watch_cb)(void *)no_watch_set, &iface))
        return false;
    dev.features = 1ull << 28 | 1ull << 29 | 1ull << 32; /* INDIRECT_DESC, EVENT_IDX, VERSION_1 */
    dev.nregions = 1;
    dev.regions[0] = (VuDevRegion){.size = ring->ram_size, .mmap_addr = (uintptr_t)ring->ram};
    VuVirtq *vq = vu_get_queue(&dev, 0);
    vq->vring.num = ring->size;
    vq->vring.desc = (void *)(ring->ram + ring->desc);
    vq->vring.avail = (void *)(ring->ram + ring->driver);
    vq->vring.used = (void *)(ring->ram + ring->device);
    vq->enable = vq->started = true;
    vq->call_fd = eventfd(0, EFD_NONBLOCK); /* the first batch is always signalled */
    return true;
}

unsigned device_round(unsigned batch) {
    VuVirtq *vq = vu_get_queue(&dev, 0);
    VuVirtqElement *element;
    unsigned n = 0;
    for (; n < batch && (element = vu_queue_pop(&dev, vq, sizeof *element POP_MORE)); n++) {
        size_t written = 0;
        for (unsigned i = 0; i < element->in_num; i++)
            written += element->in_sg[i].iov_len;
        vu_queue_fill(&dev, vq, element, (unsigned)written, n);
        free(element);
    }
    vu_queue_flush(&dev, vq, n);
    vu_queue_notify(&dev, vq);
    return n;
}
