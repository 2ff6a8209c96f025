/* SPDX-License-Identifier: MIT
 *
 * The KVM backend's C interface, as its Python part sees it. Plain C
 * declarations only: cffi reads this file. Functions returning int give 0 or
 * -errno unless said otherwise. All are called on one control thread. */
#ifndef VK_H
#define VK_H

#include "vdesktop/abi.h"

struct vk_vm;

/* What vk_event_fn reports: values of hypervisor.ExitReason. */
enum vk_exit { VK_EXIT_NONE, VK_EXIT_SHUTDOWN, VK_EXIT_RESET, VK_EXIT_CRASH, VK_EXIT_ERROR };
typedef void (*vk_event_fn)(void *opaque, int reason, const char *detail);

/* Runs a few instructions on `device`, as docs of the backend say. Whether it
 * can run a kernel; `line` gets one line for a person. Never hangs. */
bool vk_probe(const char *device, char *line, size_t size, uint32_t *max_vcpus);

/* NULL and one line in `error` on failure. */
struct vk_vm *vk_vm_new(const char *device, uint32_t vcpus, char *error, size_t size);
void vk_vm_free(struct vk_vm *vm); /* stops it first */

/* Page-aligned; in any state. -EEXIST: overlaps; -ENOSPC: too many. */
int vk_vm_map(struct vk_vm *vm, uint64_t gpa, uint64_t size, void *host, bool readonly);
int vk_vm_unmap(struct vk_vm *vm, uint64_t gpa);
int vk_vm_add_io(struct vk_vm *vm, bool port, uint64_t base, uint64_t size, const struct vd_io *io);
int vk_vm_remove_io(struct vk_vm *vm, bool port, uint64_t base);
int vk_vm_add_doorbell(struct vk_vm *vm, uint64_t address, uint32_t width, bool match,
                       uint64_t value, int fd);
int vk_vm_remove_doorbell(struct vk_vm *vm, uint64_t address, uint32_t width, bool match,
                          uint64_t value, int fd);

struct vd_irq *vk_vm_irq(struct vk_vm *vm, uint32_t line); /* NULL: no such line */
uint32_t vk_vm_lines(struct vk_vm *vm);                    /* the number after the last line's */
struct vd_written *vk_vm_written(struct vk_vm *vm);
struct vd_dirty *vk_vm_dirty_log(struct vk_vm *vm); /* vk_vm_dirty, on a thread of the core's */
uint64_t vk_vm_timer_hz(struct vk_vm *vm);
uint64_t vk_vm_cpu_id(struct vk_vm *vm, uint32_t index); /* Platform.cpu_ids[index] */
/* What the guest is told of its CPUs: words NAME=VALUE of Platform.cpu_model. */
void vk_vm_cpu_model(struct vk_vm *vm, char *text, size_t size);
const char *vk_vm_controller(struct vk_vm *vm); /* InterruptController.kind */

/* Moves the log of the pages [gpa, gpa + size), which lie in one region, to
 * `bitmap`: a bit a page, rounded up to 64. The first call begins the log, with
 * all pages. */
int vk_vm_dirty(struct vk_vm *vm, uint64_t gpa, uint64_t size, uint64_t *bitmap);

/* The boot vCPU's registers at its first instruction. -ENOENT: no such register. */
void vk_vm_clear_entry(struct vk_vm *vm);
int vk_vm_set_entry(struct vk_vm *vm, const char *name, uint64_t value);

/* on_event is called once at most, on a vCPU thread, after all others have left
 * the guest. `error` gets one line. */
int vk_vm_start(struct vk_vm *vm, vk_event_fn on_event, void *opaque, char *error, size_t size);
void vk_vm_pause(struct vk_vm *vm);
void vk_vm_resume(struct vk_vm *vm);
void vk_vm_stop(struct vk_vm *vm);

/* The `index`th counter, or -ENOENT. */
int vk_vm_counter_at(struct vk_vm *vm, uint32_t index, char *name, size_t size, uint64_t *value);

#endif
