/* SPDX-License-Identifier: MIT
 *
 * The probe. A device node says little: there are KVMs inside of virtual
 * machines that emulate the guest's kernel code, slowly and in part. So a guest
 * of a few instructions goes the way a kernel goes: real mode, long mode,
 * CMPXCHG16B (which every kernel for x86_64 executes early), a loop. */
#include "priv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY      0x8000u
#define PML4        0x1000u
#define PDPT        0x2000u
#define PD          0x3000u
#define GDT         0x4000u
#define GDT_POINTER 0x4F00u
#define CODE        0x5000u
#define CMPXCHG16B  (CODE + 0x58u) /* where in the program it is */
#define MARK_PORT   0x80u
#define MARK_LONG   1u /* in long mode, and past CMPXCHG16B */
#define MARK_END    2u
#define LOOPS       200000u /* two instructions each */

/* A processor needs 0.1 ms for the loop, an emulated one 4 ms, a KVM that
 * interprets 200 ms. Processor time, so that a busy host is not taken for one. */
#define LOOP_LIMIT_NS 50000000ll
/* Wall clock: a guest that is not through by then hangs. */
#define WATCHDOG_S 2

static const uint8_t code[] = {
    0xFA,                                           /* cli (16-bit code) */
    0x31, 0xC0, 0x8E, 0xD8,                         /* xor %ax, %ax; mov %ax, %ds */
    0x66, 0x0F, 0x01, 0x16, 0x00, 0x4F,             /* lgdtl GDT_POINTER */
    0x66, 0xB8, 0x20, 0x00, 0x00, 0x00,             /* mov $0x20, %eax (PAE) */
    0x0F, 0x22, 0xE0,                               /* mov %eax, %cr4 */
    0x66, 0xB8, 0x00, 0x10, 0x00, 0x00,             /* mov $PML4, %eax */
    0x0F, 0x22, 0xD8,                               /* mov %eax, %cr3 */
    0x66, 0xB9, 0x80, 0x00, 0x00, 0xC0,             /* mov $0xc0000080, %ecx (EFER) */
    0x66, 0xB8, 0x00, 0x01, 0x00, 0x00,             /* mov $0x100, %eax (LME) */
    0x66, 0x31, 0xD2, 0x0F, 0x30,                   /* xor %edx, %edx; wrmsr */
    0x66, 0xB8, 0x33, 0x00, 0x00, 0x80,             /* mov $0x80000033, %eax */
    0x0F, 0x22, 0xC0,                               /* mov %eax, %cr0 */
    0x66, 0xEA, 0x3F, 0x50, 0x00, 0x00, 0x10, 0x00, /* ljmpl $0x10, $(CODE + 0x3f) */
    0xB8, 0x18, 0x00, 0x00, 0x00,                   /* mov $0x18, %eax (64-bit code) */
    0x8E, 0xD8, 0x8E, 0xD0,                         /* mov %eax, %ds; mov %eax, %ss */
    0xBF, 0x00, 0x60, 0x00, 0x00,                   /* mov $0x6000, %edi */
    0x31, 0xC0, 0x31, 0xD2,                         /* xor %eax, %eax; xor %edx, %edx */
    0xBB, 0x01, 0x00, 0x00, 0x00, 0x31, 0xC9,       /* mov $1, %ebx; xor %ecx, %ecx */
    0xF0, 0x48, 0x0F, 0xC7, 0x0F,                   /* lock cmpxchg16b (%rdi) */
    0xB0, 0x01, 0xE6, 0x80,                         /* mov $MARK_LONG, %al; out %al, $MARK_PORT */
    0xB9, 0x40, 0x0D, 0x03, 0x00,                   /* mov $LOOPS, %ecx */
    0xFF, 0xC9, 0x75, 0xFC,                         /* 1: dec %ecx; jnz 1b */
    0xB0, 0x02, 0xE6, 0x80,                         /* mov $MARK_END, %al; out %al, $MARK_PORT */
    0xF4, 0xEB, 0xFD,                               /* hlt, for ever */
};

struct probe {
    int kvm, vm, vcpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_size;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over;
    bool able;
    bool abandoned;
    _Atomic bool hangs;
    char line[256];
};

static void poke(struct probe *p, uint32_t at, uint64_t value) {
    memcpy(p->memory + at, &value, sizeof value);
}

static bool fail(struct probe *p, const char *what) {
    snprintf(p->line, sizeof p->line, "/dev/kvm cannot run Linux here: %s", what);
    return false;
}

static bool fail_errno(struct probe *p, const char *what) {
    char reason[128];

    vk_complain(reason, sizeof reason, what, errno);
    snprintf(p->line, sizeof p->line, "%s", reason);
    return false;
}

static bool check_extensions(struct probe *p) {
    static const struct {
        int number;
        const char *name;
    } needed[] = {
        {KVM_CAP_IRQCHIP, "interrupt controllers"}, {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
        {KVM_CAP_IOEVENTFD, "ioeventfd"},           {KVM_CAP_MP_STATE, "several CPUs"},
        {KVM_CAP_SET_TSS_ADDR, "TSS addresses"},    {KVM_CAP_EXT_CPUID, "CPUID"},
        {KVM_CAP_USER_MEMORY, "user memory"},
    };

    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (ioctl(p->kvm, KVM_CHECK_EXTENSION, needed[i].number) <= 0) {
            snprintf(p->line, sizeof p->line, "this KVM lacks %s: a newer kernel is needed",
                     needed[i].name);
            return false;
        }
    }
    return true;
}

static bool set_state(struct probe *p) {
    struct kvm_sregs sregs;
    const struct kvm_regs regs = {.rip = CODE, .rflags = 2};
    struct kvm_cpuid2 *cpuid = vk_cpuid_new(p->kvm, 0, 1);

    if (!cpuid) {
        return false;
    }
    int result = ioctl(p->vcpu, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    if (result < 0 || ioctl(p->vcpu, KVM_GET_SREGS, &sregs) < 0) {
        return false;
    }
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    return ioctl(p->vcpu, KVM_SET_SREGS, &sregs) == 0 && ioctl(p->vcpu, KVM_SET_REGS, &regs) == 0;
}

static bool build(struct probe *p) {
    uint64_t identity = 0xFFFBC000ull;
    const struct kvm_userspace_memory_region region = {
        .memory_size = MEMORY,
        .userspace_addr = (uintptr_t)p->memory,
    };

    p->vm = ioctl(p->kvm, KVM_CREATE_VM, 0ul);
    if (p->vm < 0) {
        return fail_errno(p, "create a VM");
    }
    if (ioctl(p->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
        ioctl(p->vm, KVM_SET_TSS_ADDR, 0xFFFBD000ul) < 0 ||
        ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        return fail_errno(p, "map memory");
    }
    if (ioctl(p->vm, KVM_CREATE_IRQCHIP, 0) < 0) {
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
    memcpy(p->memory + CODE, code, sizeof code);
    poke(p, PML4, PDPT | 3);
    poke(p, PDPT, PD | 3);
    poke(p, PD, 0x83); /* 2 MiB, of which MEMORY is there */
    poke(p, GDT + 16, 0x00AF9B000000FFFFull);
    poke(p, GDT + 24, 0x00CF93000000FFFFull);
    poke(p, GDT_POINTER, (uint64_t)GDT << 16 | 31);
    return (set_state(p) && vk_set_run_mask(p->vcpu) == 0) || fail_errno(p, "set a vCPU's state");
}

static int64_t thread_ns(void) {
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Returns the mark the guest gave next, 0 on failure. */
static unsigned next_mark(struct probe *p, bool in_long_mode) {
    char what[128];
    struct kvm_regs regs;

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
        if (p->run->exit_reason == KVM_EXIT_IO && p->run->io.port == MARK_PORT) {
            return ((uint8_t *)p->run)[p->run->io.data_offset];
        }
        const char *where = in_long_mode ? "a loop" : "the way to long mode";
        if (ioctl(p->vcpu, KVM_GET_REGS, &regs) == 0 && regs.rip == CMPXCHG16B) {
            where = "lock cmpxchg16b";
        }
        snprintf(what, sizeof what, "it fails at %s (exit %u), which kernels need", where,
                 p->run->exit_reason);
        return fail(p, what);
    }
}

static bool try_guest(struct probe *p) {
    char what[128];

    if (!check_extensions(p) || !build(p)) {
        return false;
    }
    if (next_mark(p, false) != MARK_LONG) {
        return false;
    }
    /* CMPXCHG16B must have stored rcx:rbx. */
    if (p->memory[0x6000] != 1) {
        return fail(p, "it gets lock cmpxchg16b wrong");
    }
    int64_t begin = thread_ns();
    if (next_mark(p, true) != MARK_END) {
        return false;
    }
    int64_t took = thread_ns() - begin;
    if (took > LOOP_LIMIT_NS) {
        snprintf(what, sizeof what, "it interprets the guest, at %u million instructions a second",
                 (unsigned)(2 * LOOPS * 1000ll / took));
        return fail(p, what);
    }
    return true;
}

static void destroy(struct probe *p) {
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
        munmap(p->memory, MEMORY);
    }
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static void *probe_main(void *opaque) {
    struct probe *p = opaque;
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
static bool wait_over(struct probe *p) {
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
static bool watched(struct probe *p, pthread_t thread) {
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
    int most = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    *max_vcpus = most > (int)VK_VCPUS_MAX || most < 1 ? VK_VCPUS_MAX : (uint32_t)most;
    struct probe *p = calloc(1, sizeof *p);
    void *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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
