/* SPDX-License-Identifier: MIT
 * A client's thread: reads, answers, shows, waits. */
#include "client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server.h"

/* Of a connection whose other end has vanished without a word. */
enum { KEEPALIVE_S = 30, DEAD_MS = 60000, FAREWELL_MS = 1000 };

/* A TCP socket's options; a socket of another kind refuses them, which is fine. */
static void prepare_socket(int fd) {
    int on = 1, idle = KEEPALIVE_S, dead = DEAD_MS;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof dead);
}

struct rfb_client *rfb_client_new(struct rfb_server *server, int fd, uint32_t flags,
                                  const struct vd_viewing *const *viewings, uint32_t n_viewings) {
    struct rfb_client *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->server = server;
    c->flags = flags;
    c->fd = fd;
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->out = malloc(WS_SERVER_HEADER_MAX + OUT_SIZE);
    c->tile = malloc(TILE_PIXELS * sizeof *c->tile);
    c->packed = malloc(PACKED_SIZE);
    if (c->wake_fd < 0 || !c->out || !c->tile || !c->packed) {
        rfb_client_free(c);
        return NULL;
    }
    prepare_socket(fd);
    c->n_views = n_viewings;
    for (uint32_t i = 0; i < n_viewings; i++)
        c->view[i].viewing = viewings[i];
    c->n_out = WS_SERVER_HEADER_MAX;
    c->ws.on = flags & RFB_WEBSOCKET;
    rfb_pace_start(c);
    c->can.quality = c->can.effort = -1;
    c->next_can = c->can;
    rfb_format_default(&c->format);
    c->logging_in = true;
    c->deadline = rfb_now() + server->config.login_ms * 1000000ull;
    c->stats.memory = sizeof *c + OUT_SIZE + TILE_PIXELS * sizeof *c->tile + PACKED_SIZE;
    rfb_greet(c);
    return c;
}

void rfb_client_free(struct rfb_client *c) {
    rfb_screens_drop(c);
    rfb_encoders_free(c);
    tls_free(c->tls);
    for (uint32_t i = 0; i < c->queued; i++)
        free(c->queue[(c->queue_first + i) % QUEUE_SIZE].blob);
    free(c->blob.data);
    free(c->control);
    free(c->out);
    free(c->tile);
    free(c->packed);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    close(c->fd);
    free(c);
}

void rfb_fail(struct rfb_client *c, const char *why) {
    if (!c->failure)
        c->failure = why;
}

/* What others want. Messages of theirs are sent where no picture is half sent. */
static void obey(struct rfb_client *c) {
    struct rfb_orders orders;
    uint64_t count;
    (void)!read(c->wake_fd, &count, sizeof count);
    bool may_write = c->state >= STATE_NORMAL && !c->busy;
    c->recheck = !may_write;
    rfb_take_orders(c, &orders, may_write);
    if (orders.kicked)
        rfb_fail(c, "it was asked to go");
    if (orders.leds != c->leds_told)
        c->tell_leds = c->can.qemu_led;
    c->leds_told = orders.leds;
    if (orders.n_control) {
        c->busy = true;
        rfb_write(c, orders.control, orders.n_control);
        c->busy = false;
    }
    free(orders.control);
    rfb_publish_stats(c);
    if (c->paused && rfb_queue_has_room(c)) {
        c->paused = false;
        rfb_parse(c);
    }
}

/* Waits for the socket and for orders. */
static void wait_for(struct rfb_client *c, bool pictures, int timeout_ms) {
    struct pollfd fds[2 + RFB_SCREENS_MAX];
    nfds_t n = 2;
    fds[0] = (struct pollfd){.fd = c->fd};
    if (!c->paused && c->n_in < IN_SIZE)
        fds[0].events |= POLLIN;
    if (rfb_wants_write(c))
        fds[0].events |= POLLOUT;
    fds[1] = (struct pollfd){.fd = c->wake_fd, .events = POLLIN};
    for (uint32_t i = 0; pictures && i < c->n_views; i++)
        fds[n++] = (struct pollfd){.fd = c->view[i].viewing->wake_fd, .events = POLLIN};
    if (c->logging_in) {
        uint64_t now = rfb_now();
        int left = now < c->deadline ? (int)((c->deadline - now) / 1000000u) + 1 : 0;
        if (timeout_ms < 0 || left < timeout_ms)
            timeout_ms = left;
    }
    if (poll(fds, n, timeout_ms) < 0)
        return;
    if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
        rfb_read(c);
    if (fds[1].revents)
        obey(c);
    for (nfds_t i = 2; i < n; i++)
        if (fds[i].revents) {
            rfb_screens_take(c);
            break;
        }
    if (c->logging_in && rfb_now() >= c->deadline)
        rfb_fail(c, "it did not log in");
}

void rfb_drain(struct rfb_client *c) {
    rfb_flush(c);
    while (!c->failure && !rfb_drained(c)) {
        uint64_t since = rfb_now();
        c->stats.late++;
        wait_for(c, false, -1);
        c->pace.waited += rfb_now() - since;
        rfb_flush(c);
    }
}

/* The last words, such as why a login failed. */
static void farewell(struct rfb_client *c) {
    if (c->state != STATE_TLS) {
        rfb_flush(c);
        if (!rfb_drained(c)) {
            struct pollfd fd = {.fd = c->fd, .events = POLLOUT};
            poll(&fd, 1, FAREWELL_MS);
            rfb_flush(c);
        }
    }
    shutdown(c->fd, SHUT_RDWR);
}

bool rfb_client_turn(struct rfb_client *c, int timeout_ms) {
    if (c->recheck)
        obey(c);
    if (rfb_drained(c) && rfb_update_due(c)) {
        uint64_t now = rfb_now();
        if (now >= c->next_frame) {
            c->next_frame = now + FRAME_NS;
            rfb_update(c);
        } else {
            timeout_ms = (int)((c->next_frame - now) / 1000000u) + 1;
        }
    }
    rfb_flush(c);
    if (!c->failure)
        wait_for(c, rfb_waits_for_picture(c), timeout_ms);
    if (c->failure)
        farewell(c);
    return !c->failure;
}
