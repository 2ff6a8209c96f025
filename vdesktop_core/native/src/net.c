/* SPDX-License-Identifier: MIT */
#include "net.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define NET_DEVICE_ID 1
#define QUEUE_SIZE    256
#define LINK_UP       1

/* §5.1.4 */
struct net_config {
    uint8_t mac[6];
    uint16_t status, max_virtqueue_pairs, mtu;
} __attribute__((packed));

void net_watch(struct net_pair *pair, bool in) {
    struct vd_loop *loop = pair->net->plane.loop;
    in = in && pair->fd >= 0 && !pair->gone;
    if (in == pair->in_watched)
        return;
    if (in)
        pair->in_watched = !vd_loop_add(loop, pair->fd, EPOLLIN, net_on_in, pair);
    else {
        vd_loop_remove(loop, pair->fd);
        pair->in_watched = false;
    }
}

static void unwatch_out(struct net_pair *pair) {
    if (pair->out_watched)
        vd_loop_remove(pair->net->plane.loop, pair->out_fd);
    pair->out_watched = false;
}

void net_gone(struct net_pair *pair) {
    net_watch(pair, false);
    unwatch_out(pair);
    if (!pair->gone)
        vd_net_set_link(pair->net, false);
    pair->gone = true;
}

static void work(struct vd_plane *plane, uint64_t kicked, bool poked) {
    struct vd_net *net = (struct vd_net *)plane;
    (void)poked;
    if (net->ctrl_queue && kicked >> net->ctrl_queue & 1)
        net_ctrl(net);
    for (uint32_t i = 0; i < net->config.pairs; i++) {
        if (kicked >> (2 * i + 1) & 1)
            net_tx(&net->pair[i]);
        if (kicked >> 2 * i & 1)
            net_rx(&net->pair[i]);
    }
}

static void started(struct vd_plane *plane) {
    struct vd_net *net = (struct vd_net *)plane;
    net->features = plane->dev.driver_features;
    net->active_pairs = 1;
    net->ctrl_queue = 0;
    if (net_has(net, NET_F_CTRL_VQ)) /* §5.1.2: behind the pairs that the driver knows of */
        net->ctrl_queue = net_has(net, NET_F_MQ) ? (uint16_t)(2 * net->config.pairs) : 2;
    net_tap_set_offloads(net, net->features & NET_GUEST_OFFLOADS);
    net_tap_set_pairs(net, 1);
    net_watch(&net->pair[0], true);
}

static void stopped(struct vd_plane *plane, uint64_t mask, bool all) {
    struct vd_net *net = (struct vd_net *)plane;
    for (uint32_t i = 0; i < net->config.pairs; i++) {
        struct net_pair *pair = &net->pair[i];
        if (mask >> 2 * i & 1) { /* the buffers it holds are the driver's again */
            pair->long_frame->total = 0;
            net_watch(pair, false);
        }
        if (mask >> (2 * i + 1) & 1)
            unwatch_out(pair);
    }
    if (!all)
        return;
    memcpy(net->mac, net->config.mac, sizeof net->mac);
    net_filter_reset(net);
    net->features = 0;
    net_tap_set_offloads(net, 0);
}

static void close_pair(struct net_pair *pair) {
    net_watch(pair, false);
    unwatch_out(pair);
    if (pair->fd >= 0)
        close(pair->fd);
    if (pair->out_fd >= 0)
        close(pair->out_fd);
    pair->fd = pair->out_fd = -1;
}

/* Frames of the guest's are refused from now on, and commands still answered. */
static void lost(struct vd_plane *plane) {
    struct vd_net *net = (struct vd_net *)plane;
    for (uint32_t i = 0; i < net->config.pairs; i++) {
        net_gone(&net->pair[i]);
        close_pair(&net->pair[i]);
    }
}

static uint64_t offered(const struct vd_net_config *config) {
    uint64_t bits = VD_PLANE_FEATURES | NET_BIT(NET_F_MAC) | NET_BIT(NET_F_STATUS) |
                    NET_BIT(NET_F_MRG_RXBUF) | NET_BIT(NET_F_CTRL_VQ) | NET_BIT(NET_F_CTRL_RX) |
                    NET_BIT(NET_F_CTRL_VLAN) | NET_BIT(NET_F_CTRL_RX_EXTRA) |
                    NET_BIT(NET_F_CTRL_MAC_ADDR);
    if (config->mtu)
        bits |= NET_BIT(NET_F_MTU);
    if (config->pairs > 1)
        bits |= NET_BIT(NET_F_MQ);
    if (!(config->flags & VD_NET_VNET_HDR))
        return bits;
    bits |= config->offloads;
    /* Switching at run time means asking the port again: only a TAP can be asked. */
    if (config->flags & VD_NET_TAP && config->offloads & NET_GUEST_OFFLOADS)
        bits |= NET_BIT(NET_F_CTRL_GUEST_OFFLOADS);
    return bits;
}

static void close_pairs(void *opaque) {
    struct vd_net *net = opaque;
    const struct vd_host *host = net->plane.dev.host;
    for (uint32_t i = 0; i < net->config.pairs; i++) {
        struct net_pair *pair = &net->pair[i];
        close_pair(pair);
        if (pair->long_frame)
            host->free(host->opaque, pair->long_frame);
    }
}

static int open_pairs(struct vd_net *net) {
    const struct vd_host *host = net->plane.dev.host;
    int error = 0;
    for (uint32_t i = 0; i < net->config.pairs; i++) {
        struct net_pair *pair = &net->pair[i];
        int fd = net->config.fd[i];
        pair->net = net;
        pair->index = (uint16_t)i;
        pair->gone = fd < 0;
        pair->attached = true;
        pair->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
        pair->out_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (fd >= 0 && (pair->fd < 0 || pair->out_fd < 0) && !error)
            error = -errno;
        pair->long_frame = host->alloc(host->opaque, sizeof *pair->long_frame);
        if (!pair->long_frame && !error)
            error = -ENOMEM;
    }
    return error;
}

static int check(const struct vd_net_config *config) {
    if (!config->pairs || config->pairs > VD_NET_PAIRS_MAX)
        return -EINVAL;
    if (config->pairs > 1 && !(config->flags & VD_NET_TAP))
        return -EINVAL;
    return config->max_frame > VD_NET_FRAME_MAX ? -EINVAL : 0;
}

struct vd_net *vd_net_new(const struct vd_host *host, struct vd_mem *mem, struct vd_loop *loop,
                          const char *name, const struct vd_net_config *config, int *error) {
    *error = check(config);
    if (*error)
        return NULL;
    struct vd_net *net = host->alloc(host->opaque, sizeof *net);
    *error = -ENOMEM;
    if (!net)
        return NULL;
    *error = vd_plane_init(&net->plane, host, mem, loop, name, (uint16_t)(2 * config->pairs + 1),
                           QUEUE_SIZE);
    if (*error) {
        host->free(host->opaque, net);
        return NULL;
    }
    net->config = *config;
    if (!net->config.max_frame)
        net->config.max_frame = VD_NET_FRAME_MAX;
    net->plane.work = work;
    net->plane.started = started;
    net->plane.stopped = stopped;
    net->plane.lost = lost;
    *error = open_pairs(net);
    if (*error) {
        vd_plane_fini(&net->plane);
        close_pairs(net);
        host->free(host->opaque, net);
        return NULL;
    }
    bool up = config->fd[0] >= 0;
    atomic_store(&net->link_up, up);
    memcpy(net->mac, config->mac, sizeof net->mac);
    net_filter_reset(net);
    struct vd_device *dev = &net->plane.dev;
    dev->virtio_id = NET_DEVICE_ID;
    dev->offered = offered(config);
    struct net_config space = {
        .status = htole16(up ? LINK_UP : 0),
        .max_virtqueue_pairs = htole16((uint16_t)config->pairs),
        .mtu = htole16(config->mtu),
    };
    memcpy(space.mac, config->mac, sizeof space.mac);
    memcpy(dev->config, &space, sizeof space);
    dev->config_len = sizeof space;
    return net;
}

struct vd_device *vd_net_device(struct vd_net *net) {
    return &net->plane.dev;
}

void vd_net_free(struct vd_net *net) {
    if (!net)
        return;
    const struct vd_host *host = net->plane.dev.host;
    struct vd_loop *loop = net->plane.loop;
    vd_plane_reset(&net->plane.dev);
    vd_plane_fini(&net->plane);
    vd_loop_call(loop, close_pairs, net);
    host->free(host->opaque, net);
}

void vd_net_set_link(struct vd_net *net, bool up) {
    uint16_t status = htole16(up ? LINK_UP : 0);
    atomic_store(&net->link_up, up);
    vd_device_config_set(&net->plane.dev, offsetof(struct net_config, status), &status,
                         sizeof status);
}

struct counters_call {
    struct vd_net *net;
    struct vd_net_counters *counters;
};

static void do_counters(void *opaque) {
    struct counters_call *call = opaque;
    *call->counters = call->net->counters;
}

void vd_net_counters(struct vd_net *net, struct vd_net_counters *counters) {
    struct counters_call call = {net, counters};
    vd_loop_call(net->plane.loop, do_counters, &call);
}
