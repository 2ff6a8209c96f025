/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The x86_64 part of the software CPU: what binds the APIC models and the
 * replacements of library functions to the engine. */
#include "x86.h"

#include <string.h>

/* unicorn.h of 2.1.4 */
enum { UC_ARCH_X86 = 4, UC_MODE_64 = 1 << 3, UC_CPU_X86_SKYLAKE_CLIENT = 21 };

/* The bus's clock stands still while the machine does. */
uint64_t x86_clock(struct tcg_vm *vm) {
    return tcg_now() - x86_vm(vm)->paused_ns;
}

static uint64_t host_deadline(struct tcg_vm *vm, uint64_t clock) {
    return clock < TCG_NEVER - x86_vm(vm)->paused_ns ? clock + x86_vm(vm)->paused_ns : TCG_NEVER;
}

static void resumed(struct tcg_vm *vm, uint64_t paused_ns) {
    x86_vm(vm)->paused_ns += paused_ns;
}

static uint64_t host_now(void *opaque) {
    return x86_clock(((struct x86_vm *)opaque)->vm);
}

static struct tcg_vcpu *vcpu_of(void *opaque, uint32_t cpu) {
    return tcg_vm_vcpu(((struct x86_vm *)opaque)->vm, cpu);
}

static void host_interrupt(void *opaque, uint32_t cpu, bool level) {
    tcg_vcpu_interrupt(vcpu_of(opaque, cpu), INTERRUPT_HARD, level);
}

static void host_prefer(void *opaque, uint32_t cpu) {
    tcg_vcpu_prefer(vcpu_of(opaque, cpu));
}

static void host_nmi(void *opaque, uint32_t cpu) {
    tcg_vcpu_interrupt(vcpu_of(opaque, cpu), INTERRUPT_NMI, true);
}

/* INIT: a vCPU other than the boot one waits for its start-up IPI. */
static void host_init(void *opaque, uint32_t cpu) {
    struct x86_vm *x86 = opaque;
    struct tcg_vcpu *vcpu = vcpu_of(opaque, cpu);

    if (cpu == 0) {
        /* It would go on at the reset vector, in firmware, and there is none. */
        tcg_vm_exit(x86->vm, TCG_EXIT_RESET, "INIT to the boot CPU");
        return;
    }
    lapic_reset(&x86->bus, cpu);
    ((struct x86_vcpu *)vcpu->arch)->wait_for_sipi = true;
    tcg_vcpu_off(vcpu);
}

static void host_sipi(void *opaque, uint32_t cpu, uint8_t page) {
    struct tcg_vcpu *vcpu = vcpu_of(opaque, cpu);

    if (((struct x86_vcpu *)vcpu->arch)->wait_for_sipi) {
        x86_vcpu_startup(vcpu, page);
    }
}

static void host_timer(void *opaque, uint32_t cpu, uint64_t deadline) {
    tcg_vcpu_timer(vcpu_of(opaque, cpu), host_deadline(((struct x86_vm *)opaque)->vm, deadline));
}

/* Registers are 32 bits wide on 16-byte borders; other accesses are undefined
 * (SDM vol. 3, "Local APIC Register Address Map") and do nothing here. */
static uint64_t lapic_io_read(void *opaque, uint64_t offset, unsigned width) {
    struct x86_vm *x86 = opaque;

    return width == 4 ? lapic_read(&x86->bus, tcg_vm_current(x86->vm)->index, (uint32_t)offset) : 0;
}

static void lapic_io_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    struct x86_vm *x86 = opaque;

    if (width == 4) {
        lapic_write(&x86->bus, tcg_vm_current(x86->vm)->index, (uint32_t)offset, (uint32_t)value);
    }
}

static uint64_t ioapic_io_read(void *opaque, uint64_t offset, unsigned width) {
    return width == 4 ? ioapic_read(&((struct x86_vm *)opaque)->bus, (uint32_t)offset) : 0;
}

static void ioapic_io_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    if (width == 4) {
        ioapic_write(&((struct x86_vm *)opaque)->bus, (uint32_t)offset, (uint32_t)value);
    }
}

static void vm_reset(struct tcg_vm *vm) {
    apic_bus_reset(&x86_vm(vm)->bus, tcg_vm_vcpus(vm));
}

static int vm_init(struct tcg_vm *vm) {
    struct x86_vm *x86 = x86_vm(vm);

    x86->vm = vm;
    x86->bus.host = (struct apic_host){
        .now = host_now,
        .interrupt = host_interrupt,
        .prefer = host_prefer,
        .nmi = host_nmi,
        .init = host_init,
        .sipi = host_sipi,
        .timer = host_timer,
        .opaque = x86,
    };
    x86->lapic_io = (struct vd_io){lapic_io_read, lapic_io_write, x86};
    x86->ioapic_io = (struct vd_io){ioapic_io_read, ioapic_io_write, x86};
    x86->counter.exceptions = tcg_vm_counter(vm, "exceptions");
    x86->counter.interrupts = tcg_vm_counter(vm, "interrupts");
    x86->counter.undefined = tcg_vm_counter(vm, "undefined_instructions");
    x86->counter.msr_faults = tcg_vm_counter(vm, "unknown_msrs");
    vm_reset(vm);
    int error = tcg_map_io(vm, LAPIC_BASE, LAPIC_SIZE, &x86->lapic_io);
    return error ? error : tcg_map_io(vm, IOAPIC_BASE, IOAPIC_SIZE, &x86->ioapic_io);
}

static void lines_changed(struct tcg_vm *vm, uint32_t line_word, uint64_t changed,
                          uint64_t levels) {
    if (line_word == 0) {
        ioapic_set_levels(&x86_vm(vm)->bus, changed, levels);
    }
}

static uint64_t timers(struct tcg_vcpu *vcpu, uint64_t now) {
    uint64_t clock = now - x86_vm(vcpu->vm)->paused_ns;

    return host_deadline(vcpu->vm, lapic_timer(x86_bus(vcpu), vcpu->index, clock));
}

static bool has_work(struct tcg_vcpu *vcpu) {
    uint32_t request = TCG_FIELD(vcpu->cs, tcg_layout_x86_64.cpu.interrupt_request, uint32_t);

    return x86_fns.pending_interrupt(vcpu->cs, (int)request) != 0;
}

static void exception(struct tcg_vcpu *vcpu, uint32_t number) {
    (void)number;
    ++*x86_vm(vcpu->vm)->counter.exceptions;
    x86_fns.do_interrupt(vcpu->cs);
}

/* #UD, which the library reports by a hook of its own. */
static bool invalid_instruction(struct tcg_vcpu *vcpu) {
    ++*x86_vm(vcpu->vm)->counter.undefined;
    x86_fns.do_interrupt(vcpu->cs);
    return true;
}

static const struct tcg_symbol symbols[] = {
    {"x86_cpu_do_interrupt", offsetof(struct x86_fns, do_interrupt)},
    {"do_interrupt_x86_hardirq", offsetof(struct x86_fns, do_hardirq)},
    {"x86_cpu_pending_interrupt", offsetof(struct x86_fns, pending_interrupt)},
    {"raise_exception_err_ra", offsetof(struct x86_fns, raise)},
    {"cpu_loop_exit", offsetof(struct x86_fns, loop_exit)},
    {"cpu_cc_compute_all", offsetof(struct x86_fns, compute_flags)},
    {"x86_update_hflags", offsetof(struct x86_fns, update_hflags)},
    {"cpu_x86_update_cr0", offsetof(struct x86_fns, update_cr0)},
    {"cpu_x86_update_cr3", offsetof(struct x86_fns, update_cr3)},
    {"cpu_x86_update_cr4", offsetof(struct x86_fns, update_cr4)},
    {"do_cpu_init", offsetof(struct x86_fns, cpu_init)},
    {NULL, 0},
};

#define REBIND(name, replacement, field)                                                           \
    { name, (void *)(replacement), (void **)&x86_stock.field }
static const struct tcg_rebind rebinds[] = {
    REBIND("x86_cpu_exec_interrupt", x86_exec_interrupt, exec_interrupt),
    REBIND("helper_syscall", x86_syscall, syscall),
    REBIND("helper_hlt", x86_hlt, hlt),
    REBIND("helper_pause", x86_pause, pause),
    REBIND("helper_read_crN", x86_read_cr, read_cr),
    REBIND("helper_write_crN", x86_write_cr, write_cr),
    REBIND("helper_rdmsr", x86_rdmsr, rdmsr),
    REBIND("helper_wrmsr", x86_wrmsr, wrmsr),
    REBIND("helper_rdtsc", x86_rdtsc, rdtsc),
    REBIND("helper_rdtscp", x86_rdtscp, rdtscp),
    REBIND("cpu_x86_cpuid", x86_cpuid, cpuid),
    REBIND("helper_outb", x86_outb, outb),
    REBIND("helper_outw", x86_outw, outw),
    REBIND("helper_outl", x86_outl, outl),
    REBIND("helper_inb", x86_inb, inb),
    REBIND("helper_inw", x86_inw, inw),
    REBIND("helper_inl", x86_inl, inl),
    REBIND("qemu_system_reset_request", x86_reset_request, reset_request),
    {NULL, NULL, NULL},
};

const struct tcg_arch_ops tcg_arch_x86_64 = {
    .name = "x86_64",
    .suffix = "_x86_64",
    .uc_arch = UC_ARCH_X86,
    .uc_mode = UC_MODE_64,
    .cpu_model = UC_CPU_X86_SKYLAKE_CLIENT,
    .phys_bits = 40,
    .layout = &tcg_layout_x86_64,
    .symbols = symbols,
    .symbol_table = &x86_fns,
    .rebinds = rebinds,
    .vm_size = sizeof(struct x86_vm),
    .vcpu_size = sizeof(struct x86_vcpu),
    .timer_hz = X86_TSC_HZ,
    .lines = IOAPIC_PINS,
    .vm_init = vm_init,
    .vm_reset = vm_reset,
    .vcpu_reset = x86_vcpu_reset,
    .set_register = x86_set_register,
    .lines_changed = lines_changed,
    .resumed = resumed,
    .timers = timers,
    .has_work = has_work,
    .exception = exception,
    .invalid_instruction = invalid_instruction,
    .describe = x86_describe,
};
