/* SPDX-License-Identifier: MIT
 *
 * What a guest's exits and a host's interrupts cost on this KVM, x86_64.
 *
 *     exits [ROUNDS]
 *
 * A guest of some instructions in protected mode; nothing of the project is in
 * it, so that the prices are the kernel's. Prints "NAME NANOSECONDS" lines: medians. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY    0x10000u
#define IDT       0x2000u
#define CODE      0x3000u
#define HANDLER   0x3800u
#define READY     0x4000u
#define SLOT      0xD0000000u
#define BELL      0xD0001050u
#define PIN       16u
#define VECTOR    0x40u
#define ROUNDS    2000u
#define DONE_PORT 0x81u

static int kvm, vm, vcpu;
static struct kvm_run *run;
static uint8_t *memory;

static int check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(const char *name, uint64_t *times, unsigned count) {
    qsort(times, count, sizeof *times, ascending);
    printf("%s %llu\n", name, (unsigned long long)times[count / 2]);
    fflush(stdout);
}

static void create(void) {
    kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    vm = check(ioctl(kvm, KVM_CREATE_VM, 0ul), "KVM_CREATE_VM");
    check(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY,
                                                 .userspace_addr = (uintptr_t)memory};
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0ul), "KVM_CREATE_VCPU");
    int size = check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
}

/* Flat 32-bit protected mode, paging off. */
static void enter(void) {
    struct kvm_sregs s;
    check(ioctl(vcpu, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
    struct kvm_segment flat = {
        .limit = 0xFFFFFFFF, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    s.ds = s.es = s.fs = s.gs = s.ss = flat;
    flat.selector = 8;
    flat.type = 11;
    s.cs = flat;
    s.cr0 = 0x11;
    s.idt = (struct kvm_dtable){.base = IDT, .limit = 8 * (VECTOR + 1) - 1};
    s.gdt = (struct kvm_dtable){.base = 0x1000, .limit = 23};
    check(ioctl(vcpu, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
    struct kvm_regs r = {.rip = CODE, .rflags = 2, .rsp = 0xF000};
    check(ioctl(vcpu, KVM_SET_REGS, &r), "KVM_SET_REGS");
    const uint64_t gdt[] = {0, 0x00CF9B000000FFFFull, 0x00CF93000000FFFFull};
    memcpy(memory + 0x1000, gdt, sizeof gdt);
    const uint64_t gate = HANDLER | 8u << 16 | 0x8E0000000000ull;
    memcpy(memory + IDT + 8 * VECTOR, &gate, sizeof gate);
}

/* Code, assembled by hand: one byte string a statement. */
static uint8_t *at;

static void emit(const char *bytes, size_t n) {
    memcpy(at, bytes, n);
    at += n;
}
#define EMIT(bytes) emit(bytes, sizeof bytes - 1)

static void emit32(uint32_t value) {
    memcpy(at, &value, sizeof value);
    at += sizeof value;
}

static void store(uint32_t address, uint32_t value) { /* movl $value, address */
    EMIT("\xC7\x05");
    emit32(address);
    emit32(value);
}

/* Rounds of one access, each timed by the exit of the one before it, or all of
 * them where the kernel handles the access: then one exit ends them. */
static void measure_access(const char *name, const char *code, size_t length, uint32_t address,
                           unsigned rounds, bool leaves) {
    uint64_t *times = calloc(rounds, sizeof *times);
    unsigned seen = 0;
    enter();
    at = memory + CODE;
    EMIT("\xB9");
    emit32(rounds);
    uint8_t *loop = at;
    emit(code, length);
    if (address)
        emit32(address);
    EMIT("\x49\x75"); /* dec %ecx; jnz loop */
    *at = (uint8_t)(loop - (at + 1));
    at++;
    EMIT("\xE6\x81\xF4"); /* out %al, $DONE_PORT; hlt */
    uint64_t begin = now(), last = begin;
    for (;;) {
        check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        if (run->exit_reason == KVM_EXIT_IO && run->io.port == DONE_PORT)
            break;
        uint64_t t = now();
        if (seen < rounds)
            times[seen++] = t - last;
        last = t;
    }
    if (leaves)
        report(name, times, seen);
    else
        printf("%s %llu\n", name, (unsigned long long)((now() - begin) / rounds));
    free(times);
}

/* Interrupts */

enum way { LINE, IRQFD_EDGE, IRQFD_RESAMPLE };
static _Atomic bool stopping;
static uint64_t acknowledged; /* when */
static sem_t acknowledge;

static void line(bool level) {
    struct kvm_irq_level request = {.irq = PIN, .level = level};
    check(ioctl(vm, KVM_IRQ_LINE, &request), "KVM_IRQ_LINE");
}

static void *vcpu_main(void *opaque) {
    const enum way *way = opaque;
    while (!atomic_load(&stopping)) {
        check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        if (run->exit_reason == KVM_EXIT_IO)
            break;
        if (run->exit_reason != KVM_EXIT_MMIO)
            continue;
        acknowledged = now();
        /* Where the line is ours, it goes down here. */
        if (*way == LINE)
            line(false);
        sem_post(&acknowledge);
    }
    return NULL;
}

static void emit_interrupt_guest(bool level) {
    enter();
    at = memory + CODE;
    store(0xFEE000F0, 0x1FF); /* local APIC on */
    store(0xFEE000B0, 0);     /* the end of the interrupt that ended the guest before this */
    store(0xFEC00000, 0x10 + 2 * PIN); /* the pin's low word: */
    store(0xFEC00010, VECTOR | (level ? 1u << 15 : 0));
    store(READY, 1);
    EMIT("\xFB\xF4\xEB\xFC"); /* 1: sti; hlt; jmp 1b */
    at = memory + HANDLER;
    store(SLOT, 1);       /* InterruptACK */
    store(0xFEE000B0, 0); /* end of interrupt */
    EMIT("\xCF");         /* iret */
}

static void measure_interrupts(const char *name, enum way way, unsigned rounds) {
    uint64_t *times = calloc(rounds, sizeof *times), *raises = calloc(rounds, sizeof *raises);
    int fd = eventfd(0, EFD_CLOEXEC), again = eventfd(0, EFD_CLOEXEC);
    pthread_t thread;
    char text[64];
    struct kvm_irqfd request = {.fd = (uint32_t)fd, .gsi = PIN};

    sem_init(&acknowledge, 0, 0);
    memset(memory + READY, 0, 4);
    if (way == IRQFD_RESAMPLE) {
        request.flags = KVM_IRQFD_FLAG_RESAMPLE;
        request.resamplefd = (uint32_t)again;
    }
    if (way != LINE)
        check(ioctl(vm, KVM_IRQFD, &request), "KVM_IRQFD");
    emit_interrupt_guest(way != IRQFD_EDGE);
    pthread_create(&thread, NULL, vcpu_main, &way);
    while (!__atomic_load_n((uint32_t *)(memory + READY), __ATOMIC_ACQUIRE))
        sched_yield();
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t t = now();
        if (way == LINE)
            line(true);
        else
            check(eventfd_write(fd, 1), "irqfd");
        raises[i] = now() - t;
        /* Asleep, as a device's thread is after its work: it leaves its CPU to the guest's. */
        while (sem_wait(&acknowledge) < 0) {
        }
        times[i] = acknowledged - t;
        /* What looks whether the level is still high, after every end of interrupt. */
        eventfd_t ends;
        if (way == IRQFD_RESAMPLE)
            check(eventfd_read(again, &ends), "resample");
        usleep(1000); /* until the guest sleeps again */
    }
    snprintf(text, sizeof text, "%s-raise", name);
    report(text, raises, rounds);
    snprintf(text, sizeof text, "%s-handled", name);
    report(text, times, rounds);
    /* Out: the next wake-up runs the exit. */
    memcpy(memory + HANDLER, "\xE6\x81\xF4", 3);
    if (way == LINE)
        line(true);
    else
        check(eventfd_write(fd, 1), "irqfd");
    pthread_join(thread, NULL);
    line(false);
    if (way != LINE) {
        request.flags = KVM_IRQFD_FLAG_DEASSIGN;
        check(ioctl(vm, KVM_IRQFD, &request), "KVM_IRQFD");
    }
    close(fd);
    close(again);
    free(times);
    free(raises);
}

int main(int count, char **arguments) {
    unsigned rounds = count > 1 ? (unsigned)atoi(arguments[1]) : ROUNDS;
    enum way order[] = {LINE, IRQFD_EDGE, IRQFD_RESAMPLE};
    static const char *const names[] = {"irq-line", "irqfd-edge", "irqfd-resample"};

    create();
    struct kvm_ioeventfd bell = {
        .addr = BELL, .len = 4, .fd = eventfd(0, EFD_CLOEXEC), .datamatch = 0, .flags = 1};
    check(ioctl(vm, KVM_IOEVENTFD, &bell), "KVM_IOEVENTFD");
    measure_access("mmio-read", "\xA1", 1, SLOT, rounds, true);   /* mov SLOT, %eax */
    measure_access("mmio-write", "\xA3", 1, SLOT, rounds, true);  /* mov %eax, SLOT */
    measure_access("port-write", "\xE6\x80", 2, 0, rounds, true); /* out %al, $0x80 */
    measure_access("ioeventfd", "\x31\xC0\xA3", 3, BELL, rounds, false);
    for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++)
        measure_interrupts(names[order[i]], order[i], rounds);
    return 0;
}
