/* SPDX-License-Identifier: MIT
 *
 * The least that can answer a vCPU's requests: what the backend's loop is compared
 * with. bare DOMAIN ADDRESS: reads of the page at ADDRESS give a constant. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "library.h"

int main(int count, char **word) {
    struct vx_lib lib;
    char error[256];
    uint16_t server;
    void *page = NULL;

    if (count != 3 || !vx_lib_open(&lib, error, sizeof error))
        return 1;
    uint16_t domain = (uint16_t)atoi(word[1]);
    uint64_t base = strtoull(word[2], NULL, 0);
    void *model = lib.xendevicemodel_open(NULL, 0), *memory = lib.xenforeignmemory_open(NULL, 0);
    void *events = lib.xenevtchn_open(NULL, 0);
    if (!model || !memory || !events ||
        lib.xendevicemodel_create_ioreq_server(model, domain, VX_BUFIOREQ_OFF, &server) ||
        lib.xendevicemodel_map_io_range_to_ioreq_server(model, domain, server, 1, base,
                                                        base + 0xFFF) ||
        !lib.xenforeignmemory_map_resource(memory, domain, VX_RESOURCE_IOREQ_SERVER, server,
                                           VX_RESOURCE_FRAME_IOREQ, 1, &page,
                                           PROT_READ | PROT_WRITE, 0) ||
        lib.xendevicemodel_set_ioreq_server_state(model, domain, server, 1))
        return 2;
    struct vx_ioreq *request = page;
    int port = lib.xenevtchn_bind_interdomain(events, domain, request->vp_eport);
    struct pollfd fd = {lib.xenevtchn_fd(events), POLLIN, 0};
    puts("ready");
    fflush(stdout);
    while (poll(&fd, 1, -1) > 0) {
        int from = lib.xenevtchn_pending(events);
        if (from < 0)
            continue;
        lib.xenevtchn_unmask(events, (uint32_t)from);
        uint8_t flags = __atomic_load_n(&request->flags, __ATOMIC_ACQUIRE);
        if ((flags & VX_IOREQ_STATE) != VX_STATE_READY)
            continue;
        request->data = 0x74726976;
        __atomic_store_n(&request->flags, (flags & ~VX_IOREQ_STATE) | VX_STATE_RESPONSE,
                         __ATOMIC_RELEASE);
        lib.xenevtchn_notify(events, (uint32_t)port);
    }
    return 0;
}
