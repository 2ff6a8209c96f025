/* SPDX-License-Identifier: MIT
 *
 * Libraries and their handles; a domain's creation and end. */
#include "priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

int vx_complain(char *error, size_t size, const char *what, int code) {
    const char *advice = "";

    if (code == ENOMEM) {
        advice =
            ": Xen or dom0 is out of memory, see 'xl info' and 'free', or give the machine less";
    } else if (code == EPERM || code == EACCES) {
        advice = ": run it as root, in dom0 or in a domain with the rights";
    } else if (code == ESRCH) {
        advice = ": the domain is gone";
    } else if (code == ENOSYS || code == EOPNOTSUPP) {
        advice = ": this processor has no virtualisation with nested paging";
    }
    snprintf(error, size, "xen cannot %s: %s%s", what, strerror(code), advice);
    return -code;
}

static bool check_version(struct vx_handles *xen, char *error, size_t size) {
    int version = xen->lib.xc_version(xen->ctrl, VX_XENVER_VERSION, NULL);
    char text[32];

    snprintf(text, sizeof text, "%d.%d", version >> 16, version & 0xFFFF);
    if (strcmp(text, VX_XEN_VERSION) != 0) {
        snprintf(error, size, "the hypervisor is Xen %s: this backend is for " VX_XEN_VERSION,
                 text);
        return false;
    }
    return true;
}

bool vx_open(struct vx_handles *xen, char *error, size_t size) {
    struct stat unused;

    memset(xen, 0, sizeof *xen);
    if (stat("/proc/xen", &unused) < 0) {
        snprintf(error, size, "this host does not run on Xen: boot it as Xen's dom0");
        return false;
    }
    if (access("/dev/xen/privcmd", R_OK | W_OK) < 0) {
        snprintf(error, size, "cannot open /dev/xen/privcmd (%s): %s", strerror(errno),
                 errno == ENOENT ? "load xen_privcmd, in dom0" : "run it as root, in dom0");
        return false;
    }
    if (!vx_lib_open(&xen->lib, error, size)) {
        return false;
    }
    void *quiet = vx_quiet_logger();
    xen->ctrl = xen->lib.xc_interface_open(quiet, quiet, 0);
    xen->devicemodel = xen->ctrl ? xen->lib.xendevicemodel_open(quiet, 0) : NULL;
    xen->memory = xen->devicemodel ? xen->lib.xenforeignmemory_open(quiet, 0) : NULL;
    xen->evtchn = xen->memory ? xen->lib.xenevtchn_open(quiet, 0) : NULL;
    if (!xen->evtchn) {
        vx_complain(error, size, "open its interfaces (privcmd, evtchn)", errno);
        vx_close(xen);
        return false;
    }
    if (!check_version(xen, error, size)) {
        vx_close(xen);
        return false;
    }
    return true;
}

void vx_close(struct vx_handles *xen) {
    if (xen->evtchn) {
        xen->lib.xenevtchn_close(xen->evtchn);
    }
    if (xen->memory) {
        xen->lib.xenforeignmemory_close(xen->memory);
    }
    if (xen->devicemodel) {
        xen->lib.xendevicemodel_close(xen->devicemodel);
    }
    if (xen->ctrl) {
        xen->lib.xc_interface_close(xen->ctrl);
    }
    xen->evtchn = xen->memory = xen->devicemodel = xen->ctrl = NULL;
    vx_lib_close(&xen->lib);
}

bool vx_probe(char *line, size_t size) {
    struct vx_handles xen;
    struct vx_domaininfo info;

    if (!vx_open(&xen, line, size)) {
        return false;
    }
    /* Only a domain with the rights hears of another one. */
    bool able = xen.lib.xc_domain_getinfolist(xen.ctrl, 0, 1, &info) == 1;
    if (able) {
        snprintf(line, size, "Xen " VX_XEN_VERSION ", this is a domain with its rights");
    } else {
        vx_complain(line, size, "list domains", errno);
    }
    vx_close(&xen);
    return able;
}

int vx_domains(uint32_t first, uint32_t most, uint32_t *domains, uint8_t *marks) {
    struct vx_handles xen;
    char error[256];
    struct vx_domaininfo *info = calloc(most, sizeof *info);

    if (!info) {
        return -ENOMEM;
    }
    if (!vx_open(&xen, error, sizeof error)) {
        free(info);
        return -ENODEV;
    }
    int count = xen.lib.xc_domain_getinfolist(xen.ctrl, first, most, info);
    count = count < 0 ? -errno : count;
    for (int i = 0; i < count; i++) {
        domains[i] = info[i].domain;
        memcpy(marks + 16 * i, info[i].handle, 16);
    }
    vx_close(&xen);
    free(info);
    return count;
}

int vx_destroy(uint32_t domain) {
    struct vx_handles xen;
    char error[256];

    if (!vx_open(&xen, error, sizeof error)) {
        return -ENODEV;
    }
    int result = xen.lib.xc_domain_destroy(xen.ctrl, domain) ? -errno : 0;
    vx_close(&xen);
    return result;
}

int vx_info(struct vx_vm *vm, struct vx_domaininfo *info) {
    struct vx_lib *lib = &vm->xen.lib;
    int count = lib->xc_domain_getinfolist(vm->xen.ctrl, vm->domain, 1, info);

    if (count < 0) {
        return -errno;
    }
    return count == 1 && info->domain == vm->domain && !(info->flags & VX_DOMINF_DYING);
}

static int create(struct vx_vm *vm, const uint8_t *mark, char *error, size_t size) {
    struct vx_lib *lib = &vm->xen.lib;
    struct vx_createdomain config = {
        .flags = VX_CDF_HVM | VX_CDF_HAP,
        .max_vcpus = vm->vcpus,
        .max_evtchn_port = 1023,
        .max_grant_frames = 32,
        .grant_opts = 1, /* the version of grant tables */
        .emulation_flags = VX_X86_EMU_HVM,
    };
    uint32_t domain = 0; /* the next that is free */

    memcpy(config.handle, mark, sizeof config.handle);
    if (lib->xc_domain_create(vm->xen.ctrl, &domain, &config)) {
        return vx_complain(error, size, "create a domain", errno);
    }
    vm->domain = domain;
    vm->created = vm->held = true;
    if (lib->xc_domain_max_vcpus(vm->xen.ctrl, domain, vm->vcpus)) {
        return vx_complain(error, size, "give the domain its vCPUs", errno);
    }
    int result = vx_memory_limit(vm);
    if (result) {
        return vx_complain(error, size, "limit the domain's memory", -result);
    }
    return vx_arch_configure(vm, error, size);
}

struct vx_vm *vx_prepare(char *error, size_t size) {
    struct vx_vm *vm = calloc(1, sizeof *vm);

    if (!vm) {
        snprintf(error, size, "the host is out of memory: end something");
        return NULL;
    }
    vm->wake = vm->clock = -1;
    if (!vx_open(&vm->xen, error, size)) {
        free(vm);
        return NULL;
    }
    pthread_mutex_init(&vm->server_lock, NULL);
    vx_dirty_init(vm);
    vx_lines_init(vm);
    vm->bus = vx_bus_new();
    vm->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    vm->clock = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (!vm->bus || vm->wake < 0 || vm->clock < 0) {
        snprintf(error, size, "the host is out of memory or files: end something");
        vx_vm_free(vm);
        return NULL;
    }
    return vm;
}

struct vx_vm *vx_vm_new(uint32_t vcpus, const uint8_t *mark, char *error, size_t size) {
    if (vcpus == 0 || vcpus > VX_VCPUS_MAX) {
        snprintf(error, size, "xen runs 1 to %d CPUs, not %u", VX_VCPUS_MAX, vcpus);
        return NULL;
    }
    struct vx_vm *vm = vx_prepare(error, size);
    if (!vm) {
        return NULL;
    }
    vm->vcpus = vcpus;
    vx_arch_entry_clear(&vm->entry);
    if (create(vm, mark, error, size) || vx_arch_ports(vm)) {
        vx_vm_free(vm);
        return NULL;
    }
    return vm;
}

void vx_vm_free(struct vx_vm *vm) {
    if (!vm) {
        return;
    }
    vx_vm_stop(vm);
    vx_server_close(vm);
    if (vm->created && !vm->attached) {
        vm->xen.lib.xc_domain_destroy(vm->xen.ctrl, vm->domain);
    }
    vx_memory_forget(vm);
    vx_bus_free(vm->bus);
    if (vm->wake >= 0) {
        close(vm->wake);
    }
    if (vm->clock >= 0) {
        close(vm->clock);
    }
    vx_lines_free(vm);
    vx_dirty_free(vm);
    pthread_mutex_destroy(&vm->server_lock);
    vx_close(&vm->xen);
    free(vm);
}

uint32_t vx_vm_domain(struct vx_vm *vm) {
    return vm->domain;
}

uint32_t vx_vm_vcpus(struct vx_vm *vm) {
    return vm->vcpus;
}

struct vd_written *vx_vm_written(struct vx_vm *vm) {
    return &vm->written;
}

uint64_t vx_vm_timer_hz(struct vx_vm *vm) {
    return vm->timer_hz;
}

void vx_vm_clear_entry(struct vx_vm *vm) {
    vx_arch_entry_clear(&vm->entry);
}

int vx_vm_set_entry(struct vx_vm *vm, const char *name, uint64_t value) {
    return vx_arch_entry_set(&vm->entry, name, value);
}

int vx_vm_counter_at(struct vx_vm *vm, uint32_t index, char *name, size_t size, uint64_t *value) {
    static const char *const names[] = {
        "exits_mmio", "exits_port", "exits_invalidate", "exits_other",
        "unassigned", "doorbells",  "interrupts",       "wakeups",
    };

    if (index >= sizeof names / sizeof names[0]) {
        return -ENOENT;
    }
    snprintf(name, size, "%s", names[index]);
    *value = index < VX_COUNTS    ? vx_bus_count(vm->bus, index)
             : index == VX_COUNTS ? atomic_load(&vm->interrupts)
                                  : atomic_load(&vm->wakeups);
    return 0;
}
