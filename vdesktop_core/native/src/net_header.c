/* SPDX-License-Identifier: MIT
 * What a driver says about its frames (virtio 1.4 §5.1.6.2), held against the
 * frames; and which frames a driver wants (§5.1.6.5.1). */
#include "net.h"

#include <endian.h>
#include <string.h>

#define TCP_HEADER      20u
#define TCP_CSUM_OFFSET 16u
#define UDP_HEADER      8u
#define UDP_CSUM_OFFSET 6u
/* Linux's smallest send MSS. Less would turn one frame into tens of thousands. */
#define GSO_SIZE_MIN   48u
#define ETHERTYPE_VLAN 0x8100u

static bool gso_fits(const struct vd_net *net, const struct net_header *h, uint32_t frame_len) {
    uint32_t start = le16toh(h->csum_start), offset = le16toh(h->csum_offset);
    uint32_t transport, checksum;
    bool negotiated;
    switch (h->gso_type & ~GSO_ECN) {
    case GSO_TCPV4:
        negotiated = net_has(net, VD_NET_F_HOST_TSO4);
        transport = TCP_HEADER, checksum = TCP_CSUM_OFFSET;
        break;
    case GSO_TCPV6:
        negotiated = net_has(net, VD_NET_F_HOST_TSO6);
        transport = TCP_HEADER, checksum = TCP_CSUM_OFFSET;
        break;
    case GSO_UDP_L4:
        negotiated = net_has(net, VD_NET_F_HOST_USO) && !(h->gso_type & GSO_ECN);
        transport = UDP_HEADER, checksum = UDP_CSUM_OFFSET;
        break;
    default:
        return false;
    }
    if (h->gso_type & GSO_ECN && !net_has(net, VD_NET_F_HOST_ECN))
        return false;
    return negotiated && h->flags & HDR_F_NEEDS_CSUM && offset == checksum &&
           start + transport <= frame_len && le16toh(h->gso_size) >= GSO_SIZE_MIN &&
           le16toh(h->hdr_len) <= frame_len;
}

bool net_header_check(const struct vd_net *net, struct net_header *h, uint32_t frame_len) {
    h->num_buffers = 0;
    if (h->flags & ~(HDR_F_NEEDS_CSUM | HDR_F_DATA_VALID))
        return false;
    h->flags &= HDR_F_NEEDS_CSUM; /* whether data is valid is not the driver's to say */
    if (h->flags) {
        uint32_t start = le16toh(h->csum_start), offset = le16toh(h->csum_offset);
        if (!net_has(net, VD_NET_F_CSUM) || start < ETH_HEADER || start + offset + 2 > frame_len)
            return false;
    } else {
        h->csum_start = h->csum_offset = 0;
    }
    if (h->gso_type != GSO_NONE)
        return gso_fits(net, h, frame_len);
    h->gso_size = h->hdr_len = 0;
    return true;
}

void net_header_for_guest(const struct vd_net *net, struct net_header *h) {
    h->flags &= HDR_F_NEEDS_CSUM | HDR_F_DATA_VALID;
    if (!net_has(net, VD_NET_F_GUEST_CSUM))
        h->flags = 0;
}

/* More addresses than fit are not told apart: all come in. */
static bool listed(const uint8_t macs[][6], uint32_t n, const uint8_t *mac) {
    if (n > MAC_FILTERS)
        return true;
    for (uint32_t i = 0; i < n; i++)
        if (!memcmp(macs[i], mac, 6))
            return true;
    return false;
}

bool net_filter_accepts(const struct vd_net *net, const uint8_t frame[18]) {
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const struct net_filter *f = &net->filter;
    if (net_has(net, NET_F_CTRL_VLAN) && (frame[12] << 8 | frame[13]) == ETHERTYPE_VLAN) {
        unsigned vlan = (frame[14] & 0x0f) << 8 | frame[15];
        if (!(f->vlans[vlan / 8] >> vlan % 8 & 1))
            return false;
    }
    if (f->promisc)
        return true;
    if (!memcmp(frame, broadcast, 6))
        return !f->nobcast;
    if (frame[0] & 1)
        return !f->nomulti && (f->allmulti || listed(f->multi, f->n_multi, frame));
    return !f->nouni &&
           (f->alluni || !memcmp(frame, net->mac, 6) || listed(f->uni, f->n_uni, frame));
}

/* Everything comes in until the driver has said otherwise. */
void net_filter_reset(struct vd_net *net) {
    memset(&net->filter, 0, sizeof net->filter);
    net->filter.promisc = true;
}
