/* SPDX-License-Identifier: MIT
 * The network device's data plane (virtio 1.4 §5.1): queue pairs, each between
 * two virtqueues and a host file descriptor that carries one frame a read or
 * write. */
#ifndef VDESKTOP_NET_H
#define VDESKTOP_NET_H

#include "vdesktop/device.h"
#include "vdesktop/loop.h"

#define VD_NET_PAIRS_MAX 16
#define VD_NET_FRAME_MAX                                                                           \
    65550 /* an IP packet of 65535 bytes, its Ethernet header, and one to spare */

/* Frames are preceded by struct virtio_net_hdr_v1: 12 bytes, little-endian. */
#define VD_NET_VNET_HDR 1
/* The descriptors are TAP queues: offloads and active queues are set by ioctl. */
#define VD_NET_TAP 2

/* What the port can take, as virtio feature bits (§5.1.3). */
#define VD_NET_F_CSUM       0
#define VD_NET_F_GUEST_CSUM 1
#define VD_NET_F_GUEST_TSO4 7
#define VD_NET_F_GUEST_TSO6 8
#define VD_NET_F_GUEST_ECN  9
#define VD_NET_F_HOST_TSO4  11
#define VD_NET_F_HOST_TSO6  12
#define VD_NET_F_HOST_ECN   13
#define VD_NET_F_GUEST_USO4 54
#define VD_NET_F_GUEST_USO6 55
#define VD_NET_F_HOST_USO   56

struct vd_net;

/* Descriptors are duplicated: the caller keeps its own. They are O_NONBLOCK;
 * TAP queues, or sockets that keep message borders. */
struct vd_net_config {
    uint8_t mac[6];
    uint16_t mtu;             /* offered to the driver; 0: not */
    uint32_t pairs;           /* 1 .. VD_NET_PAIRS_MAX; over 1 needs VD_NET_TAP */
    uint32_t flags;           /* VD_NET_* */
    uint64_t offloads;        /* 1 << VD_NET_F_*; needs VD_NET_VNET_HDR */
    uint32_t max_frame;       /* longer frames are dropped and counted; 0: VD_NET_FRAME_MAX */
    int fd[VD_NET_PAIRS_MAX]; /* -1: not connected */
};

struct vd_net_counters {
    uint64_t rx_frames, rx_bytes; /* host to guest */
    uint64_t tx_frames, tx_bytes; /* guest to host */
    uint64_t rx_filtered;         /* not for this guest, by its own receive filter */
    uint64_t rx_too_long;         /* longer than the driver's buffer can be */
    uint64_t rx_stalls;           /* times the host had to wait for the driver's buffers */
    uint64_t tx_bad_length; /* shorter than an Ethernet header, longer than max_frame, or in too
                               many pieces */
    uint64_t tx_bad_header; /* checksum or segmentation fields that do not fit the frame */
    uint64_t tx_refused;    /* the host did not take the frame */
    uint64_t tx_stalls;     /* times the driver had to wait for the host */
    uint64_t ctrl_commands, ctrl_refused;
};

/* NULL and *error = -errno. */
struct vd_net *vd_net_new(const struct vd_host *host, struct vd_mem *mem, struct vd_loop *loop,
                          const char *name, const struct vd_net_config *config, int *error);
/* The device must be detached. */
void vd_net_free(struct vd_net *net);
struct vd_device *vd_net_device(struct vd_net *net);
/* Plugs the cable in or out (VIRTIO_NET_S_LINK_UP). Out, frames are dropped. Any thread. */
void vd_net_set_link(struct vd_net *net, bool up);
void vd_net_counters(struct vd_net *net, struct vd_net_counters *counters);

#endif
