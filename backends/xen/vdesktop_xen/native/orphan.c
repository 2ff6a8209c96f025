/* SPDX-License-Identifier: MIT
 *
 * A server whose process was killed. Its page of requests is still there, and Xen's ends
 * of its event channels are free for whoever binds them: the next process takes its
 * place for as long as it takes to answer everybody. */
#include "priv.h"

#include <errno.h>
#include <sys/mman.h>

/* A vCPU that waits goes on when its channel is signalled, and by nothing else. */
static int answer(struct vx_handles *xen, uint32_t domain, struct vx_ioreq *request) {
    uint8_t flags = __atomic_load_n(&request->flags, __ATOMIC_ACQUIRE);
    uint8_t state = flags & VX_IOREQ_STATE;

    if (state != VX_STATE_READY && state != VX_STATE_INPROCESS) {
        return 0;
    }
    int port = xen->lib.xenevtchn_bind_interdomain(xen->evtchn, domain, request->vp_eport);
    if (port < 0) {
        return -errno;
    }
    if (!(flags & VX_IOREQ_DATA_IS_PTR)) {
        request->data = UINT64_MAX; /* what is read where no device is */
    }
    flags = (uint8_t)((flags & ~VX_IOREQ_STATE) | VX_STATE_RESPONSE);
    __atomic_store_n(&request->flags, flags, __ATOMIC_RELEASE);
    xen->lib.xenevtchn_notify(xen->evtchn, (uint32_t)port);
    xen->lib.xenevtchn_unbind(xen->evtchn, (uint32_t)port);
    return 0;
}

static int answer_all(struct vx_handles *xen, uint32_t domain, uint32_t server) {
    struct vx_domaininfo info;
    void *page = NULL;
    int result = 0;

    if (xen->lib.xc_domain_getinfolist(xen->ctrl, domain, 1, &info) != 1 || info.domain != domain) {
        return -ESRCH;
    }
    void *resource = xen->lib.xenforeignmemory_map_resource(
        xen->memory, domain, VX_RESOURCE_IOREQ_SERVER, server, VX_RESOURCE_FRAME_IOREQ, 1, &page,
        PROT_READ | PROT_WRITE, 0);
    if (!resource) {
        return -errno;
    }
    for (uint32_t i = 0; !result && i <= info.max_vcpu_id && i < VX_VCPUS_MAX; i++) {
        result = answer(xen, domain, (struct vx_ioreq *)page + i);
    }
    xen->lib.xenforeignmemory_unmap_resource(xen->memory, resource);
    return result;
}

static int end(struct vx_handles *xen, uint32_t domain, uint32_t server) {
    /* First of all: a vCPU that goes on must not ask it again. */
    if (xen->lib.xendevicemodel_set_ioreq_server_state(xen->devicemodel, (uint16_t)domain,
                                                       (uint16_t)server, 0)) {
        return -errno;
    }
    int result = answer_all(xen, domain, server);
    for (uint32_t line = VX_ISA_LINES; !result && line < VX_LINES; line++) {
        vx_arch_set_line(xen, domain, line, false);
    }
    if (!result && xen->lib.xendevicemodel_destroy_ioreq_server(xen->devicemodel, (uint16_t)domain,
                                                                (uint16_t)server)) {
        result = -errno;
    }
    return result;
}

int vx_server_end(uint32_t domain, uint32_t server) {
    struct vx_handles xen;
    char error[256];

    if (!vx_open(&xen, error, sizeof error)) {
        return -ENODEV;
    }
    int result = end(&xen, domain, server);
    vx_close(&xen);
    return result;
}
