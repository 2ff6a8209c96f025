/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The software CPU's engine: what the architecture parts plug into.
 *
 * One native thread, the *vCPU thread*, runs all vCPUs of a VM in turn, and
 * every model of an architecture part (interrupt controller, timer, firmware
 * calls) is touched by that thread only, so models need no locks. What other
 * threads want from it (an interrupt line changed, a page of code was written,
 * pause, stop) they leave in atomics of `struct tcg_vm` and kick it; the vCPU
 * thread folds it in between two runs of guest code.
 */
#ifndef TCG_ENGINE_H
#define TCG_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tcg.h"
#include "vdesktop/abi.h"

#define TCG_VCPUS_MAX  8u
#define TCG_LINES_MAX  256u
#define TCG_LINE_WORDS (TCG_LINES_MAX / 64u)
#define TCG_DETAIL_MAX 256u
#define TCG_NEVER      UINT64_MAX

struct uc_struct; /* Unicorn's engine, opaque but for struct tcg_layout */
struct tcg_vm;
struct tcg_vcpu;

/* A typed field of one of Unicorn's structures, at an offset of struct tcg_layout. */
#define TCG_FIELD(base, offset, type) (*(type *)((char *)(base) + (offset)))

/* Where the fields we touch lie in Unicorn 2.1.4's structures, in bytes. One
 * constant table an architecture (layout.c, which says how it was obtained);
 * checked against the running library before the first use. Offsets that only
 * an architecture part uses are declared beside that part. */
struct tcg_layout {
    struct {
        uint32_t cpu, nested_level, invalid_error, icache_linesize;
    } uc;
    struct {
        uint32_t exit_request, cflags_next_tb, interrupt_request, env_ptr, icount_decr_ptr,
            tb_jmp_cache, breakpoints, watchpoints, opaque, cpu_index, halted, exception_index, uc,
            cc;
    } cpu;                        /* struct CPUState */
    uint32_t neg, env, cpu_size;  /* in, and size of, struct ArchCPU */
    uint32_t tcg_uc, tcg_cpu_env; /* `uc` and `cpu_env` in TCGContext */
    uint32_t tlb_f;               /* fast part, in CPUTLB */
    uint32_t mmu_modes;           /* NB_MMU_MODES */
    uint32_t page_bits_min;       /* TARGET_PAGE_BITS_MIN: TLB flags lie below it */
    uint32_t pc;                  /* in CPUArchState */
};

/* A function of the library to look up: `name` without the architecture
 * suffix; stored at `offset` in the table the caller names. */
struct tcg_symbol {
    const char *name;
    size_t offset;
};

/* A function of the library to replace, for every caller inside the library. */
struct tcg_rebind {
    const char *name; /* without the architecture suffix */
    void *replacement;
    void **stock; /* where the library's own function goes */
};

/* An architecture part. Functions run on the vCPU thread, or while it is
 * stopped, unless said otherwise. Those returning int: 0 or -errno. */
struct tcg_arch_ops {
    const char *name;   /* of the architecture, as in hypervisor.Arch */
    const char *suffix; /* of the library's symbols: "_aarch64" */
    int uc_arch, uc_mode, cpu_model;
    uint32_t page_size; /* to ask of uc_ctl_set_page_size; 0: the engine's own (then 4096) */
    uint32_t phys_bits; /* of guest-physical addresses the CPU model can form */
    const struct tcg_layout *layout;
    const struct tcg_symbol *symbols; /* ends with a NULL name; optional */
    void *symbol_table;               /* where `symbols` are stored */
    const struct tcg_rebind *rebinds; /* ends with a NULL name; optional */
    size_t vm_size, vcpu_size;        /* of the part's own state, zeroed at creation */
    uint64_t timer_hz;                /* ticks a second of the guest's clock */
    uint32_t lines;                   /* interrupt lines 0 … lines-1 */

    /* The engine is open and initialised and all vCPUs exist: set hooks, map
     * the interrupt controller with tcg_map_io. */
    int (*vm_init)(struct tcg_vm *vm);
    void (*vm_fini)(struct tcg_vm *vm);
    /* Put the models, not the vCPUs, into their reset state. */
    void (*vm_reset)(struct tcg_vm *vm);
    /* The environment holds the pristine state of a new CPU: bring it to the
     * architecture's state at the first instruction. */
    void (*vcpu_reset)(struct tcg_vcpu *vcpu);
    /* Sets a register of an EntryState on the boot vCPU. -ENOENT: no such register. */
    int (*set_register)(struct tcg_vcpu *vcpu, const char *name, uint64_t value);
    /* Lines `word` * 64 + bit, for the bits of `changed`, now have `levels`. */
    void (*lines_changed)(struct tcg_vm *vm, uint32_t word, uint64_t changed, uint64_t levels);
    /* Raise what is due at `now`; returns when to be called next (ns of
     * tcg_now), or TCG_NEVER. Called before every run of the vCPU and when idle. */
    uint64_t (*timers)(struct tcg_vcpu *vcpu, uint64_t now);
    /* The guest stood still for so long: neither its clocks nor its timers went on. */
    void (*resumed)(struct tcg_vm *vm, uint64_t paused_ns);
    /* A halted vCPU: is there something that wakes it? May be masked (WFI with
     * interrupts masked wakes on arm and riscv; HLT with IF clear does not on x86). */
    bool (*has_work)(struct tcg_vcpu *vcpu);
    /* UC_HOOK_INTR: deliver the guest exception, or serve the firmware call. */
    void (*exception)(struct tcg_vcpu *vcpu, uint32_t number);
    /* UC_HOOK_INSN_INVALID; true: handled. NULL: architectures that do not use it. */
    bool (*invalid_instruction)(struct tcg_vcpu *vcpu);
    /* pc and key registers of a crash, one line. */
    void (*describe)(struct tcg_vcpu *vcpu, char *to, size_t size);
};

enum tcg_power { TCG_OFF = 0, TCG_ON = 1 };

struct tcg_vcpu {
    struct tcg_vm *vm;
    uint32_t index;
    enum tcg_power power;
    void *cs;          /* CPUState = ArchCPU */
    void *env;         /* CPUArchState */
    void *arch;        /* vcpu_size bytes, the architecture part's */
    uint64_t deadline; /* of its own timers; TCG_NEVER: none */
};

/* What an architecture part may call, on the vCPU thread only. */

/* Monotonic, ns. */
uint64_t tcg_now(void);
void *tcg_vm_arch(struct tcg_vm *vm);
struct uc_struct *tcg_vm_uc(struct tcg_vm *vm);
uint32_t tcg_vm_vcpus(const struct tcg_vm *vm);
struct tcg_vcpu *tcg_vm_vcpu(struct tcg_vm *vm, uint32_t index);
/* The vCPU that executes, or last executed. */
struct tcg_vcpu *tcg_vm_current(struct tcg_vm *vm);
/* Options of VmSpec.options the architecture part understands; `otherwise` if absent. */
int64_t tcg_vm_option(struct tcg_vm *vm, const char *name, int64_t otherwise);

/* Routes guest-physical [base, base+size) to `io`, which must live as long as
 * the VM. Page-aligned or not; several ranges may share a page. 0 or -errno. */
int tcg_map_io(struct tcg_vm *vm, uint64_t base, uint64_t size, const struct vd_io *io);
/* The host address of guest memory [gpa, gpa+len) if all of it is mapped
 * writable and contiguous, else NULL (also for len 0). */
void *tcg_vm_ram(struct tcg_vm *vm, uint64_t gpa, uint64_t len);
/* Port space (x86): all-ones where nothing listens. */
uint64_t tcg_pio_read(struct tcg_vm *vm, uint32_t port, unsigned width);
void tcg_pio_write(struct tcg_vm *vm, uint32_t port, unsigned width, uint64_t value);

/* Sets or clears bits of a vCPU's interrupt_request. Setting wakes the vCPU;
 * if it is the current one the engine looks at it at the end of the block. */
void tcg_vcpu_interrupt(struct tcg_vcpu *vcpu, uint32_t bits, bool level);
/* Runs `vcpu` next, ending the current slice: for an inter-processor interrupt. */
void tcg_vcpu_prefer(struct tcg_vcpu *vcpu);
/* Powers a vCPU on: pristine environment, then ops->vcpu_reset; the caller then
 * sets pc and arguments. Off: never runs (legal for the current one, which
 * leaves guest code at the end of the block). */
void tcg_vcpu_on(struct tcg_vcpu *vcpu);
void tcg_vcpu_off(struct tcg_vcpu *vcpu);
/* A timer of `vcpu` was programmed from guest code: its ops->timers is due no
 * later than `deadline`. */
void tcg_vcpu_timer(struct tcg_vcpu *vcpu, uint64_t deadline);
/* Leave guest code at the end of this block, and go through the run loop. */
void tcg_vm_leave(struct tcg_vm *vm);
/* The guest decided, or cannot go on: stops all vCPUs and reports. First one wins. */
void tcg_vm_exit(struct tcg_vm *vm, enum tcg_exit reason, const char *detail);
/* Counters by name, shown by --stats; the pointer is stable, increment it directly. */
uint64_t *tcg_vm_counter(struct tcg_vm *vm, const char *name);

/* Replacements of library functions find their VM with these; NULL: the engine
 * is not ours (somebody else in this process uses Unicorn), call the stock one. */
struct tcg_vm *tcg_vm_of_uc(const void *uc);
struct tcg_vcpu *tcg_vcpu_of_env(const void *env);
struct tcg_vcpu *tcg_vcpu_of_cs(const void *cs);

/* Unicorn's public functions that parts use (unicorn.h of 2.1.4). */
struct tcg_uc_api {
    int (*reg_read)(struct uc_struct *uc, int regid, void *value);
    int (*reg_write)(struct uc_struct *uc, int regid, const void *value);
    int (*hook_add)(struct uc_struct *uc, size_t *hook, int type, void *callback, void *opaque,
                    uint64_t begin, uint64_t end, ...);
    int (*mem_map_ptr)(struct uc_struct *uc, uint64_t address, size_t size, uint32_t perms,
                       void *ptr);
    int (*mem_unmap)(struct uc_struct *uc, uint64_t address, size_t size);
    int (*mmio_map)(struct uc_struct *uc, uint64_t address, size_t size, void *read,
                    void *read_opaque, void *write, void *write_opaque);
    int (*open)(int arch, int mode, struct uc_struct **uc);
    int (*close)(struct uc_struct *uc);
    int (*ctl)(struct uc_struct *uc, uint32_t control, ...);
    unsigned (*version)(unsigned *major, unsigned *minor);
    const char *(*strerror)(int code);
};
const struct tcg_uc_api *tcg_uc(void);

extern const struct tcg_arch_ops tcg_arch_aarch64, tcg_arch_riscv64, tcg_arch_x86_64;

#endif
