/* SPDX-License-Identifier: MIT
 * Pixel memory: shared, of fixed size, freed with its last user. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vdesktop/display.h"

struct vd_pixels {
    const struct vd_host *host;
    atomic_uint users;
    int fd;
    void *base;
    uint64_t size;
};

/* Sealed, so that no process it is handed to can make it shorter under a mapping. */
static int make(struct vd_pixels *pixels) {
    pixels->fd = memfd_create("vdesktop-pixels", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (pixels->fd < 0 || ftruncate(pixels->fd, (off_t)pixels->size) ||
        fcntl(pixels->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        return -errno;
    pixels->base = mmap(NULL, pixels->size, PROT_READ | PROT_WRITE, MAP_SHARED, pixels->fd, 0);
    return pixels->base == MAP_FAILED ? -errno : 0;
}

/* A mapping of memory that stays as long as it is: an access must never raise SIGBUS. */
static int map(struct vd_pixels *pixels, int fd) {
    struct stat file;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &file) ||
        (uint64_t)file.st_size < pixels->size)
        return -EINVAL;
    pixels->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (pixels->fd < 0)
        return -errno;
    pixels->base = mmap(NULL, pixels->size, PROT_READ | PROT_WRITE, MAP_SHARED, pixels->fd, 0);
    return pixels->base == MAP_FAILED ? -errno : 0;
}

/* Page by page where the guest has it so: what is one after the other in the host becomes one
 * mapping. mremap(2): an old size of 0 maps shared pages once more. */
static int assemble(struct vd_pixels *pixels, const struct vd_piece *pieces, uint32_t n) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), done = 0;
    pixels->base =
        mmap(NULL, pixels->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pixels->base == MAP_FAILED)
        return -errno;
    for (uint32_t i = 0, next; i < n; i = next) {
        uint8_t *from = (uint8_t *)(uintptr_t)pieces[i].base, *to = (uint8_t *)pixels->base + done;
        uint64_t len = pieces[i].len;
        for (next = i + 1; next < n && pieces[next].base == from + len; next++)
            len += pieces[next].len;
        if ((uintptr_t)from % page || (next < n && len % page))
            return -EINVAL;
        len = (len + page - 1) / page * page;
        if (mremap(from, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED)
            return -errno;
        done += len;
    }
    return mprotect(pixels->base, pixels->size, PROT_READ) ? -errno : 0;
}

static struct vd_pixels *blank(const struct vd_host *host, uint64_t size) {
    struct vd_pixels *pixels = host->alloc(host->opaque, sizeof *pixels);
    if (!pixels)
        return NULL;
    pixels->host = host;
    pixels->size = size;
    pixels->base = MAP_FAILED;
    pixels->fd = -1;
    atomic_init(&pixels->users, 1);
    return pixels;
}

/* The pixels, or NULL after an error. */
static struct vd_pixels *checked(struct vd_pixels *pixels, int error) {
    if (!error)
        return pixels;
    vd_pixels_unref(pixels);
    return NULL;
}

struct vd_pixels *vd_pixels_new(const struct vd_host *host, uint64_t size, int *error) {
    struct vd_pixels *pixels = blank(host, size);
    *error = pixels ? make(pixels) : -ENOMEM;
    return checked(pixels, *error);
}

struct vd_pixels *vd_pixels_map(const struct vd_host *host, int fd, uint64_t size, int *error) {
    struct vd_pixels *pixels = blank(host, size);
    *error = pixels ? map(pixels, fd) : -ENOMEM;
    return checked(pixels, *error);
}

struct vd_pixels *vd_pixels_view(const struct vd_host *host, const struct vd_piece *pieces,
                                 uint32_t n, int *error) {
    uint64_t size = 0;
    *error = -EINVAL;
    if (!n || n > VD_PIECES_MAX)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        size += pieces[i].len;
    struct vd_pixels *pixels = blank(host, size);
    *error = pixels ? assemble(pixels, pieces, n) : -ENOMEM;
    return checked(pixels, *error);
}

void vd_pixels_ref(struct vd_pixels *pixels) {
    atomic_fetch_add_explicit(&pixels->users, 1, memory_order_relaxed);
}

void vd_pixels_unref(struct vd_pixels *pixels) {
    if (!pixels || atomic_fetch_sub_explicit(&pixels->users, 1, memory_order_acq_rel) != 1)
        return;
    if (pixels->base != MAP_FAILED)
        munmap(pixels->base, pixels->size);
    if (pixels->fd >= 0)
        close(pixels->fd);
    pixels->host->free(pixels->host->opaque, pixels);
}

int vd_pixels_fd(const struct vd_pixels *pixels) {
    return pixels->fd;
}

void *vd_pixels_base(const struct vd_pixels *pixels) {
    return pixels->base;
}

uint64_t vd_pixels_size(const struct vd_pixels *pixels) {
    return pixels->size;
}
