/* SPDX-License-Identifier: MIT
 *
 * The probe. A device node says little: there are KVMs inside of virtual
 * machines that emulate the guest's kernel code, slowly and in part. So a guest
 * of a few instructions goes the way a kernel goes, and through a loop. */
#include "probe.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* A processor needs 12 us for the loop, an emulated one 0.5 ms, a KVM that interprets
 * 25 ms. Processor time, and the least of some turns, so that a busy host is not taken
 * for one: below another hypervisor, what that one takes away is in a thread's time. */
#define LOOP_LIMIT_NS 6000000ll
#define LOOP_TURNS    8u
/* Wall clock: a guest that is not through by then hangs. */
#define WATCHDOG_S 5

static bool fail(struct vk_probe *p, const char *what) {
    snprintf(p->line, sizeof p->line, "/dev/kvm cannot run Linux here: %s", what);
    return false;
}

static bool fail_errno(struct vk_probe *p, const char *what) {
    char reason[128];

    vk_complain(reason, sizeof reason, what, errno);
    snprintf(p->line, sizeof p->line, "%s", reason);
    return false;
}

static bool check_extensions(struct vk_probe *p) {
    for (const struct vk_extension *e = vk_arch_extensions; e->name; e++) {
        if (ioctl(p->kvm, KVM_CHECK_EXTENSION, e->number) <= 0) {
            snprintf(p->line, sizeof p->line, "this KVM lacks %s: a newer kernel is needed",
                     e->name);
            return false;
        }
    }
    return true;
}

static bool build(struct vk_probe *p) {
    const struct kvm_userspace_memory_region region = {
        .guest_phys_addr = vk_arch_probe_base,
        .memory_size = VK_PROBE_MEMORY,
        .userspace_addr = (uintptr_t)p->memory,
    };

    p->vm = vk_create_vm(p->kvm);
    if (p->vm < 0) {
        return fail_errno(p, "create a VM");
    }
    if (ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        return fail_errno(p, "map memory");
    }
    if (vk_arch_probe_vm(p) < 0) {
        return fail_errno(p, "create interrupt controllers");
    }
    p->vcpu = ioctl(p->vm, KVM_CREATE_VCPU, 0ul);
    if (p->vcpu < 0) {
        return fail_errno(p, "create a vCPU");
    }
    p->run_size = (size_t)ioctl(p->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    void *run = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
    if (run == MAP_FAILED) {
        return fail_errno(p, "map a vCPU");
    }
    p->run = run;
    return (vk_arch_probe_vcpu(p) == 0 && vk_set_run_mask(p->vcpu) == 0) ||
           fail_errno(p, "set a vCPU's state");
}

static int64_t thread_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Returns the mark the guest gave next, 0 on failure. */
static unsigned next_mark(struct vk_probe *p, bool begun) {
    char what[128];

    for (;;) {
        if (ioctl(p->vcpu, KVM_RUN, 0) < 0) {
            if (atomic_load(&p->hangs)) {
                return fail(p, "a guest of 30 instructions hangs");
            }
            if (errno == EAGAIN || errno == EINTR) {
                continue;
            }
            return fail(p, strerror(errno));
        }
        unsigned mark = vk_arch_probe_mark(p);
        if (mark) {
            return mark;
        }
        snprintf(what, sizeof what, "it fails at %s (exit %u), which kernels need",
                 begun ? "a loop" : vk_arch_probe_place(p), p->run->exit_reason);
        return fail(p, what);
    }
}

static bool try_guest(struct vk_probe *p) {
    char what[128];

    if (!check_extensions(p) || !build(p)) {
        return false;
    }
    if (next_mark(p, false) != VK_MARK_BEGIN) {
        return false;
    }
    const char *wrong = vk_arch_probe_wrong(p);
    if (wrong) {
        return fail(p, wrong);
    }
    int64_t least = INT64_MAX;
    for (unsigned i = 0; i < LOOP_TURNS && least > LOOP_LIMIT_NS; i++) {
        int64_t begin = thread_ns();
        if (next_mark(p, true) != VK_MARK_END) {
            return false;
        }
        int64_t took = thread_ns() - begin;
        least = took < least ? took : least;
    }
    if (least > LOOP_LIMIT_NS) {
        snprintf(what, sizeof what, "it interprets the guest, at %u million instructions a second",
                 (unsigned)(2 * VK_PROBE_LOOPS * 1000ll / least));
        return fail(p, what);
    }
    return true;
}

static void destroy(struct vk_probe *p) {
    if (p->run) {
        munmap(p->run, p->run_size);
    }
    const int fds[] = {p->vcpu, p->vm, p->kvm};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    if (p->memory) {
        munmap(p->memory, VK_PROBE_MEMORY);
    }
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static void *probe_main(void *opaque) {
    struct vk_probe *p = opaque;
    bool able = try_guest(p);

    pthread_mutex_lock(&p->lock);
    p->able = able;
    p->over = true;
    bool abandoned = p->abandoned;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (abandoned) {
        destroy(p);
    }
    return NULL;
}

/* Waits for the guest to be through; `lock` is held. */
static bool wait_over(struct vk_probe *p) {
    struct timespec limit;
    int result = 0;

    clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += WATCHDOG_S;
    while (!p->over && result == 0) {
        result = pthread_cond_timedwait(&p->changed, &p->lock, &limit);
    }
    return p->over;
}

/* False: nothing gets the thread out of the kernel, and it owns `p` now. */
static bool watched(struct vk_probe *p, pthread_t thread) {
    pthread_mutex_lock(&p->lock);
    bool over = wait_over(p);
    if (!over) {
        atomic_store(&p->hangs, true);
        pthread_kill(thread, VK_KICK);
        over = wait_over(p);
    }
    p->abandoned = !over;
    pthread_mutex_unlock(&p->lock);
    if (over) {
        pthread_join(thread, NULL);
    } else {
        pthread_detach(thread);
    }
    return over;
}

bool vk_probe(const char *device, char *line, size_t size, uint32_t *max_vcpus) {
    pthread_t thread;
    pthread_condattr_t attributes;
    int kvm = vk_open(device, line, size);

    if (kvm < 0) {
        return false;
    }
    *max_vcpus = vk_max_vcpus(kvm);
    struct vk_probe *p = calloc(1, sizeof *p);
    void *memory =
        mmap(NULL, VK_PROBE_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!p || memory == MAP_FAILED) {
        snprintf(line, size, "the host is out of memory");
        free(p);
        close(kvm);
        return false;
    }
    p->kvm = kvm;
    p->vm = p->vcpu = -1;
    p->memory = memory;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&thread, NULL, probe_main, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result) {
        snprintf(line, size, "cannot start a thread: %s", strerror(result));
        destroy(p);
        return false;
    }
    if (!watched(p, thread)) {
        snprintf(line, size, "%s cannot run Linux here: a guest of 30 instructions hangs", device);
        return false;
    }
    bool able = p->able;
    snprintf(line, size, "%s", p->line);
    destroy(p);
    return able;
}
