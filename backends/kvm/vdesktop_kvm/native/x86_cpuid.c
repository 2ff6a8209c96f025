/* SPDX-License-Identifier: MIT
 *
 * CPUID: what the host's KVM supports, less what this machine does not have,
 * with the topology of this machine (Intel SDM vol. 2, CPUID; AMD APM vol. 3,
 * appendix E). All vCPUs are cores of one package, one thread each. */
#include "priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define ENTRIES_MAX 256u
#define ENTRIES_OWN 2u /* topology leaves that are added */

#define ECX1_MONITOR      (1u << 3)
#define ECX1_VMX          (1u << 5)
#define ECX1_PDCM         (1u << 15)
#define ECX1_TSC_DEADLINE (1u << 24)
#define ECX1_HYPERVISOR   (1u << 31)
#define ECX81_SVM         (1u << 2)
#define ECX81_PERFCTR     (3u << 23 | 1u << 28) /* core, northbridge, last-level counters */
#define EBX7_SGX          (1u << 2)
#define EBX7_PT           (1u << 25)
#define ECX7_SGX_LC       (1u << 30)

static unsigned bits_for(uint32_t count) {
    unsigned bits = 0;

    while (1u << bits < count) {
        bits++;
    }
    return bits;
}

static void zero(struct kvm_cpuid_entry2 *e) {
    e->eax = e->ebx = e->ecx = e->edx = 0;
}

static void adapt(struct kvm_cpuid_entry2 *e, int kvm, uint32_t index, uint32_t vcpus) {
    switch (e->function) {
    case 1:
        e->ebx = (e->ebx & 0xFFFFu) | vcpus << 16 | index << 24;
        e->edx = vcpus > 1 ? e->edx | 1u << 28 : e->edx & ~(1u << 28); /* HTT: several ids */
        e->ecx &= ~(ECX1_MONITOR | ECX1_VMX | ECX1_PDCM);
        e->ecx |= ECX1_HYPERVISOR;
        if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0) {
            e->ecx |= ECX1_TSC_DEADLINE;
        }
        break;
    case 4: /* caches: the first two levels are a core's own */
    case 0x8000001D: {
        unsigned level = e->eax >> 5 & 7u;
        uint32_t sharing = level >= 3 ? vcpus - 1 : 0;
        e->eax = (e->eax & 0x3FFFu) | sharing << 14;
        if (e->function == 4) {
            e->eax |= (vcpus - 1) << 26;
        }
        break;
    }
    case 7:
        if (e->index == 0) {
            e->ebx &= ~(EBX7_SGX | EBX7_PT);
            e->ecx &= ~ECX7_SGX_LC;
        }
        break;
    case 0xA:  /* performance counters: they would tie the guest to this model of CPU */
    case 0x12: /* SGX */
    case 0x14: /* processor trace */
    case 0x80000022:
        zero(e);
        break;
    case 0x80000001:
        e->ecx &= ~(ECX81_SVM | ECX81_PERFCTR);
        break;
    case 0x80000008:
        e->ecx = bits_for(vcpus) << 12 | (vcpus - 1);
        break;
    case 0x8000000A: /* nested virtualisation */
        zero(e);
        break;
    case 0x8000001E:
        e->eax = index;
        e->ebx = index; /* core, one thread a core */
        e->ecx = 0;
        break;
    default:
        break;
    }
}

/* Leaf 0xB: level 0 is the thread in its core, level 1 the core in the package. */
static void topology(struct kvm_cpuid2 *cpuid, uint32_t index, uint32_t vcpus) {
    uint32_t kept = 0;

    for (uint32_t i = 0; i < cpuid->nent; i++) {
        uint32_t leaf = cpuid->entries[i].function;
        if (leaf != 0xB && leaf != 0x1F) {
            cpuid->entries[kept++] = cpuid->entries[i];
        }
    }
    for (uint32_t level = 0; level < ENTRIES_OWN; level++) {
        cpuid->entries[kept++] = (struct kvm_cpuid_entry2){
            .function = 0xB,
            .index = level,
            .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            .eax = level ? bits_for(vcpus) : 0,
            .ebx = level ? vcpus : 1,
            .ecx = level | (level + 1) << 8,
            .edx = index,
        };
    }
    cpuid->nent = kept;
}

struct kvm_cpuid2 *vk_cpuid_new(int kvm, uint32_t index, uint32_t vcpus) {
    struct kvm_cpuid2 *cpuid =
        calloc(1, sizeof *cpuid + (ENTRIES_MAX + ENTRIES_OWN) * sizeof cpuid->entries[0]);

    if (!cpuid) {
        errno = ENOMEM;
        return NULL;
    }
    cpuid->nent = ENTRIES_MAX;
    if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0) {
        int code = errno;
        free(cpuid);
        errno = code;
        return NULL;
    }
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
        if (e->function == 0 && e->eax < 0xB) {
            e->eax = 0xB;
        } else if (e->function == 0 && e->eax > 0x1E) {
            e->eax = 0x1E; /* no leaf 0x1F: 0xB says it all */
        }
        adapt(e, kvm, index, vcpus);
    }
    topology(cpuid, index, vcpus);
    return cpuid;
}
