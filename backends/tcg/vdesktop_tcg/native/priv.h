/* SPDX-License-Identifier: GPL-2.0-only
 * What the engine's own files share. Architecture parts include engine.h only,
 * but for their layout table below. */
#ifndef TCG_PRIV_H
#define TCG_PRIV_H

#include <pthread.h>

#include "engine.h"
#include "tcg.h"
#include "vdesktop/backend/io_ranges.h"

#define TCG_ARCHES_MAX     3u
#define TCG_ENGINE_REBINDS 9u
#define TCG_REBINDS_MAX    64u
#define TCG_REGIONS_MAX    16u
#define TCG_COUNTERS_MAX   64u
#define TCG_REGISTERS_MAX  64u
#define TCG_DIRTY_MAX      64u
#define TCG_PAGE_BITS      12u
#define TCG_PAGE_SIZE      (1ull << TCG_PAGE_BITS)

extern const struct tcg_layout tcg_layout_aarch64, tcg_layout_riscv64, tcg_layout_x86_64;

/* Every architecture part, ended by NULL (arches.c). */
extern const struct tcg_arch_ops *const tcg_arches[];

/* Internal functions of the library, of one architecture. */
struct tcg_fns {
    const struct tcg_layout *layout;
    int (*cpu_exec)(void *uc, void *cs);
    void (*tb_invalidate_phys_range)(void *uc, uint64_t start, uint64_t end);
    void (*tlb_init)(void *cs);
    void (*tlb_flush)(void *cs);
    uint64_t (*qemu_ram_addr_from_host)(void *uc, void *host);
    /* The library's own versions of what we replace. */
    struct {
        void (*check_exit_request)(void *tcg_ctx);
        void (*tlb_protect_code)(void *uc, uint64_t ram_addr);
        void (*tlb_unprotect_code)(void *uc, uint64_t ram_addr);
        void (*tlb_set_dirty)(void *cs, uint64_t vaddr);
        void (*tlb_set_page_with_attrs)(void *cs, uint64_t vaddr, uint64_t paddr, uint32_t attrs,
                                        int prot, int mode, uint64_t size);
        void (*tlb_reset_dirty_by_vaddr)(void *cs, uint64_t start, uint64_t length);
        void (*tb_flush)(void *cs);
        void *(*tb_gen_code)(void *cs, uint64_t pc, uint64_t cs_base, uint32_t flags, int cflags);
    } stock;
};

/* Why the vCPU thread is wanted: bits of tcg_vm.kick. */
enum tcg_kick {
    TCG_KICK_LINES = 1, /* an interrupt line changed */
    TCG_KICK_ALARM = 2, /* a timer or the slice is due */
    TCG_KICK_CODE = 4,  /* a device wrote into translated code */
    TCG_KICK_STATE = 8, /* pause, resume or stop */
};

enum tcg_state { TCG_STATE_CREATED, TCG_STATE_RUNNING, TCG_STATE_PAUSED, TCG_STATE_ENDED };

/* Guest memory. `code` has a bit a page: set while translations of it exist. */
struct tcg_region {
    uint64_t gpa, size, ram_addr;
    uint8_t *host;
    _Atomic uint64_t *code;
};

/* Those that are `internal` are an architecture part's own models: they cannot block. */
struct tcg_ranges {
    struct vd_io_ranges all;
    const struct vd_io_range *last; /* found last */
};

/* What the engine maps where there is no memory. */
struct tcg_window {
    struct tcg_vm *vm;
    uint64_t base, size;
};

struct tcg_line {
    struct tcg_vm *vm;
    uint32_t index;
    struct vd_irq irq;
};

struct tcg_counter {
    char name[32];
    uint64_t value;
};

struct tcg_register {
    char name[16];
    uint64_t value;
};

struct tcg_vm {
    const struct tcg_arch_ops *ops;
    const struct tcg_layout *layout;
    const struct tcg_fns *fns;
    struct uc_struct *uc;
    void *arch;
    char *options;

    uint32_t n_vcpus;
    struct tcg_vcpu vcpu[TCG_VCPUS_MAX];
    struct tcg_vcpu *current, *prefer;
    void *pristine; /* ArchCPU from `env` on, as the engine made it */
    bool inside;    /* the vCPU thread is in cpu_exec (its own view) */

    struct tcg_region region[TCG_REGIONS_MAX];
    uint32_t n_regions;
    struct tcg_window window[TCG_REGIONS_MAX + 1];
    uint32_t n_windows;
    struct tcg_ranges mmio, pio;

    struct tcg_line line[TCG_LINES_MAX];
    _Atomic uint64_t levels[TCG_LINE_WORDS];
    uint64_t folded[TCG_LINE_WORDS];

    struct tcg_register entry[TCG_REGISTERS_MAX];
    uint32_t n_entry;

    /* Between the vCPU thread and everybody else. */
    _Atomic uint32_t kick;
    _Atomic bool in_guest; /* executing translated code: a kick must poke `running` */
    _Atomic bool sleeping; /* waiting on `wake`: a kick must signal it */
    _Atomic(void *) running;
    pthread_mutex_t lock; /* state, want, exit, and the two conditions */
    pthread_cond_t wake, changed;
    enum tcg_state state, want;
    pthread_t thread;
    bool thread_live;
    enum tcg_exit exit;
    char detail[TCG_DETAIL_MAX];
    tcg_event_fn on_event;
    void *on_event_opaque;

    /* The alarm clock that ends a run of guest code in time. */
    pthread_t alarm_thread;
    bool alarm_live;
    pthread_mutex_t alarm_lock;
    pthread_cond_t alarm_wake;
    _Atomic uint64_t alarm, alarm_sleeps_to;
    bool alarm_quit;

    /* Ranges of ram_addr that devices wrote and that hold translated code. */
    pthread_mutex_t code_lock;
    pthread_cond_t code_done;
    struct {
        uint64_t start, end;
    } dirty[TCG_DIRTY_MAX];
    uint32_t n_dirty;
    uint64_t drains;
    _Atomic bool translating; /* guest code is being read */
    struct {
        uintptr_t *at; /* addresses of struct TranslationBlock, rising */
        size_t n, limit;
    } blocks;
    struct vd_written written;

    struct tcg_counter counter[TCG_COUNTERS_MAX];
    uint32_t n_counters;
    struct {
        uint64_t *slices, *run_ns, *idle_ns, *mmio, *pio, *unassigned, *exceptions, *code_pages,
            *flushes, *invalidations;
    } count;
    _Atomic uint64_t kicks, alarms, line_changes;
};

/* library.c */
/* The functions of an architecture; looks them up, and rebinds what the engine
 * and the part replace, at the first call. NULL and a line in `error` if the
 * library is not one we can work with. */
const struct tcg_fns *tcg_library_arch(const struct tcg_arch_ops *ops, char *error, size_t size);
/* Checks ops->layout against a live engine. 0, or -EPROTO and a line in `error`. */
int tcg_library_check_layout(const struct tcg_arch_ops *ops, struct uc_struct *uc, char *error,
                             size_t size);

/* code.c */
/* What the engine itself replaces in the library, for one architecture; ended
 * by a NULL name. Remembers `fns`, where the stock functions will be. */
void tcg_engine_rebinds(uint32_t arch_index, struct tcg_fns *fns,
                        struct tcg_rebind to[TCG_ENGINE_REBINDS]);
void tcg_code_written(void *opaque, uint64_t gpa, uint64_t len);
/* Drops the queued translations; the vCPU thread, or nobody, is in guest code. */
void tcg_code_drain(struct tcg_vm *vm);
/* Drops all translations: memory may have changed behind the engine's back. */
void tcg_code_reset(struct tcg_vm *vm);

/* blocks.c */
int tcg_blocks_create(struct tcg_vm *vm, size_t buffer); /* for so many bytes of translations */
void tcg_blocks_destroy(struct tcg_vm *vm);
void tcg_blocks_forget(struct tcg_vm *vm);
const struct tcg_rebind *tcg_blocks_rebinds(uint32_t arch_index, const struct tcg_layout *layout);

/* vm.c */
void tcg_work_for(struct tcg_vm *vm);

/* exitcheck.c */
const struct tcg_rebind *tcg_exit_check_rebinds(uint32_t arch_index);
/* What it looks up in the library, and where to. */
const struct tcg_symbol *tcg_exit_check_symbols(uint32_t arch_index,
                                                const struct tcg_layout *layout, void **table);

/* vcpu.c */
int tcg_vcpus_create(struct tcg_vm *vm);
void tcg_vcpus_destroy(struct tcg_vm *vm);
void tcg_vcpu_pristine(struct tcg_vcpu *vcpu);

/* io.c */
int tcg_windows_map(struct tcg_vm *vm);
void tcg_windows_unmap(struct tcg_vm *vm);
int tcg_ranges_add(struct tcg_ranges *ranges, const struct vd_io_range *range);
int tcg_ranges_remove(struct tcg_ranges *ranges, uint64_t base);

/* run.c */
void tcg_kick(struct tcg_vm *vm, uint32_t why); /* any thread */
void tcg_leave_guest(struct tcg_vm *vm);        /* vCPU thread, around what may block */
void tcg_enter_guest(struct tcg_vm *vm);
void *tcg_vcpu_thread(void *vm);

/* alarm.c */
int tcg_alarm_start(struct tcg_vm *vm);
void tcg_alarm_stop(struct tcg_vm *vm);
void tcg_alarm_arm(struct tcg_vm *vm, uint64_t deadline);

#endif
