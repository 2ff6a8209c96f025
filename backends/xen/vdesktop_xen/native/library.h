/* SPDX-License-Identifier: MIT
 *
 * Xen's libraries, loaded when the backend is used. Names, arguments and results
 * are those of the headers that come before each group. */
#ifndef VX_LIBRARY_H
#define VX_LIBRARY_H

#include <stdbool.h>

#include "abi.h"

/* X(result, name, arguments) */
/* xendevicemodel.h: a stable ABI */
#define VX_CALLS_DEVICEMODEL(X)                                                                    \
    X(void *, xendevicemodel_open, (void *logger, unsigned flags))                                 \
    X(int, xendevicemodel_close, (void *))                                                         \
    X(int, xendevicemodel_create_ioreq_server, (void *, uint16_t dom, int bufioreq, uint16_t *id)) \
    X(int, xendevicemodel_destroy_ioreq_server, (void *, uint16_t dom, uint16_t id))               \
    X(int, xendevicemodel_set_ioreq_server_state, (void *, uint16_t dom, uint16_t id, int on))     \
    X(int, xendevicemodel_map_io_range_to_ioreq_server,                                            \
      (void *, uint16_t dom, uint16_t id, int is_mmio, uint64_t first, uint64_t last))             \
    X(int, xendevicemodel_unmap_io_range_from_ioreq_server,                                        \
      (void *, uint16_t dom, uint16_t id, int is_mmio, uint64_t first, uint64_t last))             \
    X(int, xendevicemodel_set_pci_intx_level,                                                      \
      (void *, uint16_t dom, uint16_t segment, uint8_t bus, uint8_t device, uint8_t intx,          \
       unsigned level))                                                                            \
    X(int, xendevicemodel_set_isa_irq_level, (void *, uint16_t dom, uint8_t irq, unsigned level))  \
    X(int, xendevicemodel_track_dirty_vram,                                                        \
      (void *, uint16_t dom, uint64_t first, uint32_t pages, unsigned long *bitmap))

/* xenforeignmemory.h: a stable ABI */
#define VX_CALLS_FOREIGNMEMORY(X)                                                                  \
    X(void *, xenforeignmemory_open, (void *logger, unsigned flags))                               \
    X(int, xenforeignmemory_close, (void *))                                                       \
    X(void *, xenforeignmemory_map2,                                                               \
      (void *, uint32_t dom, void *address, int prot, int flags, size_t pages,                     \
       const uint64_t *frames, int *errors))                                                       \
    X(void *, xenforeignmemory_map_resource,                                                       \
      (void *, uint16_t dom, unsigned type, unsigned id, unsigned long frame,                      \
       unsigned long frames, void **address, int prot, int flags))                                 \
    X(int, xenforeignmemory_unmap_resource, (void *, void *resource))

/* xenevtchn.h: a stable ABI */
#define VX_CALLS_EVTCHN(X)                                                                         \
    X(void *, xenevtchn_open, (void *logger, unsigned flags))                                      \
    X(int, xenevtchn_close, (void *))                                                              \
    X(int, xenevtchn_fd, (void *))                                                                 \
    X(int, xenevtchn_bind_interdomain, (void *, uint32_t dom, uint32_t port))                      \
    X(int, xenevtchn_unbind, (void *, uint32_t port))                                              \
    X(int, xenevtchn_pending, (void *))                                                            \
    X(int, xenevtchn_unmask, (void *, uint32_t port))                                              \
    X(int, xenevtchn_notify, (void *, uint32_t port))

/* xenctrl.h: an ABI of one version of Xen */
#define VX_CALLS_CTRL(X)                                                                           \
    X(void *, xc_interface_open, (void *logger, void *build_logger, unsigned flags))               \
    X(int, xc_interface_close, (void *))                                                           \
    X(int, xc_version, (void *, int command, void *))                                              \
    X(int, xc_domain_create, (void *, uint32_t *dom, struct vx_createdomain *))                    \
    X(int, xc_domain_destroy, (void *, uint32_t dom))                                              \
    X(int, xc_domain_pause, (void *, uint32_t dom))                                                \
    X(int, xc_domain_unpause, (void *, uint32_t dom))                                              \
    X(int, xc_domain_shutdown, (void *, uint32_t dom, int reason))                                 \
    X(int, xc_domain_soft_reset, (void *, uint32_t dom))                                           \
    X(int, xc_domain_getinfolist, (void *, uint32_t first, unsigned most, struct vx_domaininfo *)) \
    X(int, xc_domain_max_vcpus, (void *, uint32_t dom, unsigned most))                             \
    X(int, xc_domain_setmaxmem, (void *, uint32_t dom, uint64_t kib))                              \
    X(int, xc_set_paging_mempool_size, (void *, uint32_t dom, uint64_t bytes))                     \
    X(int, xc_domain_set_tsc_info,                                                                 \
      (void *, uint32_t dom, uint32_t mode, uint64_t ns, uint32_t khz, uint32_t incarnation))      \
    X(int, xc_domain_get_tsc_info,                                                                 \
      (void *, uint32_t dom, uint32_t *mode, uint64_t *ns, uint32_t *khz, uint32_t *incarnation))  \
    X(int, xc_domain_populate_physmap,                                                             \
      (void *, uint32_t dom, unsigned long extents, unsigned order, unsigned flags,                \
       uint64_t *frames))                                                                          \
    X(int, xc_domain_decrease_reservation,                                                         \
      (void *, uint32_t dom, unsigned long extents, unsigned order, uint64_t *frames))             \
    X(int, xc_clear_domain_pages, (void *, uint32_t dom, unsigned long frame, int pages))          \
    X(int, xc_hvm_param_set, (void *, uint32_t dom, uint32_t param, uint64_t value))               \
    X(int, xc_domain_hvm_getcontext, (void *, uint32_t dom, uint8_t *buffer, uint32_t size))       \
    X(int, xc_domain_hvm_getcontext_partial,                                                       \
      (void *, uint32_t dom, uint16_t type, uint16_t instance, void *buffer, uint32_t size))       \
    X(int, xc_domain_hvm_setcontext, (void *, uint32_t dom, uint8_t *buffer, uint32_t size))       \
    X(int, xc_evtchn_alloc_unbound, (void *, uint32_t dom, uint32_t remote))

/* xenctrl.h, xenguest.h: the part that is in libxenguest */
#define VX_CALLS_GUEST(X)                                                                          \
    X(int, xc_cpuid_apply_policy,                                                                  \
      (void *, uint32_t dom, bool restore, const uint32_t *featureset, unsigned features,          \
       bool pae, bool itsc, bool nested, const void *cpuid, const void *msr))                      \
    X(int, xc_dom_gnttab_seed,                                                                     \
      (void *, uint32_t dom, bool hvm, uint64_t console, uint64_t store, uint32_t console_dom,     \
       uint32_t store_dom))

#define VX_CALL_MEMBER(result, name, arguments) result(*name) arguments;

struct vx_lib {
    VX_CALLS_DEVICEMODEL(VX_CALL_MEMBER)
    VX_CALLS_FOREIGNMEMORY(VX_CALL_MEMBER)
    VX_CALLS_EVTCHN(VX_CALL_MEMBER)
    VX_CALLS_CTRL(VX_CALL_MEMBER)
    VX_CALLS_GUEST(VX_CALL_MEMBER)
    void *opened[8];
    size_t count;
};

/* False and one line in `error`: a library is missing or is another version. */
bool vx_lib_open(struct vx_lib *lib, char *error, size_t size);
void vx_lib_close(struct vx_lib *lib);

/* A struct xentoollog_logger that says nothing: errors are told by errno. */
void *vx_quiet_logger(void);

#endif
