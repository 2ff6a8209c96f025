/* SPDX-License-Identifier: MIT
 * libslirp's stable ABI (libslirp.so.0, symbol versions SLIRP_4.0 and 4.1), as
 * far as this plugin uses it: declared here, because the library is looked for
 * at run time and its headers are not needed to build. SlirpConfig is that of
 * version 1; a library of any later 4.x reads no further than the version says. */
#ifndef SLIRP_ABI_H
#define SLIRP_ABI_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SLIRP_SONAME         "libslirp.so.0"
#define SLIRP_CONFIG_VERSION 1

struct slirp; /* `Slirp` */

enum {
    SLIRP_POLL_IN = 1 << 0,
    SLIRP_POLL_OUT = 1 << 1,
    SLIRP_POLL_PRI = 1 << 2,
    SLIRP_POLL_ERR = 1 << 3,
    SLIRP_POLL_HUP = 1 << 4,
};

typedef void (*slirp_timer_fn)(void *opaque);
typedef int (*slirp_add_poll_fn)(int fd, int events, void *opaque);
typedef int (*slirp_get_revents_fn)(int index, void *opaque);

/* `SlirpCb`, up to version 3 */
struct slirp_callbacks {
    ssize_t (*send_packet)(const void *frame, size_t len, void *opaque);
    void (*guest_error)(const char *message, void *opaque);
    int64_t (*clock_get_ns)(void *opaque);
    void *(*timer_new)(slirp_timer_fn fn, void *fn_opaque, void *opaque);
    void (*timer_free)(void *timer, void *opaque);
    void (*timer_mod)(void *timer, int64_t expire_ms, void *opaque);
    void (*register_poll_fd)(int fd, void *opaque);
    void (*unregister_poll_fd)(int fd, void *opaque);
    void (*notify)(void *opaque);
};

/* `SlirpConfig`, version 1 */
struct slirp_config {
    uint32_t version;
    int restricted;
    bool in_enabled;
    struct in_addr vnetwork, vnetmask, vhost;
    bool in6_enabled;
    struct in6_addr vprefix_addr6;
    uint8_t vprefix_len;
    struct in6_addr vhost6;
    const char *vhostname, *tftp_server_name, *tftp_path, *bootfile;
    struct in_addr vdhcp_start, vnameserver;
    struct in6_addr vnameserver6;
    const char **vdnssearch;
    const char *vdomainname;
    size_t if_mtu, if_mru;
    bool disable_host_loopback, enable_emu;
};

struct slirp_api {
    struct slirp *(*new)(const struct slirp_config *, const struct slirp_callbacks *, void *opaque);
    void (*cleanup)(struct slirp *);
    void (*pollfds_fill)(struct slirp *, uint32_t *timeout_ms, slirp_add_poll_fn, void *opaque);
    void (*pollfds_poll)(struct slirp *, int select_error, slirp_get_revents_fn, void *opaque);
    void (*input)(struct slirp *, const uint8_t *frame, int len);
    int (*add_hostfwd)(struct slirp *, int is_udp, struct in_addr host, int host_port,
                       struct in_addr guest, int guest_port);
};

#endif
