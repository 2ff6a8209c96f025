/* SPDX-License-Identifier: MIT
 *
 * riscv64: the state vCPUs begin in, the PLIC, and what the kernel hands over of the
 * SBI. Timer, IPIs and the start of harts are the kernel's. */
#include "priv.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define REGISTER(kind, index) (KVM_REG_RISCV | KVM_REG_SIZE_U64 | (kind) | (index))
#define CORE(name)            REGISTER(KVM_REG_RISCV_CORE, KVM_REG_RISCV_CORE_REG(name))
#define CSR(name)             REGISTER(KVM_REG_RISCV_CSR, KVM_REG_RISCV_CSR_REG(name))

#define PLIC_BASE         0x0C000000ull
#define PLIC_SIZE         0x04000000ull
#define SBI_NOT_SUPPORTED (-2l)
#define LETTERS           "imafdqcvh" /* of misa, in canonical order */

_Static_assert(VK_LINES == VK_PLIC_SOURCES, "a line is a source of the PLIC");
_Static_assert(VK_VCPUS_MAX <= VK_PLIC_CONTEXTS, "a vCPU is a context of the PLIC");

const char vk_arch_driver_advice[] = "the host's processor must have the H extension: load kvm";

struct vk_entry {
    uint64_t pc, a0, a1, sp;
};

static const struct {
    const char *name;
    size_t offset;
    uint64_t id;
} fields[] = {
    {"pc", offsetof(struct vk_entry, pc), CORE(regs.pc)},
    {"a0", offsetof(struct vk_entry, a0), CORE(regs.a0)},
    {"a1", offsetof(struct vk_entry, a1), CORE(regs.a1)},
    {"sp", offsetof(struct vk_entry, sp), CORE(regs.sp)},
};
#define FIELDS (sizeof fields / sizeof fields[0])

struct vk_entry *vk_arch_entry_new(void) {
    return calloc(1, sizeof(struct vk_entry));
}

void vk_arch_entry_clear(struct vk_entry *entry) {
    *entry = (struct vk_entry){0};
}

int vk_arch_entry_set(struct vk_entry *entry, const char *name, uint64_t value) {
    for (size_t i = 0; i < FIELDS; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            memcpy((char *)entry + fields[i].offset, &value, sizeof value);
            return 0;
        }
    }
    return -ENOENT;
}

int vk_riscv64_set(int vcpu, uint64_t id, uint64_t value) {
    const struct kvm_one_reg request = {.id = id, .addr = (uintptr_t)&value};

    return ioctl(vcpu, KVM_SET_ONE_REG, &request) < 0 ? -errno : 0;
}

static int get(int vcpu, uint64_t id, uint64_t *value) {
    const struct kvm_one_reg request = {.id = id, .addr = (uintptr_t)value};

    *value = 0;
    return ioctl(vcpu, KVM_GET_ONE_REG, &request) < 0 ? -errno : 0;
}

/* Under irq_lock, as all of the PLIC; KVM_INTERRUPT does not wait for the vCPU. */
static void set_external(void *opaque, uint32_t context, bool level) {
    struct vk_vm *vm = opaque;
    const struct kvm_interrupt request = {.irq = level ? KVM_INTERRUPT_SET : KVM_INTERRUPT_UNSET};

    if (vm->vcpu[context].fd >= 0) {
        (void)ioctl(vm->vcpu[context].fd, KVM_INTERRUPT, &request);
    }
}

static uint64_t plic_read(void *opaque, uint64_t offset, unsigned width) {
    struct vk_vm *vm = opaque;

    if (width != 4) {
        return 0;
    }
    pthread_mutex_lock(&vm->irq_lock);
    uint32_t value = vk_plic_read(&vm->arch->plic, offset);
    pthread_mutex_unlock(&vm->irq_lock);
    return value;
}

static void plic_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    struct vk_vm *vm = opaque;

    if (width != 4) {
        return;
    }
    pthread_mutex_lock(&vm->irq_lock);
    vk_plic_write(&vm->arch->plic, offset, (uint32_t)value);
    pthread_mutex_unlock(&vm->irq_lock);
}

struct vk_arch *vk_arch_new(struct vk_vm *vm) {
    struct vk_arch *arch = calloc(1, sizeof *arch);

    if (arch) {
        arch->plic = (struct vk_plic){.set = set_external, .opaque = vm};
        arch->io = (struct vd_io){.read = plic_read, .write = plic_write, .opaque = vm};
        if (vk_vm_add_io(vm, false, PLIC_BASE, PLIC_SIZE, &arch->io)) {
            free(arch);
            return NULL;
        }
    }
    return arch;
}

void vk_arch_free(struct vk_arch *arch) {
    free(arch);
}

uint32_t vk_arch_max_vcpus(int kvm) {
    (void)kvm;
    return VK_PLIC_CONTEXTS;
}

int vk_arch_vm_init(struct vk_vm *vm, char *error, size_t size) {
    (void)error, (void)size;
    vm->arch->plic.contexts = vm->vcpus;
    return 0;
}

int vk_arch_vcpu_init(struct vk_vcpu *vcpu, char *error, size_t size) {
    struct vk_vm *vm = vcpu->vm;
    int result = 0;

    if (vcpu->index > 0) {
        return 0; /* the kernel has it wait for HSM */
    }
    for (size_t i = 0; i < FIELDS && !result; i++) {
        uint64_t value;
        memcpy(&value, (const char *)vm->entry + fields[i].offset, sizeof value);
        result = vk_riscv64_set(vcpu->fd, fields[i].id, value);
    }
    if (!result) {
        result = get(vcpu->fd, REGISTER(KVM_REG_RISCV_TIMER, KVM_REG_RISCV_TIMER_REG(frequency)),
                     &vm->timer_hz);
    }
    return result ? vk_complain(error, size, "set a vCPU's registers", -result) : 0;
}

int vk_arch_vm_ready(struct vk_vm *vm, char *error, size_t size) {
    (void)error, (void)size;
    vk_plic_reset(&vm->arch->plic);
    return 0;
}

void vk_arch_vm_drop(struct vk_vm *vm) {
    (void)vm; /* all of it goes with the kernel's VM */
}

uint64_t vk_arch_cpu_id(struct vk_vm *vm, uint32_t index) {
    (void)vm;
    return index; /* KVM's hart ids */
}

void vk_arch_cpu_model(struct vk_vm *vm, char *text, size_t size) {
    static const struct {
        uint32_t id;
        const char *name;
    } named[] = {{KVM_RISCV_ISA_EXT_SVPBMT, "svpbmt"},
                 {KVM_RISCV_ISA_EXT_SSTC, "sstc"},
                 {KVM_RISCV_ISA_EXT_SVINVAL, "svinval"},
                 {KVM_RISCV_ISA_EXT_ZIHINTPAUSE, "zihintpause"}};
    uint64_t isa, has;
    char letters[sizeof LETTERS] = "", extensions[96] = "_zicntr_zicsr_zifencei";
    size_t count = 0;
    int fd = vm->vcpu[0].fd;

    if (get(fd, REGISTER(KVM_REG_RISCV_CONFIG, KVM_REG_RISCV_CONFIG_REG(isa)), &isa)) {
        snprintf(text, size, "%s", "mmu-type=riscv,sv39");
        return;
    }
    for (const char *letter = LETTERS; *letter; letter++) {
        if (*letter != 'h' && isa >> (*letter - 'a') & 1) {
            letters[count++] = *letter;
        }
    }
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (get(fd, REGISTER(KVM_REG_RISCV_ISA_EXT, named[i].id), &has) == 0 && has) {
            size_t used = strlen(extensions);
            snprintf(extensions + used, sizeof extensions - used, "_%s", named[i].name);
        }
    }
    snprintf(text, size, "mmu-type=riscv,sv39 riscv,isa=rv64%s%s", letters, extensions);
}

const char *vk_arch_controller(const struct vk_vm *vm) {
    (void)vm;
    return "plic";
}

int vk_arch_set_line(struct vk_vm *vm, uint32_t line, bool level) {
    vk_plic_set_line(&vm->arch->plic, line, level);
    return 0;
}

bool vk_arch_exit(struct vk_vcpu *vcpu) {
    struct kvm_run *run = vcpu->run;

    switch (run->exit_reason) {
    case KVM_EXIT_RISCV_SBI: /* what the kernel has no answer for: the legacy console, say */
        run->riscv_sbi.ret[0] = (unsigned long)SBI_NOT_SUPPORTED;
        run->riscv_sbi.ret[1] = 0;
        break;
    case KVM_EXIT_RISCV_CSR:
        run->riscv_csr.ret_value = 0;
        break;
    default:
        return false;
    }
    vk_tally(vcpu, VK_COUNT_OTHER);
    return true;
}

void vk_arch_describe(struct vk_vcpu *vcpu, char *text, size_t size) {
    uint64_t pc, sp, sepc, scause, stval;
    const struct {
        uint64_t id;
        uint64_t *value;
    } wanted[] = {{CORE(regs.pc), &pc},
                  {CORE(regs.sp), &sp},
                  {CSR(sepc), &sepc},
                  {CSR(scause), &scause},
                  {CSR(stval), &stval}};

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (get(vcpu->fd, wanted[i].id, wanted[i].value)) {
            snprintf(text, size, "whose registers cannot be read");
            return;
        }
    }
    snprintf(text, size, "pc=%#llx sp=%#llx sepc=%#llx scause=%#llx stval=%#llx",
             (unsigned long long)pc, (unsigned long long)sp, (unsigned long long)sepc,
             (unsigned long long)scause, (unsigned long long)stval);
}
