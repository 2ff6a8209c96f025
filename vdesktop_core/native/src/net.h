/* SPDX-License-Identifier: MIT
 * Inside of the net plane: net.c (the device), net_ctrl.c (the control queue),
 * net_header.c (checks), net_rx.c, net_tx.c (frames), net_tap.c (ioctls). */
#ifndef VD_NET_PRIVATE_H
#define VD_NET_PRIVATE_H

#include "plane.h"
#include "vdesktop/net.h"

/* virtio 1.4 §5.1.3; those of the offloads are in vdesktop/net.h */
enum net_feature {
    NET_F_CTRL_GUEST_OFFLOADS = 2,
    NET_F_MTU = 3,
    NET_F_MAC = 5,
    NET_F_MRG_RXBUF = 15,
    NET_F_STATUS = 16,
    NET_F_CTRL_VQ = 17,
    NET_F_CTRL_RX = 18,
    NET_F_CTRL_VLAN = 19,
    NET_F_CTRL_RX_EXTRA = 20,
    NET_F_MQ = 22,
    NET_F_CTRL_MAC_ADDR = 23,
};
#define NET_BIT(feature) (UINT64_C(1) << (feature))
#define NET_GUEST_OFFLOADS                                                                         \
    (NET_BIT(VD_NET_F_GUEST_CSUM) | NET_BIT(VD_NET_F_GUEST_TSO4) | NET_BIT(VD_NET_F_GUEST_TSO6) |  \
     NET_BIT(VD_NET_F_GUEST_ECN) | NET_BIT(VD_NET_F_GUEST_USO4) | NET_BIT(VD_NET_F_GUEST_USO6))

/* §5.1.6: little-endian on the wire, here too */
struct net_header {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
} __attribute__((packed));

enum {
    HDR_F_NEEDS_CSUM = 1,
    HDR_F_DATA_VALID = 2,
    GSO_NONE = 0,
    GSO_TCPV4 = 1,
    GSO_TCPV6 = 4,
    GSO_UDP_L4 = 5,
    GSO_ECN = 0x80,
};

#define ETH_HEADER  14u
#define MAC_FILTERS 64u
#define VLANS       4096u
/* Buffers that one frame may be spread over (MRG_RXBUF), and their segments. */
#define RX_BUFFERS 256u
#define RX_SEGS    1024u

/* §5.1.6.5.1: what the driver wants to hear. */
struct net_filter {
    bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
    uint32_t n_uni, n_multi; /* over MAC_FILTERS: too many to compare, all are let in */
    uint8_t uni[MAC_FILTERS][6], multi[MAC_FILTERS][6];
    uint8_t vlans[VLANS / 8];
};

/* A frame that is longer than the first buffer, on its way into several. It
 * holds on to the buffers it has until the driver gives the rest. */
struct net_assembly {
    uint32_t total, done; /* with the header; total 0: no frame */
    uint32_t n, segs;
    struct net_header header;
    uint32_t written[RX_BUFFERS];
    struct vd_chain chain[RX_BUFFERS];
    struct vd_iov iov[RX_SEGS + VD_CHAIN_SEGS_MAX]; /* the chains' segments, one after the other */
    uint64_t gpa[RX_SEGS + VD_CHAIN_SEGS_MAX];
    uint8_t frame[VD_NET_FRAME_MAX];
};

struct net_pair {
    struct vd_net *net;
    uint16_t index;
    int fd, out_fd; /* the same open file: epoll knows a descriptor once */
    bool in_watched, out_watched, gone;
    bool attached; /* a TAP queue that the kernel hands frames to */
    struct net_assembly *long_frame;
};

struct vd_net {
    struct vd_plane plane; /* first: &net->plane.dev is the device */
    struct vd_net_config config;
    uint64_t features;     /* negotiated */
    uint32_t active_pairs; /* §5.1.6.5.5 */
    uint16_t ctrl_queue;   /* 0: not negotiated */
    uint8_t mac[6];
    _Atomic bool link_up;
    struct net_filter filter;
    struct vd_net_counters counters;
    struct net_pair pair[VD_NET_PAIRS_MAX];
    struct vd_iov iov[VD_CHAIN_SEGS_MAX + 2];
};

static inline bool net_has(const struct vd_net *net, unsigned feature) {
    return net->features >> feature & 1;
}

/* Checks a driver's header (our copy) against the frame, and clears what the
 * host must not see. false: it would make the host read past the frame. */
bool net_header_check(const struct vd_net *net, struct net_header *header, uint32_t frame_len);
/* Clears what the driver did not negotiate from a header of the host's. */
void net_header_for_guest(const struct vd_net *net, struct net_header *header);
/* `frame`: its first 18 bytes, zero-padded. */
bool net_filter_accepts(const struct vd_net *net, const uint8_t frame[18]);
void net_filter_reset(struct vd_net *net);

/* All on the loop's thread. */
void net_rx(struct net_pair *pair);
void net_tx(struct net_pair *pair);
void net_ctrl(struct vd_net *net);
void net_watch(struct net_pair *pair, bool in);
/* The other end of the descriptor is gone: the link goes down. */
void net_gone(struct net_pair *pair);
void net_on_in(void *opaque, uint32_t events);
/* No-ops for what is not a TAP. 0 or -errno. */
int net_tap_set_offloads(struct vd_net *net, uint64_t guest_offloads);
int net_tap_set_pairs(struct vd_net *net, uint32_t active);

#endif
