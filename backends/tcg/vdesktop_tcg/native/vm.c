/* SPDX-License-Identifier: GPL-2.0-only
 * Creation and destruction of a VM, and what it is asked about itself. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "priv.h"
#include "threads.h"

/* unicorn.h of 2.1.4 */
#define UC_CTL_WRITE(type, n)  ((uint32_t)(type) | ((uint32_t)(n) << 26) | (1u << 30))
#define UC_CTL_UC_PAGE_SIZE    1
#define UC_CTL_UC_USE_EXITS    4
#define UC_CTL_CPU_MODEL       7
#define UC_CTL_TCG_BUFFER_SIZE 13
#define UC_HOOK_INTR           (1 << 0)
#define UC_HOOK_INSN_INVALID   (1 << 14)

/* Translations of a booting kernel and its user space. A small buffer is
 * flushed whole again and again; pages of it that are not used cost nothing.
 * The option translation_buffer sets another size, in bytes. */
#define TRANSLATION_BUFFER (22 << 20)
#define BUFFER_MIN         (1 << 20) /* MIN_CODE_GEN_BUFFER_SIZE of the library */
#define BUFFER_MAX         (1 << 30)
/* The library lets each block, and its code, begin in a cache line of its own:
 * a tenth of the buffer is gaps, and code that is run once is most of it. */
#define BLOCK_ALIGNMENT 16

void *tcg_vm_arch(struct tcg_vm *vm) {
    return vm->arch;
}

struct uc_struct *tcg_vm_uc(struct tcg_vm *vm) {
    return vm->uc;
}

uint32_t tcg_vm_vcpus(const struct tcg_vm *vm) {
    return vm->n_vcpus;
}

struct tcg_vcpu *tcg_vm_vcpu(struct tcg_vm *vm, uint32_t index) {
    return index < vm->n_vcpus ? &vm->vcpu[index] : NULL;
}

struct tcg_vcpu *tcg_vm_current(struct tcg_vm *vm) {
    return vm->current;
}

struct tcg_vcpu *tcg_vcpu_of_cs(const void *cs) {
    /* CPUState.opaque: the library leaves it NULL. The same on all architectures. */
    return TCG_FIELD(cs, tcg_layout_aarch64.cpu.opaque, struct tcg_vcpu *);
}

struct tcg_vm *tcg_vm_of_uc(const void *uc) {
    const void *cs = TCG_FIELD(uc, tcg_layout_aarch64.uc.cpu, const void *);
    const struct tcg_vcpu *vcpu = cs ? tcg_vcpu_of_cs(cs) : NULL;
    return vcpu ? vcpu->vm : NULL;
}

/* Which VM this thread works for: replaced functions of the library know their
 * environment only. */
static _Thread_local struct tcg_vm *working_for;

void tcg_work_for(struct tcg_vm *vm) {
    working_for = vm;
}

struct tcg_vcpu *tcg_vcpu_of_env(const void *env) {
    struct tcg_vm *vm = working_for;
    if (!vm)
        return NULL;
    if (vm->current->env == env)
        return vm->current;
    for (uint32_t i = 0; i < vm->n_vcpus; i++)
        if (vm->vcpu[i].env == env)
            return &vm->vcpu[i];
    return NULL;
}

int64_t tcg_vm_option(struct tcg_vm *vm, const char *name, int64_t otherwise) {
    size_t length = strlen(name);
    for (const char *at = vm->options; at && *at;
         at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, name, length) == 0 && at[length] == '=')
            return strtoll(at + length + 1, NULL, 0);
    return otherwise;
}

uint64_t *tcg_vm_counter(struct tcg_vm *vm, const char *name) {
    uint32_t i = 0;
    while (i < vm->n_counters && strcmp(vm->counter[i].name, name) != 0)
        i++;
    if (i == vm->n_counters && i + 1 < TCG_COUNTERS_MAX)
        snprintf(vm->counter[vm->n_counters++].name, sizeof vm->counter[i].name, "%s", name);
    return &vm->counter[i].value;
}

int tcg_vm_counter_at(struct tcg_vm *vm, uint32_t index, char *name, size_t size, uint64_t *value) {
    const struct {
        const char *name;
        uint64_t value;
    } shared[] = {{"kicks", atomic_load(&vm->kicks)},
                  {"alarms", atomic_load(&vm->alarms)},
                  {"line_changes", atomic_load(&vm->line_changes)}};
    const uint32_t n_shared = sizeof shared / sizeof *shared;
    if (index >= n_shared + vm->n_counters)
        return -ENOENT;
    const char *from = index < n_shared ? shared[index].name : vm->counter[index - n_shared].name;
    *value = index < n_shared ? shared[index].value : vm->counter[index - n_shared].value;
    snprintf(name, size, "%s", from);
    return 0;
}

static void name_counters(struct tcg_vm *vm) {
    vm->count.slices = tcg_vm_counter(vm, "slices");
    vm->count.run_ns = tcg_vm_counter(vm, "run_ns");
    vm->count.idle_ns = tcg_vm_counter(vm, "idle_ns");
    vm->count.mmio = tcg_vm_counter(vm, "mmio");
    vm->count.pio = tcg_vm_counter(vm, "pio");
    vm->count.unassigned = tcg_vm_counter(vm, "unassigned");
    vm->count.exceptions = tcg_vm_counter(vm, "exceptions");
    vm->count.code_pages = tcg_vm_counter(vm, "code_pages");
    vm->count.flushes = tcg_vm_counter(vm, "translation_flushes");
    vm->count.invalidations = tcg_vm_counter(vm, "dma_invalidations");
}

static void on_exception(struct uc_struct *uc, uint32_t number, void *opaque) {
    struct tcg_vm *vm = opaque;
    (void)uc;
    ++*vm->count.exceptions;
    vm->ops->exception(vm->current, number);
}

static bool on_invalid(struct uc_struct *uc, void *opaque) {
    struct tcg_vm *vm = opaque;
    (void)uc;
    ++*vm->count.exceptions;
    return vm->ops->invalid_instruction(vm->current);
}

static int64_t buffer_size(struct tcg_vm *vm) {
    return tcg_vm_option(vm, "translation_buffer", TRANSLATION_BUFFER);
}

static int open_engine(struct tcg_vm *vm, char *error, size_t size) {
    const struct tcg_uc_api *uc = tcg_uc();
    const struct tcg_arch_ops *ops = vm->ops;
    size_t hook;
    if (buffer_size(vm) < BUFFER_MIN || buffer_size(vm) > BUFFER_MAX) {
        snprintf(error, size, "translation_buffer is %lld bytes: give it %d to %d",
                 (long long)buffer_size(vm), BUFFER_MIN, BUFFER_MAX);
        return -EINVAL;
    }
    int e = uc->open(ops->uc_arch, ops->uc_mode, &vm->uc);
    if (e == 0 && ops->page_size)
        e = uc->ctl(vm->uc, UC_CTL_WRITE(UC_CTL_UC_PAGE_SIZE, 1), ops->page_size);
    if (e == 0)
        e = uc->ctl(vm->uc, UC_CTL_WRITE(UC_CTL_CPU_MODEL, 1),
                    (int)tcg_vm_option(vm, "cpu_model", ops->cpu_model));
    if (e == 0)
        e = uc->ctl(vm->uc, UC_CTL_WRITE(UC_CTL_TCG_BUFFER_SIZE, 1), (uint32_t)buffer_size(vm));
    /* Exits are addresses where translation stops: with an empty set there are none. */
    if (e == 0)
        e = uc->ctl(vm->uc, UC_CTL_WRITE(UC_CTL_UC_USE_EXITS, 1), 1);
    if (e == 0)
        e = uc->hook_add(vm->uc, &hook, UC_HOOK_INTR, (void *)on_exception, vm, 1, 0);
    if (e == 0 && ops->invalid_instruction)
        e = uc->hook_add(vm->uc, &hook, UC_HOOK_INSN_INVALID, (void *)on_invalid, vm, 1, 0);
    if (e == 0)
        return 0;
    snprintf(error, size, "Unicorn cannot create a %s CPU: %s", ops->name, uc->strerror(e));
    return -EIO;
}

static void line_set(void *opaque, bool level) {
    struct tcg_line *line = opaque;
    _Atomic uint64_t *word = &line->vm->levels[line->index / 64];
    uint64_t bit = 1ull << (line->index % 64);
    uint64_t before = level ? atomic_fetch_or(word, bit) : atomic_fetch_and(word, ~bit);
    if (!(before & bit) == !level)
        return;
    atomic_fetch_add_explicit(&line->vm->line_changes, 1, memory_order_relaxed);
    tcg_kick(line->vm, TCG_KICK_LINES);
}

static void init_shared(struct tcg_vm *vm) {
    pthread_mutex_init(&vm->lock, NULL);
    pthread_mutex_init(&vm->alarm_lock, NULL);
    pthread_mutex_init(&vm->code_lock, NULL);
    tcg_cond_init(&vm->wake);
    tcg_cond_init(&vm->alarm_wake);
    pthread_cond_init(&vm->changed, NULL);
    pthread_cond_init(&vm->code_done, NULL);
    for (uint32_t i = 0; i < TCG_LINES_MAX; i++) {
        vm->line[i].vm = vm;
        vm->line[i].index = i;
        vm->line[i].irq = (struct vd_irq){.set = line_set, .opaque = &vm->line[i]};
    }
    vm->written = (struct vd_written){.fn = tcg_code_written, .opaque = vm};
    name_counters(vm);
}

static int create(struct tcg_vm *vm, char *error, size_t size) {
    tcg_work_for(vm);
    vm->fns = tcg_library_arch(vm->ops, error, size);
    if (!vm->fns || open_engine(vm, error, size) != 0 ||
        tcg_library_check_layout(vm->ops, vm->uc, error, size) != 0)
        return -1;
    vm->arch = calloc(1, vm->ops->vm_size ? vm->ops->vm_size : 1);
    TCG_FIELD(vm->uc, vm->layout->uc.icache_linesize, int) = BLOCK_ALIGNMENT;
    int e = vm->arch ? tcg_vcpus_create(vm) : -ENOMEM;
    if (e == 0)
        e = tcg_blocks_create(vm, (size_t)buffer_size(vm));
    if (e == 0)
        e = vm->ops->vm_init(vm);
    if (e != 0)
        snprintf(error, size, "cannot create the %s machine: %s", vm->ops->name, strerror(-e));
    return e;
}

struct tcg_vm *tcg_vm_new(const char *arch, uint32_t vcpus, const char *options, char *error,
                          size_t size) {
    const struct tcg_arch_ops *const *ops = tcg_arches;
    while (*ops && strcmp((*ops)->name, arch) != 0)
        ops++;
    if (!*ops || vcpus == 0 || vcpus > TCG_VCPUS_MAX) {
        snprintf(error, size, "the tcg backend has no %s machine with %u vCPUs", arch, vcpus);
        return NULL;
    }
    struct tcg_vm *vm = calloc(1, sizeof *vm);
    if (!vm) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
    vm->ops = *ops;
    vm->layout = vm->ops->layout;
    vm->n_vcpus = vcpus;
    vm->options = strdup(options);
    init_shared(vm);
    if (create(vm, error, size) != 0) {
        tcg_vm_free(vm);
        return NULL;
    }
    return vm;
}

void tcg_vm_free(struct tcg_vm *vm) {
    if (!vm)
        return;
    tcg_vm_stop(vm);
    if (vm->arch && vm->ops->vm_fini)
        vm->ops->vm_fini(vm);
    if (vm->uc)
        tcg_uc()->close(vm->uc); /* uc->cpu is CPU 0 while the thread is stopped */
    tcg_work_for(NULL);
    tcg_vcpus_destroy(vm);
    for (uint32_t i = 0; i < vm->n_regions; i++)
        free((void *)vm->region[i].code);
    tcg_blocks_destroy(vm);
    free(vm->arch);
    free(vm->options);
    pthread_cond_destroy(&vm->wake);
    pthread_cond_destroy(&vm->changed);
    pthread_cond_destroy(&vm->alarm_wake);
    pthread_cond_destroy(&vm->code_done);
    pthread_mutex_destroy(&vm->lock);
    pthread_mutex_destroy(&vm->alarm_lock);
    pthread_mutex_destroy(&vm->code_lock);
    free(vm);
}

struct vd_irq *tcg_vm_irq(struct tcg_vm *vm, uint32_t line) {
    return line < vm->ops->lines ? &vm->line[line].irq : NULL;
}

struct vd_written *tcg_vm_written(struct tcg_vm *vm) {
    return &vm->written;
}

uint32_t tcg_vm_lines(struct tcg_vm *vm) {
    return vm->ops->lines;
}

uint64_t tcg_vm_timer_hz(struct tcg_vm *vm) {
    return vm->ops->timer_hz;
}
