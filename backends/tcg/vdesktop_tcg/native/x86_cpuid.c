/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the vCPU says it is, and with it what the translator accepts: one table
 * for both, so that CPUID never offers what would raise #UD, and nothing works
 * that CPUID does not offer.
 *
 * The identity is that of an in-order Intel core: Linux takes the TSC and APIC
 * timer frequency from leaf 0x15 of Intel CPUs only, which makes a machine
 * with no PIT and no HPET boot, and knows that this core does not speculate,
 * as a software CPU does not, and so turns no mitigations on.
 *
 * Left out though the library has them: SMAP (its two instructions around
 * every copy from user space end a block each), XSAVE (there is no AVX, and
 * FXSAVE is faster), ERMS (REP MOVSB moves a byte a turn), MCE, SVM, 3DNow!,
 * MPX, PKU, LA57, MONITOR. */
#include "x86.h"

#include <string.h>

#define BIT(n) (1u << (n))

enum {
    LEAF_MAX = 0x16,
    EXTENDED_MAX = 0x80000008,
    HYPERVISOR_BASE = 0x40000000,
    HYPERVISOR_MAX = 0x40000010
};

#define VERSION 0x000106CAu /* family 6, model 0x1C, stepping 10 */

#define F1_EDX                                                                                     \
    (BIT(0) /* FPU */ | BIT(2) /* DE */ | BIT(3) /* PSE */ | BIT(4) /* TSC */ | BIT(5) /* MSR */ | \
     BIT(6) /* PAE */ | BIT(8) /* CX8 */ | BIT(9) /* APIC */ | BIT(11) /* SEP */ |                 \
     BIT(12) /* MTRR */ | BIT(13) /* PGE */ | BIT(15) /* CMOV */ | BIT(16) /* PAT */ |             \
     BIT(17) /* PSE36 */ | BIT(19) /* CLFSH */ | BIT(23) /* MMX */ | BIT(24) /* FXSR */ |          \
     BIT(25) /* SSE */ | BIT(26) /* SSE2 */)
#define F1_EDX_HTT BIT(28)
#define F1_ECX                                                                                     \
    (BIT(0) /* SSE3 */ | BIT(1) /* PCLMULQDQ */ | BIT(9) /* SSSE3 */ | BIT(13) /* CX16 */ |        \
     BIT(19) /* SSE4.1 */ | BIT(20) /* SSE4.2 */ | BIT(22) /* MOVBE */ | BIT(23) /* POPCNT */ |    \
     BIT(25) /* AES */ | BIT(30) /* RDRAND */)
/* Ours, of no interest to the translator. */
#define F1_ECX_OWN (BIT(24) /* TSC deadline */ | BIT(31) /* hypervisor */)
#define F7_EBX                                                                                     \
    (BIT(0) /* FSGSBASE */ | BIT(3) /* BMI1 */ | BIT(7) /* SMEP */ | BIT(8) /* BMI2 */ |           \
     BIT(19) /* ADX */ | BIT(23) /* CLFLUSHOPT */ | BIT(24) /* CLWB */)
#define F7_EBX_OWN BIT(1) /* TSC_ADJUST */
#define F81_EDX                                                                                    \
    (BIT(11) /* SYSCALL */ | BIT(20) /* NX */ | BIT(26) /* 1 GiB pages */ | BIT(27) /* RDTSCP */ | \
     BIT(29) /* LM */)
#define F81_ECX (BIT(0) /* LAHF */ | BIT(5) /* LZCNT */)

static const uint64_t features[FEATURE_WORDS] = {
    [FEATURES_1_EDX] = F1_EDX,   [FEATURES_1_ECX] = F1_ECX,   [FEATURES_7_EBX] = F7_EBX,
    [FEATURES_81_EDX] = F81_EDX, [FEATURES_81_ECX] = F81_ECX,
};

static const char vendor[12] = "GenuineIntel", hypervisor[12] = "vdesktop tcg";
static const char brand[48] = "virtio-desktop software CPU";

static uint32_t word(const char *text, unsigned index) {
    uint32_t value;

    memcpy(&value, text + index * 4, sizeof value);
    return value;
}

void x86_cpuid_reset(struct tcg_vcpu *vcpu) {
    void *env = vcpu->env;

    memcpy(&X86_ENV(env, ENV_FEATURES, uint64_t), features, sizeof features);
    /* The translator accepts SYSENTER in 64-bit mode from this vendor only. */
    memcpy(&X86_ENV(env, ENV_CPUID_VENDOR, uint32_t),
           (const uint32_t[]){word(vendor, 0), word(vendor, 1), word(vendor, 2)}, 12);
    X86_ENV(env, ENV_CPUID_VERSION, uint32_t) = VERSION;
    X86_ENV(env, ENV_MCG_CAP, uint64_t) = 0;
}

/* Bits of an APIC id that number the cores of the one package. */
static uint32_t core_bits(uint32_t cpus) {
    return cpus > 1 ? 32 - (uint32_t)__builtin_clz(cpus - 1) : 0;
}

enum cache_type { CACHE_DATA = 1, CACHE_CODE = 2, CACHE_UNIFIED = 3 };

/* Leaf 4. What user space sizes its copies by; nothing here has a cache. */
static struct x86_leaf cache(uint32_t sub, uint32_t cpus) {
    static const struct {
        uint32_t type, level, ways, sets;
        bool shared;
    } caches[] = {
        {CACHE_DATA, 1, 8, 64, false},
        {CACHE_CODE, 1, 8, 64, false},
        {CACHE_UNIFIED, 2, 16, 1024, false},
        {CACHE_UNIFIED, 3, 16, 16384, true},
    };

    if (sub >= sizeof caches / sizeof caches[0]) {
        return (struct x86_leaf){0};
    }
    uint32_t ids = (1u << core_bits(cpus)) - 1;
    return (struct x86_leaf){
        .eax = caches[sub].type | caches[sub].level << 5 | BIT(8) |
               (caches[sub].shared ? ids : 0) << 14 | ids << 26,
        .ebx = (64 - 1) | (caches[sub].ways - 1) << 22,
        .ecx = caches[sub].sets - 1,
    };
}

/* Leaf 0xB: one thread a core, all cores in one package. */
static struct x86_leaf topology(uint32_t sub, uint32_t cpus, uint32_t id) {
    switch (sub) {
    case 0:
        return (struct x86_leaf){0, 1, 1u << 8 | sub, id};
    case 1:
        return (struct x86_leaf){core_bits(cpus), cpus, 2u << 8 | sub, id};
    default:
        return (struct x86_leaf){0, 0, sub & 0xFF, id};
    }
}

static struct x86_leaf leaf_of(struct tcg_vcpu *vcpu, uint32_t leaf, uint32_t sub) {
    uint32_t cpus = tcg_vm_vcpus(vcpu->vm), id = vcpu->index;

    switch (leaf) {
    case 0:
        return (struct x86_leaf){LEAF_MAX, word(vendor, 0), word(vendor, 2), word(vendor, 1)};
    case 1:
        return (struct x86_leaf){VERSION, id << 24 | (1u << core_bits(cpus)) << 16 | 64 / 8 << 8,
                                 F1_ECX | F1_ECX_OWN, F1_EDX | (cpus > 1 ? F1_EDX_HTT : 0)};
    case 2:
        return (struct x86_leaf){0x00FEFF01, 0, 0, 0}; /* see leaf 4; no TLB to speak of */
    case 4:
        return cache(sub, cpus);
    case 6:
        return (struct x86_leaf){.eax = BIT(2)}; /* ARAT */
    case 7:
        return sub == 0 ? (struct x86_leaf){.ebx = F7_EBX | F7_EBX_OWN} : (struct x86_leaf){0};
    case 0xB:
        return topology(sub, cpus, id);
    case 0x15: /* TSC = crystal × EBX / EAX */
        return (struct x86_leaf){1, 1, X86_TSC_HZ, 0};
    case 0x16: /* MHz: base, maximum, bus */
        return (struct x86_leaf){X86_TSC_HZ / 1000000, X86_TSC_HZ / 1000000, X86_TSC_HZ / 1000000,
                                 0};
    case HYPERVISOR_BASE:
        return (struct x86_leaf){HYPERVISOR_MAX, word(hypervisor, 0), word(hypervisor, 1),
                                 word(hypervisor, 2)};
    case HYPERVISOR_MAX: /* kHz of TSC and APIC timer, as several hypervisors tell */
        return (struct x86_leaf){X86_TSC_HZ / 1000, X86_TSC_HZ / 1000, 0, 0};
    case 0x80000000:
        return (struct x86_leaf){EXTENDED_MAX, word(vendor, 0), word(vendor, 2), word(vendor, 1)};
    case 0x80000001:
        return (struct x86_leaf){0, 0, F81_ECX, F81_EDX};
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
        unsigned at = (leaf - 0x80000002) * 4;
        return (struct x86_leaf){word(brand, at), word(brand, at + 1), word(brand, at + 2),
                                 word(brand, at + 3)};
    }
    case 0x80000006:
        return (struct x86_leaf){.ecx = 1024u << 16 | 8u << 12 | 64};
    case 0x80000007:
        return (struct x86_leaf){.edx = BIT(8)}; /* invariant TSC */
    case 0x80000008:
        return (struct x86_leaf){.eax = 48u << 8 | 40};
    default:
        return (struct x86_leaf){0};
    }
}

void x86_cpuid(void *env, uint32_t leaf, uint32_t sub, uint32_t *eax, uint32_t *ebx, uint32_t *ecx,
               uint32_t *edx) {
    struct tcg_vcpu *vcpu = x86_vcpu_of_env(env);

    if (!vcpu) {
        x86_stock.cpuid(env, leaf, sub, eax, ebx, ecx, edx);
        return;
    }
    bool in_range = leaf <= LEAF_MAX || (leaf >= HYPERVISOR_BASE && leaf <= HYPERVISOR_MAX) ||
                    (leaf >= 0x80000000 && leaf <= EXTENDED_MAX);
    /* SDM: above the highest basic leaf, the data of that leaf. */
    struct x86_leaf data = leaf_of(vcpu, in_range ? leaf : LEAF_MAX, sub);
    *eax = data.eax;
    *ebx = data.ebx;
    *ecx = data.ecx;
    *edx = data.edx;
}
