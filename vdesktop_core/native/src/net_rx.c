/* SPDX-License-Identifier: MIT
 * Frames to the guest. A frame is read straight into the first buffer, and what
 * does not fit there into the staging area behind; only such long frames are
 * copied. Without buffers nothing is read: the host's own queue is the bound. */
#include "net.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define FRAMES_PER_TURN 64
#define IOV_LIMIT       1024u /* IOV_MAX */
#define PEEK            18u   /* addresses, and a VLAN tag */

static uint16_t rx_queue(const struct net_pair *pair) {
    return (uint16_t)(2 * pair->index);
}

/* Copies up to len bytes out of the segments, from `skip` on. */
static size_t iov_peek(const struct vd_iov *iov, unsigned n, size_t skip, uint8_t *to, size_t len) {
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        if (skip >= iov[i].len) {
            skip -= iov[i].len;
            continue;
        }
        size_t part = iov[i].len - skip < len - done ? iov[i].len - skip : len - done;
        memcpy(to + done, (const uint8_t *)iov[i].base + skip, part);
        done += part;
        skip = 0;
    }
    return done;
}

static bool wanted(struct vd_net *net, const uint8_t *peek) {
    if (net_filter_accepts(net, peek))
        return true;
    net->counters.rx_filtered++;
    return false;
}

static void count_frame(struct vd_net *net, uint32_t len) {
    net->counters.rx_frames++;
    net->counters.rx_bytes += len;
}

/* 1: a buffer with room for more than the header; 0: none. */
static int pop_buffer(struct vd_net *net, uint16_t index, struct vd_chain *chain) {
    int found = vd_plane_pop_into(&net->plane, index, chain);
    if (found && (chain->n_read || chain->write_len <= sizeof(struct net_header))) {
        vd_plane_broken(&net->plane, index,
                        "net: receiveq buffer readable or not longer than its header (§5.1.6.3)");
        return 0;
    }
    return found;
}

/* Puts as much of the long frame into buffers as there are. true: the frame is
 * done with; false: it waits for the driver. */
static bool assemble(struct net_pair *pair) {
    struct vd_net *net = pair->net;
    struct net_assembly *a = pair->long_frame;
    uint16_t index = rx_queue(pair);
    struct vd_queue *queue = net->plane.dev.queue[index];
    while (a->done < a->total) {
        if ((a->n && !net_has(net, NET_F_MRG_RXBUF)) || a->n == RX_BUFFERS || a->segs > RX_SEGS) {
            net->counters.rx_too_long++;
            while (a->n)
                vd_queue_unpop(queue, &a->chain[--a->n]);
            a->total = 0;
            return true;
        }
        struct vd_chain *chain = &a->chain[a->n];
        chain->iov = a->iov + a->segs;
        chain->gpa = a->gpa + a->segs;
        if (!pop_buffer(net, index, chain))
            return false;
        /* The header comes last: it says how many buffers there are. */
        uint32_t skip = a->n ? 0 : (uint32_t)sizeof a->header;
        uint32_t at = a->n ? a->done - (uint32_t)sizeof a->header : 0;
        uint32_t left = a->total - (uint32_t)sizeof a->header - at;
        a->written[a->n] = skip + (uint32_t)vd_chain_write(chain, skip, a->frame + at, left);
        a->done += a->written[a->n++];
        a->segs += chain->n_write;
    }
    a->header.num_buffers = htole16((uint16_t)a->n);
    vd_chain_write(&a->chain[0], 0, &a->header, sizeof a->header);
    for (uint32_t i = 0; i < a->n; i++)
        vd_queue_push(queue, &a->chain[i], a->written[i]);
    count_frame(net, a->total - (uint32_t)sizeof a->header);
    a->total = 0;
    return true;
}

static void assembly_start(struct net_assembly *a, const struct net_header *header, uint32_t len) {
    a->header = *header;
    a->total = len + (uint32_t)sizeof *header;
    a->done = a->n = a->segs = 0;
}

/* Reads one frame, using plane->chain for its start. 1: there was one; 0 or
 * -errno: none, and the chain is given back. */
static int read_frame(struct net_pair *pair) {
    struct vd_net *net = pair->net;
    struct vd_chain *chain = &net->plane.chain;
    struct vd_queue *queue = net->plane.dev.queue[rx_queue(pair)];
    struct net_header header = {0};
    uint32_t head = net->config.flags & VD_NET_VNET_HDR ? (uint32_t)sizeof header : 0;
    uint32_t room = chain->write_len - (uint32_t)sizeof header;
    unsigned n = 1;
    net->iov[0] = (struct vd_iov){&header, head};
    n += vd_iov_skip(chain->iov, chain->n_write, sizeof header, net->iov + 1);
    if (n > IOV_LIMIT - 1 || room > VD_NET_FRAME_MAX) { /* in too many pieces: the long way */
        n = 1;
        room = 0;
    }
    net->iov[n] = (struct vd_iov){pair->long_frame->frame + room, VD_NET_FRAME_MAX - room};
    ssize_t got = vd_iov_read(pair->fd, net->iov, n + 1);
    if (got < (ssize_t)(head + ETH_HEADER)) {
        vd_queue_unpop(queue, chain);
        return got > 0 ? 1 : (int)got; /* a runt is ignored */
    }
    uint32_t len = (uint32_t)got - head;
    uint8_t peek[PEEK] = {0};
    iov_peek(net->iov, n + 1, head, peek, len < PEEK ? len : PEEK);
    if (!wanted(net, peek)) {
        vd_queue_unpop(queue, chain);
        return 1;
    }
    net_header_for_guest(net, &header);
    if (len > room) {
        iov_peek(net->iov, n, head, pair->long_frame->frame, room);
        vd_queue_unpop(queue, chain);
        assembly_start(pair->long_frame, &header, len);
        return 1;
    }
    header.num_buffers = htole16(1);
    vd_chain_write(chain, 0, &header, sizeof header);
    vd_plane_push(&net->plane, rx_queue(pair), len + (uint32_t)sizeof header);
    count_frame(net, len);
    return 1;
}

static void receive(struct net_pair *pair) {
    struct vd_net *net = pair->net;
    struct vd_plane *plane = &net->plane;
    uint16_t index = rx_queue(pair);
    struct vd_queue *queue = plane->dev.queue[index];
    int result = 1;
    net_watch(pair, true);
    vd_queue_notify_disable(queue);
    for (int turn = 0; turn < FRAMES_PER_TURN && result > 0; turn++) {
        if ((pair->long_frame->total && !assemble(pair)) ||
            !pop_buffer(net, index, &plane->chain)) {
            if (!vd_plane_usable(plane, index))
                return;
            if (vd_queue_notify_enable(queue))
                continue;
            net->counters.rx_stalls++;
            net_watch(pair, false);
            break;
        }
        result = read_frame(pair);
    }
    vd_plane_publish(plane, index);
    if (result == 0 || (result < 0 && result != -EAGAIN))
        net_gone(pair);
}

void net_rx(struct net_pair *pair) {
    struct vd_net *net = pair->net;
    uint16_t index = rx_queue(pair);
    if (!pair->gone && pair->index < net->active_pairs && vd_plane_usable(&net->plane, index))
        receive(pair);
    /* Frames that nobody takes would wake the loop for ever. */
    if (pair->index >= net->active_pairs || !vd_plane_usable(&net->plane, index))
        net_watch(pair, false);
}

void net_on_in(void *opaque, uint32_t events) {
    (void)events;
    net_rx(opaque);
}
