/* SPDX-License-Identifier: MIT
 *
 * The xen backend on a Xen that denies it things: the library's functions are these, and
 * one domain is all there is. xen_denied life: a domain's whole life, again and again, with
 * one more call that goes well each time; whatever is denied is told in a line, and all that
 * was had is given back. xen_denied orphan: likewise, the end of a killed process' server.
 * xen_denied version NUMBER: the probe of a Xen of that version, 4.17's being 0x40011. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "priv.h"

#include "vdesktop/abi.h"

#define NUMBER 7u
#define VCPUS  3u
#define XEN    (4 << 16 | 17)
#define RAM    (4ull << 20)

static struct {
    _Atomic int calls, denied; /* the denied'th fails */
    _Atomic(const char *) name;
    _Atomic long opened, domains, servers, resources, channels, pages;
    _Atomic bool shut;
    _Atomic unsigned notified;
    int version;
    struct vx_ioreq page[128];
} world;

static bool denied(const char *name) {
    if (atomic_fetch_add(&world.calls, 1) + 1 != atomic_load(&world.denied)) {
        return false;
    }
    atomic_store(&world.name, name);
    errno = ENOMEM;
    return true;
}

static void *open_handle(const char *name) {
    static char handle;

    if (denied(name)) {
        return NULL;
    }
    atomic_fetch_add(&world.opened, 1);
    return &handle;
}

static int close_handle(void *handle) {
    (void)handle;
    atomic_fetch_sub(&world.opened, 1);
    return 0;
}

/* Calls that take something, give it back, or do neither. */
#define OPEN(name, arguments)                                                                      \
    static void *fake_##name arguments {                                                           \
        (void)logger, (void)flags;                                                                 \
        return open_handle(#name);                                                                 \
    }
OPEN(xendevicemodel_open, (void *logger, unsigned flags))
OPEN(xenforeignmemory_open, (void *logger, unsigned flags))
OPEN(xenevtchn_open, (void *logger, unsigned flags))

static void *fake_xc_interface_open(void *logger, void *build_logger, unsigned flags) {
    (void)logger, (void)build_logger, (void)flags;
    return open_handle("xc_interface_open");
}

static int plain(const char *name) {
    return denied(name) ? -1 : 0;
}

static int fake_xc_version(void *ctrl, int command, void *unused) {
    (void)ctrl, (void)command, (void)unused;
    return world.version;
}

static int fake_xc_domain_create(void *ctrl, uint32_t *domain, struct vx_createdomain *config) {
    (void)ctrl, (void)config;
    if (denied("xc_domain_create")) {
        return -1;
    }
    *domain = NUMBER;
    atomic_fetch_add(&world.domains, 1);
    return 0;
}

static int fake_xc_domain_destroy(void *ctrl, uint32_t domain) {
    (void)ctrl, (void)domain;
    atomic_fetch_sub(&world.domains, 1);
    return 0;
}

static int fake_xc_domain_shutdown(void *ctrl, uint32_t domain, int reason) {
    (void)ctrl, (void)domain, (void)reason;
    if (denied("xc_domain_shutdown")) {
        return -1;
    }
    atomic_store(&world.shut, true);
    return 0;
}

static int fake_xc_domain_soft_reset(void *ctrl, uint32_t domain) {
    (void)ctrl, (void)domain;
    if (denied("xc_domain_soft_reset")) {
        return -1;
    }
    atomic_store(&world.shut, false);
    return 0;
}

static int fake_xc_domain_getinfolist(void *ctrl, uint32_t first, unsigned most,
                                      struct vx_domaininfo *info) {
    (void)ctrl, (void)first, (void)most;
    if (denied("xc_domain_getinfolist")) {
        return -1;
    }
    memset(info, 0, sizeof *info);
    info->domain = NUMBER;
    info->max_vcpu_id = VCPUS - 1;
    info->flags = VX_DOMINF_HVM | (atomic_load(&world.shut) ? VX_DOMINF_SHUTDOWN : 0);
    return 1;
}

static int fake_xc_domain_get_tsc_info(void *ctrl, uint32_t domain, uint32_t *mode, uint64_t *ns,
                                       uint32_t *khz, uint32_t *incarnation) {
    (void)ctrl, (void)domain;
    *mode = *incarnation = 0;
    *ns = 0;
    *khz = 1000;
    return plain("xc_domain_get_tsc_info");
}

static int fake_xc_domain_populate_physmap(void *ctrl, uint32_t domain, unsigned long extents,
                                           unsigned order, unsigned flags, uint64_t *frames) {
    (void)ctrl, (void)domain, (void)order, (void)flags, (void)frames;
    return denied("xc_domain_populate_physmap") ? -1 : (int)extents;
}

static int fake_xc_domain_decrease_reservation(void *ctrl, uint32_t domain, unsigned long extents,
                                               unsigned order, uint64_t *frames) {
    (void)ctrl, (void)domain, (void)order, (void)frames;
    return (int)extents;
}

static int fake_xc_domain_hvm_getcontext(void *ctrl, uint32_t domain, uint8_t *buffer,
                                         uint32_t size) {
    const struct vx_save_descriptor head = {.typecode = VX_SAVE_HEADER, .length = 16};

    (void)ctrl, (void)domain;
    if (denied("xc_domain_hvm_getcontext")) {
        return -1;
    }
    if (buffer && size >= sizeof head) {
        memcpy(buffer, &head, sizeof head);
    }
    return 256;
}

static int fake_xc_evtchn_alloc_unbound(void *ctrl, uint32_t domain, uint32_t remote) {
    (void)ctrl, (void)domain, (void)remote;
    return denied("xc_evtchn_alloc_unbound") ? -1 : 5;
}

static void *fake_xenforeignmemory_map2(void *memory, uint32_t domain, void *address,
                                        int protection, int flags, size_t pages,
                                        const uint64_t *frames, int *errors) {
    (void)memory, (void)domain, (void)frames;
    if (denied("xenforeignmemory_map2")) {
        return NULL;
    }
    memset(errors, 0, pages * sizeof *errors);
    if (denied("a page of xenforeignmemory_map2")) {
        errors[pages - 1] = -EINVAL; /* the domain gave it back */
    }
    void *host =
        mmap(address, pages * VX_PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (!address && host != MAP_FAILED) {
        atomic_fetch_add(&world.pages, (long)pages);
    }
    return host == MAP_FAILED ? NULL : host;
}

static void *fake_xenforeignmemory_map_resource(void *memory, uint16_t domain, unsigned type,
                                                unsigned id, unsigned long frame,
                                                unsigned long frames, void **address,
                                                int protection, int flags) {
    (void)memory, (void)domain, (void)type, (void)id, (void)frame, (void)frames, (void)protection;
    (void)flags;
    if (denied("xenforeignmemory_map_resource")) {
        return NULL;
    }
    *address = world.page;
    atomic_fetch_add(&world.resources, 1);
    return world.page;
}

static int fake_xenforeignmemory_unmap_resource(void *memory, void *resource) {
    (void)memory, (void)resource;
    atomic_fetch_sub(&world.resources, 1);
    return 0;
}

static int fake_xendevicemodel_create_ioreq_server(void *model, uint16_t domain, int buffered,
                                                   uint16_t *id) {
    (void)model, (void)domain, (void)buffered;
    if (denied("xendevicemodel_create_ioreq_server")) {
        return -1;
    }
    *id = 1;
    atomic_fetch_add(&world.servers, 1);
    return 0;
}

static int fake_xendevicemodel_destroy_ioreq_server(void *model, uint16_t domain, uint16_t id) {
    (void)model, (void)domain, (void)id;
    atomic_fetch_sub(&world.servers, 1);
    return 0;
}

static int fake_xenevtchn_fd(void *evtchn) {
    static int quiet = -1;

    (void)evtchn;
    if (quiet < 0) {
        quiet = eventfd(0, EFD_CLOEXEC);
    }
    return quiet;
}

static int fake_xenevtchn_bind_interdomain(void *evtchn, uint32_t domain, uint32_t port) {
    (void)evtchn, (void)domain, (void)port;
    if (denied("xenevtchn_bind_interdomain")) {
        return -1;
    }
    return (int)atomic_fetch_add(&world.channels, 1);
}

static int fake_xenevtchn_notify(void *evtchn, uint32_t port) {
    (void)evtchn, (void)port;
    atomic_fetch_add(&world.notified, 1);
    return plain("xenevtchn_notify");
}

static int fake_xenevtchn_unbind(void *evtchn, uint32_t port) {
    (void)evtchn, (void)port;
    atomic_fetch_sub(&world.channels, 1);
    return 0;
}

/* The rest, which takes nothing that is to be given back. */
#define PLAIN(name)                                                                                \
    static int fake_##name(void) {                                                                 \
        return plain(#name);                                                                       \
    }
PLAIN(xendevicemodel_set_ioreq_server_state)
PLAIN(xendevicemodel_map_io_range_to_ioreq_server)
PLAIN(xendevicemodel_unmap_io_range_from_ioreq_server)
PLAIN(xendevicemodel_set_pci_intx_level)
PLAIN(xendevicemodel_set_isa_irq_level)
PLAIN(xendevicemodel_track_dirty_vram)
PLAIN(xenevtchn_pending)
PLAIN(xenevtchn_unmask)
PLAIN(xc_domain_pause)
PLAIN(xc_domain_unpause)
PLAIN(xc_domain_max_vcpus)
PLAIN(xc_domain_setmaxmem)
PLAIN(xc_set_paging_mempool_size)
PLAIN(xc_domain_set_tsc_info)
PLAIN(xc_clear_domain_pages)
PLAIN(xc_hvm_param_set)
PLAIN(xc_domain_hvm_getcontext_partial)
PLAIN(xc_domain_hvm_setcontext)
PLAIN(xc_cpuid_apply_policy)
PLAIN(xc_dom_gnttab_seed)
#define fake_xendevicemodel_close   close_handle
#define fake_xenforeignmemory_close close_handle
#define fake_xenevtchn_close        close_handle
#define fake_xc_interface_close     close_handle

bool vx_lib_open(struct vx_lib *lib, char *error, size_t size) {
/* Those that look at no argument have none: x86-64's calls do not mind. */
#define USE(result, name, arguments) lib->name = (result(*) arguments)(void *)fake_##name;
    VX_CALLS_DEVICEMODEL(USE)
    VX_CALLS_FOREIGNMEMORY(USE)
    VX_CALLS_EVTCHN(USE)
    VX_CALLS_CTRL(USE)
    VX_CALLS_GUEST(USE)
    (void)error, (void)size;
    return true;
}

void vx_lib_close(struct vx_lib *lib) {
    memset(lib, 0, sizeof *lib);
}

void *vx_quiet_logger(void) {
    return NULL;
}

/* The host's own calls, by the linker's --wrap. */
int __wrap_stat(const char *path, struct stat *unused) {
    (void)path, (void)unused;
    return 0;
}

int __wrap_access(const char *path, int mode) {
    (void)path, (void)mode;
    return 0;
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    return denied("calloc") ? NULL : __real_calloc(count, size);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    return denied("malloc") ? NULL : __real_malloc(size);
}

int __real_munmap(void *address, size_t size);
int __wrap_munmap(void *address, size_t size) {
    atomic_fetch_sub(&world.pages, (long)(size / VX_PAGE));
    return __real_munmap(address, size);
}

int __real_timerfd_create(int clock, int flags);
int __wrap_timerfd_create(int clock, int flags) {
    return denied("timerfd_create") ? -1 : __real_timerfd_create(clock, flags);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *),
                          void *opaque);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *),
                          void *opaque) {
    return denied("pthread_create") ? EAGAIN : __real_pthread_create(thread, how, run, opaque);
}

static uint64_t io_read(void *opaque, uint64_t offset, unsigned width) {
    (void)opaque, (void)width;
    return offset;
}

static void io_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    (void)opaque, (void)offset, (void)width, (void)value;
}

static void on_event(void *opaque, int reason, const char *detail) {
    (void)opaque, (void)reason, (void)detail;
}

/* What a machine does with its domain. False: a step was denied; `line` may say which. */
static bool live(struct vx_vm *vm, void *host[2], char *line, size_t size) {
    const struct vd_io io = {io_read, io_write, NULL};
    uint64_t frame, pages[RAM / VX_PAGE / 64];
    uint32_t port;
    bool well = vx_vm_allocate(vm, 0, RAM, false, &host[0], line, size) == 0 &&
                vx_vm_allocate(vm, 1ull << 32, RAM + VX_PAGE, false, &host[1], line, size) == 0 &&
                vx_vm_store(vm, &frame, &port) == 0 &&
                vx_vm_add_io(vm, false, 0xD0000000, VX_PAGE, &io) == 0;

    for (int turn = 0; well && turn < 2; turn++) {
        well = vx_vm_start(vm, on_event, NULL, line, size) == 0 &&
               vx_vm_add_io(vm, false, 0xD0001000, VX_PAGE, &io) == 0;
        if (well) {
            vx_vm_irq(vm, 20)->set(vx_vm_irq(vm, 20)->opaque, turn == 0);
            vx_vm_pause(vm);
            vx_vm_resume(vm);
            well = vx_vm_dirty(vm, 0, RAM, pages) == 0;
        }
        vx_vm_stop(vm);
        vx_vm_remove_io(vm, false, 0xD0001000);
        well = well && vx_vm_reset(vm, line, size) == 0;
    }
    return well && vx_vm_unmap(vm, 1ull << 32) == 0;
}

static bool balanced(void) {
    return world.opened == 0 && world.domains == 0 && world.servers == 0 && world.resources == 0 &&
           world.channels == 0 && world.pages == 0;
}

static void deny(int last) {
    atomic_store(&world.calls, 0);
    atomic_store(&world.name, NULL);
    atomic_store(&world.shut, false);
    atomic_store(&world.denied, last);
}

static unsigned state(unsigned cpu) {
    return world.page[cpu].flags & VX_IOREQ_STATE;
}

/* A vCPU has asked, another one's answer was begun, and one asks nothing. */
static int orphan(void) {
    for (int last = 1;; last++) {
        world.page[0] = (struct vx_ioreq){.data = 1, .flags = VX_IOREQ_READ | VX_STATE_READY};
        world.page[1] =
            (struct vx_ioreq){.data = 2, .flags = VX_IOREQ_DATA_IS_PTR | VX_STATE_INPROCESS};
        world.page[2] = (struct vx_ioreq){.data = 3};
        world.servers = 1;
        world.notified = 0;
        deny(last);
        int result = vx_server_end(NUMBER, 1);
        const char *name = atomic_load(&world.name);
        world.servers -= result != 0; /* it is there yet: the next run finds it */
        if (!balanced() || (!name && result)) {
            printf("%s denied: %d, and something is left\n", name ? name : "nothing", result);
            return 1;
        }
        if (!name) {
            bool well = state(0) == VX_STATE_RESPONSE && state(1) == VX_STATE_RESPONSE &&
                        state(2) == VX_STATE_NONE && world.page[0].data == UINT64_MAX &&
                        world.page[1].data == 2 && world.page[2].data == 3 && world.notified == 2;
            printf("%s\n",
                   well ? "all went well" : "a vCPU waits on, or has what it did not ask for");
            return !well;
        }
        printf("%s: %s\n", name, result ? strerror(-result) : "goes on");
    }
}

static int probe(const char *version) {
    char line[512];

    world.version = (int)strtol(version, NULL, 0);
    bool able = vx_probe(line, sizeof line);
    printf("%s\n", line);
    return !able || !balanced();
}

static int life(void) {
    const uint8_t mark[16] = {0};

    for (int last = 1;; last++) {
        char line[512] = "";
        void *host[2] = {NULL, NULL};

        deny(last);
        struct vx_vm *vm = vx_vm_new(2, mark, line, sizeof line);
        bool well = vm && live(vm, host, line, sizeof line);
        vx_vm_free(vm);
        for (int i = 0; i < 2; i++) {
            if (host[i]) {
                vx_release(host[i], RAM + (i ? VX_PAGE : 0));
            }
        }
        const char *name = atomic_load(&world.name);
        if (!balanced() || (!vm && !line[0])) {
            printf(
                "%s denied: left are %ld handles, %ld domains, %ld servers, %ld pages of requests, "
                "%ld channels, %ld pages; said: %s\n",
                name ? name : "nothing", world.opened, world.domains, world.servers,
                world.resources, world.channels, world.pages, line);
            return 1;
        }
        if (!name) {
            printf("%s\n", well ? "all went well" : "nothing was denied, and it failed");
            return well ? 0 : 1;
        }
        printf("%s: %s\n", name, well ? "goes on" : line[0] ? line : "an error code");
    }
}

int main(int argc, char **argv) {
    world.version = XEN;
    if (argc == 3) {
        return probe(argv[2]);
    }
    return argc == 2 && !strcmp(argv[1], "orphan") ? orphan() : life();
}
