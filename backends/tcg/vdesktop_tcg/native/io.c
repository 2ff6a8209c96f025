/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Guest accesses that are not memory.
 *
 * Everything outside memory is covered by the library's MMIO windows: an
 * access without one is an engine error, and a hook for such accesses makes
 * every store of the guest slow. Inside a window we find the handler
 * ourselves. Where there is none a read gives all-ones, as an empty bus does. */
#include <errno.h>

#include "priv.h"

int tcg_ranges_add(struct tcg_ranges *ranges, const struct vd_io_range *range) {
    ranges->last = NULL;
    return vd_io_ranges_add(&ranges->all, range, UINT64_MAX);
}

int tcg_ranges_remove(struct tcg_ranges *ranges, uint64_t base) {
    ranges->last = NULL;
    return vd_io_ranges_remove(&ranges->all, base);
}

/* Most accesses are to the range that the one before was to. */
static const struct vd_io_range *lookup(struct tcg_ranges *ranges, uint64_t address,
                                        unsigned width) {
    const struct vd_io_range *last = ranges->last;
    if (last && address - last->base < last->size)
        return last->size - (address - last->base) >= width ? last : NULL;
    last = vd_io_ranges_find(&ranges->all, address, width);
    if (last)
        ranges->last = last;
    return last;
}

static uint64_t all_ones(unsigned width) {
    return width >= 8 ? UINT64_MAX : (1ull << (width * 8)) - 1;
}

/* A handler may wait for an I/O thread, which may be waiting for us to leave
 * guest code: so we do. Our own models wait for nobody. */
static uint64_t do_read(struct tcg_vm *vm, const struct vd_io_range *r, uint64_t address,
                        unsigned width) {
    if (!r) {
        ++*vm->count.unassigned;
        return all_ones(width);
    }
    if (r->internal)
        return r->io.read(r->io.opaque, address - r->base, width);
    tcg_leave_guest(vm);
    uint64_t value = r->io.read(r->io.opaque, address - r->base, width);
    tcg_enter_guest(vm);
    return value;
}

static void do_write(struct tcg_vm *vm, const struct vd_io_range *r, uint64_t address,
                     unsigned width, uint64_t value) {
    if (!r) {
        ++*vm->count.unassigned;
    } else if (r->internal) {
        r->io.write(r->io.opaque, address - r->base, width, value);
    } else {
        tcg_leave_guest(vm);
        r->io.write(r->io.opaque, address - r->base, width, value);
        tcg_enter_guest(vm);
    }
}

static uint64_t window_read(struct uc_struct *uc, uint64_t offset, unsigned width, void *opaque) {
    struct tcg_window *w = opaque;
    (void)uc;
    ++*w->vm->count.mmio;
    return do_read(w->vm, lookup(&w->vm->mmio, w->base + offset, width), w->base + offset, width);
}

static void window_write(struct uc_struct *uc, uint64_t offset, unsigned width, uint64_t value,
                         void *opaque) {
    struct tcg_window *w = opaque;
    (void)uc;
    ++*w->vm->count.mmio;
    do_write(w->vm, lookup(&w->vm->mmio, w->base + offset, width), w->base + offset, width, value);
}

uint64_t tcg_pio_read(struct tcg_vm *vm, uint32_t port, unsigned width) {
    ++*vm->count.pio;
    return do_read(vm, lookup(&vm->pio, port, width), port, width) & all_ones(width);
}

void tcg_pio_write(struct tcg_vm *vm, uint32_t port, unsigned width, uint64_t value) {
    ++*vm->count.pio;
    do_write(vm, lookup(&vm->pio, port, width), port, width, value & all_ones(width));
}

int tcg_map_io(struct tcg_vm *vm, uint64_t base, uint64_t size, const struct vd_io *io) {
    struct vd_io_range range = {.base = base, .size = size, .io = *io, .internal = true};
    return tcg_ranges_add(&vm->mmio, &range);
}

/* The library flushes the pages of what it unmaps from the TLB of the CPU it
 * knows, one by one, and the last window has a quarter of a billion. So it is to
 * know none for the moment; with the map it flushes the whole TLB anyway. */
void tcg_windows_unmap(struct tcg_vm *vm) {
    void **cpu = &TCG_FIELD(vm->uc, vm->layout->uc.cpu, void *), *known = *cpu;
    *cpu = NULL;
    for (uint32_t i = 0; i < vm->n_windows; i++)
        tcg_uc()->mem_unmap(vm->uc, vm->window[i].base, vm->window[i].size);
    *cpu = known;
    vm->n_windows = 0;
}

static int map_window(struct tcg_vm *vm, uint64_t from, uint64_t to) {
    if (from >= to)
        return 0;
    struct tcg_window *w = &vm->window[vm->n_windows];
    *w = (struct tcg_window){.vm = vm, .base = from, .size = to - from};
    if (tcg_uc()->mmio_map(vm->uc, w->base, w->size, (void *)window_read, w, (void *)window_write,
                           w) != 0)
        return -EIO;
    vm->n_windows++;
    return 0;
}

/* vm->region is sorted by gpa. */
int tcg_windows_map(struct tcg_vm *vm) {
    uint64_t at = 0, end = 1ull << vm->ops->phys_bits;
    for (uint32_t i = 0; i < vm->n_regions; i++) {
        int error = map_window(vm, at, vm->region[i].gpa);
        if (error)
            return error;
        at = vm->region[i].gpa + vm->region[i].size;
    }
    return map_window(vm, at, end);
}
