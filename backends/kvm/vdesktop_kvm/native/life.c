/* SPDX-License-Identifier: MIT
 *
 * Start, pause, resume, stop: called on the control thread. */
#include "priv.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static int spawn(struct vk_vm *vm) {
    sigset_t all, before;
    int result = 0;

    /* Signals of the process are for its other threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (result == 0 && vm->threads < vm->vcpus) {
        struct vk_vcpu *vcpu = &vm->vcpu[vm->threads];
        result = pthread_create(&vcpu->thread, NULL, vk_vcpu_main, vcpu);
        if (result == 0) {
            vm->threads++;
            vm->alive++;
            vm->inside++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

int vk_vm_start(struct vk_vm *vm, vk_event_fn on_event, void *opaque, char *error, size_t size) {
    vk_vm_stop(vm);
    if (vm->used || vm->fd < 0) {
        vk_drop(vm);
    }
    /* The first start takes the VM of the creation, but its registers are of now. */
    if (vm->fd < 0) {
        int result = vk_build(vm, error, size);
        if (result) {
            return result;
        }
    } else {
        for (uint32_t i = 0; i < vm->vcpus; i++) {
            int result = vk_arch_vcpu_init(&vm->vcpu[i], error, size);
            if (result) {
                return result;
            }
        }
    }
    vm->used = true;
    vm->reason = VK_EXIT_NONE;
    vm->on_event = on_event;
    vm->opaque = opaque;
    /* Under the lock: no thread gets beyond its first park before all exist. */
    pthread_mutex_lock(&vm->lock);
    atomic_store(&vm->want, VK_WANT_PAUSE);
    int result = spawn(vm);
    atomic_store(&vm->want, result ? VK_WANT_STOP : VK_WANT_RUN);
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    if (result) {
        vk_vm_stop(vm);
        return vk_complain(error, size, "start a thread for each vCPU", result);
    }
    return 0;
}

void vk_vm_pause(struct vk_vm *vm) {
    pthread_mutex_lock(&vm->lock);
    if (atomic_load(&vm->want) == VK_WANT_RUN) {
        atomic_store(&vm->want, VK_WANT_PAUSE);
        vk_kick(vm);
    }
    while (vm->inside > 0) {
        pthread_cond_wait(&vm->changed, &vm->lock);
    }
    pthread_mutex_unlock(&vm->lock);
}

void vk_vm_resume(struct vk_vm *vm) {
    pthread_mutex_lock(&vm->lock);
    if (atomic_load(&vm->want) == VK_WANT_PAUSE) {
        atomic_store(&vm->want, VK_WANT_RUN);
        pthread_cond_broadcast(&vm->changed);
    }
    pthread_mutex_unlock(&vm->lock);
}

void vk_vm_stop(struct vk_vm *vm) {
    pthread_mutex_lock(&vm->lock);
    atomic_store(&vm->want, VK_WANT_STOP);
    vk_kick(vm);
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    /* Nobody adds threads meanwhile: start and stop are the control thread's. */
    unsigned threads = vm->threads;
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(vm->vcpu[i].thread, NULL);
    }
    vm->threads = 0;
    vm->alive = 0;
    vm->inside = 0;
}
