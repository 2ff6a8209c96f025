/* SPDX-License-Identifier: MIT
 *
 * The probe's guest for riscv64: a control register that a kernel sets early, an
 * atomic addition, a loop. Its marks are writes to where no memory is. */
#include "probe.h"

#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#define MARK_ADDRESS 0x0A000000ull
#define BASE         0x80000000ull

static const uint32_t code[] = {
    0x00000297, /* auipc t0, 0 */
    0x10529073, /* csrw stvec, t0 */
    0x10502373, /* csrr t1, stvec */
    0x04629063, /* bne t0, t1, 2f */
    0x000012b7, /* lui t0, 1 */
    0x00000397, /* auipc t2, 0 */
    0x007282b3, /* add t0, t0, t2: 0x1014 after the beginning */
    0xfec28293, /* addi t0, t0, -20 */
    0x00100313, /* li t1, VK_MARK_BEGIN */
    0x0062b02f, /* amoadd.d zero, t1, (t0) */
    0x0a0002b7, /* lui t0, MARK_ADDRESS >> 12 */
    0x0062a023, /* sw t1, 0(t0) */
    0x00006e37, /* 1: lui t3, VK_PROBE_LOOPS >> 12 */
    0x1a8e0e1b, /* addiw t3, t3, the rest */
    0xfffe0e13, /* addi t3, t3, -1 */
    0xfe0e1ee3, /* bnez t3, to addi */
    0x00200313, /* li t1, VK_MARK_END */
    0x0062a023, /* sw t1, 0(t0) */
    0xfe9ff06f, /* j 1b */
    0x10500073, /* 2: wfi */
    0xffdff06f, /* j 2b */
};
#define CELL 0x1000u /* what the addition adds to */

const struct vk_extension vk_arch_extensions[] = {
    {KVM_CAP_IOEVENTFD, "ioeventfd"},
    {KVM_CAP_ONE_REG, "registers"},
    {KVM_CAP_USER_MEMORY, "user memory"},
    {KVM_CAP_MP_STATE, "several CPUs"},
    {0, NULL},
};
const uint64_t vk_arch_probe_base = BASE;

int vk_arch_probe_vm(struct vk_probe *p) {
    (void)p;
    return 0;
}

int vk_arch_probe_vcpu(struct vk_probe *p) {
    memcpy(p->memory, code, sizeof code);
    return vk_riscv64_set(p->vcpu,
                          KVM_REG_RISCV | KVM_REG_SIZE_U64 | KVM_REG_RISCV_CORE |
                              KVM_REG_RISCV_CORE_REG(regs.pc),
                          BASE)
               ? -1
               : 0;
}

unsigned vk_arch_probe_mark(const struct vk_probe *p) {
    const struct kvm_run *run = p->run;

    if (run->exit_reason != KVM_EXIT_MMIO || !run->mmio.is_write ||
        run->mmio.phys_addr != MARK_ADDRESS) {
        return 0;
    }
    return run->mmio.data[0];
}

const char *vk_arch_probe_wrong(const struct vk_probe *p) {
    return p->memory[CELL] == 1 ? NULL : "it gets amoadd wrong";
}

const char *vk_arch_probe_place(const struct vk_probe *p) {
    (void)p;
    return "a write of stvec";
}
