/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Several CPUs in an engine that knows one: copies of its ArchCPU. Generated
 * code reaches the CPU through its environment register, so all share the
 * translations, and TLBs, jump caches and interrupt state are each one's own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "priv.h"

#define JUMP_CACHE_BYTES 32768u
#define INTERRUPT_NONE   (-1)

/* QTAILQ_HEAD: first, and the address of the last next-pointer. */
static void list_init(void *cs, uint32_t offset) {
    TCG_FIELD(cs, offset, void *) = NULL;
    TCG_FIELD(cs, offset + 8, void *) = (char *)cs + offset;
}

static void *relocate(void *pointer, const char *from, char *to, size_t size) {
    uintptr_t offset = (uintptr_t)pointer - (uintptr_t)from;
    return offset < size ? to + offset : pointer;
}

static int clone(struct tcg_vm *vm, struct tcg_vcpu *vcpu) {
    const struct tcg_layout *l = vm->layout;
    const char *from = vm->vcpu[0].cs;
    char *cs = aligned_alloc(64, (l->cpu_size + 63u) & ~63u);
    if (!cs)
        return -ENOMEM;
    memcpy(cs, from, l->cpu_size);
    const uint32_t own[] = {l->cpu.env_ptr, l->cpu.icount_decr_ptr, l->cpu.cc};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        TCG_FIELD(cs, own[i], void *) =
            relocate(TCG_FIELD(cs, own[i], void *), from, cs, l->cpu_size);
    list_init(cs, l->cpu.breakpoints);
    list_init(cs, l->cpu.watchpoints);
    memset(cs + l->cpu.tb_jmp_cache, 0, JUMP_CACHE_BYTES);
    TCG_FIELD(cs, l->cpu.cpu_index, int) = (int)vcpu->index;
    vm->fns->tlb_init(cs);
    vcpu->cs = cs;
    return 0;
}

int tcg_vcpus_create(struct tcg_vm *vm) {
    const struct tcg_layout *l = vm->layout;
    char *first = TCG_FIELD(vm->uc, l->uc.cpu, char *);
    size_t tail = l->cpu_size - l->env;
    vm->pristine = malloc(tail);
    if (!vm->pristine)
        return -ENOMEM;
    memcpy(vm->pristine, first + l->env, tail);
    vm->current = &vm->vcpu[0];
    for (uint32_t i = 0; i < vm->n_vcpus; i++) {
        struct tcg_vcpu *v = &vm->vcpu[i];
        v->vm = vm;
        v->index = i;
        v->deadline = TCG_NEVER;
        v->cs = first;
        if (i > 0) {
            int error = clone(vm, v);
            if (error)
                return error;
        }
        v->env = (char *)v->cs + l->env;
        TCG_FIELD(v->cs, l->cpu.opaque, void *) = v;
        v->arch = calloc(1, vm->ops->vcpu_size ? vm->ops->vcpu_size : 1);
        if (!v->arch)
            return -ENOMEM;
    }
    return 0;
}

/* What tlb_init allocated (the library frees CPU 0's). CPUTLBDesc is 696 bytes
 * with iotlb last; CPUTLBDescFast is {mask, table}. */
static void free_tlb(const struct tcg_layout *l, char *cs) {
    for (uint32_t m = 0; m < l->mmu_modes; m++) {
        free(TCG_FIELD(cs, l->neg + 32 + m * 696 + 688, void *));
        free(TCG_FIELD(cs, l->neg + l->tlb_f + m * 16 + 8, void *));
    }
}

void tcg_vcpus_destroy(struct tcg_vm *vm) {
    for (uint32_t i = 0; i < vm->n_vcpus; i++) {
        free(vm->vcpu[i].arch);
        if (i > 0 && vm->vcpu[i].cs) {
            free_tlb(vm->layout, vm->vcpu[i].cs);
            free(vm->vcpu[i].cs);
        }
    }
    free(vm->pristine);
}

/* A CPU just out of reset. */
void tcg_vcpu_pristine(struct tcg_vcpu *vcpu) {
    const struct tcg_layout *l = vcpu->vm->layout;
    memcpy(vcpu->env, vcpu->vm->pristine, l->cpu_size - l->env);
    TCG_FIELD(vcpu->cs, l->cpu.interrupt_request, uint32_t) = 0;
    TCG_FIELD(vcpu->cs, l->cpu.halted, uint32_t) = 0;
    TCG_FIELD(vcpu->cs, l->cpu.exception_index, int32_t) = INTERRUPT_NONE;
    TCG_FIELD(vcpu->cs, l->cpu.cflags_next_tb, int32_t) = -1;
    memset((char *)vcpu->cs + l->cpu.tb_jmp_cache, 0, JUMP_CACHE_BYTES);
    vcpu->vm->fns->tlb_flush(vcpu->cs);
    vcpu->deadline = TCG_NEVER;
}
