/* SPDX-License-Identifier: MIT
 *
 * The domain's device model: Xen puts each vCPU's request into a page that we
 * share with it and signals an event channel; one thread answers all vCPUs. */
#include "priv.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Milliseconds between looks at whether the domain still runs, where no news came. */
#define LOOK_MS 250
#define END_MS  1
#define MS_NS   1000000

static int map_range(struct vx_vm *vm, bool port, uint64_t base, uint64_t size) {
    return vm->xen.lib.xendevicemodel_map_io_range_to_ioreq_server(
               vm->xen.devicemodel, (uint16_t)vm->domain, vm->server, !port, base, base + size - 1)
               ? -errno
               : 0;
}

static int open_ranges(struct vx_vm *vm) {
    int result = 0;

    for (int port = 0; port <= 1; port++) {
        uint64_t base, size;
        for (uint32_t i = 0; !result && vx_bus_run(vm->bus, port, i, &base, &size); i++) {
            result = map_range(vm, port, base, size);
        }
    }
    return result;
}

static int claim(struct vx_vm *vm, char *error, size_t size) {
    if (!vm->claimed &&
        vm->xen.lib.xendevicemodel_create_ioreq_server(vm->xen.devicemodel, (uint16_t)vm->domain,
                                                       VX_BUFIOREQ_OFF, &vm->server)) {
        return vx_complain(error, size, "become the domain's device model", errno);
    }
    vm->claimed = true;
    return 0;
}

int vx_vm_claim(struct vx_vm *vm, uint32_t *server, char *error, size_t size) {
    pthread_mutex_lock(&vm->server_lock);
    int result = claim(vm, error, size);
    *server = vm->server;
    pthread_mutex_unlock(&vm->server_lock);
    return result;
}

static int open_server(struct vx_vm *vm, char *error, size_t size) {
    struct vx_lib *lib = &vm->xen.lib;
    uint16_t domain = (uint16_t)vm->domain;
    void *page = NULL;
    int result = claim(vm, error, size);

    if (result) {
        return result;
    }
    vm->serving = true;
    result = open_ranges(vm);
    if (result) {
        return vx_complain(error, size, "take the devices' addresses", -result);
    }
    vm->resource = lib->xenforeignmemory_map_resource(
        vm->xen.memory, domain, VX_RESOURCE_IOREQ_SERVER, vm->server, VX_RESOURCE_FRAME_IOREQ, 1,
        &page, PROT_READ | PROT_WRITE, 0);
    if (!vm->resource) {
        return vx_complain(error, size, "map the page of requests", errno);
    }
    vm->request = page;
    if (lib->xendevicemodel_set_ioreq_server_state(vm->xen.devicemodel, domain, vm->server, 1)) {
        return vx_complain(error, size, "begin to serve the domain", errno);
    }
    for (uint32_t i = 0; i < vm->vcpus; i++) {
        vm->port[i] =
            lib->xenevtchn_bind_interdomain(vm->xen.evtchn, vm->domain, vm->request[i].vp_eport);
        if (vm->port[i] < 0) {
            return vx_complain(error, size, "bind a vCPU's event channel", errno);
        }
    }
    return 0;
}

int vx_server_open(struct vx_vm *vm, char *error, size_t size) {
    for (uint32_t i = 0; i < vm->vcpus; i++) {
        vm->port[i] = -1;
    }
    pthread_mutex_lock(&vm->server_lock);
    int result = open_server(vm, error, size);
    pthread_mutex_unlock(&vm->server_lock);
    if (result) {
        vx_server_close(vm);
    }
    return result;
}

void vx_server_close(struct vx_vm *vm) {
    struct vx_lib *lib = &vm->xen.lib;

    pthread_mutex_lock(&vm->server_lock);
    for (uint32_t i = 0; vm->serving && i < vm->vcpus; i++) {
        if (vm->port[i] >= 0) {
            lib->xenevtchn_unbind(vm->xen.evtchn, (uint32_t)vm->port[i]);
        }
    }
    if (vm->resource) {
        lib->xenforeignmemory_unmap_resource(vm->xen.memory, vm->resource);
        vm->resource = NULL;
        vm->request = NULL;
    }
    if (vm->claimed) {
        lib->xendevicemodel_destroy_ioreq_server(vm->xen.devicemodel, (uint16_t)vm->domain,
                                                 vm->server);
    }
    vm->claimed = vm->serving = false;
    pthread_mutex_unlock(&vm->server_lock);
}

int vx_vm_add_io(struct vx_vm *vm, bool port, uint64_t base, uint64_t size,
                 const struct vd_io *io) {
    uint64_t unused;
    int result = vx_bus_add_io(vm->bus, port, base, size, io);

    pthread_mutex_lock(&vm->server_lock);
    if (!result && vm->serving) {
        result = map_range(vm, port, base, size);
        if (result) {
            vx_bus_remove_io(vm->bus, port, base, &unused);
        }
    }
    pthread_mutex_unlock(&vm->server_lock);
    return result;
}

int vx_vm_remove_io(struct vx_vm *vm, bool port, uint64_t base) {
    uint64_t size;
    int result = vx_bus_remove_io(vm->bus, port, base, &size);

    pthread_mutex_lock(&vm->server_lock);
    if (!result && vm->serving) {
        vm->xen.lib.xendevicemodel_unmap_io_range_from_ioreq_server(
            vm->xen.devicemodel, (uint16_t)vm->domain, vm->server, !port, base, base + size - 1);
    }
    pthread_mutex_unlock(&vm->server_lock);
    return result;
}

int vx_vm_add_doorbell(struct vx_vm *vm, uint64_t address, uint32_t width, bool match,
                       uint64_t value, int fd) {
    return vx_bus_add_doorbell(vm->bus, address, width, match, value, fd);
}

int vx_vm_remove_doorbell(struct vx_vm *vm, uint64_t address, uint32_t width, bool match,
                          uint64_t value, int fd) {
    return vx_bus_remove_doorbell(vm->bus, address, width, match, value, fd);
}

/* Answers every vCPU that has asked. */
static void serve(struct vx_vm *vm) {
    for (uint32_t i = 0; i < vm->vcpus; i++) {
        struct vx_ioreq *request = &vm->request[i];
        uint8_t flags = __atomic_load_n(&request->flags, __ATOMIC_ACQUIRE);
        if ((flags & VX_IOREQ_STATE) != VX_STATE_READY) {
            continue;
        }
        uint8_t rest = flags & (uint8_t)~VX_IOREQ_STATE;
        /* Xen reads the state with the rest of its byte, and waits for an answer only. */
        struct vx_ioreq work = *request;
        work.flags = rest | VX_STATE_INPROCESS;
        __atomic_store_n(&request->flags, work.flags, __ATOMIC_RELAXED);
        vx_bus_serve(vm->bus, &work);
        request->data = work.data;
        __atomic_store_n(&request->flags, rest | VX_STATE_RESPONSE, __ATOMIC_RELEASE);
        vm->xen.lib.xenevtchn_notify(vm->xen.evtchn, (uint32_t)vm->port[i]);
    }
}

void vx_end(struct vx_vm *vm, enum vx_exit reason, const char *detail) {
    if (vm->reason != VX_EXIT_NONE) {
        return;
    }
    vm->reason = reason;
    snprintf(vm->detail, sizeof vm->detail, "%s", detail);
    if (!vm->attached) {
        /* The vCPUs stop where they are; one that waits for us stops when it has its answer. */
        vm->xen.lib.xc_domain_shutdown(vm->xen.ctrl, vm->domain, VX_SHUTDOWN_POWEROFF);
    }
}

/* Why a domain shut itself down, by a hypercall or a triple fault. */
static void ended(struct vx_vm *vm, unsigned code) {
    char text[VX_DETAIL];

    if (vm->reason != VX_EXIT_NONE) {
        return;
    }
    switch (code) {
    case VX_SHUTDOWN_POWEROFF:
        vm->reason = VX_EXIT_SHUTDOWN;
        snprintf(vm->detail, sizeof vm->detail, "the guest asked Xen for it");
        break;
    case VX_SHUTDOWN_REBOOT:
    case VX_SHUTDOWN_SOFT_RESET:
        vm->reason = VX_EXIT_RESET;
        snprintf(vm->detail, sizeof vm->detail, "the guest asked Xen for it");
        break;
    default:
        vm->reason = VX_EXIT_CRASH;
        vx_arch_describe(vm, text, sizeof text);
        snprintf(vm->detail, sizeof vm->detail, "%s: %.440s",
                 code == VX_SHUTDOWN_WATCHDOG  ? "the guest's watchdog ended it"
                 : code == VX_SHUTDOWN_SUSPEND ? "the guest suspended itself"
                                               : "triple fault, or the guest's own crash",
                 text);
    }
}

/* Whether the vCPUs have stopped for good. */
static bool over(struct vx_vm *vm) {
    struct vx_domaininfo info;
    int there = vx_info(vm, &info);

    if (there < 0) {
        return false; /* dom0 has no memory to ask with: the next look tells */
    }
    if (!there) {
        if (vm->reason == VX_EXIT_NONE) {
            vm->reason = VX_EXIT_ERROR;
            snprintf(vm->detail, sizeof vm->detail, "domain %u was destroyed from outside",
                     vm->domain);
        }
        return true;
    }
    if (info.flags & VX_DOMINF_SHUTDOWN) {
        ended(vm, info.flags >> VX_DOMINF_REASON_SHIFT & 0xFF);
        return true;
    }
    return false;
}

/* True: there was something to take. */
static bool drain(int fd) {
    uint64_t count;

    return read(fd, &count, sizeof count) == sizeof count;
}

void *vx_server_main(void *opaque) {
    struct vx_vm *vm = opaque;
    struct vx_lib *lib = &vm->xen.lib;
    struct pollfd fds[] = {
        {.fd = lib->xenevtchn_fd(vm->xen.evtchn), .events = POLLIN},
        {.fd = vm->wake, .events = POLLIN},
        {.fd = vm->clock, .events = POLLIN},
    };
    /* A time-out of poll() would be armed and taken back for every request, and each is a
     * hypercall in a paravirtual dom0. */
    const struct itimerspec often = {{0, LOOK_MS * MS_NS}, {0, LOOK_MS * MS_NS}};

    timerfd_settime(vm->clock, 0, &often, NULL);
    for (;;) {
        bool ending = vm->reason != VX_EXIT_NONE || atomic_load(&vm->stopping);
        int ready = poll(fds, sizeof fds / sizeof fds[0], ending ? END_MS : -1);
        if (ready > 0 && fds[0].revents) {
            atomic_fetch_add_explicit(&vm->wakeups, 1, memory_order_relaxed);
            /* The vCPU goes on first. What it asks next is not lost: the channel is signalled
             * again when it is unmasked, if it was meanwhile. */
            serve(vm);
            int port = lib->xenevtchn_pending(vm->xen.evtchn);
            if (port >= 0) {
                lib->xenevtchn_unmask(vm->xen.evtchn, (uint32_t)port);
            }
        }
        bool look = ready <= 0 || ending;
        for (int i = 1; ready > 0 && i <= 2; i++) {
            if (fds[i].revents && drain(fds[i].fd)) {
                look = true;
            }
        }
        if (vm->attached && atomic_load(&vm->stopping)) {
            break;
        }
        if (look && over(vm)) {
            break;
        }
        if (ending && !vm->attached) {
            /* It may have been refused, for want of memory. */
            lib->xc_domain_shutdown(vm->xen.ctrl, vm->domain, VX_SHUTDOWN_POWEROFF);
        }
    }
    timerfd_settime(vm->clock, 0, &(const struct itimerspec){0}, NULL);
    if (!atomic_load(&vm->stopping)) {
        vm->on_event(vm->opaque, vm->reason, vm->detail);
    }
    return NULL;
}

void vx_look(struct vx_vm *vm) {
    const uint64_t one = 1;

    if (write(vm->wake, &one, sizeof one) < 0) {
        return; /* it is full: the thread looks anyway */
    }
}

int vx_vm_wake(struct vx_vm *vm) {
    return vm->wake;
}
