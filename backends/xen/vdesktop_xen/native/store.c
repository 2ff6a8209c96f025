/* SPDX-License-Identifier: MIT
 *
 * The domain's own end of XenStore: a page, the event channel behind it, and a
 * grant so that the daemon can map it. There is no PV console: Linux would call it
 * hvc0, which is what every guest calls virtio-console. */
#include "priv.h"

#include <errno.h>

#define STORE_DOMAIN 0u
#define NO_FRAME     UINT64_MAX

static int page(struct vx_vm *vm) {
    struct vx_lib *lib = &vm->xen.lib;
    uint64_t frame = VX_STORE_FRAME;

    /* After a reset it is there already. */
    if (lib->xc_clear_domain_pages(vm->xen.ctrl, vm->domain, VX_STORE_FRAME, 1) == 0) {
        return 0;
    }
    int filled = lib->xc_domain_populate_physmap(vm->xen.ctrl, vm->domain, 1, 0, 0, &frame);
    if (filled == 0) {
        return -ENOMEM;
    }
    if (filled < 0 || lib->xc_clear_domain_pages(vm->xen.ctrl, vm->domain, VX_STORE_FRAME, 1)) {
        return -errno;
    }
    return 0;
}

int vx_vm_store(struct vx_vm *vm, uint64_t *frame, uint32_t *port) {
    struct vx_lib *lib = &vm->xen.lib;
    void *ctrl = vm->xen.ctrl;
    uint32_t domain = vm->domain;
    int result = page(vm);

    if (result) {
        return result;
    }
    int channel = lib->xc_evtchn_alloc_unbound(ctrl, domain, STORE_DOMAIN);
    if (channel < 0 || lib->xc_hvm_param_set(ctrl, domain, VX_PARAM_STORE_PFN, VX_STORE_FRAME) ||
        lib->xc_hvm_param_set(ctrl, domain, VX_PARAM_STORE_EVTCHN, (uint64_t)channel) ||
        lib->xc_dom_gnttab_seed(ctrl, domain, true, NO_FRAME, VX_STORE_FRAME, domain,
                                STORE_DOMAIN)) {
        return -errno;
    }
    *frame = VX_STORE_FRAME;
    *port = (uint32_t)channel;
    return 0;
}

int vx_vm_no_store(struct vx_vm *vm) {
    struct vx_lib *lib = &vm->xen.lib;
    void *ctrl = vm->xen.ctrl;

    return lib->xc_hvm_param_set(ctrl, vm->domain, VX_PARAM_STORE_PFN, 0) ||
                   lib->xc_hvm_param_set(ctrl, vm->domain, VX_PARAM_STORE_EVTCHN, 0)
               ? -errno
               : 0;
}
