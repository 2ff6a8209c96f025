/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The alarm clock: a thread that sleeps until the vCPU thread must leave guest
 * code for a timer or the end of a slice, and then kicks it. (A POSIX timer
 * would need a signal, and signals belong to the program that embeds us.) */
#define _GNU_SOURCE
#include <errno.h>

#include "priv.h"
#include "threads.h"

static void *alarm_main(void *opaque) {
    struct tcg_vm *vm = opaque;
    pthread_mutex_lock(&vm->alarm_lock);
    while (!vm->alarm_quit) {
        uint64_t at = atomic_load(&vm->alarm);
        if (at <= tcg_now()) {
            /* Unless it was set anew meanwhile. */
            if (atomic_compare_exchange_strong(&vm->alarm, &at, TCG_NEVER)) {
                atomic_fetch_add(&vm->alarms, 1);
                tcg_kick(vm, TCG_KICK_ALARM);
            }
            continue;
        }
        /* Publish how long we sleep, then look again: tcg_alarm_arm does the
         * two in the other order, so one of us sees the other. */
        atomic_store(&vm->alarm_sleeps_to, at);
        if (atomic_load(&vm->alarm) >= at)
            tcg_cond_wait_until(&vm->alarm_wake, &vm->alarm_lock, at);
        atomic_store(&vm->alarm_sleeps_to, 0);
    }
    pthread_mutex_unlock(&vm->alarm_lock);
    return NULL;
}

int tcg_alarm_start(struct tcg_vm *vm) {
    vm->alarm_quit = false;
    atomic_store(&vm->alarm, TCG_NEVER);
    atomic_store(&vm->alarm_sleeps_to, 0);
    int error = tcg_thread_start(&vm->alarm_thread, "vd-tcg-alarm", alarm_main, vm);
    vm->alarm_live = error == 0;
    return error;
}

void tcg_alarm_stop(struct tcg_vm *vm) {
    if (!vm->alarm_live)
        return;
    pthread_mutex_lock(&vm->alarm_lock);
    vm->alarm_quit = true;
    pthread_cond_signal(&vm->alarm_wake);
    pthread_mutex_unlock(&vm->alarm_lock);
    pthread_join(vm->alarm_thread, NULL);
    vm->alarm_live = false;
}

/* An alarm that is later than the thread sleeps needs no wake-up: it looks
 * again when it wakes. */
void tcg_alarm_arm(struct tcg_vm *vm, uint64_t deadline) {
    atomic_store(&vm->alarm, deadline);
    if (deadline < atomic_load(&vm->alarm_sleeps_to)) {
        pthread_mutex_lock(&vm->alarm_lock);
        pthread_cond_signal(&vm->alarm_wake);
        pthread_mutex_unlock(&vm->alarm_lock);
    }
}
