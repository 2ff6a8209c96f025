/* SPDX-License-Identifier: MIT
 * A user-mode network: one end of a socket pair for the network card, the
 * host's ordinary sockets on the other side, libslirp between them, on a thread
 * of its own. Frames on the socket pair are SOCK_SEQPACKET messages, each with
 * a struct virtio_net_hdr_v1 (12 bytes, little-endian) before it. */
#ifndef USERNET_H
#define USERNET_H

#include <stdbool.h>
#include <stdint.h>

struct usernet;

struct usernet_config {
    bool restricted; /* the guest reaches nothing but what is forwarded to it */
    bool ipv6;
    uint16_t mtu;         /* 576 .. 65521, the guest's too */
    const char *hostname; /* what DHCP calls the guest, or NULL */
};

struct usernet_counters {
    uint64_t tx_frames, rx_frames; /* from and to the guest */
    uint64_t rx_dropped;           /* the guest was too slow, and the buffer full */
    uint64_t tx_malformed;         /* header or length make no sense */
    uint64_t guest_errors;         /* what libslirp complained of */
    uint64_t wakeups;
};

enum usernet_error {
    USERNET_OK = 0,
    USERNET_NO_LIBRARY = 1,  /* libslirp.so.0 cannot be loaded */
    USERNET_OLD_LIBRARY = 2, /* it lacks a function */
    USERNET_REFUSED = 3,     /* it does not take the configuration */
    USERNET_NO_RESOURCES = 4,
};

/* NULL and *error. The guest is 10.0.2.15 by DHCP, the host 10.0.2.2, the name
 * server 10.0.2.3; fec0::/64 with fec0::2 and fec0::3. */
struct usernet *usernet_open(const struct usernet_config *config, int *error);
/* Joins the thread and closes everything. */
void usernet_close(struct usernet *net);
/* The network card's end, non-blocking; closed by usernet_close. */
int usernet_fd(const struct usernet *net);
/* Forwards a host port to the guest. Addresses are in host order; host_port 0
 * takes a free one, guest 0 the address of DHCP. The port, or -errno. */
int usernet_forward(struct usernet *net, bool udp, uint32_t host, uint16_t host_port,
                    uint32_t guest, uint16_t guest_port);
void usernet_get_counters(struct usernet *net, struct usernet_counters *counters);

#endif
