/* SPDX-License-Identifier: MIT
 * Frames from the guest: straight from its memory to the descriptor. */
#include "net.h"

#include <errno.h>
#include <sys/epoll.h>

/* Frames of one queue before another has its turn. */
#define FRAMES_PER_TURN 128
#define IOV_LIMIT       1024u /* IOV_MAX */

static void on_out(void *opaque, uint32_t events) {
    struct net_pair *pair = opaque;
    (void)events;
    vd_loop_remove(pair->net->plane.loop, pair->out_fd);
    pair->out_watched = false;
    net_tx(pair);
}

/* What the chain holds, checked: the number of iovec entries, or 0 to drop it. */
static unsigned frame_of(struct vd_net *net, const struct vd_chain *chain,
                         struct net_header *header) {
    uint32_t len = chain->read_len - (uint32_t)sizeof *header;
    if (len < ETH_HEADER || len > net->config.max_frame) {
        net->counters.tx_bad_length++;
        return 0;
    }
    vd_chain_read(chain, 0, header, sizeof *header);
    if (!net_header_check(net, header, len)) {
        net->counters.tx_bad_header++;
        return 0;
    }
    net->iov[0] = (struct vd_iov){header, sizeof *header};
    unsigned first = net->config.flags & VD_NET_VNET_HDR ? 1 : 0;
    unsigned n = first + vd_iov_skip(chain->iov, chain->n_read, sizeof *header, net->iov + first);
    if (n > IOV_LIMIT) {
        net->counters.tx_bad_length++;
        return 0;
    }
    return n;
}

/* 0: done with it; -EAGAIN: the host is slow; -EPIPE: the other end is gone. */
static int send_frame(struct net_pair *pair, const struct vd_chain *chain) {
    struct vd_net *net = pair->net;
    struct net_header header;
    unsigned n = frame_of(net, chain, &header);
    if (!n)
        return 0;
    if (pair->gone || !atomic_load(&net->link_up)) {
        net->counters.tx_refused++;
        return 0;
    }
    ssize_t done = vd_iov_write(pair->out_fd, net->iov, n);
    if (done >= 0) {
        net->counters.tx_frames++;
        net->counters.tx_bytes += chain->read_len - sizeof header;
        return 0;
    }
    if (done == -EAGAIN)
        return -EAGAIN;
    net->counters.tx_refused++;
    return done == -EPIPE || done == -ECONNRESET || done == -ENOTCONN || done == -EBADFD ? -EPIPE
                                                                                         : 0;
}

void net_tx(struct net_pair *pair) {
    struct vd_net *net = pair->net;
    struct vd_plane *plane = &net->plane;
    uint16_t index = (uint16_t)(2 * pair->index + 1);
    if (pair->out_watched || !vd_plane_usable(plane, index))
        return;
    struct vd_queue *queue = plane->dev.queue[index];
    int error = 0, turn = 0;
    vd_queue_notify_disable(queue);
    while (turn < FRAMES_PER_TURN && !error) {
        if (!vd_plane_pop(plane, index)) {
            if (!vd_plane_usable(plane, index))
                return;
            if (vd_queue_notify_enable(queue))
                continue;
            break;
        }
        turn++;
        if (plane->chain.n_write || plane->chain.read_len < sizeof(struct net_header)) {
            vd_plane_broken(plane, index,
                            "net: transmitq chain writable or shorter than its header (§5.1.6.2)");
            return;
        }
        error = send_frame(pair, &plane->chain);
        if (error == -EAGAIN)
            vd_queue_unpop(queue, &plane->chain);
        else
            vd_plane_push(plane, index, 0);
    }
    vd_plane_publish(plane, index);
    if (error == -EAGAIN) {
        net->counters.tx_stalls++;
        pair->out_watched = !vd_loop_add(plane->loop, pair->out_fd, EPOLLOUT, on_out, pair);
    } else {
        if (error == -EPIPE)
            net_gone(pair);
        if (turn == FRAMES_PER_TURN || error)
            vd_plane_again(plane, index);
    }
}
