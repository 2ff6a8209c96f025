/* SPDX-License-Identifier: MIT
 *
 * What the files of the Xen backend share. */
#ifndef VX_PRIV_H
#define VX_PRIV_H

#include "bus.h"
#include "library.h"
#include "vx.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define VX_REGIONS_MAX 32u
#define VX_LINES       48u /* pins of Xen's virtual I/O APIC */
#define VX_FIRST_LINE  3u  /* 0 to 2 are the PIT's and its cascade's */
#define VX_ISA_LINES   16u
#define VX_DETAIL      512u

/* XenStore's page, between the local APICs and the end of 4 GiB, where no RAM is. */
#define VX_STORE_FRAME 0xFEFFCull

/* Where the hypervisor's libraries act. */
struct vx_handles {
    struct vx_lib lib;
    void *ctrl, *devicemodel, *memory, *evtchn;
};

struct vx_line {
    struct vd_irq irq;
    struct vx_vm *vm;
    uint32_t number;
    pthread_mutex_t lock; /* orders hypercalls as the calls came */
    bool level;
};

struct vx_region {
    uint64_t gpa, size;
    void *host;
    bool used;
};

struct vx_entry {
    struct vx_hw_cpu cpu;
};

struct vx_dirty {
    struct vd_dirty log;
    pthread_mutex_t lock;
    uint64_t gpa, size;      /* 0: nothing is logged */
    _Atomic uint64_t *pages; /* what this process wrote */
    uint64_t *xens;          /* what Xen saw: as large */
};

struct vx_vm {
    struct vx_handles xen;
    struct vx_bus *bus;
    uint32_t domain;
    uint32_t vcpus;
    bool attached; /* the domain is somebody else's */
    bool created;
    bool used; /* vCPUs have run since the domain was as new */
    bool held; /* paused by us */
    uint64_t pages;
    uint64_t timer_hz;
    struct vx_region region[VX_REGIONS_MAX];
    struct vx_line line[VX_LINES];
    struct vd_written written;
    struct vx_dirty dirty;
    struct vx_entry entry;
    struct vd_io power_io, keyboard_io;
    _Atomic uint64_t interrupts, wakeups;

    /* The server, while the domain runs. */
    pthread_mutex_t server_lock; /* ranges may come while it is made */
    bool claimed;                /* there is a server, which is asked for nothing yet */
    bool serving;
    uint16_t server;
    void *resource;
    struct vx_ioreq *request; /* one a vCPU, shared with Xen */
    int port[VX_VCPUS_MAX];
    int wake;
    int clock; /* a timerfd: when the serving thread looks whether the domain still runs */
    pthread_t thread;
    bool threaded;
    _Atomic bool stopping;

    /* Written by the serving thread alone. */
    enum vx_exit reason;
    char detail[VX_DETAIL];
    vx_event_fn on_event;
    void *opaque;
};

/* vm.c */
struct vx_vm *vx_prepare(char *error, size_t size); /* libraries open, no domain */
bool vx_open(struct vx_handles *xen, char *error, size_t size);
void vx_close(struct vx_handles *xen);
int vx_complain(char *error, size_t size, const char *what, int code); /* returns -code */
/* 1: it is there; 0: there is no such domain any more; -errno: Xen was not asked. */
int vx_info(struct vx_vm *vm, struct vx_domaininfo *info);

/* memory.c */
int vx_memory_limit(struct vx_vm *vm); /* what the domain may have, by what it was given */
int vx_memory_renew(struct vx_vm *vm);
void vx_memory_forget(struct vx_vm *vm);

/* dirty.c */
void vx_dirty_init(struct vx_vm *vm);
void vx_dirty_free(struct vx_vm *vm);

/* lines.c */
void vx_lines_init(struct vx_vm *vm);
void vx_lines_free(struct vx_vm *vm);

/* server.c */
int vx_server_open(struct vx_vm *vm, char *error, size_t size);
void vx_server_close(struct vx_vm *vm);
void *vx_server_main(void *vm);
void vx_look(struct vx_vm *vm);
/* On the serving thread: ends the run; the first caller's reason counts. */
void vx_end(struct vx_vm *vm, enum vx_exit reason, const char *detail);

/* The architecture's part. */
void vx_arch_entry_clear(struct vx_entry *entry);
int vx_arch_entry_set(struct vx_entry *entry, const char *name, uint64_t value);
int vx_arch_configure(struct vx_vm *vm, char *error, size_t size); /* a new domain */
int vx_arch_renew(struct vx_vm *vm);                               /* after a soft reset */
int vx_arch_start(struct vx_vm *vm, char *error, size_t size);     /* the boot vCPU */
int vx_arch_ports(struct vx_vm *vm);
int vx_arch_set_line(struct vx_handles *xen, uint32_t domain, uint32_t line, bool level);
void vx_arch_describe(struct vx_vm *vm, char *text, size_t size);

#endif
