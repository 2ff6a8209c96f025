/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The vCPU thread: who runs, for how long, and what happens in between.
 *
 * The library's own entry, uc_emu_start, is not used: it forgets a stop request
 * made just before it, resets state it should keep, and looks up an end address
 * through the guest's MMU. cpu_exec, one level below, keeps an exit request
 * until it has acted on it, so a kick is never lost:
 *
 *   kicker:       kick |= why;    then, if in_guest: request exit of `running`
 *   vCPU thread:  in_guest = true; then, if kick:    do not enter
 *
 * All four accesses are sequentially consistent, so one of the two sees the
 * other. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "priv.h"
#include "threads.h"

#define SLICE_NS        1500000u
#define SLICE_PREFER_NS 200000u

/* What cpu_exec returns besides 0 is of no interest: the CPU's state tells. */

static void request_exit(const struct tcg_vm *vm, void *cs, bool to_loop) {
    if (to_loop)
        __atomic_store_n(&TCG_FIELD(cs, vm->layout->cpu.exit_request, uint8_t), 1,
                         __ATOMIC_SEQ_CST);
    uint16_t *high = (uint16_t *)TCG_FIELD(cs, vm->layout->cpu.icount_decr_ptr, char *) + 1;
    __atomic_store_n(high, 0xffff, __ATOMIC_SEQ_CST);
}

void tcg_kick(struct tcg_vm *vm, uint32_t why) {
    atomic_fetch_or(&vm->kick, why);
    if (atomic_load(&vm->in_guest)) {
        atomic_fetch_add_explicit(&vm->kicks, 1, memory_order_relaxed);
        request_exit(vm, atomic_load(&vm->running), true);
    } else if (atomic_load(&vm->sleeping)) {
        pthread_mutex_lock(&vm->lock);
        pthread_cond_signal(&vm->wake);
        pthread_mutex_unlock(&vm->lock);
    }
}

/* After in_guest turned false: nobody may be left waiting for a drain. */
void tcg_leave_guest(struct tcg_vm *vm) {
    atomic_store(&vm->in_guest, false);
    if (atomic_load(&vm->kick) & TCG_KICK_CODE) {
        atomic_fetch_and(&vm->kick, ~(uint32_t)TCG_KICK_CODE);
        tcg_code_drain(vm);
    }
}

static void fold_lines(struct tcg_vm *vm) {
    for (uint32_t w = 0; w < TCG_LINE_WORDS; w++) {
        uint64_t levels = atomic_load(&vm->levels[w]), changed = levels ^ vm->folded[w];
        vm->folded[w] = levels;
        if (changed)
            vm->ops->lines_changed(vm, w, changed, levels);
    }
}

/* Back into guest code, from within a run of it. What an MMIO handler did to a
 * line must be seen by the very next instruction: a driver that acknowledges an
 * interrupt and finds it still pending takes it twice. */
void tcg_enter_guest(struct tcg_vm *vm) {
    for (;;) {
        atomic_store(&vm->in_guest, true);
        uint32_t kick = atomic_load(&vm->kick);
        if (kick & TCG_KICK_LINES) {
            atomic_fetch_and(&vm->kick, ~(uint32_t)TCG_KICK_LINES);
            fold_lines(vm);
        } else if (kick & TCG_KICK_CODE) {
            tcg_leave_guest(vm);
        } else {
            if (kick)
                request_exit(vm, vm->current->cs, true);
            return;
        }
    }
}

void tcg_vm_leave(struct tcg_vm *vm) {
    if (vm->inside)
        request_exit(vm, vm->current->cs, true);
}

void tcg_vcpu_prefer(struct tcg_vcpu *vcpu) {
    if (vcpu == vcpu->vm->current && vcpu->vm->inside)
        return;
    vcpu->vm->prefer = vcpu;
    tcg_vm_leave(vcpu->vm);
}

void tcg_vcpu_interrupt(struct tcg_vcpu *vcpu, uint32_t bits, bool level) {
    struct tcg_vm *vm = vcpu->vm;
    uint32_t *request = &TCG_FIELD(vcpu->cs, vm->layout->cpu.interrupt_request, uint32_t);
    if (!level) {
        *request &= ~bits;
        return;
    }
    if ((*request & bits) == bits && vcpu != vm->current)
        return;
    *request |= bits;
    if (!vm->inside)
        return;
    /* The current one looks at it after this block; a sleeping one needs the
     * scheduler. */
    if (vcpu == vm->current)
        request_exit(vm, vcpu->cs, false);
    else if (TCG_FIELD(vcpu->cs, vm->layout->cpu.halted, uint32_t))
        tcg_vm_leave(vm);
}

void tcg_vcpu_timer(struct tcg_vcpu *vcpu, uint64_t deadline) {
    struct tcg_vm *vm = vcpu->vm;
    vcpu->deadline = deadline;
    if (vm->inside && deadline < atomic_load_explicit(&vm->alarm, memory_order_relaxed))
        tcg_alarm_arm(vm, deadline);
}

void tcg_vcpu_on(struct tcg_vcpu *vcpu) {
    tcg_vcpu_pristine(vcpu);
    vcpu->power = TCG_ON;
    vcpu->vm->ops->vcpu_reset(vcpu);
    tcg_vm_leave(vcpu->vm);
}

void tcg_vcpu_off(struct tcg_vcpu *vcpu) {
    vcpu->power = TCG_OFF;
    vcpu->deadline = TCG_NEVER;
    tcg_vm_leave(vcpu->vm);
}

void tcg_vm_exit(struct tcg_vm *vm, enum tcg_exit reason, const char *detail) {
    if (vm->exit == TCG_EXIT_NONE) {
        vm->exit = reason;
        snprintf(vm->detail, sizeof vm->detail, "%s", detail);
    }
    tcg_vm_leave(vm);
}

static bool runnable(struct tcg_vcpu *vcpu) {
    uint32_t *halted = &TCG_FIELD(vcpu->cs, vcpu->vm->layout->cpu.halted, uint32_t);
    if (vcpu->power != TCG_ON)
        return false;
    if (*halted && vcpu->vm->ops->has_work(vcpu))
        *halted = 0;
    return !*halted;
}

/* Whose turn it is, and until when; NULL: all sleep. */
static struct tcg_vcpu *choose(struct tcg_vm *vm, uint64_t now, uint64_t *until) {
    struct tcg_vcpu *next = NULL;
    uint32_t n = 0;
    for (uint32_t i = 1; i <= vm->n_vcpus; i++) {
        struct tcg_vcpu *v = &vm->vcpu[(vm->current->index + i) % vm->n_vcpus];
        if (!runnable(v))
            continue;
        n++;
        if (!next)
            next = v;
    }
    *until = n > 1 ? now + SLICE_NS : TCG_NEVER;
    if (vm->prefer) {
        if (n > 1 && runnable(vm->prefer)) {
            next = vm->prefer;
            *until = now + SLICE_PREFER_NS;
        }
        vm->prefer = NULL;
    }
    return next;
}

static void crash(struct tcg_vm *vm, int error) {
    char where[TCG_DETAIL_MAX / 2], line[TCG_DETAIL_MAX];
    vm->ops->describe(vm->current, where, sizeof where);
    snprintf(line, sizeof line, "vCPU %u: %s at %s", vm->current->index, tcg_uc()->strerror(error),
             where);
    tcg_vm_exit(vm, TCG_EXIT_CRASH, line);
}

static void run(struct tcg_vm *vm, struct tcg_vcpu *vcpu, uint64_t now, uint64_t until) {
    const struct tcg_layout *l = vm->layout;
    for (uint32_t i = 0; i < vm->n_vcpus; i++)
        if (vm->vcpu[i].deadline < until)
            until = vm->vcpu[i].deadline;
    tcg_alarm_arm(vm, until);
    vm->current = vcpu;
    TCG_FIELD(vm->uc, l->uc.cpu, void *) = vcpu->cs;
    atomic_store(&vm->running, vcpu->cs);
    atomic_store(&vm->in_guest, true);
    if (!atomic_load(&vm->kick)) {
        vm->inside = true;
        vm->fns->cpu_exec(vm->uc, vcpu->cs);
        vm->inside = false;
        ++*vm->count.slices;
        *vm->count.run_ns += tcg_now() - now;
    }
    tcg_leave_guest(vm);
    int error = TCG_FIELD(vm->uc, l->uc.invalid_error, int);
    if (error) {
        TCG_FIELD(vm->uc, l->uc.invalid_error, int) = 0;
        crash(vm, error);
    }
}

static void sleep_until(struct tcg_vm *vm, uint64_t now, uint64_t deadline) {
    atomic_store(&vm->alarm, TCG_NEVER);
    pthread_mutex_lock(&vm->lock);
    atomic_store(&vm->sleeping, true);
    if (!atomic_load(&vm->kick))
        tcg_cond_wait_until(&vm->wake, &vm->lock, deadline);
    atomic_store(&vm->sleeping, false);
    pthread_mutex_unlock(&vm->lock);
    *vm->count.idle_ns += tcg_now() - now;
}

/* Whether to go on. */
static bool obey(struct tcg_vm *vm) {
    uint64_t since = tcg_now();
    bool paused = false;
    pthread_mutex_lock(&vm->lock);
    while (vm->want == TCG_STATE_PAUSED) {
        paused = true;
        vm->state = TCG_STATE_PAUSED;
        pthread_cond_broadcast(&vm->changed);
        pthread_cond_wait(&vm->wake, &vm->lock);
    }
    bool go_on = vm->want == TCG_STATE_RUNNING;
    if (go_on)
        vm->state = TCG_STATE_RUNNING;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    if (paused)
        vm->ops->resumed(vm, tcg_now() - since);
    return go_on;
}

static void turn(struct tcg_vm *vm, uint32_t kick) {
    if (kick & TCG_KICK_CODE)
        tcg_code_drain(vm);
    if (kick & TCG_KICK_LINES)
        fold_lines(vm);
    uint64_t now = tcg_now(), until, deadline = TCG_NEVER;
    for (uint32_t i = 0; i < vm->n_vcpus; i++) {
        struct tcg_vcpu *v = &vm->vcpu[i];
        if (v->power == TCG_ON)
            v->deadline = vm->ops->timers(v, now);
        if (v->deadline < deadline)
            deadline = v->deadline;
    }
    struct tcg_vcpu *next = choose(vm, now, &until);
    if (next)
        run(vm, next, now, until);
    else
        sleep_until(vm, now, deadline);
}

void *tcg_vcpu_thread(void *opaque) {
    struct tcg_vm *vm = opaque;
    tcg_work_for(vm);
    TCG_FIELD(vm->uc, vm->layout->uc.nested_level, int) = 1; /* selects cpu_exec's jump buffer */
    for (;;) {
        uint32_t kick = atomic_exchange(&vm->kick, 0);
        if ((kick & TCG_KICK_STATE) && !obey(vm))
            break;
        if (vm->exit != TCG_EXIT_NONE)
            break;
        turn(vm, kick);
    }
    TCG_FIELD(vm->uc, vm->layout->uc.cpu, void *) = vm->vcpu[0].cs;
    TCG_FIELD(vm->uc, vm->layout->uc.nested_level, int) = 0;
    pthread_mutex_lock(&vm->lock);
    vm->state = TCG_STATE_ENDED;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    if (vm->exit != TCG_EXIT_NONE)
        vm->on_event(vm->on_event_opaque, (int)vm->exit, vm->detail);
    return NULL;
}
