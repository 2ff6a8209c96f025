/* SPDX-License-Identifier: GPL-2.0-only
 * The RISC-V Supervisor Binary Interface 2.0 ("SBI spec" below), as firmware
 * would give it: BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN. It knows harts only
 * through struct tcg_sbi_host, so that it can be tested without a CPU. */
#ifndef TCG_SBI_H
#define TCG_SBI_H

#include <stdbool.h>
#include <stdint.h>

#define TCG_SBI_HARTS_MAX 64u

/* Extension IDs (SBI spec, chapters 4 to 12). */
#define TCG_SBI_EXT_BASE   0x10u
#define TCG_SBI_EXT_TIME   0x54494d45u
#define TCG_SBI_EXT_IPI    0x735049u
#define TCG_SBI_EXT_RFENCE 0x52464e43u
#define TCG_SBI_EXT_HSM    0x48534du
#define TCG_SBI_EXT_SRST   0x53525354u
#define TCG_SBI_EXT_DBCN   0x4442434eu

/* Error codes (SBI spec, chapter 3), as they are in a0. */
#define TCG_SBI_SUCCESS           0
#define TCG_SBI_FAILED            (-1)
#define TCG_SBI_NOT_SUPPORTED     (-2)
#define TCG_SBI_INVALID_PARAM     (-3)
#define TCG_SBI_DENIED            (-4)
#define TCG_SBI_INVALID_ADDRESS   (-5)
#define TCG_SBI_ALREADY_AVAILABLE (-6)

enum tcg_sbi_fence { TCG_SBI_FENCE_I, TCG_SBI_FENCE_VMA };

/* What a call asks of the machine. The caller of tcg_sbi_call is `hart`. */
struct tcg_sbi_host {
    unsigned harts; /* hart IDs are 0 … harts-1; at most TCG_SBI_HARTS_MAX */
    void (*set_timer)(void *opaque, unsigned hart, uint64_t time);
    void (*send_ipi)(void *opaque, unsigned hart);
    void (*fence)(void *opaque, unsigned hart, enum tcg_sbi_fence kind);
    /* A stopped hart begins at `pc` in S-mode with a0 = hart, a1 = `argument`. */
    void (*start)(void *opaque, unsigned hart, uint64_t pc, uint64_t argument);
    void (*stop)(void *opaque, unsigned hart);
    /* Sleeps as by WFI. */
    void (*suspend)(void *opaque, unsigned hart);
    bool (*asleep)(void *opaque, unsigned hart);
    void (*shutdown)(void *opaque, bool failure);
    void (*reboot)(void *opaque);
    /* The host address of guest RAM [gpa, gpa+len), or NULL. */
    void *(*ram)(void *opaque, uint64_t gpa, uint64_t len);
    /* Takes up to `len` bytes of the debug console, returns how many; NULL: no DBCN. */
    uint64_t (*console)(void *opaque, const void *bytes, uint64_t len);
    void *opaque;
};

struct tcg_sbi {
    struct tcg_sbi_host host;
    /* HSM: which harts run, and which of these are in hart_suspend. */
    bool started[TCG_SBI_HARTS_MAX];
    bool suspended[TCG_SBI_HARTS_MAX];
};

struct tcg_sbi_args {
    uint64_t a[6];      /* a0 … a5 */
    uint64_t function;  /* a6 */
    uint64_t extension; /* a7 */
};

struct tcg_sbi_ret {
    int64_t error;  /* to a0 */
    uint64_t value; /* to a1 */
    bool returns;   /* false: the hart was stopped; leave its registers alone */
};

/* All harts but `boot_hart` are stopped. */
void tcg_sbi_reset(struct tcg_sbi *sbi, unsigned boot_hart);

/* An ECALL from S-mode. */
struct tcg_sbi_ret tcg_sbi_call(struct tcg_sbi *sbi, unsigned hart,
                                const struct tcg_sbi_args *args);

#endif
