/* SPDX-License-Identifier: MIT
 * A disk behind an NBD server, through libnbd.
 *
 * libnbd is loaded when the first such disk is opened, so that a host without it
 * runs everything else; the few functions used are declared here, as its stable
 * C ABI (libnbd.so.0) has them. A connection does one command at a time; several
 * connections carry what workers do side by side. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "vdesktop/blk.h"

#define LIBRARY         "libnbd.so.0"
#define CONNECTIONS_MAX 16u
/* A command's data at most; scattered memory is gathered in a buffer of this size. */
#define CHUNK       ((size_t)1 << 20)
#define RANGE_MAX   ((uint64_t)1 << 30)
#define CMD_NO_HOLE 2u /* LIBNBD_CMD_FLAG_NO_HOLE */
enum { SIZE_MINIMUM, SIZE_PREFERRED };

struct nbd_handle;

struct api {
    struct nbd_handle *(*create)(void);
    void (*close)(struct nbd_handle *h);
    const char *(*get_error)(void);
    int (*get_errno)(void);
    int (*connect_unix)(struct nbd_handle *h, const char *path);
    int (*is_read_only)(struct nbd_handle *h);
    int (*can_flush)(struct nbd_handle *h);
    int (*can_trim)(struct nbd_handle *h);
    int (*can_zero)(struct nbd_handle *h);
    int (*can_multi_conn)(struct nbd_handle *h);
    int64_t (*get_size)(struct nbd_handle *h);
    int64_t (*get_block_size)(struct nbd_handle *h, int which);
    int (*pread)(struct nbd_handle *h, void *to, size_t len, uint64_t offset, uint32_t flags);
    int (*pwrite)(struct nbd_handle *h, const void *from, size_t len, uint64_t offset,
                  uint32_t flags);
    int (*flush)(struct nbd_handle *h, uint32_t flags);
    int (*trim)(struct nbd_handle *h, uint64_t len, uint64_t offset, uint32_t flags);
    int (*zero)(struct nbd_handle *h, uint64_t len, uint64_t offset, uint32_t flags);
    int (*shutdown)(struct nbd_handle *h, uint32_t flags);
};

static const struct {
    const char *name;
    size_t at;
} symbols[] = {
#define SYMBOL(name)                                                                               \
    { "nbd_" #name, offsetof(struct api, name) }
    SYMBOL(create),       SYMBOL(close),          SYMBOL(get_error), SYMBOL(get_errno),
    SYMBOL(connect_unix), SYMBOL(is_read_only),   SYMBOL(can_flush), SYMBOL(can_trim),
    SYMBOL(can_zero),     SYMBOL(can_multi_conn), SYMBOL(get_size),  SYMBOL(get_block_size),
    SYMBOL(pread),        SYMBOL(pwrite),         SYMBOL(flush),     SYMBOL(trim),
    SYMBOL(zero),         SYMBOL(shutdown),
#undef SYMBOL
};

struct connection {
    struct nbd_handle *handle;
    char *bounce; /* CHUNK bytes, when first needed */
};

struct nbd_store {
    struct vd_blk_store store; /* first */
    const struct vd_host *host;
    void *library;
    struct api api;
    bool can_flush;
    pthread_mutex_t lock; /* idle */
    pthread_cond_t returned;
    uint32_t n_idle, n_connections;
    struct connection *idle[CONNECTIONS_MAX];
    struct connection connections[CONNECTIONS_MAX];
};

static struct nbd_store *nbd_of(struct vd_blk_store *store) {
    return (struct nbd_store *)store;
}

static struct connection *borrow(struct nbd_store *nbd) {
    pthread_mutex_lock(&nbd->lock);
    while (!nbd->n_idle)
        pthread_cond_wait(&nbd->returned, &nbd->lock);
    struct connection *connection = nbd->idle[--nbd->n_idle];
    pthread_mutex_unlock(&nbd->lock);
    return connection;
}

static void give_back(struct nbd_store *nbd, struct connection *connection) {
    pthread_mutex_lock(&nbd->lock);
    nbd->idle[nbd->n_idle++] = connection;
    pthread_cond_signal(&nbd->returned);
    pthread_mutex_unlock(&nbd->lock);
}

/* A libnbd result as 0 or -errno. On the thread that made the call. */
static int result_of(const struct nbd_store *nbd, int result) {
    if (result >= 0)
        return 0;
    int error = nbd->api.get_errno();
    return error > 0 ? -error : -EIO; /* libnbd may fail without an errno */
}

struct cursor { /* a place in a segment list */
    const struct vd_iov *iov;
    size_t skip;
};

/* Copies the next len bytes of the segments into (out of) the bounce buffer. */
static void copy(struct cursor *at, char *bounce, size_t len, bool to_bounce) {
    while (len) {
        size_t part = at->iov->len - at->skip;
        if (part > len)
            part = len;
        char *memory = (char *)at->iov->base + at->skip;
        memcpy(to_bounce ? bounce : memory, to_bounce ? memory : bounce, part);
        bounce += part;
        len -= part;
        at->skip += part;
        if (at->skip == at->iov->len) {
            at->iov++;
            at->skip = 0;
        }
    }
}

static int rw_single(struct nbd_store *nbd, struct connection *connection, char *base, size_t len,
                     uint64_t offset, bool write) {
    while (len) {
        size_t part = len < CHUNK ? len : CHUNK;
        int error =
            result_of(nbd, write ? nbd->api.pwrite(connection->handle, base, part, offset, 0)
                                 : nbd->api.pread(connection->handle, base, part, offset, 0));
        if (error)
            return error;
        base += part;
        offset += part;
        len -= part;
    }
    return 0;
}

static int rw_scattered(struct nbd_store *nbd, struct connection *connection,
                        const struct vd_iov *iov, uint32_t n, uint64_t offset, bool write) {
    if (!connection->bounce)
        connection->bounce = nbd->host->alloc(nbd->host->opaque, CHUNK);
    if (!connection->bounce)
        return -ENOMEM;
    uint64_t left = 0;
    for (uint32_t i = 0; i < n; i++)
        left += iov[i].len;
    struct cursor at = {iov, 0};
    while (left) {
        size_t part = left < CHUNK ? (size_t)left : CHUNK;
        if (write)
            copy(&at, connection->bounce, part, true);
        int error = rw_single(nbd, connection, connection->bounce, part, offset, write);
        if (error)
            return error;
        if (!write)
            copy(&at, connection->bounce, part, false);
        offset += part;
        left -= part;
    }
    return 0;
}

static int rw(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n, uint64_t offset,
              uint32_t flags, bool write) {
    struct nbd_store *nbd = nbd_of(store);
    if (flags & VD_BLK_NOWAIT)
        return -EAGAIN;
    struct connection *connection = borrow(nbd);
    int error = n == 1 ? rw_single(nbd, connection, iov->base, iov->len, offset, write)
                       : rw_scattered(nbd, connection, iov, n, offset, write);
    give_back(nbd, connection);
    return error;
}

static int nbd_readv(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n,
                     uint64_t offset, uint32_t flags) {
    return rw(store, iov, n, offset, flags, false);
}

static int nbd_writev(struct vd_blk_store *store, const struct vd_iov *iov, uint32_t n,
                      uint64_t offset, uint32_t flags) {
    return rw(store, iov, n, offset, flags, true);
}

static int nbd_flush(struct vd_blk_store *store, uint32_t flags) {
    struct nbd_store *nbd = nbd_of(store);
    if (!nbd->can_flush) /* the server caches nothing (NBD protocol, NBD_FLAG_SEND_FLUSH) */
        return 0;
    if (flags & VD_BLK_NOWAIT)
        return -EAGAIN;
    struct connection *connection = borrow(nbd);
    int error = result_of(nbd, nbd->api.flush(connection->handle, 0));
    give_back(nbd, connection);
    return error;
}

static int range(struct vd_blk_store *store,
                 int (*command)(struct nbd_handle *h, uint64_t len, uint64_t offset,
                                uint32_t flags),
                 uint64_t offset, uint64_t len, uint32_t flags) {
    struct nbd_store *nbd = nbd_of(store);
    struct connection *connection = borrow(nbd);
    int error = 0;
    while (len && !error) {
        uint64_t part = len < RANGE_MAX ? len : RANGE_MAX;
        error = result_of(nbd, command(connection->handle, part, offset, flags));
        offset += part;
        len -= part;
    }
    give_back(nbd, connection);
    return error;
}

static int nbd_discard(struct vd_blk_store *store, uint64_t offset, uint64_t len) {
    return range(store, nbd_of(store)->api.trim, offset, len, 0);
}

static int nbd_write_zeroes(struct vd_blk_store *store, uint64_t offset, uint64_t len, bool unmap) {
    return range(store, nbd_of(store)->api.zero, offset, len, unmap ? 0 : CMD_NO_HOLE);
}

static void nbd_close(struct vd_blk_store *store) {
    struct nbd_store *nbd = nbd_of(store);
    const struct vd_host *host = nbd->host;
    for (uint32_t i = 0; i < nbd->n_connections; i++) {
        struct connection *connection = &nbd->connections[i];
        nbd->api.shutdown(connection->handle, 0);
        nbd->api.close(connection->handle);
        if (connection->bounce)
            host->free(host->opaque, connection->bounce);
    }
    pthread_cond_destroy(&nbd->returned);
    pthread_mutex_destroy(&nbd->lock);
    if (nbd->library)
        dlclose(nbd->library);
    host->free(host->opaque, nbd);
}

static bool load(struct nbd_store *nbd, char *message, size_t message_len) {
    nbd->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!nbd->library) {
        snprintf(message, message_len, "cannot load " LIBRARY ": install libnbd (Debian: libnbd0)");
        return false;
    }
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *function = dlsym(nbd->library, symbols[i].name);
        if (!function) {
            snprintf(message, message_len, LIBRARY " has no %s: install a newer libnbd",
                     symbols[i].name);
            return false;
        }
        memcpy((char *)&nbd->api + symbols[i].at, &function, sizeof function);
    }
    return true;
}

static bool add_connection(struct nbd_store *nbd, const char *path, char *message,
                           size_t message_len) {
    struct nbd_handle *handle = nbd->api.create();
    if (handle && nbd->api.connect_unix(handle, path) == 0) {
        struct connection *connection = &nbd->connections[nbd->n_connections++];
        connection->handle = handle;
        nbd->idle[nbd->n_idle++] = connection;
        return true;
    }
    snprintf(message, message_len, "%s", nbd->api.get_error());
    if (handle)
        nbd->api.close(handle);
    return false;
}

/* What the server told of the disk, into the store's public part. */
static bool describe(struct nbd_store *nbd, bool read_only, char *message, size_t message_len) {
    struct vd_blk_store *store = &nbd->store;
    struct nbd_handle *handle = nbd->connections[0].handle;
    int64_t size = nbd->api.get_size(handle);
    int64_t minimum = nbd->api.get_block_size(handle, SIZE_MINIMUM);
    int64_t preferred = nbd->api.get_block_size(handle, SIZE_PREFERRED);
    if (size <= 0 || size % VD_BLK_SECTOR) {
        snprintf(message, message_len, "its size of %lld bytes is not a positive multiple of 512",
                 (long long)size);
        return false;
    }
    if (minimum > 65536 || (minimum > 0 && (minimum & (minimum - 1)))) {
        snprintf(message, message_len, "the server's block size of %lld bytes is not supported",
                 (long long)minimum);
        return false;
    }
    store->size = (uint64_t)size;
    store->block_size = minimum > VD_BLK_SECTOR ? (uint32_t)minimum : VD_BLK_SECTOR;
    while (store->physical_exp < 7 &&
           (int64_t)store->block_size << (store->physical_exp + 1) <= preferred)
        store->physical_exp++;
    store->read_only = read_only || nbd->api.is_read_only(handle) == 1;
    nbd->can_flush = nbd->api.can_flush(handle) == 1;
    if (nbd->api.can_trim(handle) == 1)
        store->discard = nbd_discard;
    if (nbd->api.can_zero(handle) == 1)
        store->write_zeroes = nbd_write_zeroes;
    return true;
}

struct vd_blk_store *vd_blk_nbd_open(const struct vd_host *host, const char *socket_path,
                                     uint32_t connections, bool read_only, char *message,
                                     size_t message_len) {
    struct nbd_store *nbd = host->alloc(host->opaque, sizeof *nbd);
    if (!nbd) {
        snprintf(message, message_len, "out of memory");
        return NULL;
    }
    nbd->host = host;
    nbd->store.readv = nbd_readv;
    nbd->store.writev = nbd_writev;
    nbd->store.flush = nbd_flush;
    nbd->store.close = nbd_close;
    pthread_mutex_init(&nbd->lock, NULL);
    pthread_cond_init(&nbd->returned, NULL);
    bool good = load(nbd, message, message_len) &&
                add_connection(nbd, socket_path, message, message_len) &&
                describe(nbd, read_only, message, message_len);
    /* Without it a flush on one connection says nothing about writes on another. */
    if (good && nbd->api.can_multi_conn(nbd->connections[0].handle) != 1)
        connections = 1;
    if (connections > CONNECTIONS_MAX)
        connections = CONNECTIONS_MAX;
    while (good && nbd->n_connections < connections)
        good = add_connection(nbd, socket_path, message, message_len);
    if (good)
        return &nbd->store;
    nbd_close(&nbd->store);
    return NULL;
}
