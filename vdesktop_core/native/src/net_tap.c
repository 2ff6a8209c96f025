/* SPDX-License-Identifier: MIT
 * What Linux's TAP is told when the driver has negotiated (linux/if_tun.h). */
#include "net.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#ifndef TUN_F_USO4 /* Linux 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

int net_tap_set_offloads(struct vd_net *net, uint64_t guest_offloads) {
    static const struct {
        unsigned feature, tun;
    } map[] = {
        {VD_NET_F_GUEST_CSUM, TUN_F_CSUM}, {VD_NET_F_GUEST_TSO4, TUN_F_TSO4},
        {VD_NET_F_GUEST_TSO6, TUN_F_TSO6}, {VD_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
        {VD_NET_F_GUEST_USO4, TUN_F_USO4}, {VD_NET_F_GUEST_USO6, TUN_F_USO6},
    };
    unsigned long flags = 0;
    if (!(net->config.flags & VD_NET_TAP) || !(net->config.flags & VD_NET_VNET_HDR))
        return 0;
    for (unsigned i = 0; i < sizeof map / sizeof *map; i++)
        if (guest_offloads >> map[i].feature & 1)
            flags |= map[i].tun;
    /* An offload of the interface, not of a queue: any descriptor will do. */
    return ioctl(net->pair[0].fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

int net_tap_set_pairs(struct vd_net *net, uint32_t active) {
    if (!(net->config.flags & VD_NET_TAP) || net->config.pairs == 1)
        return 0;
    for (uint32_t i = 0; i < net->config.pairs; i++) {
        bool on = i < active;
        if (on == net->pair[i].attached)
            continue;
        struct ifreq request = {.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};
        if (ioctl(net->pair[i].fd, TUNSETQUEUE, &request) < 0)
            return -errno;
        net->pair[i].attached = on;
    }
    return 0;
}
