/* SPDX-License-Identifier: GPL-2.0-only
 * Entry state, start, pause, resume, stop: the control thread's side. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "priv.h"
#include "threads.h"

void tcg_vm_clear_entry(struct tcg_vm *vm) {
    vm->n_entry = 0;
}

int tcg_vm_set_entry(struct tcg_vm *vm, const char *name, uint64_t value) {
    if (vm->thread_live)
        return -EBUSY;
    if (vm->n_entry == TCG_REGISTERS_MAX || strlen(name) >= sizeof vm->entry[0].name)
        return -ENOSPC;
    /* Tried at once, so that a bad name is refused here. */
    tcg_work_for(vm);
    int error = vm->ops->set_register(&vm->vcpu[0], name, value);
    if (error)
        return error;
    struct tcg_register *r = &vm->entry[vm->n_entry++];
    snprintf(r->name, sizeof r->name, "%s", name);
    r->value = value;
    return 0;
}

static void reset(struct tcg_vm *vm) {
    tcg_work_for(vm);
    vm->exit = TCG_EXIT_NONE;
    vm->detail[0] = 0;
    vm->current = &vm->vcpu[0];
    vm->prefer = NULL;
    memset(vm->folded, 0, sizeof vm->folded);
    tcg_code_reset(vm);
    vm->ops->vm_reset(vm);
    for (uint32_t i = 0; i < vm->n_vcpus; i++) {
        vm->vcpu[i].power = TCG_OFF;
        tcg_vcpu_pristine(&vm->vcpu[i]);
    }
    tcg_vcpu_on(&vm->vcpu[0]);
    for (uint32_t i = 0; i < vm->n_entry; i++)
        vm->ops->set_register(&vm->vcpu[0], vm->entry[i].name, vm->entry[i].value);
}

int tcg_vm_start(struct tcg_vm *vm, tcg_event_fn on_event, void *opaque) {
    if (vm->thread_live)
        return -EBUSY;
    reset(vm);
    vm->on_event = on_event;
    vm->on_event_opaque = opaque;
    vm->state = vm->want = TCG_STATE_RUNNING;
    /* Lines may have been raised before: fold them at the first turn. */
    atomic_store(&vm->kick, TCG_KICK_LINES | TCG_KICK_CODE);
    int error = tcg_alarm_start(vm);
    if (error)
        return error;
    error = tcg_thread_start(&vm->thread, "vd-tcg-vcpu", tcg_vcpu_thread, vm);
    vm->thread_live = error == 0;
    if (error)
        tcg_alarm_stop(vm);
    return error;
}

static void want(struct tcg_vm *vm, enum tcg_state state) {
    pthread_mutex_lock(&vm->lock);
    vm->want = state;
    pthread_cond_signal(&vm->wake);
    pthread_mutex_unlock(&vm->lock);
    tcg_kick(vm, TCG_KICK_STATE);
}

int tcg_vm_pause(struct tcg_vm *vm) {
    if (!vm->thread_live)
        return -EINVAL;
    want(vm, TCG_STATE_PAUSED);
    pthread_mutex_lock(&vm->lock);
    while (vm->state == TCG_STATE_RUNNING)
        pthread_cond_wait(&vm->changed, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
    return 0;
}

int tcg_vm_resume(struct tcg_vm *vm) {
    if (!vm->thread_live)
        return -EINVAL;
    want(vm, TCG_STATE_RUNNING);
    return 0;
}

void tcg_vm_stop(struct tcg_vm *vm) {
    if (!vm->thread_live)
        return;
    want(vm, TCG_STATE_ENDED);
    pthread_join(vm->thread, NULL);
    vm->thread_live = false;
    tcg_alarm_stop(vm);
    vm->state = TCG_STATE_CREATED;
}
