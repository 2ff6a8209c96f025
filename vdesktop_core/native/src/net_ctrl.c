/* SPDX-License-Identifier: MIT
 * The control virtqueue (virtio 1.4 §5.1.6.5). */
#include "net.h"

#include <endian.h>
#include <string.h>

enum { ACK_OK = 0, ACK_ERR = 1 };

enum ctrl_class {
    CTRL_RX = 0,
    CTRL_MAC = 1,
    CTRL_VLAN = 2,
    CTRL_MQ = 4,
    CTRL_GUEST_OFFLOADS = 5,
};
enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST };
enum { MAC_TABLE_SET, MAC_ADDR_SET };
enum { VLAN_ADD, VLAN_DEL };
enum { MQ_VQ_PAIRS_SET };
enum { GUEST_OFFLOADS_SET };

struct command {
    uint8_t class, command;
} __attribute__((packed));

/* The command's data, from `at` on, in whole: true. */
static bool data(const struct vd_chain *chain, size_t at, void *to, size_t len) {
    return vd_chain_read(chain, sizeof(struct command) + at, to, len) == len;
}

static bool ctrl_rx(struct vd_net *net, const struct vd_chain *chain, uint8_t command) {
    bool *modes[] = {&net->filter.promisc, &net->filter.allmulti, &net->filter.alluni,
                     &net->filter.nomulti, &net->filter.nouni,    &net->filter.nobcast};
    uint8_t on;
    if (command > RX_NOBCAST || !data(chain, 0, &on, sizeof on))
        return false;
    if (!net_has(net, command > RX_ALLMULTI ? NET_F_CTRL_RX_EXTRA : NET_F_CTRL_RX))
        return false;
    *modes[command] = on;
    return true;
}

/* One of the two tables of MAC_TABLE_SET; *at moves behind it. */
static bool mac_table(const struct vd_chain *chain, size_t *at, uint8_t macs[MAC_FILTERS][6],
                      uint32_t *n) {
    uint32_t count;
    if (!data(chain, *at, &count, sizeof count))
        return false;
    count = le32toh(count);
    *at += sizeof count;
    if ((uint64_t)count * 6 > chain->read_len)
        return false;
    *n = count;
    if (count <= MAC_FILTERS && !data(chain, *at, macs, count * 6))
        return false;
    *at += (size_t)count * 6;
    return true;
}

static bool ctrl_mac(struct vd_net *net, const struct vd_chain *chain, uint8_t command) {
    if (command == MAC_TABLE_SET && net_has(net, NET_F_CTRL_RX)) {
        struct net_filter filter = net->filter;
        size_t at = 0;
        if (!mac_table(chain, &at, filter.uni, &filter.n_uni) ||
            !mac_table(chain, &at, filter.multi, &filter.n_multi))
            return false;
        net->filter = filter;
        return true;
    }
    uint8_t mac[6];
    if (command != MAC_ADDR_SET || !net_has(net, NET_F_CTRL_MAC_ADDR) ||
        !data(chain, 0, mac, sizeof mac))
        return false;
    memcpy(net->mac, mac, sizeof mac);
    return true;
}

static bool ctrl_vlan(struct vd_net *net, const struct vd_chain *chain, uint8_t command) {
    uint16_t vlan;
    if (!net_has(net, NET_F_CTRL_VLAN) || command > VLAN_DEL || !data(chain, 0, &vlan, sizeof vlan))
        return false;
    vlan = le16toh(vlan);
    if (vlan >= VLANS)
        return false;
    uint8_t bit = (uint8_t)(1u << vlan % 8);
    if (command == VLAN_ADD)
        net->filter.vlans[vlan / 8] |= bit;
    else
        net->filter.vlans[vlan / 8] &= (uint8_t)~bit;
    return true;
}

static bool ctrl_mq(struct vd_net *net, const struct vd_chain *chain, uint8_t command) {
    uint16_t pairs;
    if (!net_has(net, NET_F_MQ) || command != MQ_VQ_PAIRS_SET ||
        !data(chain, 0, &pairs, sizeof pairs))
        return false;
    pairs = le16toh(pairs);
    if (!pairs || pairs > net->config.pairs || net_tap_set_pairs(net, pairs))
        return false;
    net->active_pairs = pairs;
    for (uint32_t i = 0; i < net->config.pairs; i++) {
        net_watch(&net->pair[i], i < pairs);
        net_rx(&net->pair[i]);
    }
    return true;
}

static bool ctrl_offloads(struct vd_net *net, const struct vd_chain *chain, uint8_t command) {
    uint64_t offloads;
    if (!net_has(net, NET_F_CTRL_GUEST_OFFLOADS) || command != GUEST_OFFLOADS_SET ||
        !data(chain, 0, &offloads, sizeof offloads))
        return false;
    offloads = le64toh(offloads);
    return !(offloads & ~(net->features & NET_GUEST_OFFLOADS)) &&
           !net_tap_set_offloads(net, offloads);
}

static bool run(struct vd_net *net, const struct vd_chain *chain) {
    struct command command;
    if (vd_chain_read(chain, 0, &command, sizeof command) < sizeof command)
        return false;
    switch (command.class) {
    case CTRL_RX:
        return ctrl_rx(net, chain, command.command);
    case CTRL_MAC:
        return ctrl_mac(net, chain, command.command);
    case CTRL_VLAN:
        return ctrl_vlan(net, chain, command.command);
    case CTRL_MQ:
        return ctrl_mq(net, chain, command.command);
    case CTRL_GUEST_OFFLOADS:
        return ctrl_offloads(net, chain, command.command);
    default:
        return false;
    }
}

void net_ctrl(struct vd_net *net) {
    struct vd_plane *plane = &net->plane;
    uint16_t index = net->ctrl_queue;
    if (!index || !vd_plane_usable(plane, index))
        return;
    uint32_t left = VD_QUEUE_SIZE_MAX; /* a turn's worth: the driver can refill the ring for ever */
    do {
        while (left && vd_plane_pop(plane, index)) {
            left--;
            if (plane->chain.write_len < 1) {
                vd_plane_broken(plane, index,
                                "net: control command with no room for its ack (§5.1.6.5)");
                return;
            }
            uint8_t ack = run(net, &plane->chain) ? ACK_OK : ACK_ERR;
            net->counters.ctrl_commands++;
            net->counters.ctrl_refused += ack;
            vd_chain_write(&plane->chain, 0, &ack, sizeof ack);
            vd_plane_push(plane, index, sizeof ack);
        }
        if (!vd_plane_usable(plane, index))
            return;
    } while (left && vd_queue_notify_enable(plane->dev.queue[index]));
    vd_plane_publish(plane, index);
    if (!left)
        vd_plane_again(plane, index);
}
