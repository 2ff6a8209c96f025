/* SPDX-License-Identifier: MIT
 *
 * A PLIC (RISC-V Platform-Level Interrupt Controller Specification 1.0.0), for the
 * kernels that have none: KVM takes the hart's external interrupt only. Context i
 * is vCPU i in S-mode. Nothing of KVM is in it. */
#ifndef VK_RISCV64_PLIC_H
#define VK_RISCV64_PLIC_H

#include <stdbool.h>
#include <stdint.h>

#define VK_PLIC_SOURCES  96u /* 0 does not exist */
#define VK_PLIC_WORDS    (VK_PLIC_SOURCES / 32u)
#define VK_PLIC_CONTEXTS 64u

struct vk_plic_context {
    uint32_t enabled[VK_PLIC_WORDS];
    uint32_t threshold;
    bool raised; /* what `set` was told last */
};

/* The caller's lock guards all of it. */
struct vk_plic {
    uint32_t contexts;
    uint8_t priority[VK_PLIC_SOURCES]; /* 0 to 7 */
    uint32_t level[VK_PLIC_WORDS];     /* of the lines */
    uint32_t pending[VK_PLIC_WORDS];
    uint32_t claimed[VK_PLIC_WORDS]; /* the gateway waits for the completion */
    struct vk_plic_context context[VK_PLIC_CONTEXTS];
    /* A hart's external interrupt line. */
    void (*set)(void *opaque, uint32_t context, bool level);
    void *opaque;
};

/* As after power-on, but for the lines' levels. */
void vk_plic_reset(struct vk_plic *plic);
void vk_plic_set_line(struct vk_plic *plic, uint32_t source, bool level);
/* Accesses of 32 bits, aligned; others read 0 and change nothing. */
uint32_t vk_plic_read(struct vk_plic *plic, uint64_t offset);
void vk_plic_write(struct vk_plic *plic, uint64_t offset, uint32_t value);

#endif
