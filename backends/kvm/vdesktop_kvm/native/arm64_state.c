/* SPDX-License-Identifier: MIT
 *
 * aarch64: the state vCPUs begin in, and what the kernel cannot handle itself.
 * PSCI, the architected timer and the vCPUs' numbers are the kernel's. */
#include "priv.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define CORE(field)                                                                                \
    (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |                                         \
     offsetof(struct kvm_regs, field) / sizeof(uint32_t))

#define MPIDR_EL1     ARM64_SYS_REG(3, 0, 0, 0, 5)
#define ESR_EL1       ARM64_SYS_REG(3, 0, 5, 2, 0)
#define FAR_EL1       ARM64_SYS_REG(3, 0, 6, 0, 0)
#define MPIDR_MASK    0xFF00FFFFFFull /* affinity levels 3 to 0 */
#define PSTATE_EL1    0x3C5u          /* EL1h; D, A, I and F masked (booting.rst) */
#define GENERAL_COUNT 31u

const char vk_arch_driver_advice[] =
    "boot the host's kernel at EL2, with KVM compiled in (CONFIG_KVM)";

struct vk_entry {
    uint64_t x[GENERAL_COUNT];
    uint64_t pc, sp, pstate;
};

struct vk_entry *vk_arch_entry_new(void) {
    struct vk_entry *entry = malloc(sizeof *entry);

    if (entry) {
        vk_arch_entry_clear(entry);
    }
    return entry;
}

void vk_arch_entry_clear(struct vk_entry *entry) {
    *entry = (struct vk_entry){.pstate = PSTATE_EL1};
}

int vk_arch_entry_set(struct vk_entry *entry, const char *name, uint64_t value) {
    char *end;

    if (strcmp(name, "pc") == 0) {
        entry->pc = value;
    } else if (strcmp(name, "sp") == 0) {
        entry->sp = value;
    } else if (strcmp(name, "pstate") == 0) {
        entry->pstate = value;
    } else if (name[0] == 'x' && name[1] >= '0' && name[1] <= '9') {
        unsigned long number = strtoul(name + 1, &end, 10);
        if (*end || number >= GENERAL_COUNT) {
            return -ENOENT;
        }
        entry->x[number] = value;
    } else {
        return -ENOENT;
    }
    return 0;
}

static int set_register(int fd, uint64_t id, uint64_t value) {
    const struct kvm_one_reg request = {.id = id, .addr = (uintptr_t)&value};

    return ioctl(fd, KVM_SET_ONE_REG, &request) < 0 ? -errno : 0;
}

static int get_register(int fd, uint64_t id, uint64_t *value) {
    const struct kvm_one_reg request = {.id = id, .addr = (uintptr_t)value};

    *value = 0;
    return ioctl(fd, KVM_GET_ONE_REG, &request) < 0 ? -errno : 0;
}

static int set_boot_state(struct vk_vcpu *vcpu) {
    const struct vk_entry *e = vcpu->vm->entry;
    const struct {
        uint64_t id, value;
    } others[] = {{CORE(regs.pc), e->pc}, {CORE(regs.sp), e->sp}, {CORE(regs.pstate), e->pstate}};

    for (unsigned i = 0; i < GENERAL_COUNT; i++) {
        int result = set_register(
            vcpu->fd, CORE(regs.regs) + i * sizeof(uint64_t) / sizeof(uint32_t), e->x[i]);
        if (result) {
            return result;
        }
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        int result = set_register(vcpu->fd, others[i].id, others[i].value);
        if (result) {
            return result;
        }
    }
    return 0;
}

int vk_arm64_vcpu_init(int vm, int vcpu, bool waits) {
    struct kvm_vcpu_init init = {0};

    if (ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init) < 0) {
        return -errno;
    }
    init.features[0] = 1u << KVM_ARM_VCPU_PSCI_0_2 | (waits ? 1u << KVM_ARM_VCPU_POWER_OFF : 0u);
    return ioctl(vcpu, KVM_ARM_VCPU_INIT, &init) < 0 ? -errno : 0;
}

int vk_arch_vcpu_init(struct vk_vcpu *vcpu, char *error, size_t size) {
    struct vk_vm *vm = vcpu->vm;
    int result = vk_arm64_vcpu_init(vm->fd, vcpu->fd, vcpu->index > 0);

    if (result) {
        return vk_complain(error, size, "initialise a vCPU", -result);
    }
    if (vcpu->index == 0) {
        __asm__ volatile("mrs %0, cntfrq_el0" : "=r"(vm->timer_hz));
        result = set_boot_state(vcpu);
    }
    return result ? vk_complain(error, size, "set a vCPU's registers", -result) : 0;
}

uint64_t vk_arch_cpu_id(struct vk_vm *vm, uint32_t index) {
    uint64_t mpidr;

    if (index >= vm->vcpus || get_register(vm->vcpu[index].fd, MPIDR_EL1, &mpidr)) {
        return index;
    }
    return mpidr & MPIDR_MASK;
}

void vk_arch_cpu_model(struct vk_vm *vm, char *text, size_t size) {
    (void)vm;
    snprintf(text, size, "compatible=arm,armv8"); /* the ID registers say it all */
}

/* A load or store that the processor does not describe (two registers, or
 * writeback), to where no memory is: the guest's own fault, and its to hear of. */
static void abort_access(struct vk_vcpu *vcpu) {
    const struct kvm_vcpu_events events = {.exception = {.ext_dabt_pending = 1}};

    vk_tally(vcpu, VK_COUNT_UNASSIGNED_MMIO);
    if (ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events) < 0) {
        vk_end(
            vcpu->vm, VK_EXIT_CRASH,
            "vCPU %u accessed %#llx, which is no memory, by an instruction that KVM cannot emulate",
            vcpu->index, (unsigned long long)vcpu->run->arm_nisv.fault_ipa);
    }
}

bool vk_arch_exit(struct vk_vcpu *vcpu) {
    if (vcpu->run->exit_reason != KVM_EXIT_ARM_NISV) {
        return false;
    }
    abort_access(vcpu);
    return true;
}

void vk_arch_describe(struct vk_vcpu *vcpu, char *text, size_t size) {
    uint64_t pc, pstate, sp, elr, esr, far;
    const struct {
        uint64_t id;
        uint64_t *value;
    } wanted[] = {{CORE(regs.pc), &pc}, {CORE(regs.pstate), &pstate},
                  {CORE(sp_el1), &sp},  {CORE(elr_el1), &elr},
                  {ESR_EL1, &esr},      {FAR_EL1, &far}};

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (get_register(vcpu->fd, wanted[i].id, wanted[i].value)) {
            snprintf(text, size, "whose registers cannot be read");
            return;
        }
    }
    snprintf(text, size, "pc=%#llx pstate=%#llx sp=%#llx elr=%#llx esr=%#llx far=%#llx",
             (unsigned long long)pc, (unsigned long long)pstate, (unsigned long long)sp,
             (unsigned long long)elr, (unsigned long long)esr, (unsigned long long)far);
}
