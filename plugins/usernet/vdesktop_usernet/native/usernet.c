/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "usernet.h"

#include "frames.h"
#include "slirp_abi.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECEIVE_BATCH 16
/* Batches from the guest before the host's sockets have their turn. */
#define BATCHES_PER_TURN 8
#define SOCKET_BUFFER    (1 << 20) /* as far as net.core.wmem_max goes */
#define FIRST_HOST_FD    2         /* poll entries: wake-up, guest, then libslirp's */
#define CLOSED           (-1)

/* libslirp keeps the host's name servers in variables of its own that no lock
 * guards, so instances on several threads take turns. Not held while waiting. */
static pthread_mutex_t slirp_lock = PTHREAD_MUTEX_INITIALIZER;

struct timer {
    struct timer *next;
    slirp_timer_fn fn;
    void *opaque;
    int64_t expire_ms; /* < 0: off */
};

struct usernet {
    struct slirp_api api;
    struct slirp_callbacks callbacks;
    struct slirp *slirp;
    int wake_fd, fd, card_fd; /* fd: our end */
    pthread_t thread;
    bool started;
    /* All below: slirp_lock. */
    bool stop, guest_gone;
    struct timer *timers;
    struct pollfd *polls;
    uint32_t n_polls, room;
    struct out_queue out;
    uint8_t *in; /* RECEIVE_BATCH messages */
    struct usernet_counters counters;
};

static int64_t now_ns(void *opaque) {
    struct timespec now;
    (void)opaque;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void wake(struct usernet *net) {
    uint64_t one = 1;
    (void)!write(net->wake_fd, &one, sizeof one);
}

/* What libslirp calls; always with slirp_lock held. */

static ssize_t send_packet(const void *frame, size_t len, void *opaque) {
    struct usernet *net = opaque;
    if (!out_put(&net->out, frame, len)) {
        out_flush(&net->out, net->fd);
        if (!out_put(&net->out, frame, len)) {
            net->counters.rx_dropped++; /* TCP sends it again, slower */
            return (ssize_t)len;
        }
    }
    net->counters.rx_frames++;
    return (ssize_t)len;
}

static void guest_error(const char *message, void *opaque) {
    struct usernet *net = opaque;
    (void)message;
    net->counters.guest_errors++;
}

static void *timer_new(slirp_timer_fn fn, void *fn_opaque, void *opaque) {
    struct usernet *net = opaque;
    struct timer *timer = calloc(1, sizeof *timer);
    if (!timer)
        abort(); /* libslirp's own allocator does the same, and has no error path */
    *timer = (struct timer){net->timers, fn, fn_opaque, -1};
    net->timers = timer;
    return timer;
}

static void timer_free(void *gone, void *opaque) {
    struct usernet *net = opaque;
    for (struct timer **at = &net->timers; *at; at = &(*at)->next) {
        if (*at == gone) {
            *at = (*at)->next;
            free(gone);
            return;
        }
    }
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque) {
    (void)opaque;
    ((struct timer *)timer)->expire_ms = expire_ms;
}

static void poll_fd_changed(int fd, void *opaque) {
    (void)fd;
    (void)opaque; /* the list is made anew each time */
}

static void notify(void *opaque) {
    wake(opaque);
}

static int add_poll(int fd, int events, void *opaque) {
    struct usernet *net = opaque;
    if (net->n_polls == net->room) {
        uint32_t room = net->room * 2;
        struct pollfd *polls = realloc(net->polls, room * sizeof *polls);
        if (!polls)
            return -1; /* this socket waits */
        net->polls = polls;
        net->room = room;
    }
    short wanted =
        (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                (events & SLIRP_POLL_PRI ? POLLPRI : 0));
    net->polls[net->n_polls] = (struct pollfd){fd, wanted, 0};
    return (int)net->n_polls++;
}

static int get_revents(int index, void *opaque) {
    const struct usernet *net = opaque;
    if (index < FIRST_HOST_FD || (uint32_t)index >= net->n_polls)
        return 0;
    short got = net->polls[index].revents;
    return (got & POLLIN ? SLIRP_POLL_IN : 0) | (got & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (got & POLLPRI ? SLIRP_POLL_PRI : 0) | (got & POLLERR ? SLIRP_POLL_ERR : 0) |
           (got & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* The thread */

static void fill_polls(struct usernet *net, uint32_t *timeout_ms) {
    bool waiting = net->out.first < net->out.n;
    net->polls[0] = (struct pollfd){net->wake_fd, POLLIN, 0};
    net->polls[1] = (struct pollfd){net->guest_gone ? CLOSED : net->fd,
                                    (short)(POLLIN | (waiting ? POLLOUT : 0)), 0};
    net->n_polls = FIRST_HOST_FD;
    net->api.pollfds_fill(net->slirp, timeout_ms, add_poll, net);
    int64_t now = now_ns(NULL) / 1000000;
    for (const struct timer *timer = net->timers; timer; timer = timer->next) {
        if (timer->expire_ms < 0)
            continue;
        uint32_t left = timer->expire_ms > now ? (uint32_t)(timer->expire_ms - now) : 0;
        if (left < *timeout_ms)
            *timeout_ms = left;
    }
}

static void run_timers(struct usernet *net) {
    int64_t now = now_ns(NULL) / 1000000;
    struct timer *timer = net->timers;
    while (timer) {
        struct timer *next = timer->next;
        if (timer->expire_ms >= 0 && timer->expire_ms <= now) {
            timer->expire_ms = -1;
            timer->fn(timer->opaque);
        }
        timer = next;
    }
}

/* Hands a batch of the guest's frames to libslirp. false: there are no more. */
static bool receive_batch(struct usernet *net) {
    struct mmsghdr messages[RECEIVE_BATCH];
    struct iovec iov[RECEIVE_BATCH];
    const size_t size = FRAME_HEADER + FRAME_MAX;
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < RECEIVE_BATCH; i++) {
        iov[i] = (struct iovec){net->in + i * size, size};
        messages[i].msg_hdr.msg_iov = &iov[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int n = recvmmsg(net->fd, messages, RECEIVE_BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++) {
        uint8_t *message = iov[i].iov_base;
        size_t len = messages[i].msg_len;
        if (!len) {
            net->guest_gone = true;
            return false;
        }
        if (messages[i].msg_hdr.msg_flags & MSG_TRUNC || !frame_complete(message, len)) {
            net->counters.tx_malformed++;
            continue;
        }
        net->counters.tx_frames++;
        net->api.input(net->slirp, message + FRAME_HEADER, (int)(len - FRAME_HEADER));
    }
    return n == RECEIVE_BATCH;
}

static void *run(void *opaque) {
    struct usernet *net = opaque;
    pthread_mutex_lock(&slirp_lock);
    while (!net->stop) {
        uint32_t timeout_ms = INT32_MAX;
        fill_polls(net, &timeout_ms);
        pthread_mutex_unlock(&slirp_lock);
        int n = poll(net->polls, net->n_polls, (int)timeout_ms);
        pthread_mutex_lock(&slirp_lock);
        net->counters.wakeups++;
        if (n > 0 && net->polls[0].revents) {
            uint64_t count;
            (void)!read(net->wake_fd, &count, sizeof count);
        }
        if (n > 0 && net->polls[1].revents & (POLLHUP | POLLERR))
            net->guest_gone = true;
        if (n > 0 && net->polls[1].revents & POLLIN)
            for (int i = 0; i < BATCHES_PER_TURN && receive_batch(net); i++)
                continue;
        net->api.pollfds_poll(net->slirp, n < 0, get_revents, net);
        run_timers(net);
        out_flush(&net->out, net->fd);
    }
    pthread_mutex_unlock(&slirp_lock);
    return NULL;
}

/* Life cycle */

static int load(struct usernet *net) {
    /* NODELETE: it brings GLib, which cannot be unloaded. */
    void *library = dlopen(SLIRP_SONAME, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library)
        return USERNET_NO_LIBRARY;
    const struct {
        const char *name;
        void *to;
    } symbols[] = {
        {"slirp_new", &net->api.new},
        {"slirp_cleanup", &net->api.cleanup},
        {"slirp_pollfds_fill", &net->api.pollfds_fill},
        {"slirp_pollfds_poll", &net->api.pollfds_poll},
        {"slirp_input", &net->api.input},
        {"slirp_add_hostfwd", &net->api.add_hostfwd},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *found = dlsym(library, symbols[i].name);
        if (!found)
            return USERNET_OLD_LIBRARY;
        memcpy(symbols[i].to, &found, sizeof found);
    }
    return USERNET_OK;
}

static int allocate(struct usernet *net) {
    int pair[2];
    net->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (net->wake_fd < 0)
        return USERNET_NO_RESOURCES;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return USERNET_NO_RESOURCES;
    net->fd = pair[0];
    net->card_fd = pair[1];
    for (int i = 0; i < 2; i++) /* less is slower, not wrong */
        (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &(int){SOCKET_BUFFER}, sizeof(int));
    net->room = 64;
    net->polls = malloc(net->room * sizeof *net->polls);
    net->out.bytes = malloc(OUT_BYTES);
    net->in = malloc(RECEIVE_BATCH * (FRAME_HEADER + FRAME_MAX));
    return net->polls && net->out.bytes && net->in ? USERNET_OK : USERNET_NO_RESOURCES;
}

static int start_slirp(struct usernet *net, const struct usernet_config *config) {
    struct slirp_config slirp = {
        .version = SLIRP_CONFIG_VERSION,
        .restricted = config->restricted,
        .in_enabled = true,
        .in6_enabled = config->ipv6,
        .vprefix_len = 64,
        .vhostname = config->hostname,
        .if_mtu = config->mtu,
        .if_mru = config->mtu,
    };
    inet_pton(AF_INET, "10.0.2.0", &slirp.vnetwork);
    inet_pton(AF_INET, "255.255.255.0", &slirp.vnetmask);
    inet_pton(AF_INET, "10.0.2.2", &slirp.vhost);
    inet_pton(AF_INET, "10.0.2.3", &slirp.vnameserver);
    inet_pton(AF_INET, "10.0.2.15", &slirp.vdhcp_start);
    inet_pton(AF_INET6, "fec0::", &slirp.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &slirp.vhost6);
    inet_pton(AF_INET6, "fec0::3", &slirp.vnameserver6);
    net->callbacks = (struct slirp_callbacks){
        .send_packet = send_packet,
        .guest_error = guest_error,
        .clock_get_ns = now_ns,
        .timer_new = timer_new,
        .timer_free = timer_free,
        .timer_mod = timer_mod,
        .register_poll_fd = poll_fd_changed,
        .unregister_poll_fd = poll_fd_changed,
        .notify = notify,
    };
    pthread_mutex_lock(&slirp_lock);
    net->slirp = net->api.new(&slirp, &net->callbacks, net);
    pthread_mutex_unlock(&slirp_lock);
    return net->slirp ? USERNET_OK : USERNET_REFUSED;
}

static int start_thread(struct usernet *net) {
    sigset_t all, before; /* signals are the main thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    net->started = !pthread_create(&net->thread, NULL, run, net);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!net->started)
        return USERNET_NO_RESOURCES;
    pthread_setname_np(net->thread, "vd-usernet");
    return USERNET_OK;
}

struct usernet *usernet_open(const struct usernet_config *config, int *error) {
    struct usernet *net = calloc(1, sizeof *net);
    *error = USERNET_NO_RESOURCES;
    if (!net)
        return NULL;
    net->wake_fd = net->fd = net->card_fd = CLOSED;
    *error = load(net);
    if (!*error)
        *error = allocate(net);
    if (!*error)
        *error = start_slirp(net, config);
    if (!*error)
        *error = start_thread(net);
    if (*error) {
        usernet_close(net);
        return NULL;
    }
    return net;
}

void usernet_close(struct usernet *net) {
    if (!net)
        return;
    if (net->started) {
        pthread_mutex_lock(&slirp_lock);
        net->stop = true;
        pthread_mutex_unlock(&slirp_lock);
        wake(net);
        pthread_join(net->thread, NULL);
    }
    pthread_mutex_lock(&slirp_lock);
    if (net->slirp)
        net->api.cleanup(net->slirp);
    pthread_mutex_unlock(&slirp_lock);
    int fds[] = {net->wake_fd, net->fd, net->card_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    while (net->timers)
        timer_free(net->timers, net);
    free(net->polls);
    free(net->out.bytes);
    free(net->in);
    free(net);
}

int usernet_fd(const struct usernet *net) {
    return net->card_fd;
}

/* The descriptors that libslirp waits for, found by asking for the poll list. */
struct fd_list {
    int fd[1024];
    uint32_t n;
};

static int collect_fd(int fd, int events, void *opaque) {
    struct fd_list *list = opaque;
    (void)events;
    if (list->n < sizeof list->fd / sizeof *list->fd)
        list->fd[list->n++] = fd;
    return -1;
}

/* The port of the socket that is in `after` and not in `before`; libslirp does not tell. */
static int new_port(const struct fd_list *before, const struct fd_list *after) {
    for (uint32_t i = 0; i < after->n; i++) {
        bool known = false;
        for (uint32_t k = 0; k < before->n && !known; k++)
            known = before->fd[k] == after->fd[i];
        struct sockaddr_in name;
        socklen_t len = sizeof name;
        if (!known && !getsockname(after->fd[i], (struct sockaddr *)&name, &len) &&
            name.sin_family == AF_INET)
            return ntohs(name.sin_port);
    }
    return -ENOENT;
}

int usernet_forward(struct usernet *net, bool udp, uint32_t host, uint16_t host_port,
                    uint32_t guest, uint16_t guest_port) {
    struct fd_list before = {.n = 0}, after = {.n = 0};
    struct in_addr from = {htonl(host)}, to = {htonl(guest)};
    uint32_t timeout_ms = INT32_MAX;
    int port = host_port;
    pthread_mutex_lock(&slirp_lock);
    if (!host_port)
        net->api.pollfds_fill(net->slirp, &timeout_ms, collect_fd, &before);
    errno = 0;
    if (net->api.add_hostfwd(net->slirp, udp, from, host_port, to, guest_port) < 0)
        port = errno ? -errno : -EADDRINUSE;
    else if (!host_port) {
        net->api.pollfds_fill(net->slirp, &timeout_ms, collect_fd, &after);
        port = new_port(&before, &after);
    }
    pthread_mutex_unlock(&slirp_lock);
    wake(net); /* the thread waits for the new socket too */
    return port;
}

void usernet_get_counters(struct usernet *net, struct usernet_counters *counters) {
    pthread_mutex_lock(&slirp_lock);
    *counters = net->counters;
    pthread_mutex_unlock(&slirp_lock);
}
