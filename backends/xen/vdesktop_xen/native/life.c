/* SPDX-License-Identifier: MIT
 *
 * Start, pause, resume, stop, reset: called on the control thread. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_setname_np */
#endif
#include "priv.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static int spawn(struct vx_vm *vm) {
    sigset_t all, before;

    /* Signals of the process are for its other threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&vm->thread, NULL, vx_server_main, vm);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    vm->threaded = result == 0;
    if (!result) {
        pthread_setname_np(vm->thread, "vd-xen");
    }
    return result;
}

/* Makes the platform as new: Xen's own way for a guest that starts another kernel, which
 * closes event channels and takes back its shared page, and the way of a wake from S3,
 * which resets vCPUs, interrupt controllers and timers. */
static int renew(struct vx_vm *vm) {
    if (vm->xen.lib.xc_domain_soft_reset(vm->xen.ctrl, vm->domain)) {
        return -errno;
    }
    int result = vx_arch_renew(vm);
    vm->used = result != 0;
    return result;
}

int vx_vm_start(struct vx_vm *vm, vx_event_fn on_event, void *opaque, char *error, size_t size) {
    vx_vm_stop(vm);
    vm->reason = VX_EXIT_NONE;
    vm->on_event = on_event;
    vm->opaque = opaque;
    atomic_store(&vm->stopping, false);
    int result = 0;
    if (!vm->attached) {
        result = vm->used ? vx_complain(error, size, "start what was not reset", EBUSY)
                          : vx_arch_start(vm, error, size);
    }
    if (!result) {
        result = vx_server_open(vm, error, size);
    }
    if (result) {
        return result;
    }
    result = spawn(vm);
    if (result) {
        vx_server_close(vm);
        return vx_complain(error, size, "start its thread", result);
    }
    vm->used = true;
    vx_vm_resume(vm);
    return 0;
}

void vx_vm_pause(struct vx_vm *vm) {
    if (!vm->held && !vm->xen.lib.xc_domain_pause(vm->xen.ctrl, vm->domain)) {
        vm->held = true;
    }
}

void vx_vm_resume(struct vx_vm *vm) {
    if (vm->held && !vm->xen.lib.xc_domain_unpause(vm->xen.ctrl, vm->domain)) {
        vm->held = false;
    }
}

void vx_vm_stop(struct vx_vm *vm) {
    if (!vm->threaded) {
        return;
    }
    atomic_store(&vm->stopping, true);
    if (!vm->attached) {
        vm->xen.lib.xc_domain_shutdown(vm->xen.ctrl, vm->domain, VX_SHUTDOWN_POWEROFF);
        /* A paused vCPU in the middle of a request has to finish it. */
        vx_vm_resume(vm);
    }
    vx_look(vm);
    pthread_join(vm->thread, NULL);
    vm->threaded = false;
    if (!vm->attached) {
        vx_vm_pause(vm);
    }
    vx_server_close(vm);
}

int vx_vm_reset(struct vx_vm *vm, char *error, size_t size) {
    vx_vm_stop(vm);
    if (vm->attached || !vm->used) {
        return 0;
    }
    struct vx_domaininfo info;
    int result = vx_info(vm, &info);
    if (result >= 0) {
        result = result ? renew(vm) : -ESRCH;
    }
    if (!result) {
        result = vx_memory_renew(vm);
    }
    return result ? vx_complain(error, size, "reset the domain", -result) : 0;
}
