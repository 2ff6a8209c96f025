/* SPDX-License-Identifier: GPL-2.0-only */
#include "sbi.h"

#include <stddef.h>
#include <string.h>

enum {
    SPEC_MAJOR = 2,
    SPEC_MINOR = 0,
    /* Not in the registry of implementations: ours is told by nobody else. */
    IMPL_ID = 0x7664,
    IMPL_VERSION = 1,
};

/* Function IDs, by extension. */
enum {
    BASE_GET_SPEC_VERSION,
    BASE_GET_IMPL_ID,
    BASE_GET_IMPL_VERSION,
    BASE_PROBE_EXTENSION,
    BASE_GET_MVENDORID,
    BASE_GET_MARCHID,
    BASE_GET_MIMPID,
};
enum { TIME_SET_TIMER };
enum { IPI_SEND_IPI };
enum { RFENCE_FENCE_I, RFENCE_SFENCE_VMA, RFENCE_SFENCE_VMA_ASID };
enum { HSM_HART_START, HSM_HART_STOP, HSM_HART_GET_STATUS, HSM_HART_SUSPEND };
enum { SRST_SYSTEM_RESET };
enum { DBCN_WRITE, DBCN_READ, DBCN_WRITE_BYTE };

/* HSM states (SBI spec, table 9.1) that this implementation can be seen in:
 * every transition is complete when the call returns. */
enum { STATE_STARTED = 0, STATE_STOPPED = 1, STATE_SUSPENDED = 4 };

enum { SUSPEND_RETENTIVE = 0x00000000 };
#define SUSPEND_PLATFORM_RETENTIVE     0x10000000u /* to 0x7fffffff */
#define SUSPEND_NON_RETENTIVE          0x80000000u
#define SUSPEND_PLATFORM_NON_RETENTIVE 0x90000000u /* to 0xffffffff */

enum { RESET_SHUTDOWN = 0, RESET_COLD_REBOOT = 1, RESET_WARM_REBOOT = 2 };
enum { REASON_NONE = 0, REASON_SYSTEM_FAILURE = 1 };
#define RESET_VENDOR 0xf0000000u /* to 0xffffffff, types; 0xe0000000 on, reasons */
#define REASON_SBI   0xe0000000u

typedef struct tcg_sbi_ret ret;
typedef ret extension(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args);

static ret result(int64_t error, uint64_t value) {
    return (ret){error, value, true};
}

/* Hart mask and base (SBI spec, chapter 3.1): the harts meant, or false. */
static bool mask_of(const struct tcg_sbi *sbi, uint64_t mask, uint64_t base, uint64_t *harts) {
    uint64_t all = sbi->host.harts < 64 ? (1ull << sbi->host.harts) - 1 : ~0ull;

    if (base == UINT64_MAX) {
        *harts = all;
        return true;
    }
    if (base >= sbi->host.harts || mask & ~(all >> base))
        return false;
    *harts = mask << base;
    return true;
}

static ret base_call(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args);

static ret time_call(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args) {
    if (args->function != TIME_SET_TIMER)
        return result(TCG_SBI_NOT_SUPPORTED, 0);
    sbi->host.set_timer(sbi->host.opaque, hart, args->a[0]);
    return result(TCG_SBI_SUCCESS, 0);
}

static ret ipi_call(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args) {
    uint64_t harts;

    (void)hart;
    if (args->function != IPI_SEND_IPI)
        return result(TCG_SBI_NOT_SUPPORTED, 0);
    if (!mask_of(sbi, args->a[0], args->a[1], &harts))
        return result(TCG_SBI_INVALID_PARAM, 0);
    for (; harts; harts &= harts - 1) {
        unsigned target = (unsigned)__builtin_ctzll(harts);

        if (sbi->started[target])
            sbi->host.send_ipi(sbi->host.opaque, target);
    }
    return result(TCG_SBI_SUCCESS, 0);
}

static ret rfence_call(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args) {
    enum tcg_sbi_fence kind = TCG_SBI_FENCE_VMA;
    uint64_t harts;

    (void)hart;
    switch (args->function) {
    case RFENCE_FENCE_I:
        kind = TCG_SBI_FENCE_I;
        break;
    case RFENCE_SFENCE_VMA:
    case RFENCE_SFENCE_VMA_ASID:
        break;
    default: /* the hypervisor extension's */
        return result(TCG_SBI_NOT_SUPPORTED, 0);
    }
    if (!mask_of(sbi, args->a[0], args->a[1], &harts))
        return result(TCG_SBI_INVALID_PARAM, 0);
    /* start_addr and size may wrap the address space only as "everything". */
    if (kind == TCG_SBI_FENCE_VMA && args->a[3] != UINT64_MAX &&
        args->a[2] + args->a[3] < args->a[2])
        return result(TCG_SBI_INVALID_ADDRESS, 0);
    for (; harts; harts &= harts - 1) {
        unsigned target = (unsigned)__builtin_ctzll(harts);

        if (sbi->started[target])
            sbi->host.fence(sbi->host.opaque, target, kind);
    }
    return result(TCG_SBI_SUCCESS, 0);
}

static ret hsm_start(struct tcg_sbi *sbi, const struct tcg_sbi_args *args) {
    uint64_t hart = args->a[0], pc = args->a[1];

    if (hart >= sbi->host.harts)
        return result(TCG_SBI_INVALID_PARAM, 0);
    if (pc % 2 || !sbi->host.ram(sbi->host.opaque, pc, 2))
        return result(TCG_SBI_INVALID_ADDRESS, 0);
    if (sbi->started[hart])
        return result(TCG_SBI_ALREADY_AVAILABLE, 0);
    sbi->started[hart] = true;
    sbi->suspended[hart] = false;
    sbi->host.start(sbi->host.opaque, (unsigned)hart, pc, args->a[2]);
    return result(TCG_SBI_SUCCESS, 0);
}

static ret hsm_status(struct tcg_sbi *sbi, uint64_t hart) {
    if (hart >= sbi->host.harts)
        return result(TCG_SBI_INVALID_PARAM, 0);
    if (!sbi->started[hart])
        return result(TCG_SBI_SUCCESS, STATE_STOPPED);
    if (sbi->suspended[hart] && sbi->host.asleep(sbi->host.opaque, (unsigned)hart))
        return result(TCG_SBI_SUCCESS, STATE_SUSPENDED);
    sbi->suspended[hart] = false;
    return result(TCG_SBI_SUCCESS, STATE_STARTED);
}

static ret hsm_suspend(struct tcg_sbi *sbi, unsigned hart, uint32_t type) {
    if (type >= SUSPEND_PLATFORM_NON_RETENTIVE || type == SUSPEND_NON_RETENTIVE ||
        (type >= SUSPEND_PLATFORM_RETENTIVE && type < SUSPEND_NON_RETENTIVE))
        return result(TCG_SBI_NOT_SUPPORTED, 0);
    if (type != SUSPEND_RETENTIVE)
        return result(TCG_SBI_INVALID_PARAM, 0);
    sbi->suspended[hart] = true;
    sbi->host.suspend(sbi->host.opaque, hart);
    return result(TCG_SBI_SUCCESS, 0);
}

static ret hsm_call(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args) {
    switch (args->function) {
    case HSM_HART_START:
        return hsm_start(sbi, args);
    case HSM_HART_STOP:
        sbi->started[hart] = false;
        sbi->host.stop(sbi->host.opaque, hart);
        return (ret){TCG_SBI_SUCCESS, 0, false};
    case HSM_HART_GET_STATUS:
        return hsm_status(sbi, args->a[0]);
    case HSM_HART_SUSPEND:
        return hsm_suspend(sbi, hart, (uint32_t)args->a[0]);
    default:
        return result(TCG_SBI_NOT_SUPPORTED, 0);
    }
}

static ret srst_call(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args) {
    uint32_t type = (uint32_t)args->a[0], reason = (uint32_t)args->a[1];

    (void)hart;
    if (args->function != SRST_SYSTEM_RESET)
        return result(TCG_SBI_NOT_SUPPORTED, 0);
    if (reason > REASON_SYSTEM_FAILURE)
        return result(reason >= REASON_SBI ? TCG_SBI_NOT_SUPPORTED : TCG_SBI_INVALID_PARAM, 0);
    switch (type) {
    case RESET_SHUTDOWN:
        sbi->host.shutdown(sbi->host.opaque, reason == REASON_SYSTEM_FAILURE);
        return (ret){TCG_SBI_SUCCESS, 0, false};
    case RESET_COLD_REBOOT:
    case RESET_WARM_REBOOT:
        sbi->host.reboot(sbi->host.opaque);
        return (ret){TCG_SBI_SUCCESS, 0, false};
    default:
        return result(type >= RESET_VENDOR ? TCG_SBI_NOT_SUPPORTED : TCG_SBI_INVALID_PARAM, 0);
    }
}

static ret dbcn_call(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args) {
    const void *bytes;
    uint8_t byte;

    (void)hart;
    switch (args->function) {
    case DBCN_WRITE:
        if (args->a[0] == 0)
            return result(TCG_SBI_SUCCESS, 0);
        /* base_addr_hi: there is no RAM above 2^64. */
        bytes = args->a[2] ? NULL : sbi->host.ram(sbi->host.opaque, args->a[1], args->a[0]);
        if (!bytes)
            return result(TCG_SBI_INVALID_PARAM, 0);
        return result(TCG_SBI_SUCCESS, sbi->host.console(sbi->host.opaque, bytes, args->a[0]));
    case DBCN_READ: /* an output-only console: never anything to read */
        if (args->a[0] && (args->a[2] || !sbi->host.ram(sbi->host.opaque, args->a[1], args->a[0])))
            return result(TCG_SBI_INVALID_PARAM, 0);
        return result(TCG_SBI_SUCCESS, 0);
    case DBCN_WRITE_BYTE:
        byte = (uint8_t)args->a[0];
        return result(sbi->host.console(sbi->host.opaque, &byte, 1) == 1 ? TCG_SBI_SUCCESS
                                                                         : TCG_SBI_FAILED,
                      0);
    default:
        return result(TCG_SBI_NOT_SUPPORTED, 0);
    }
}

static extension *extension_of(const struct tcg_sbi *sbi, uint64_t id) {
    static const struct {
        uint32_t id;
        extension *call;
    } extensions[] = {
        {TCG_SBI_EXT_TIME, time_call}, {TCG_SBI_EXT_RFENCE, rfence_call},
        {TCG_SBI_EXT_IPI, ipi_call},   {TCG_SBI_EXT_HSM, hsm_call},
        {TCG_SBI_EXT_BASE, base_call}, {TCG_SBI_EXT_SRST, srst_call},
        {TCG_SBI_EXT_DBCN, dbcn_call},
    };

    if (id == TCG_SBI_EXT_DBCN && !sbi->host.console)
        return NULL;
    for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++) {
        if (extensions[i].id == id)
            return extensions[i].call;
    }
    return NULL;
}

static ret base_call(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args) {
    (void)hart;
    switch (args->function) {
    case BASE_GET_SPEC_VERSION:
        return result(TCG_SBI_SUCCESS, SPEC_MAJOR << 24 | SPEC_MINOR);
    case BASE_GET_IMPL_ID:
        return result(TCG_SBI_SUCCESS, IMPL_ID);
    case BASE_GET_IMPL_VERSION:
        return result(TCG_SBI_SUCCESS, IMPL_VERSION);
    case BASE_PROBE_EXTENSION:
        return result(TCG_SBI_SUCCESS, extension_of(sbi, args->a[0]) != NULL);
    case BASE_GET_MVENDORID:
    case BASE_GET_MARCHID:
    case BASE_GET_MIMPID:
        return result(TCG_SBI_SUCCESS, 0); /* "not implemented", always legal */
    default:
        return result(TCG_SBI_NOT_SUPPORTED, 0);
    }
}

void tcg_sbi_reset(struct tcg_sbi *sbi, unsigned boot_hart) {
    memset(sbi->started, 0, sizeof(sbi->started));
    memset(sbi->suspended, 0, sizeof(sbi->suspended));
    sbi->started[boot_hart] = true;
}

ret tcg_sbi_call(struct tcg_sbi *sbi, unsigned hart, const struct tcg_sbi_args *args) {
    extension *call = extension_of(sbi, args->extension);

    return call ? call(sbi, hart, args) : result(TCG_SBI_NOT_SUPPORTED, 0);
}
