/* SPDX-License-Identifier: MIT
 *
 * Interrupt lines: the pins of the domain's I/O APIC. */
#include "priv.h"

static void line_set(void *opaque, bool level) {
    struct vx_line *line = opaque;

    pthread_mutex_lock(&line->lock);
    if (line->level != level) {
        line->level = level;
        /* A domain that is gone needs no interrupts: the serving thread tells. */
        vx_arch_set_line(&line->vm->xen, line->vm->domain, line->number, level);
        if (level) {
            atomic_fetch_add_explicit(&line->vm->interrupts, 1, memory_order_relaxed);
        }
    }
    pthread_mutex_unlock(&line->lock);
}

void vx_lines_init(struct vx_vm *vm) {
    for (uint32_t i = 0; i < VX_LINES; i++) {
        struct vx_line *line = &vm->line[i];
        line->irq = (struct vd_irq){line_set, line};
        line->vm = vm;
        line->number = i;
        pthread_mutex_init(&line->lock, NULL);
    }
}

void vx_lines_free(struct vx_vm *vm) {
    for (uint32_t i = 0; i < VX_LINES; i++) {
        pthread_mutex_destroy(&vm->line[i].lock);
    }
}

struct vd_irq *vx_vm_irq(struct vx_vm *vm, uint32_t line) {
    return line >= VX_FIRST_LINE && line < VX_LINES ? &vm->line[line].irq : NULL;
}

uint32_t vx_vm_lines(struct vx_vm *vm, uint32_t *first) {
    (void)vm;
    *first = VX_FIRST_LINE;
    return VX_LINES;
}
