/* SPDX-License-Identifier: MIT
 *
 * The probe's guest for x86_64, which goes the way a kernel goes: real mode, long
 * mode, CMPXCHG16B (which every kernel for x86_64 executes early), a loop. */
#include "probe.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define PML4        0x1000u
#define PDPT        0x2000u
#define PD          0x3000u
#define GDT         0x4000u
#define GDT_POINTER 0x4F00u
#define CODE        0x5000u
#define CELL        0x6000u        /* what CMPXCHG16B stores to */
#define CMPXCHG16B  (CODE + 0x58u) /* where in the program it is */
#define MARK_PORT   0x80u

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
    0xB0, 0x01, 0xE6, 0x80,       /* mov $VK_MARK_BEGIN, %al; out %al, $MARK_PORT */
    0xB9, 0xA8, 0x61, 0x00, 0x00, /* 1: mov $VK_PROBE_LOOPS, %ecx */
    0xFF, 0xC9, 0x75, 0xFC,       /* 2: dec %ecx; jnz 2b */
    0xB0, 0x02, 0xE6, 0x80,       /* mov $VK_MARK_END, %al; out %al, $MARK_PORT */
    0xEB, 0xF1,                   /* jmp 1b */
};

const struct vk_extension vk_arch_extensions[] = {
    {KVM_CAP_IRQCHIP, "interrupt controllers"}, {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
    {KVM_CAP_IOEVENTFD, "ioeventfd"},           {KVM_CAP_MP_STATE, "several CPUs"},
    {KVM_CAP_SET_TSS_ADDR, "TSS addresses"},    {KVM_CAP_EXT_CPUID, "CPUID"},
    {KVM_CAP_USER_MEMORY, "user memory"},       {0, NULL},
};
const uint64_t vk_arch_probe_base = 0;

int vk_arch_probe_vm(struct vk_probe *p) {
    uint64_t identity = VK_X86_IDENTITY_MAP;

    if (ioctl(p->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
        ioctl(p->vm, KVM_SET_TSS_ADDR, VK_X86_TSS) < 0) {
        return -1;
    }
    return ioctl(p->vm, KVM_CREATE_IRQCHIP, 0);
}

static void poke(struct vk_probe *p, uint32_t at, uint64_t value) {
    memcpy(p->memory + at, &value, sizeof value);
}

int vk_arch_probe_vcpu(struct vk_probe *p) {
    struct kvm_sregs sregs;
    const struct kvm_regs regs = {.rip = CODE, .rflags = 2};
    struct kvm_cpuid2 *cpuid = vk_cpuid_new(p->kvm, 0, 1);

    memcpy(p->memory + CODE, code, sizeof code);
    poke(p, PML4, PDPT | 3);
    poke(p, PDPT, PD | 3);
    poke(p, PD, 0x83); /* 2 MiB, of which the probe's memory is there */
    poke(p, GDT + 16, 0x00AF9B000000FFFFull);
    poke(p, GDT + 24, 0x00CF93000000FFFFull);
    poke(p, GDT_POINTER, (uint64_t)GDT << 16 | 31);
    if (!cpuid) {
        return -1;
    }
    int result = ioctl(p->vcpu, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    if (result < 0 || ioctl(p->vcpu, KVM_GET_SREGS, &sregs) < 0) {
        return -1;
    }
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    if (ioctl(p->vcpu, KVM_SET_SREGS, &sregs) < 0) {
        return -1;
    }
    return ioctl(p->vcpu, KVM_SET_REGS, &regs);
}

unsigned vk_arch_probe_mark(const struct vk_probe *p) {
    if (p->run->exit_reason != KVM_EXIT_IO || p->run->io.port != MARK_PORT) {
        return 0;
    }
    return ((const uint8_t *)p->run)[p->run->io.data_offset];
}

const char *vk_arch_probe_wrong(const struct vk_probe *p) {
    /* CMPXCHG16B must have stored rcx:rbx. */
    return p->memory[CELL] == 1 ? NULL : "it gets lock cmpxchg16b wrong";
}

const char *vk_arch_probe_place(const struct vk_probe *p) {
    struct kvm_regs regs;

    if (ioctl(p->vcpu, KVM_GET_REGS, &regs) == 0 && regs.rip == CMPXCHG16B) {
        return "lock cmpxchg16b";
    }
    return "the way to long mode";
}
