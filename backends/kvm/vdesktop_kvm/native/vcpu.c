/* SPDX-License-Identifier: MIT
 *
 * A vCPU's thread. Everything that wants it out of the guest sets `want` and
 * sends it a signal that is blocked but while KVM_RUN executes
 * (KVM_SET_SIGNAL_MASK): a kick is never lost, whenever it comes, and the
 * process's signal handlers are nobody's but the embedder's. */
#include "priv.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

/* The kernel's sigset_t is shorter than the C library's. */
#define KERNEL_SIGSET 8u

void vk_kick(struct vk_vm *vm) {
    for (unsigned i = 0; i < vm->threads; i++) {
        pthread_kill(vm->vcpu[i].thread, VK_KICK);
    }
}

void vk_end(struct vk_vm *vm, enum vk_exit reason, const char *format, ...) {
    pthread_mutex_lock(&vm->lock);
    if (vm->reason == VK_EXIT_NONE && atomic_load(&vm->want) != VK_WANT_STOP) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(vm->detail, sizeof vm->detail, format, arguments);
        va_end(arguments);
        vm->reason = reason;
        atomic_store(&vm->want, VK_WANT_STOP);
        vk_kick(vm);
        pthread_cond_broadcast(&vm->changed);
    }
    pthread_mutex_unlock(&vm->lock);
}

size_t vk_trace_text(const struct vk_vcpu *vcpu, char *text, size_t size) {
    size_t used = 0;

    text[0] = '\0';
    for (unsigned i = 1; i <= VK_TRACE && i <= vcpu->traced && used < size; i++) {
        const struct vk_access *a = &vcpu->trace[(vcpu->traced - i) % VK_TRACE];
        int n = snprintf(text + used, size - used, "%s%s %s%u %#llx", used ? ", " : "",
                         a->port ? "port" : "mmio", a->write ? "w" : "r", a->width * 8u,
                         (unsigned long long)a->address);
        used += n > 0 ? (size_t)n : 0;
    }
    return used;
}

/* Ends the run for something the guest cannot survive. */
static void crash(struct vk_vcpu *vcpu, enum vk_exit reason, const char *what) {
    char state[256], trace[160];

    vk_arch_describe(vcpu, state, sizeof state);
    bool any = vk_trace_text(vcpu, trace, sizeof trace) > 0;
    vk_end(vcpu->vm, reason, "%s: vCPU %u %s%s%s", what, vcpu->index, state,
           any ? "; last accesses: " : "", trace);
}

static void internal_error(struct vk_vcpu *vcpu) {
    const struct kvm_run *run = vcpu->run;
    const char *what = "KVM internal error";

    switch (run->internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        what = "KVM cannot emulate an instruction";
        break;
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        what = "KVM met two exceptions at once";
        break;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        what = "KVM could not deliver an exception";
        break;
    default:
        break;
    }
    crash(vcpu, VK_EXIT_CRASH, what);
}

static void system_event(struct vk_vcpu *vcpu) {
    switch (vcpu->run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        vk_end(vcpu->vm, VK_EXIT_SHUTDOWN, "the guest powered off");
        break;
    case KVM_SYSTEM_EVENT_RESET:
        vk_end(vcpu->vm, VK_EXIT_RESET, "the guest asked for a reset");
        break;
    default:
        crash(vcpu, VK_EXIT_CRASH, "the guest gave up");
    }
}

static void handle_exit(struct vk_vcpu *vcpu) {
    struct kvm_run *run = vcpu->run;
    char what[64];

    switch (run->exit_reason) {
    case KVM_EXIT_MMIO:
        vk_io_access(vcpu, false, run->mmio.is_write, run->mmio.phys_addr, run->mmio.len,
                     run->mmio.data);
        return;
    case KVM_EXIT_INTR:
        vk_tally(vcpu, VK_COUNT_KICK);
        return;
    default:
        if (vk_arch_exit(vcpu)) {
            return;
        }
        vk_tally(vcpu, VK_COUNT_OTHER);
    }
    switch (run->exit_reason) {
    case KVM_EXIT_SYSTEM_EVENT:
        system_event(vcpu);
        break;
    case KVM_EXIT_SHUTDOWN:
        crash(vcpu, VK_EXIT_CRASH, "triple fault");
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        internal_error(vcpu);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(what, sizeof what, "the processor refused the guest's state (%#llx)",
                 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        crash(vcpu, VK_EXIT_CRASH, what);
        break;
    default:
        snprintf(what, sizeof what, "unexpected exit %u of KVM", run->exit_reason);
        crash(vcpu, VK_EXIT_CRASH, what);
    }
}

/* Outside of the guest until it may run again; false: never. */
static bool park(struct vk_vcpu *vcpu) {
    struct vk_vm *vm = vcpu->vm;

    pthread_mutex_lock(&vm->lock);
    vm->inside--;
    pthread_cond_broadcast(&vm->changed);
    while (atomic_load(&vm->want) == VK_WANT_PAUSE) {
        pthread_cond_wait(&vm->changed, &vm->lock);
    }
    bool run = atomic_load(&vm->want) == VK_WANT_RUN;
    vm->inside += run;
    pthread_mutex_unlock(&vm->lock);
    return run;
}

static void take_kick(void) {
    sigset_t kick;
    const struct timespec now = {0, 0};

    sigemptyset(&kick);
    sigaddset(&kick, VK_KICK);
    while (sigtimedwait(&kick, NULL, &now) > 0) {
    }
}

int vk_set_run_mask(int fd) {
    sigset_t mask;
    _Alignas(struct kvm_signal_mask) uint8_t room[sizeof(struct kvm_signal_mask) + KERNEL_SIGSET];
    struct kvm_signal_mask *request = (struct kvm_signal_mask *)room;

    sigfillset(&mask);
    sigdelset(&mask, VK_KICK);
    request->len = KERNEL_SIGSET;
    memcpy(request->sigset, &mask, KERNEL_SIGSET);
    return ioctl(fd, KVM_SET_SIGNAL_MASK, request);
}

static void run(struct vk_vcpu *vcpu) {
    struct vk_vm *vm = vcpu->vm;

    for (;;) {
        if (atomic_load(&vm->want) != VK_WANT_RUN && !park(vcpu)) {
            return;
        }
        if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
            handle_exit(vcpu);
        } else if (errno == EINTR || errno == EAGAIN) {
            vk_tally(vcpu, VK_COUNT_KICK);
            take_kick();
        } else {
            char what[96];
            snprintf(what, sizeof what, "KVM cannot run the guest (%s)", strerror(errno));
            crash(vcpu, VK_EXIT_ERROR, what);
        }
    }
}

void *vk_vcpu_main(void *opaque) {
    struct vk_vcpu *vcpu = opaque;
    struct vk_vm *vm = vcpu->vm;
    char name[16];

    snprintf(name, sizeof name, "vd-cpu%u", vcpu->index);
    prctl(PR_SET_NAME, name);
    if (vk_set_run_mask(vcpu->fd) < 0) {
        vk_end(vm, VK_EXIT_ERROR, "KVM cannot set a vCPU's signal mask (%s)", strerror(errno));
    }
    run(vcpu);
    pthread_mutex_lock(&vm->lock);
    bool last = --vm->alive == 0;
    enum vk_exit reason = vm->reason;
    pthread_mutex_unlock(&vm->lock);
    if (last && reason != VK_EXIT_NONE) {
        vm->on_event(vm->opaque, reason, vm->detail);
    }
    return NULL;
}
