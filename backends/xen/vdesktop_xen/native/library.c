/* SPDX-License-Identifier: MIT */
#include "library.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vx.h"

struct call {
    const char *name;
    size_t offset;
};

struct library {
    const char *soname;
    const struct call *call;
    size_t calls;
    const char *package;
};

#define CALL(result, name, arguments) {#name, offsetof(struct vx_lib, name)},
#define CALLS(group)                                                                               \
    (const struct call[]){group(CALL)},                                                            \
        sizeof((const struct call[]){group(CALL)}) / sizeof(struct call)

/* Those of 4.17 carry their version in the name; the others' ABI is for ever. */
static const struct library libraries[] = {
    {"libxenctrl.so." VX_XEN_VERSION, CALLS(VX_CALLS_CTRL), "libxenmisc" VX_XEN_VERSION},
    {"libxenguest.so." VX_XEN_VERSION, CALLS(VX_CALLS_GUEST), "libxenmisc" VX_XEN_VERSION},
    {"libxendevicemodel.so.1", CALLS(VX_CALLS_DEVICEMODEL), "libxendevicemodel1"},
    {"libxenforeignmemory.so.1", CALLS(VX_CALLS_FOREIGNMEMORY), "libxenforeignmemory1"},
    {"libxenevtchn.so.1", CALLS(VX_CALLS_EVTCHN), "libxenevtchn1"},
};

bool vx_lib_open(struct vx_lib *lib, char *error, size_t size) {
    memset(lib, 0, sizeof *lib);
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++) {
        const struct library *wanted = &libraries[i];
        void *handle = dlopen(wanted->soname, RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            snprintf(error, size,
                     "%s: this backend needs Xen " VX_XEN_VERSION
                     ", install its libraries (Debian: %s)",
                     dlerror(), wanted->package); /* it begins with the name */
            vx_lib_close(lib);
            return false;
        }
        lib->opened[lib->count++] = handle;
        for (size_t j = 0; j < wanted->calls; j++) {
            void *symbol = dlsym(handle, wanted->call[j].name);
            if (!symbol) {
                snprintf(error, size, "%s has no %s: it is not that of Xen " VX_XEN_VERSION,
                         wanted->soname, wanted->call[j].name);
                vx_lib_close(lib);
                return false;
            }
            memcpy((char *)lib + wanted->call[j].offset, &symbol, sizeof symbol);
        }
    }
    return true;
}

void vx_lib_close(struct vx_lib *lib) {
    while (lib->count > 0) {
        dlclose(lib->opened[--lib->count]);
    }
}

/* xentoollog.h: struct xentoollog_logger */
struct logger {
    void (*message)(struct logger *, int level, int error, const char *context, const char *format,
                    va_list);
    void (*progress)(struct logger *, const char *context, const char *what, int percent,
                     unsigned long done, unsigned long total);
    void (*destroy)(struct logger *);
};

static void message(struct logger *logger, int level, int error, const char *context,
                    const char *format, va_list arguments) {
    (void)logger, (void)level, (void)error, (void)context, (void)format, (void)arguments;
}

static void destroy(struct logger *logger) {
    (void)logger;
}

void *vx_quiet_logger(void) {
    static struct logger quiet = {message, NULL, destroy};
    return &quiet;
}
