/* SPDX-License-Identifier: MIT */
#include "bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vdesktop/backend/io_ranges.h"

struct doorbell {
    uint64_t address, value;
    uint32_t width;
    bool match;
    int fd;
};

struct memory {
    uint64_t gpa, size;
    uint8_t *host;
};

struct vx_bus {
    pthread_mutex_t lock;
    struct vd_io_ranges mmio, port;
    struct doorbell doorbell[VX_DOORBELLS_MAX];
    uint32_t doorbells;
    struct memory memory[VX_MEMORY_MAX];
    uint32_t memories;
    _Atomic uint64_t counts[VX_COUNTS]; /* written under the lock */
};

struct vx_bus *vx_bus_new(void) {
    struct vx_bus *bus = calloc(1, sizeof *bus);

    if (bus) {
        pthread_mutex_init(&bus->lock, NULL);
    }
    return bus;
}

void vx_bus_free(struct vx_bus *bus) {
    if (bus) {
        pthread_mutex_destroy(&bus->lock);
        free(bus);
    }
}

static void tally(struct vx_bus *bus, enum vx_count which) {
    uint64_t now = atomic_load_explicit(&bus->counts[which], memory_order_relaxed);
    atomic_store_explicit(&bus->counts[which], now + 1, memory_order_relaxed);
}

uint64_t vx_bus_count(const struct vx_bus *bus, uint32_t which) {
    return which < VX_COUNTS ? atomic_load(&bus->counts[which]) : 0;
}

int vx_bus_add_io(struct vx_bus *bus, bool port, uint64_t base, uint64_t size,
                  const struct vd_io *io) {
    struct vd_io_range range = {.base = base, .size = size, .io = *io};
    pthread_mutex_lock(&bus->lock);
    int result = port ? vd_io_ranges_add(&bus->port, &range, VD_IO_LAST_PORT)
                      : vd_io_ranges_add(&bus->mmio, &range, UINT64_MAX);
    pthread_mutex_unlock(&bus->lock);
    return result;
}

int vx_bus_remove_io(struct vx_bus *bus, bool port, uint64_t base, uint64_t *size) {
    struct vd_io_ranges *ranges = port ? &bus->port : &bus->mmio;

    pthread_mutex_lock(&bus->lock);
    const struct vd_io_range *range = vd_io_ranges_find(ranges, base, 1);
    *size = range ? range->size : 0;
    int result = vd_io_ranges_remove(ranges, base);
    pthread_mutex_unlock(&bus->lock);
    return result;
}

bool vx_bus_run(struct vx_bus *bus, bool port, uint32_t index, uint64_t *base, uint64_t *size) {
    const struct vd_io_ranges *ranges = port ? &bus->port : &bus->mmio;
    uint32_t runs = 0;

    pthread_mutex_lock(&bus->lock);
    *size = 0;
    for (uint32_t at = 0; at < ranges->count && runs <= index + 1; at++) {
        const struct vd_io_range *range = &ranges->range[at];
        if (at == 0 || range[-1].base + range[-1].size != range->base) {
            runs++;
        }
        if (runs == index + 1) {
            *base = *size ? *base : range->base;
            *size += range->size;
        }
    }
    pthread_mutex_unlock(&bus->lock);
    return *size != 0;
}

int vx_bus_add_memory(struct vx_bus *bus, uint64_t gpa, uint64_t size, void *host) {
    int result = 0;

    if (size == 0 || gpa + size < gpa) {
        return -EINVAL;
    }
    pthread_mutex_lock(&bus->lock);
    for (uint32_t i = 0; i < bus->memories; i++) {
        const struct memory *m = &bus->memory[i];
        if (gpa < m->gpa + m->size && m->gpa < gpa + size) {
            result = -EEXIST;
        }
    }
    if (!result && bus->memories == VX_MEMORY_MAX) {
        result = -ENOSPC;
    }
    if (!result) {
        bus->memory[bus->memories++] = (struct memory){gpa, size, host};
    }
    pthread_mutex_unlock(&bus->lock);
    return result;
}

int vx_bus_remove_memory(struct vx_bus *bus, uint64_t gpa) {
    int result = -ENOENT;

    pthread_mutex_lock(&bus->lock);
    for (uint32_t i = 0; result && i < bus->memories; i++) {
        if (bus->memory[i].gpa == gpa) {
            bus->memory[i] = bus->memory[--bus->memories];
            result = 0;
        }
    }
    pthread_mutex_unlock(&bus->lock);
    return result;
}

/* The host's address of guest memory that lies whole in one region, or NULL. */
static uint8_t *memory_at(const struct vx_bus *bus, uint64_t gpa, uint64_t size) {
    for (uint32_t i = 0; i < bus->memories; i++) {
        const struct memory *m = &bus->memory[i];
        if (gpa >= m->gpa && gpa - m->gpa < m->size && m->size - (gpa - m->gpa) >= size) {
            return m->host + (gpa - m->gpa);
        }
    }
    return NULL;
}

int vx_bus_add_doorbell(struct vx_bus *bus, uint64_t address, uint32_t width, bool match,
                        uint64_t value, int fd) {
    int result = -ENOSPC;

    pthread_mutex_lock(&bus->lock);
    if (bus->doorbells < VX_DOORBELLS_MAX) {
        bus->doorbell[bus->doorbells++] = (struct doorbell){address, value, width, match, fd};
        result = 0;
    }
    pthread_mutex_unlock(&bus->lock);
    return result;
}

int vx_bus_remove_doorbell(struct vx_bus *bus, uint64_t address, uint32_t width, bool match,
                           uint64_t value, int fd) {
    int result = -ENOENT;

    pthread_mutex_lock(&bus->lock);
    for (uint32_t i = 0; result && i < bus->doorbells; i++) {
        const struct doorbell *bell = &bus->doorbell[i];
        if (bell->address == address && bell->width == width && bell->match == match &&
            bell->fd == fd && (!match || bell->value == value)) {
            bus->doorbell[i] = bus->doorbell[--bus->doorbells];
            result = 0;
        }
    }
    pthread_mutex_unlock(&bus->lock);
    return result;
}

static bool ring(struct vx_bus *bus, uint64_t address, uint32_t width, uint64_t value) {
    for (uint32_t i = 0; i < bus->doorbells; i++) {
        const struct doorbell *bell = &bus->doorbell[i];
        if (bell->address == address && bell->width == width &&
            (!bell->match || bell->value == value)) {
            const uint64_t one = 1;
            /* A full eventfd has been rung already. */
            if (write(bell->fd, &one, sizeof one) == sizeof one || errno == EAGAIN) {
                tally(bus, VX_COUNT_DOORBELL);
                return true;
            }
        }
    }
    return false;
}

static uint64_t mask(uint32_t width) {
    return width >= 8 ? UINT64_MAX : (1ull << 8 * width) - 1;
}

static uint64_t reach(struct vx_bus *bus, bool port, bool read, uint64_t address, uint32_t width,
                      uint64_t value) {
    bool regular = width == 1 || width == 2 || width == 4 || (width == 8 && !port);

    if (!read && !port && ring(bus, address, width, value & mask(width))) {
        return 0;
    }
    const struct vd_io_range *range =
        regular ? vd_io_ranges_find(port ? &bus->port : &bus->mmio, address, width) : NULL;
    if (!range) {
        tally(bus, VX_COUNT_UNASSIGNED);
        return mask(width);
    }
    const struct vd_io *io = &range->io;
    if (read) {
        return io->read(io->opaque, address - range->base, width) & mask(width);
    }
    io->write(io->opaque, address - range->base, width, value & mask(width));
    return 0;
}

/* One access, or those of a string instruction: a port stays, an MMIO address
 * moves, and so does the memory at the other end. */
static void transfer(struct vx_bus *bus, struct vx_ioreq *request, bool port) {
    bool read = request->flags & VX_IOREQ_READ, in_memory = request->flags & VX_IOREQ_DATA_IS_PTR;
    uint32_t width = request->size;
    uint64_t step = request->flags & VX_IOREQ_DF ? -(uint64_t)width : width;

    if (width == 0 || width > 8) {
        tally(bus, VX_COUNT_UNASSIGNED);
        return;
    }
    for (uint32_t i = 0; i < request->count; i++) {
        uint64_t address = port ? request->addr : request->addr + i * step;
        uint64_t value = request->data;
        uint8_t *place = NULL;
        if (in_memory) {
            place = memory_at(bus, request->data + i * step, width);
            value = 0;
            if (!read && place) {
                memcpy(&value, place, width);
            }
        }
        value = reach(bus, port, read, address, width, value);
        if (read && place) {
            memcpy(place, &value, width);
        } else if (read && !in_memory) {
            request->data = value;
        }
    }
}

void vx_bus_serve(struct vx_bus *bus, struct vx_ioreq *request) {
    pthread_mutex_lock(&bus->lock);
    switch (request->type) {
    case VX_IOREQ_PIO:
        tally(bus, VX_COUNT_PORT);
        transfer(bus, request, true);
        break;
    case VX_IOREQ_COPY:
        tally(bus, VX_COUNT_MMIO);
        transfer(bus, request, false);
        break;
    case VX_IOREQ_INVALIDATE:
        /* The domain gave pages back. Ours stay mapped, and theirs: reset maps anew. */
        tally(bus, VX_COUNT_INVALIDATE);
        break;
    default:
        tally(bus, VX_COUNT_OTHER);
        request->data = UINT64_MAX;
    }
    pthread_mutex_unlock(&bus->lock);
}
