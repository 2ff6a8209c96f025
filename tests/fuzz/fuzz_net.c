/* SPDX-License-Identifier: MIT
 * libFuzzer target: a guest's memory, kicks and control commands against a
 * virtio-net device, with frames from the host in between. What comes out on the
 * host's side is checked: its kernel would take the offload header at its word.
 * The first eight operation bytes say which features the driver takes. */
#include "net.h"

#include <endian.h>
#include <string.h>
#include <sys/socket.h>

#include "harness.h"

enum { RX_QUEUE, TX_QUEUE, CTRL_QUEUE, QUEUES };
enum { OP_KICK, OP_FRAME, OP_DRAIN, OP_LINK, OP_POKE, OP_QUEUE_RESET };

#define OFFLOADS                                                                                   \
    (NET_GUEST_OFFLOADS | NET_BIT(VD_NET_F_CSUM) | NET_BIT(VD_NET_F_HOST_TSO4) |                   \
     NET_BIT(VD_NET_F_HOST_TSO6) | NET_BIT(VD_NET_F_HOST_ECN) | NET_BIT(VD_NET_F_HOST_USO))

static struct {
    struct vd_net *net;
    int cable; /* the host's end */
    uint8_t frame[sizeof(struct net_header) + VD_NET_FRAME_MAX + 1];
} rig;

static void set_up(struct fuzz *f) {
    struct vd_net_config config = {
        .mac = {0x52, 0x54, 0, 0x12, 0x34, 0x56},
        .mtu = 1500,
        .pairs = 1,
        .flags = VD_NET_VNET_HDR,
        .offloads = OFFLOADS,
    };
    int ends[2], error;
    fuzz_check(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends));
    rig.cable = ends[0];
    for (size_t i = 0; i < VD_NET_PAIRS_MAX; i++)
        config.fd[i] = i ? -1 : ends[1];
    rig.net = vd_net_new(&f->host, f->mem, f->loop, "fuzz", &config, &error);
    fuzz_check(rig.net && !vd_mmio_attach(f->mmio, vd_net_device(rig.net)));
}

static void check_frame(const struct net_header *h, size_t len) {
    uint32_t start = le16toh(h->csum_start), offset = le16toh(h->csum_offset);
    fuzz_check(len >= ETH_HEADER && len <= VD_NET_FRAME_MAX);
    fuzz_check(!(h->flags & ~HDR_F_NEEDS_CSUM));
    if (h->flags)
        fuzz_check(net_has(rig.net, VD_NET_F_CSUM) && start >= ETH_HEADER &&
                   start + offset + 2 <= len);
    if (h->gso_type == GSO_NONE)
        return;
    fuzz_check(h->flags && le16toh(h->gso_size) && le16toh(h->hdr_len) <= len);
    fuzz_check(!(h->gso_type & GSO_ECN) || net_has(rig.net, VD_NET_F_HOST_ECN));
    switch (h->gso_type & ~GSO_ECN) {
    case GSO_TCPV4:
        fuzz_check(net_has(rig.net, VD_NET_F_HOST_TSO4));
        break;
    case GSO_TCPV6:
        fuzz_check(net_has(rig.net, VD_NET_F_HOST_TSO6));
        break;
    case GSO_UDP_L4:
        fuzz_check(net_has(rig.net, VD_NET_F_HOST_USO));
        break;
    default:
        fuzz_check(false);
    }
}

static void drain(void) {
    ssize_t got;
    while ((got = recv(rig.cable, rig.frame, sizeof rig.frame, 0)) > 0) {
        struct net_header header;
        fuzz_check((size_t)got > sizeof header);
        memcpy(&header, rig.frame, sizeof header);
        check_frame(&header, (size_t)got - sizeof header);
    }
}

static void frame_from_host(struct fuzz_input *in) {
    size_t len = (size_t)fuzz_take(in, 2);
    struct fuzz_input start = fuzz_bytes(in, sizeof(struct net_header) + ETH_HEADER + 4);
    len += sizeof(struct net_header) + ETH_HEADER;
    memset(rig.frame, 0, len);
    memcpy(rig.frame, start.at, start.left < len ? start.left : len);
    (void)!send(rig.cable, rig.frame, len, 0); /* a full queue of the host's: lost */
}

static void step(struct fuzz *f, struct fuzz_input *in) {
    switch (fuzz_take(in, 1)) {
    case OP_KICK:
        fuzz_put(f, REG_QueueNotify, fuzz_take(in, 1) % QUEUES);
        break;
    case OP_FRAME:
        frame_from_host(in);
        break;
    case OP_DRAIN:
        drain();
        break;
    case OP_LINK:
        vd_net_set_link(rig.net, fuzz_take(in, 1) % 2);
        break;
    case OP_POKE: {
        uint32_t offset = (uint32_t)fuzz_take(in, 2);
        fuzz_poke(f, offset, fuzz_bytes(in, 8));
        break;
    }
    case OP_QUEUE_RESET:
        fuzz_put(f, REG_QueueSel, fuzz_take(in, 1) % QUEUES);
        fuzz_put(f, REG_QueueReset, 1);
        break;
    }
    fuzz_pump(f->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz *f = fuzz_rig();
    struct fuzz_input ops;
    if (!rig.net)
        set_up(f);
    uint8_t options = fuzz_begin(f, data, size, &ops);
    fuzz_bring_up(f, vd_net_device(rig.net), options, fuzz_take(&ops, 8) | VD_FEATURES_COMMON,
                  QUEUES);
    fuzz_pump(f->loop);
    while (ops.left)
        step(f, &ops);
    drain();
    fuzz_put(f, REG_Status, 0);
    /* The next input finds an empty cable that is plugged in. */
    while (recv(rig.net->pair[0].fd, rig.frame, sizeof rig.frame, 0) > 0)
        continue;
    vd_net_set_link(rig.net, true);
    fuzz_check(!rig.net->pair[0].gone);
    return 0;
}
