/* SPDX-License-Identifier: MIT
 *
 * What is used of Xen's interfaces, declared here so that the backend is built
 * where there is no Xen. Each declaration names the public header it comes from;
 * tests compare them with those of libxen-dev. */
#ifndef VX_ABI_H
#define VX_ABI_H

#include <stddef.h>
#include <stdint.h>

#define VX_PAGE_SHIFT 12
#define VX_PAGE       4096u

/* xen/hvm/ioreq.h: a request of a vCPU to its device model. `flags` holds the bit
 * fields state:4, data_is_ptr:1, dir:1 (1: a read), df:1. */
struct vx_ioreq {
    uint64_t addr;
    uint64_t data;
    uint32_t count;
    uint32_t size;
    uint32_t vp_eport;
    uint16_t pad;
    uint8_t flags;
    uint8_t type;
};

#define VX_IOREQ_STATE       0x0Fu
#define VX_IOREQ_DATA_IS_PTR 0x10u
#define VX_IOREQ_READ        0x20u
#define VX_IOREQ_DF          0x40u

enum { VX_STATE_NONE, VX_STATE_READY, VX_STATE_INPROCESS, VX_STATE_RESPONSE };
enum { VX_IOREQ_PIO = 0, VX_IOREQ_COPY = 1, VX_IOREQ_INVALIDATE = 8 };

/* xen/domctl.h, interface version 0x15 */
struct vx_createdomain {
    uint32_t ssidref;
    uint8_t handle[16];
    uint32_t flags;
    uint32_t iommu_opts;
    uint32_t max_vcpus;
    uint32_t max_evtchn_port;
    int32_t max_grant_frames;
    int32_t max_maptrack_frames;
    uint32_t grant_opts;
    uint32_t vmtrace_size;
    uint32_t cpupool_id;
    /* struct xen_arch_domainconfig of xen/arch-x86/xen.h */
    uint32_t emulation_flags;
    uint32_t misc_flags;
};

enum { VX_CDF_HVM = 1u << 0, VX_CDF_HAP = 1u << 1 };
/* XEN_X86_EMU_ALL without VPCI, which is for PVH: a 4.17 takes this for an HVM domain, or
 * the local APIC alone. */
#define VX_X86_EMU_HVM 0x3FFu

struct vx_domaininfo {
    uint16_t domain;
    uint16_t pad1;
    uint32_t flags;
    uint64_t tot_pages, max_pages, outstanding_pages, shr_pages, paged_pages;
    uint64_t shared_info_frame;
    uint64_t cpu_time;
    uint32_t nr_online_vcpus;
    uint32_t max_vcpu_id;
    uint32_t ssidref;
    uint8_t handle[16];
    uint32_t cpupool;
    uint8_t gpaddr_bits;
    uint8_t pad2[7];
    uint32_t emulation_flags;
    uint32_t misc_flags;
};

enum {
    VX_DOMINF_DYING = 1u << 0,
    VX_DOMINF_HVM = 1u << 1,
    VX_DOMINF_SHUTDOWN = 1u << 2,
    VX_DOMINF_PAUSED = 1u << 3,
    VX_DOMINF_REASON_SHIFT = 16, /* 8 bits */
};

/* xen/sched.h */
enum {
    VX_SHUTDOWN_POWEROFF,
    VX_SHUTDOWN_REBOOT,
    VX_SHUTDOWN_SUSPEND,
    VX_SHUTDOWN_CRASH,
    VX_SHUTDOWN_WATCHDOG,
    VX_SHUTDOWN_SOFT_RESET,
};

/* xen/hvm/params.h */
enum {
    VX_PARAM_CALLBACK_IRQ = 0,
    VX_PARAM_STORE_PFN = 1,
    VX_PARAM_STORE_EVTCHN = 2,
    VX_PARAM_TIMER_MODE = 10,
    VX_PARAM_ACPI_S_STATE = 14,
    VX_PARAM_TRIPLE_FAULT_REASON = 31,
};
#define VX_TIMER_MODE_NO_DELAY 1u

/* xen/hvm/save.h, xen/arch-x86/hvm/save.h */
struct vx_save_descriptor {
    uint16_t typecode;
    uint16_t instance;
    uint32_t length;
};

enum { VX_SAVE_END = 0, VX_SAVE_HEADER = 1, VX_SAVE_CPU = 2, VX_SAVE_MTRR = 14 };

struct vx_hw_cpu {
    uint8_t fpu_regs[512];
    uint64_t rax, rbx, rcx, rdx, rbp, rsi, rdi, rsp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
    uint64_t cr0, cr2, cr3, cr4;
    uint64_t dr0, dr1, dr2, dr3, dr6, dr7;
    uint32_t cs_sel, ds_sel, es_sel, fs_sel, gs_sel, ss_sel, tr_sel, ldtr_sel;
    uint32_t cs_limit, ds_limit, es_limit, fs_limit, gs_limit, ss_limit, tr_limit, ldtr_limit;
    uint32_t idtr_limit, gdtr_limit;
    uint64_t cs_base, ds_base, es_base, fs_base, gs_base, ss_base, tr_base, ldtr_base;
    uint64_t idtr_base, gdtr_base;
    uint32_t cs_arbytes, ds_arbytes, es_arbytes, fs_arbytes, gs_arbytes, ss_arbytes;
    uint32_t tr_arbytes, ldtr_arbytes;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t shadow_gs;
    uint64_t msr_flags, msr_lstar, msr_star, msr_cstar, msr_syscall_mask, msr_efer, msr_tsc_aux;
    uint64_t tsc;
    uint32_t pending_event;
    uint32_t error_code;
    uint32_t flags;
    uint32_t pad0;
};
#define VX_FPU_INITIALISED 1u

struct vx_hw_mtrr {
    uint64_t pat;
    uint64_t variable[16];
    uint64_t fixed[11];
    uint64_t cap;
    uint64_t def_type;
};

/* xen/memory.h */
enum { VX_RESOURCE_IOREQ_SERVER = 0, VX_RESOURCE_FRAME_IOREQ = 1 };
/* xen/hvm/dm_op.h */
#define VX_BUFIOREQ_OFF 0
/* xen/version.h */
#define VX_XENVER_VERSION 0

#endif
