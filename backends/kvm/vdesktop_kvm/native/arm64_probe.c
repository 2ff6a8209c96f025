/* SPDX-License-Identifier: MIT
 *
 * The probe's guest for aarch64: a system register that a kernel sets early, a loop.
 * Its marks are writes to where no memory is. */
#include "probe.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#define MARK_ADDRESS 0x0A000000ull

static const uint32_t code[] = {
    0xd2880000, /* mov x0, #0x4000 */
    0xf2a80000, /* movk x0, #0x4000, lsl #16 */
    0xd518c000, /* msr vbar_el1, x0 */
    0xd5033fdf, /* isb */
    0xd538c002, /* mrs x2, vbar_el1 */
    0xeb00005f, /* cmp x2, x0 */
    0x54000141, /* b.ne 2f */
    0xd2a14001, /* mov x1, #MARK_ADDRESS */
    0x52800022, /* mov w2, #VK_MARK_BEGIN */
    0xb9000022, /* str w2, [x1] */
    0x528c3503, /* 1: mov w3, #VK_PROBE_LOOPS */
    0x71000463, /* subs w3, w3, #1 */
    0x54ffffe1, /* b.ne, to subs */
    0x52800042, /* mov w2, #VK_MARK_END */
    0xb9000022, /* str w2, [x1] */
    0x17fffffb, /* b 1b */
    0xd503207f, /* 2: wfi */
    0x17ffffff, /* b 2b */
};

const struct vk_extension vk_arch_extensions[] = {
    {KVM_CAP_IOEVENTFD, "ioeventfd"},     {KVM_CAP_DEVICE_CTRL, "interrupt controllers"},
    {KVM_CAP_ONE_REG, "registers"},       {KVM_CAP_ARM_PSCI_0_2, "PSCI"},
    {KVM_CAP_USER_MEMORY, "user memory"}, {0, NULL},
};
const uint64_t vk_arch_probe_base = 0x40000000;

int vk_arch_probe_vm(struct vk_probe *p) {
    int type = vk_arm64_gic_type(p->vm); /* that there could be one is enough */

    if (type < 0) {
        errno = -type;
        return -1;
    }
    return 0;
}

int vk_arch_probe_vcpu(struct vk_probe *p) {
    uint64_t pc = vk_arch_probe_base;
    const struct kvm_one_reg request = {
        .id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
              offsetof(struct kvm_regs, regs.pc) / sizeof(uint32_t),
        .addr = (uintptr_t)&pc,
    };
    int result = vk_arm64_vcpu_init(p->vm, p->vcpu, false);

    memcpy(p->memory, code, sizeof code);
    if (result) {
        errno = -result;
        return -1;
    }
    return ioctl(p->vcpu, KVM_SET_ONE_REG, &request);
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
    (void)p;
    return NULL; /* it would not have come to its mark */
}

const char *vk_arch_probe_place(const struct vk_probe *p) {
    (void)p;
    return "a write of VBAR_EL1";
}
