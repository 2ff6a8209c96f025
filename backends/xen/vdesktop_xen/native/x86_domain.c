/* SPDX-License-Identifier: MIT
 *
 * An x86 HVM domain: how it is made, its I/O APIC's pins, and the boot vCPU. */
#include "priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* For nested page tables; xl gives a machine of some GiB as much. */
#define PAGING_POOL (8ull << 20)
/* The guest reads the processor's own counter; the domain never moves to another. */
#define TSC_NATIVE 2u

#define DR6_RESET   0xFFFF0FF0u
#define DR7_RESET   0x400u
#define FCW_RESET   0x37Fu
#define MXCSR_RESET 0x1F80u

/* Attribute bytes as VMCS and VMCB keep them, for flat 64-bit segments. */
#define AR_CODE64 0xA9Bu
#define AR_DATA   0xC93u
#define AR_TSS    0x08Bu
#define AR_LDT    0x082u

#define MTRR_ENABLE_WRITEBACK (1u << 11 | 6u)

struct entry_register {
    const char *name;
    size_t offset;
    size_t width;
};

#define REGISTER(name, field)                                                                      \
    { name, offsetof(struct vx_hw_cpu, field), sizeof(((struct vx_hw_cpu *)NULL)->field) }

static const struct entry_register entry_registers[] = {
    REGISTER("rax", rax),
    REGISTER("rbx", rbx),
    REGISTER("rcx", rcx),
    REGISTER("rdx", rdx),
    REGISTER("rsi", rsi),
    REGISTER("rdi", rdi),
    REGISTER("rbp", rbp),
    REGISTER("rsp", rsp),
    REGISTER("r8", r8),
    REGISTER("r9", r9),
    REGISTER("r10", r10),
    REGISTER("r11", r11),
    REGISTER("r12", r12),
    REGISTER("r13", r13),
    REGISTER("r14", r14),
    REGISTER("r15", r15),
    REGISTER("rip", rip),
    REGISTER("rflags", rflags),
    REGISTER("cr0", cr0),
    REGISTER("cr3", cr3),
    REGISTER("cr4", cr4),
    REGISTER("efer", msr_efer),
    REGISTER("gdt_base", gdtr_base),
    REGISTER("gdt_limit", gdtr_limit),
    REGISTER("cs", cs_sel),
    REGISTER("ds", ds_sel),
    REGISTER("es", es_sel),
    REGISTER("ss", ss_sel),
};

void vx_arch_entry_clear(struct vx_entry *entry) {
    struct vx_hw_cpu *cpu = &entry->cpu;
    const uint16_t fcw = FCW_RESET;
    const uint32_t mxcsr = MXCSR_RESET;

    memset(cpu, 0, sizeof *cpu);
    memcpy(cpu->fpu_regs, &fcw, sizeof fcw);
    memcpy(cpu->fpu_regs + 24, &mxcsr, sizeof mxcsr);
    cpu->flags = VX_FPU_INITIALISED;
    cpu->rflags = 2;
    cpu->dr6 = DR6_RESET;
    cpu->dr7 = DR7_RESET;
    cpu->cs_limit = cpu->ds_limit = cpu->es_limit = cpu->ss_limit = UINT32_MAX;
    cpu->fs_limit = cpu->gs_limit = UINT32_MAX;
    cpu->tr_limit = cpu->ldtr_limit = 0xFFFF;
    cpu->cs_arbytes = AR_CODE64;
    cpu->ds_arbytes = cpu->es_arbytes = cpu->ss_arbytes = AR_DATA;
    cpu->fs_arbytes = cpu->gs_arbytes = AR_DATA;
    cpu->tr_arbytes = AR_TSS;
    cpu->ldtr_arbytes = AR_LDT;
}

int vx_arch_entry_set(struct vx_entry *entry, const char *name, uint64_t value) {
    for (size_t i = 0; i < sizeof entry_registers / sizeof entry_registers[0]; i++) {
        const struct entry_register *found = &entry_registers[i];
        if (strcmp(found->name, name) == 0) {
            /* x86 is little-endian: a narrow field takes the value's low part. */
            memcpy((char *)&entry->cpu + found->offset, &value, found->width);
            return 0;
        }
    }
    return -ENOENT;
}

int vx_arch_configure(struct vx_vm *vm, char *error, size_t size) {
    struct vx_lib *lib = &vm->xen.lib;
    void *ctrl = vm->xen.ctrl;
    uint32_t domain = vm->domain, mode, khz, incarnation;
    uint64_t ns;

    if (lib->xc_set_paging_mempool_size(ctrl, domain, PAGING_POOL)) {
        return vx_complain(error, size, "give the domain memory for page tables", errno);
    }
    if (lib->xc_cpuid_apply_policy(ctrl, domain, false, NULL, 0, true, false, false, NULL, NULL)) {
        return vx_complain(error, size, "set the domain's CPUID", errno);
    }
    /* In the default mode it tells the processor's frequency, in the native one nothing. */
    if (lib->xc_domain_get_tsc_info(ctrl, domain, &mode, &ns, &khz, &incarnation) ||
        lib->xc_domain_set_tsc_info(ctrl, domain, TSC_NATIVE, 0, 0, 0)) {
        return vx_complain(error, size, "set the domain's clock", errno);
    }
    vm->timer_hz = khz * 1000ull;
    if (lib->xc_hvm_param_set(ctrl, domain, VX_PARAM_TIMER_MODE, VX_TIMER_MODE_NO_DELAY) ||
        lib->xc_hvm_param_set(ctrl, domain, VX_PARAM_TRIPLE_FAULT_REASON, VX_SHUTDOWN_CRASH)) {
        return vx_complain(error, size, "configure the domain", errno);
    }
    return 0;
}

int vx_arch_renew(struct vx_vm *vm) {
    static const struct {
        uint32_t param;
        uint64_t value;
    } steps[] = {
        {VX_PARAM_ACPI_S_STATE, 3}, /* sleep: everything is reset */
        {VX_PARAM_ACPI_S_STATE, 0}, /* wake */
        {VX_PARAM_CALLBACK_IRQ, 0},
    };

    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (vm->xen.lib.xc_hvm_param_set(vm->xen.ctrl, vm->domain, steps[i].param,
                                         steps[i].value)) {
            return -errno;
        }
    }
    return 0;
}

static uint8_t *record(uint8_t *at, uint16_t type, const void *data, uint32_t length) {
    struct vx_save_descriptor head = {.typecode = type, .length = length};

    memcpy(at, &head, sizeof head);
    if (length) {
        memcpy(at + sizeof head, data, length);
    }
    return at + sizeof head + length;
}

int vx_arch_start(struct vx_vm *vm, char *error, size_t size) {
    struct vx_lib *lib = &vm->xen.lib;
    struct vx_hw_mtrr mtrr;
    struct vx_save_descriptor head;
    uint8_t context[4096];
    int result = -ENOMEM;

    /* The header says which Xen this is: it is copied from the domain's own state. */
    int length = lib->xc_domain_hvm_getcontext(vm->xen.ctrl, vm->domain, NULL, 0);
    uint8_t *whole = length > 0 ? calloc(1, (size_t)length) : NULL;
    if (!whole ||
        lib->xc_domain_hvm_getcontext(vm->xen.ctrl, vm->domain, whole, (uint32_t)length) < 0) {
        result = whole || length < 0 ? -errno : -ENOMEM;
        free(whole);
        return vx_complain(error, size, "read the domain's state", -result);
    }
    memcpy(&head, whole, sizeof head);
    if (head.typecode != VX_SAVE_HEADER || head.length > 1024 ||
        lib->xc_domain_hvm_getcontext_partial(vm->xen.ctrl, vm->domain, VX_SAVE_MTRR, 0, &mtrr,
                                              sizeof mtrr)) {
        free(whole);
        return vx_complain(error, size, "understand the domain's state", EPROTO);
    }
    uint8_t *end = record(context, VX_SAVE_HEADER, whole + sizeof head, head.length);
    free(whole);
    /* As firmware leaves them: memory is cached. */
    mtrr.def_type = MTRR_ENABLE_WRITEBACK;
    end = record(end, VX_SAVE_CPU, &vm->entry.cpu, sizeof vm->entry.cpu);
    end = record(end, VX_SAVE_MTRR, &mtrr, sizeof mtrr);
    end = record(end, VX_SAVE_END, NULL, 0);
    if (lib->xc_domain_hvm_setcontext(vm->xen.ctrl, vm->domain, context,
                                      (uint32_t)(end - context))) {
        return vx_complain(error, size, "set the boot CPU's registers", errno);
    }
    return 0;
}

/* Pins below 16 are those of ISA interrupts; a pin above is wired to an INTx of a PCI
 * device: GSI = 16 + ((4 * device + device / 8 + INTx) & 31). Eight devices give all 32: the
 * last ones, as the model that an attached domain has puts its own on the first, and sets
 * their lines. There need not be a device. Only HVM domains have these pins: for a PVH one,
 * the calls would crash Xen, and we make and take none. */
#define LAST_DEVICES 24u
int vx_arch_set_line(struct vx_handles *xen, uint32_t domain, uint32_t line, bool level) {
    if (line < VX_ISA_LINES) {
        return xen->lib.xendevicemodel_set_isa_irq_level(xen->devicemodel, (uint16_t)domain,
                                                         (uint8_t)line, level);
    }
    unsigned pin = (line - VX_ISA_LINES - LAST_DEVICES / 8) & 31;
    return xen->lib.xendevicemodel_set_pci_intx_level(xen->devicemodel, (uint16_t)domain, 0, 0,
                                                      (uint8_t)(LAST_DEVICES + pin / 4),
                                                      (uint8_t)(pin % 4), level);
}

void vx_arch_describe(struct vx_vm *vm, char *text, size_t size) {
    struct vx_hw_cpu cpu;

    if (vm->xen.lib.xc_domain_hvm_getcontext_partial(vm->xen.ctrl, vm->domain, VX_SAVE_CPU, 0, &cpu,
                                                     sizeof cpu)) {
        snprintf(text, size, "CPU 0's registers cannot be read");
        return;
    }
    snprintf(text, size, "CPU 0: rip=%#llx rsp=%#llx cr0=%#llx cr2=%#llx cr3=%#llx",
             (unsigned long long)cpu.rip, (unsigned long long)cpu.rsp, (unsigned long long)cpu.cr0,
             (unsigned long long)cpu.cr2, (unsigned long long)cpu.cr3);
}
