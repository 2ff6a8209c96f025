/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The software CPU's C interface, as its Python part sees it. Plain C
 * declarations only: cffi reads this file. Functions returning int give 0 or
 * -errno unless said otherwise. All but tcg_library_load are called on one
 * control thread at a time. */
#ifndef TCG_H
#define TCG_H

#include "vdesktop/abi.h"

struct tcg_vm;

/* What tcg_event_fn reports: values of hypervisor.ExitReason. */
enum tcg_exit { TCG_EXIT_NONE, TCG_EXIT_SHUTDOWN, TCG_EXIT_RESET, TCG_EXIT_CRASH, TCG_EXIT_ERROR };
typedef void (*tcg_event_fn)(void *opaque, int reason, const char *detail);

/* Loads libunicorn from `path` and checks that it is the one we know. Once a
 * process. 0, or -1 and one line for a person in `error`. Thread-safe. */
int tcg_library_load(const char *path, char *error, size_t size);

/* `options`: lines NAME=INTEGER. NULL and one line in `error` on failure. */
struct tcg_vm *tcg_vm_new(const char *arch, uint32_t vcpus, const char *options, char *error,
                          size_t size);
void tcg_vm_free(struct tcg_vm *vm); /* stops it first */

/* While created or paused. Page-aligned; -EEXIST: overlaps; -ENOSPC: too many. */
int tcg_vm_map(struct tcg_vm *vm, uint64_t gpa, uint64_t size, void *host, bool readonly);
int tcg_vm_unmap(struct tcg_vm *vm, uint64_t gpa);
int tcg_vm_add_io(struct tcg_vm *vm, bool port, uint64_t base, uint64_t size,
                  const struct vd_io *io);
int tcg_vm_remove_io(struct tcg_vm *vm, bool port, uint64_t base);

struct vd_irq *tcg_vm_irq(struct tcg_vm *vm, uint32_t line); /* NULL: no such line */
struct vd_written *tcg_vm_written(struct tcg_vm *vm);
uint32_t tcg_vm_lines(struct tcg_vm *vm); /* the number after the last line's */
uint64_t tcg_vm_timer_hz(struct tcg_vm *vm);

/* The boot vCPU's registers at its first instruction; cleared by tcg_vm_clear_entry.
 * -ENOENT: the architecture has no such register. */
void tcg_vm_clear_entry(struct tcg_vm *vm);
int tcg_vm_set_entry(struct tcg_vm *vm, const char *name, uint64_t value);

/* on_event is called once at most, on the vCPU thread, after the last guest
 * instruction. */
int tcg_vm_start(struct tcg_vm *vm, tcg_event_fn on_event, void *opaque);
int tcg_vm_pause(struct tcg_vm *vm);
int tcg_vm_resume(struct tcg_vm *vm);
void tcg_vm_stop(struct tcg_vm *vm);

/* The `index`th counter, or -ENOENT. */
int tcg_vm_counter_at(struct tcg_vm *vm, uint32_t index, char *name, size_t size, uint64_t *value);

#endif
