/* SPDX-License-Identifier: MIT
 *
 * The Xen backend's C interface, as its Python part sees it. Plain C
 * declarations only: cffi reads this file. Functions returning int give 0 or
 * -errno unless said otherwise. All are called on one control thread. */
#ifndef VX_H
#define VX_H

#include "vdesktop/abi.h"

#define VX_XEN_VERSION "4.17"
#define VX_VCPUS_MAX   128

struct vx_vm;

/* What vx_event_fn reports: values of hypervisor.ExitReason. */
enum vx_exit { VX_EXIT_NONE, VX_EXIT_SHUTDOWN, VX_EXIT_RESET, VX_EXIT_CRASH, VX_EXIT_ERROR };
typedef void (*vx_event_fn)(void *opaque, int reason, const char *detail);

/* Whether domains can be made from here; `line` gets one line for a person. */
bool vx_probe(char *line, size_t size);

/* A domain without memory, paused. `mark` is its handle (UUID), 16 bytes. NULL and
 * one line in `error` on failure. */
struct vx_vm *vx_vm_new(uint32_t vcpus, const uint8_t *mark, char *error, size_t size);
/* A domain that somebody else made: its memory is mapped, it is served, and left
 * where it is at the end. */
struct vx_vm *vx_vm_attach(uint32_t domain, char *error, size_t size);
/* Becomes a device model of it before vx_vm_start would: nothing is asked of that yet.
 * `server`: its number. */
int vx_vm_claim(struct vx_vm *vm, uint32_t *server, char *error, size_t size);
/* Ends the server of a process that was killed: Xen keeps it as long as the domain, and
 * vCPUs that wait for its answer wait on. They go on; the slots' lines are low. On
 * an error it is there yet, and asked no more. -ENOENT, -ESRCH: it is gone. */
int vx_server_end(uint32_t domain, uint32_t server);
/* Stops it, and destroys the domain if it is ours. Regions stay mapped. */
void vx_vm_free(struct vx_vm *vm);
uint32_t vx_vm_domain(struct vx_vm *vm);
uint32_t vx_vm_vcpus(struct vx_vm *vm);

/* New memory at a page-aligned address; `host`: where this process sees it. */
int vx_vm_allocate(struct vx_vm *vm, uint64_t gpa, uint64_t size, bool readonly, void **host,
                   char *error, size_t error_size);
int vx_vm_unmap(struct vx_vm *vm, uint64_t gpa);
/* Unmaps what vx_vm_allocate gave, whether or not the domain still exists. */
void vx_release(void *host, uint64_t size);
/* The index'th run of an attached domain's pages that could be mapped. */
bool vx_vm_region(struct vx_vm *vm, uint32_t index, uint64_t *gpa, uint64_t *size, void **host);

int vx_vm_add_io(struct vx_vm *vm, bool port, uint64_t base, uint64_t size, const struct vd_io *io);
int vx_vm_remove_io(struct vx_vm *vm, bool port, uint64_t base);
int vx_vm_add_doorbell(struct vx_vm *vm, uint64_t address, uint32_t width, bool match,
                       uint64_t value, int fd);
int vx_vm_remove_doorbell(struct vx_vm *vm, uint64_t address, uint32_t width, bool match,
                          uint64_t value, int fd);
struct vd_irq *vx_vm_irq(struct vx_vm *vm, uint32_t line); /* NULL: no such line */
uint32_t vx_vm_lines(struct vx_vm *vm, uint32_t *first);   /* the number after the last line's */
struct vd_written *vx_vm_written(struct vx_vm *vm);
uint64_t vx_vm_timer_hz(struct vx_vm *vm);

/* Adds the log of the pages [gpa, gpa + size) to `bitmap`: a bit a page, rounded up to
 * 64. One range is logged at a time; a call for another begins its log, with all
 * pages. */
struct vd_dirty *vx_vm_dirty_log(struct vx_vm *vm);
int vx_vm_dirty(struct vx_vm *vm, uint64_t gpa, uint64_t size, uint64_t *bitmap);

/* The guest's end of XenStore: a page, an event channel and a grant, made anew after
 * each reset. `frame` and `port` are what xenstored is to be introduced to. */
int vx_vm_store(struct vx_vm *vm, uint64_t *frame, uint32_t *port);
/* It has none: a guest that found one would wait for the daemon's answers. */
int vx_vm_no_store(struct vx_vm *vm);

/* The boot vCPU's registers at its first instruction. -ENOENT: no such register. */
void vx_vm_clear_entry(struct vx_vm *vm);
int vx_vm_set_entry(struct vx_vm *vm, const char *name, uint64_t value);

/* on_event is called once at most, on the thread that serves the domain, when no
 * vCPU executes any more. `error` gets one line. */
int vx_vm_start(struct vx_vm *vm, vx_event_fn on_event, void *opaque, char *error, size_t size);
void vx_vm_pause(struct vx_vm *vm);
void vx_vm_resume(struct vx_vm *vm);
void vx_vm_stop(struct vx_vm *vm);
int vx_vm_reset(struct vx_vm *vm, char *error, size_t size);
/* An eventfd of the VM's: what is written there has the serving thread look at once
 * whether the domain still runs. */
int vx_vm_wake(struct vx_vm *vm);

/* The `index`th counter, or -ENOENT. */
int vx_vm_counter_at(struct vx_vm *vm, uint32_t index, char *name, size_t size, uint64_t *value);

/* Domains from `first` on: their number, or -errno. `marks` gets 16 bytes each. */
int vx_domains(uint32_t first, uint32_t most, uint32_t *domains, uint8_t *marks);
int vx_destroy(uint32_t domain);

#endif
