/* SPDX-License-Identifier: MIT
 *
 * What the probe and its guests share. */
#ifndef VK_PROBE_H
#define VK_PROBE_H

#include "priv.h"

#define VK_PROBE_MEMORY 0x10000u
#define VK_PROBE_LOOPS  25000u /* two instructions each; the guests hold this number */
/* What the guest tells: that it has come to its loop, and each time that it is through it. */
#define VK_MARK_BEGIN 1u
#define VK_MARK_END   2u

struct vk_probe {
    int kvm, vm, vcpu;
    uint8_t *memory; /* VK_PROBE_MEMORY bytes at vk_arch_probe_base */
    struct kvm_run *run;
    size_t run_size;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over;
    bool able;
    bool abandoned;
    _Atomic bool hangs;
    char line[256];
};

struct vk_extension {
    int number;
    const char *name; /* NULL: the end */
};

/* The architecture's part. Functions returning int give -1 and errno on failure. */
extern const struct vk_extension vk_arch_extensions[];
extern const uint64_t vk_arch_probe_base;
int vk_arch_probe_vm(struct vk_probe *p);   /* before the vCPU is created */
int vk_arch_probe_vcpu(struct vk_probe *p); /* the guest, and its registers */
/* The mark that the guest left with, 0: it left for something else. */
unsigned vk_arch_probe_mark(const struct vk_probe *p);
/* What the guest got wrong before its loop, or NULL. */
const char *vk_arch_probe_wrong(const struct vk_probe *p);
/* Where it left for something else, before its loop. */
const char *vk_arch_probe_place(const struct vk_probe *p);

#endif
