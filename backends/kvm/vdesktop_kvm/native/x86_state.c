/* SPDX-License-Identifier: MIT
 *
 * x86_64: the interrupt controllers, and the state vCPUs begin in: the boot one
 * in 64-bit mode as docs/spec/machine.md has it, the others wait for INIT and a
 * start-up IPI, in the kernel. */
#include "priv.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* Firmware's part: MTRRs on, everything write-back. */
#define MSR_MTRR_DEFAULT 0x2FFu
#define MTRR_WRITE_BACK  0x806u

#define TYPE_DATA 3u  /* read, write, accessed */
#define TYPE_CODE 11u /* execute, read, accessed */

struct vk_entry {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
    uint64_t cr0, cr2, cr3, cr4, efer;
    uint64_t gdt_base, gdt_limit, idt_base, idt_limit;
    uint64_t cs, ds, es, ss, fs, gs;
};

static const struct vk_entry defaults = {
    .rflags = 2,
    .cr0 = 0x80050033, /* PG AM WP NE ET MP PE */
    .cr4 = 0x20,       /* PAE */
    .efer = 0x500,     /* LME LMA */
    .gdt_limit = 0x1F,
    .cs = 0x10,
    .ds = 0x18,
    .es = 0x18,
    .ss = 0x18,
    .fs = 0x18,
    .gs = 0x18,
};

#define FIELD(name)                                                                                \
    { #name, offsetof(struct vk_entry, name) }
static const struct {
    const char *name;
    size_t offset;
} fields[] = {
    FIELD(rax),       FIELD(rbx),      FIELD(rcx),       FIELD(rdx), FIELD(rsi),  FIELD(rdi),
    FIELD(rsp),       FIELD(rbp),      FIELD(r8),        FIELD(r9),  FIELD(r10),  FIELD(r11),
    FIELD(r12),       FIELD(r13),      FIELD(r14),       FIELD(r15), FIELD(rip),  FIELD(rflags),
    FIELD(cr0),       FIELD(cr2),      FIELD(cr3),       FIELD(cr4), FIELD(efer), FIELD(gdt_base),
    FIELD(gdt_limit), FIELD(idt_base), FIELD(idt_limit), FIELD(cs),  FIELD(ds),   FIELD(es),
    FIELD(ss),        FIELD(fs),       FIELD(gs),
};

const char vk_arch_driver_advice[] =
    "turn on virtualisation in the firmware and load kvm_amd or kvm_intel";

struct vk_arch *vk_arch_new(struct vk_vm *vm) {
    (void)vm;
    return calloc(1, sizeof(struct vk_arch));
}

void vk_arch_free(struct vk_arch *arch) {
    free(arch);
}

uint32_t vk_arch_max_vcpus(int kvm) {
    (void)kvm;
    return UINT32_MAX;
}

uint64_t vk_arch_cpu_id(struct vk_vm *vm, uint32_t index) {
    (void)vm;
    return index; /* KVM's local APIC ids */
}

void vk_arch_cpu_model(struct vk_vm *vm, char *text, size_t size) {
    (void)vm;
    snprintf(text, size, "%s", ""); /* CPUID says it all */
}

const char *vk_arch_controller(const struct vk_vm *vm) {
    (void)vm;
    return "ioapic";
}

int vk_arch_vm_ready(struct vk_vm *vm, char *error, size_t size) {
    (void)error, (void)size;
    vm->arch->ports = (struct vd_x86_ports){0};
    return 0;
}

void vk_arch_vm_drop(struct vk_vm *vm) {
    (void)vm; /* all of it goes with the kernel's VM */
}

struct vk_entry *vk_arch_entry_new(void) {
    struct vk_entry *entry = malloc(sizeof *entry);

    if (entry) {
        vk_arch_entry_clear(entry);
    }
    return entry;
}

void vk_arch_entry_clear(struct vk_entry *entry) {
    *entry = defaults;
}

int vk_arch_entry_set(struct vk_entry *entry, const char *name, uint64_t value) {
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            memcpy((char *)entry + fields[i].offset, &value, sizeof value);
            return 0;
        }
    }
    return -ENOENT;
}

/* Lines go to the I/O APIC alone: the 8259s that KVM creates with it are not
 * of this machine. */
static int set_routes(struct vk_vm *vm) {
    struct kvm_irq_routing *routing =
        calloc(1, sizeof *routing + VK_LINES * sizeof routing->entries[0]);

    if (!routing) {
        return -ENOMEM;
    }
    routing->nr = VK_LINES;
    for (uint32_t i = 0; i < VK_LINES; i++) {
        routing->entries[i].gsi = i;
        routing->entries[i].type = KVM_IRQ_ROUTING_IRQCHIP;
        routing->entries[i].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
        routing->entries[i].u.irqchip.pin = i;
    }
    int result = ioctl(vm->fd, KVM_SET_GSI_ROUTING, routing) < 0 ? -errno : 0;
    free(routing);
    return result;
}

int vk_arch_vm_init(struct vk_vm *vm, char *error, size_t size) {
    uint64_t identity = VK_X86_IDENTITY_MAP;

    if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
        ioctl(vm->fd, KVM_SET_TSS_ADDR, VK_X86_TSS) < 0) {
        return vk_complain(error, size, "place its own pages", errno);
    }
    if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0) {
        return vk_complain(error, size, "create interrupt controllers", errno);
    }
    int result = set_routes(vm);
    return result ? vk_complain(error, size, "route interrupts", -result) : 0;
}

int vk_arch_set_line(struct vk_vm *vm, uint32_t line, bool level) {
    struct kvm_irq_level request = {.irq = line, .level = level};

    return ioctl(vm->fd, KVM_IRQ_LINE, &request) < 0 ? -errno : 0;
}

static struct kvm_segment segment(uint64_t selector, uint8_t type) {
    return (struct kvm_segment){
        .limit = 0xFFFFFFFF,
        .selector = (uint16_t)selector,
        .type = type,
        .present = 1,
        .s = 1,
        .g = 1,
        .l = type == TYPE_CODE,
        .db = type != TYPE_CODE,
    };
}

static int set_boot_state(struct vk_vcpu *vcpu) {
    const struct vk_entry *e = vcpu->vm->entry;
    struct kvm_sregs sregs;

    if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0) {
        return -errno;
    }
    sregs.cs = segment(e->cs, TYPE_CODE);
    sregs.ds = segment(e->ds, TYPE_DATA);
    sregs.es = segment(e->es, TYPE_DATA);
    sregs.ss = segment(e->ss, TYPE_DATA);
    sregs.fs = segment(e->fs, TYPE_DATA);
    sregs.gs = segment(e->gs, TYPE_DATA);
    sregs.gdt = (struct kvm_dtable){.base = e->gdt_base, .limit = (uint16_t)e->gdt_limit};
    sregs.idt = (struct kvm_dtable){.base = e->idt_base, .limit = (uint16_t)e->idt_limit};
    sregs.cr0 = e->cr0;
    sregs.cr2 = e->cr2;
    sregs.cr3 = e->cr3;
    sregs.cr4 = e->cr4;
    sregs.efer = e->efer;
    const struct kvm_regs regs = {
        .rax = e->rax,
        .rbx = e->rbx,
        .rcx = e->rcx,
        .rdx = e->rdx,
        .rsi = e->rsi,
        .rdi = e->rdi,
        .rsp = e->rsp,
        .rbp = e->rbp,
        .r8 = e->r8,
        .r9 = e->r9,
        .r10 = e->r10,
        .r11 = e->r11,
        .r12 = e->r12,
        .r13 = e->r13,
        .r14 = e->r14,
        .r15 = e->r15,
        .rip = e->rip,
        .rflags = e->rflags,
    };
    if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0) {
        return -errno;
    }
    return 0;
}

static int set_msrs(struct vk_vcpu *vcpu) {
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry[1];
    } msrs = {.head = {.nmsrs = 1},
              .entry = {{.index = MSR_MTRR_DEFAULT, .data = MTRR_WRITE_BACK}}};

    return ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) == 1 ? 0 : -EIO;
}

static int set_cpuid(struct vk_vcpu *vcpu) {
    struct kvm_cpuid2 *cpuid = vk_cpuid_new(vcpu->vm->kvm, vcpu->index, vcpu->vm->vcpus);

    if (!cpuid) {
        return -errno;
    }
    int result = ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0 ? -errno : 0;
    free(cpuid);
    return result;
}

int vk_arch_vcpu_init(struct vk_vcpu *vcpu, char *error, size_t size) {
    int result = set_cpuid(vcpu);

    if (result) {
        return vk_complain(error, size, "set a vCPU's CPUID", -result);
    }
    result = set_msrs(vcpu);
    if (result) {
        return vk_complain(error, size, "set a vCPU's MSRs", -result);
    }
    if (vcpu->index == 0) {
        int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
        vcpu->vm->timer_hz = khz > 0 ? (uint64_t)khz * 1000 : 1000000000;
        result = set_boot_state(vcpu);
    }
    return result ? vk_complain(error, size, "set a vCPU's registers", -result) : 0;
}

void vk_arch_describe(struct vk_vcpu *vcpu, char *text, size_t size) {
    struct kvm_regs regs;
    struct kvm_sregs sregs;

    if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0) {
        snprintf(text, size, "whose registers cannot be read");
        return;
    }
    snprintf(text, size,
             "rip=%#llx rsp=%#llx rflags=%#llx cs=%#x cr0=%#llx cr2=%#llx cr3=%#llx cr4=%#llx",
             regs.rip, regs.rsp, regs.rflags, sregs.cs.selector, sregs.cr0, sregs.cr2, sregs.cr3,
             sregs.cr4);
}
