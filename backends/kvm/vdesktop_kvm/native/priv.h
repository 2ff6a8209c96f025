/* SPDX-License-Identifier: MIT
 *
 * What the files of the KVM backend share. */
#ifndef VK_PRIV_H
#define VK_PRIV_H

#include "vk.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "vdesktop/backend/io_ranges.h"

#define VK_VCPUS_MAX     64u
#define VK_MEMORY_MAX    32u
#define VK_DOORBELLS_MAX 256u
#if defined(__x86_64__)
#define VK_LINES 24u /* pins of KVM's I/O APIC */
#elif defined(__aarch64__)
#define VK_LINES 64u /* SPIs */
#elif defined(__riscv)
#define VK_LINES 96u /* sources of our PLIC, the reserved 0 included */
#endif
#define VK_PAGE   4096u
#define VK_DETAIL 512u
#define VK_TRACE  4u
#define VK_KICK   SIGUSR1 /* blocked in vCPU threads, but while KVM_RUN executes */

enum vk_want { VK_WANT_PAUSE, VK_WANT_RUN, VK_WANT_STOP };

/* Why a vCPU left the guest. */
enum vk_count {
    VK_COUNT_MMIO,
    VK_COUNT_PORT,
    VK_COUNT_KICK,
    VK_COUNT_OTHER,
    VK_COUNT_UNASSIGNED_MMIO,
    VK_COUNT_UNASSIGNED_PORT,
    VK_COUNTS
};

struct vk_access {
    uint64_t address;
    uint8_t width; /* 0: none yet */
    bool port, write;
};

struct vk_vcpu {
    struct vk_vm *vm;
    uint32_t index;
    int fd;
    struct kvm_run *run;
    pthread_t thread;
    /* Written by its thread only, read by any. */
    _Atomic uint64_t counts[VK_COUNTS];
    struct vk_access trace[VK_TRACE]; /* the last accesses, for a crash report */
    unsigned traced;
};

struct vk_memory {
    uint64_t gpa, size;
    void *host;
    bool readonly;
    bool used;
    _Atomic uint64_t *dirty; /* a bit a page; NULL: not logged */
};

struct vk_doorbell {
    uint64_t address, value;
    uint32_t width;
    bool match;
    int fd;
};

struct vk_line {
    struct vd_irq irq;
    struct vk_vm *vm;
    uint32_t number;
    bool level;
};

/* The architecture's part of the entry state, and of a machine. */
struct vk_entry;
struct vk_arch;

struct vk_vm {
    uint32_t vcpus;
    int kvm;
    int fd;    /* of the kernel's VM; -1: none */
    bool used; /* vCPUs have run: the next start needs a fresh one */
    size_t run_size;
    struct vk_vcpu vcpu[VK_VCPUS_MAX];
    struct vk_memory memory[VK_MEMORY_MAX];
    struct vd_io_ranges mmio, port; /* change only while no vCPU runs */
    struct vk_doorbell doorbell[VK_DOORBELLS_MAX];
    uint32_t doorbells;
    struct vd_written written;
    struct vd_dirty dirty;
    struct vk_entry *entry;
    struct vk_arch *arch;
    uint64_t timer_hz;

    /* Guards fd and levels against irq lines, which any thread may set. */
    pthread_mutex_t irq_lock;
    struct vk_line line[VK_LINES];
    _Atomic uint64_t interrupts;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic int want; /* enum vk_want; written under lock */
    unsigned inside;  /* vCPU threads that may execute guest code */
    unsigned alive;
    unsigned threads;    /* to join */
    enum vk_exit reason; /* what on_event is going to say */
    char detail[VK_DETAIL];
    vk_event_fn on_event;
    void *opaque;
};

/* vm.c: the kernel's VM, built anew for every start, so that a reset leaves
 * nothing behind. One line in `error` on failure. */
int vk_build(struct vk_vm *vm, char *error, size_t size);
void vk_drop(struct vk_vm *vm);
int vk_open(const char *device, char *error, size_t size); /* a descriptor, or -1 */
int vk_create_vm(int kvm);                                 /* a descriptor, or -1 and errno */
uint32_t vk_max_vcpus(int kvm);
int vk_complain(char *error, size_t size, const char *what, int code); /* returns -code */

/* memory.c */
int vk_memory_install(struct vk_vm *vm);
void vk_memory_free(struct vk_vm *vm);
void vk_memory_written(void *opaque, uint64_t gpa, uint64_t len);
int vk_memory_take_dirty(void *opaque, uint64_t gpa, uint64_t size, uint64_t *bitmap);

/* io.c */
void vk_io_access(struct vk_vcpu *vcpu, bool port, bool write, uint64_t address, uint32_t width,
                  void *data);
int vk_doorbells_install(struct vk_vm *vm);

/* vcpu.c */
void *vk_vcpu_main(void *vcpu);
void vk_kick(struct vk_vm *vm);
int vk_set_run_mask(int vcpu_fd); /* let KVM_RUN end at VK_KICK; -1 and errno */
/* Ends the run: the first caller's reason counts. */
void vk_end(struct vk_vm *vm, enum vk_exit reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t vk_trace_text(const struct vk_vcpu *vcpu, char *text, size_t size);

static inline void vk_tally(struct vk_vcpu *vcpu, enum vk_count which) {
    uint64_t now = atomic_load_explicit(&vcpu->counts[which], memory_order_relaxed);
    atomic_store_explicit(&vcpu->counts[which], now + 1, memory_order_relaxed);
}

/* The architecture's part, one file family each. Where not said otherwise, functions
 * returning int give 0, or -errno and one line in `error`. */
extern const char vk_arch_driver_advice[]; /* what to do without a /dev/kvm */
struct vk_entry *vk_arch_entry_new(void);
void vk_arch_entry_clear(struct vk_entry *entry);
int vk_arch_entry_set(struct vk_entry *entry, const char *name, uint64_t value); /* 0, -ENOENT */
struct vk_arch *vk_arch_new(struct vk_vm *vm); /* NULL: no memory */
void vk_arch_free(struct vk_arch *arch);
uint32_t vk_arch_max_vcpus(int kvm); /* a limit that the kernel does not tell; UINT32_MAX: none */
int vk_arch_vm_init(struct vk_vm *vm, char *error, size_t size);       /* before the vCPUs */
int vk_arch_vcpu_init(struct vk_vcpu *vcpu, char *error, size_t size); /* in index order */
int vk_arch_vm_ready(struct vk_vm *vm, char *error, size_t size);      /* with all vCPUs */
void vk_arch_vm_drop(struct vk_vm *vm); /* what vm_init and vm_ready made */
uint64_t vk_arch_cpu_id(struct vk_vm *vm, uint32_t index);
void vk_arch_cpu_model(struct vk_vm *vm, char *text, size_t size);
const char *vk_arch_controller(const struct vk_vm *vm); /* InterruptController.kind */
/* Under irq_lock, with a VM of the kernel's. */
int vk_arch_set_line(struct vk_vm *vm, uint32_t line, bool level);
/* Handles an exit that only this architecture has; false: it has no such. */
bool vk_arch_exit(struct vk_vcpu *vcpu);
void vk_arch_describe(struct vk_vcpu *vcpu, char *text, size_t size);

#if defined(__riscv)
#include "riscv64_plic.h"

struct vk_arch {
    struct vk_plic plic; /* under irq_lock */
    struct vd_io io;
};

int vk_riscv64_set(int vcpu, uint64_t id, uint64_t value); /* KVM_SET_ONE_REG: 0 or -errno */
#endif

#if defined(__aarch64__)
struct vk_arch {
    int gic; /* the kernel's device, or -1 */
    bool v3;
};

/* The best interrupt controller the kernel has, a KVM_DEV_TYPE_*, or -errno. */
int vk_arm64_gic_type(int vm);
/* KVM_ARM_VCPU_INIT; `waits`: until PSCI starts it. 0 or -errno. */
int vk_arm64_vcpu_init(int vm, int vcpu, bool waits);
#endif

#if defined(__x86_64__)
#include "vdesktop/platform/x86_ports.h"

/* Four pages that KVM needs on some Intel processors, and does not show to the
 * guest's memory map: above every window of it. */
#define VK_X86_IDENTITY_MAP 0xFFFBC000ull
#define VK_X86_TSS          0xFFFBD000ul

struct vk_arch {
    struct vd_x86_ports ports;
};

/* CPUID of a vCPU, for KVM_SET_CPUID2; NULL and errno on failure. Caller frees. */
struct kvm_cpuid2 *vk_cpuid_new(int kvm, uint32_t index, uint32_t vcpus);
#endif

#endif
