/* SPDX-License-Identifier: MIT
 * The server: its clients, and the way of events to whoever opened it. */
#define _GNU_SOURCE
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t rfb_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

const struct libraries *rfb_libraries(const struct rfb_client *c) {
    return &c->server->libraries;
}

static void wake(int fd) {
    uint64_t one = 1;
    (void)!write(fd, &one, sizeof one); /* EAGAIN: readable anyway */
}

static void lock(struct rfb_server *server) {
    pthread_mutex_lock(&server->lock);
}

static void unlock(struct rfb_server *server) {
    pthread_mutex_unlock(&server->lock);
}

static void free_server(struct rfb_server *server) {
    tls_context_free(server->tls);
    libraries_close(&server->libraries);
    pthread_mutex_destroy(&server->lock);
    free((char *)server->config.name);
    if (server->config.password)
        explicit_bzero((char *)server->config.password, strlen(server->config.password));
    free((char *)server->config.password);
    free(server);
}

struct rfb_server *rfb_server_new(const struct rfb_config *config, int *error) {
    struct rfb_server *server = calloc(1, sizeof *server);
    *error = -ENOMEM;
    if (!server)
        return NULL;
    pthread_mutex_init(&server->lock, NULL);
    server->config = *config;
    server->config.name = strdup(config->name);
    server->config.password = config->password ? strdup(config->password) : NULL;
    if (!server->config.name || (config->password && !server->config.password)) {
        free_server(server);
        return NULL;
    }
    libraries_open(&server->libraries);
    *error = 0;
    if (config->password || config->certificate)
        *error = libraries_open_ssl(&server->libraries, server->problem, sizeof server->problem);
    if (!*error && config->certificate)
        server->tls = tls_context_new(&server->libraries, config->certificate, config->key,
                                      server->problem, sizeof server->problem, error);
    return server;
}

const char *rfb_problem(const struct rfb_server *server) {
    return server->problem;
}

static void end_client(struct rfb_client *c) {
    pthread_join(c->thread, NULL);
    rfb_client_free(c);
}

void rfb_server_free(struct rfb_server *server) {
    if (!server)
        return;
    lock(server);
    struct rfb_client *first = server->clients;
    server->clients = NULL;
    for (struct rfb_client *c = first; c; c = c->next) {
        c->kicked = true;
        wake(c->wake_fd);
    }
    unlock(server);
    while (first) {
        struct rfb_client *next = first->next;
        end_client(first);
        first = next;
    }
    free_server(server);
}

/* Under the lock. */
static struct rfb_client *find(struct rfb_server *server, int64_t id) {
    struct rfb_client *c = server->clients;
    while (c && c->id != id)
        c = c->next;
    return c;
}

static void *client_main(void *opaque) {
    struct rfb_client *c = opaque;
    if (c->n_in) {
        size_t n = c->n_in;
        c->n_in = 0;
        rfb_feed(c, c->in, n);
    }
    while (rfb_client_turn(c, -1))
        continue;
    const char *why = c->failure;
    struct rfb_event event = {.client = c->id, .type = RFB_LEFT};
    event.blob = (uint8_t *)strdup(why);
    event.length = event.blob ? (uint32_t)strlen(why) : 0;
    lock(c->server);
    c->left = true;
    c->queue[(c->queue_first + c->queued++) % QUEUE_SIZE] = event;
    unlock(c->server);
    wake(c->server->config.wake_fd);
    return NULL;
}

static int start(struct rfb_client *c) {
    sigset_t all, before; /* signals are the process's main thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&c->thread, NULL, client_main, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        pthread_setname_np(c->thread, "rfb-client");
    return -error;
}

int64_t rfb_attach(struct rfb_server *server, int fd, uint32_t flags, const uint8_t *first,
                   size_t n_first, const struct vd_viewing *const *viewings, uint32_t n_viewings) {
    int64_t result = -EINVAL;
    struct rfb_client *c = NULL;
    if (n_first <= IN_SIZE && n_viewings && n_viewings <= RFB_SCREENS_MAX)
        c = rfb_client_new(server, fd, flags, viewings, n_viewings);
    if (!c) {
        close(fd);
        return n_first > IN_SIZE ? -EINVAL : -ENOMEM;
    }
    memcpy(c->in, first, n_first);
    c->n_in = n_first;
    lock(server);
    bool blocked = !(flags & RFB_TRUSTED) && rfb_now() < server->blocked_until;
    if (server->n_clients >= server->config.max_clients || blocked) {
        result = -EBUSY;
    } else {
        c->id = ++server->last_id;
        c->leds = server->leds;
        result = start(c);
        if (!result) {
            result = c->id;
            c->next = server->clients;
            server->clients = c;
            server->n_clients++;
        }
    }
    unlock(server);
    if (result < 0)
        rfb_client_free(c);
    return result;
}

void rfb_kick(struct rfb_server *server, int64_t id) {
    lock(server);
    struct rfb_client *c = find(server, id);
    if (c) {
        c->kicked = true;
        wake(c->wake_fd);
    }
    unlock(server);
}

void rfb_release(struct rfb_server *server, int64_t id) {
    struct rfb_client *c = NULL;
    lock(server);
    for (struct rfb_client **link = &server->clients; *link; link = &(*link)->next)
        if ((*link)->id == id && (*link)->gone) {
            c = *link;
            *link = c->next;
            server->n_clients--;
            break;
        }
    unlock(server);
    if (c)
        end_client(c);
}

static struct rfb_event take_first(struct rfb_client *c) {
    struct rfb_event event = c->queue[c->queue_first];
    c->queue_first = (c->queue_first + 1) % QUEUE_SIZE;
    c->queued--;
    c->gone = event.type == RFB_LEFT;
    return event;
}

uint32_t rfb_take(struct rfb_server *server, struct rfb_event *events, uint32_t room) {
    uint32_t n = 0, share = room / RFB_CLIENTS_MAX + 1; /* each client gets its turn */
    lock(server);
    for (struct rfb_client *c = server->clients; c && n < room; c = c->next) {
        for (uint32_t i = 0; c->queued && i < share && n < room; i++)
            events[n++] = take_first(c);
        if (c->queue_full && QUEUE_SIZE - c->queued > EVENTS_OF_A_MESSAGE) {
            c->queue_full = false;
            wake(c->wake_fd);
        }
    }
    unlock(server);
    return n;
}

void rfb_blob_free(uint8_t *blob) {
    free(blob);
}

bool rfb_queue_has_room(struct rfb_client *c) {
    lock(c->server);
    /* One place is RFB_LEFT's. */
    c->queue_full = QUEUE_SIZE - c->queued <= EVENTS_OF_A_MESSAGE;
    bool room = !c->queue_full;
    unlock(c->server);
    return room;
}

void rfb_post(struct rfb_client *c, const struct rfb_event *event) {
    lock(c->server);
    struct rfb_event *last = &c->queue[(c->queue_first + c->queued - 1) % QUEUE_SIZE];
    /* Where the pointer was in between is of no interest. */
    bool same =
        c->queued && event->type == RFB_POINTER && last->type == RFB_POINTER && last->a == event->a;
    if (!same)
        last = &c->queue[(c->queue_first + c->queued++) % QUEUE_SIZE];
    *last = *event;
    last->client = c->id;
    unlock(c->server);
    if (!same)
        wake(c->server->config.wake_fd);
}

void rfb_login_failed(struct rfb_client *c) {
    struct rfb_server *server = c->server;
    lock(server);
    server->failures++;
    if (server->failures >= FAILURES_FREE) {
        uint32_t shift = server->failures - FAILURES_FREE;
        uint64_t ms = shift < 5 ? (uint64_t)BLOCK_MS << shift : BLOCK_MAX_MS;
        server->blocked_until = rfb_now() + (ms < BLOCK_MAX_MS ? ms : BLOCK_MAX_MS) * 1000000u;
    }
    unlock(server);
    rfb_post(c, &(struct rfb_event){.type = RFB_LOGIN_FAILED});
}

bool rfb_login_allowed(struct rfb_client *c) {
    lock(c->server);
    bool allowed = rfb_now() >= c->server->blocked_until;
    unlock(c->server);
    return allowed;
}

void rfb_login_succeeded(struct rfb_client *c) {
    lock(c->server);
    c->server->failures = 0;
    unlock(c->server);
}

/* Under the lock. */
static int append_control(struct rfb_client *c, const uint8_t *message, size_t length) {
    if (length > CONTROL_MAX - c->n_control)
        return -ENOBUFS;
    if (c->n_control + length > c->control_room) {
        size_t room = 2 * (c->n_control + length);
        uint8_t *grown = realloc(c->control, room);
        if (!grown)
            return -ENOBUFS;
        c->control = grown;
        c->control_room = room;
    }
    memcpy(c->control + c->n_control, message, length);
    c->n_control += length;
    return 0;
}

int rfb_send(struct rfb_server *server, int64_t id, const uint8_t *message, size_t length) {
    lock(server);
    struct rfb_client *c = find(server, id);
    int result = c ? append_control(c, message, length) : -ENOENT;
    if (!result)
        wake(c->wake_fd);
    unlock(server);
    return result;
}

bool rfb_answer(struct rfb_client *c, const uint8_t *message, size_t length) {
    lock(c->server);
    int result = append_control(c, message, length);
    unlock(c->server);
    c->recheck = true;
    return !result;
}

void rfb_take_orders(struct rfb_client *c, struct rfb_orders *orders, bool control) {
    lock(c->server);
    *orders = (struct rfb_orders){.kicked = c->kicked, .leds = c->leds};
    if (control) {
        orders->control = c->control;
        orders->n_control = c->n_control;
        c->control = NULL;
        c->n_control = c->control_room = 0;
    }
    unlock(c->server);
}

void rfb_publish_stats(struct rfb_client *c) {
    lock(c->server);
    c->stats_shared = c->stats;
    c->stats_shared.memory += c->control_room;
    unlock(c->server);
}

void rfb_set_leds(struct rfb_server *server, uint32_t leds) {
    lock(server);
    server->leds = leds;
    for (struct rfb_client *c = server->clients; c; c = c->next) {
        c->leds = leds;
        wake(c->wake_fd);
    }
    unlock(server);
}

int rfb_stats(struct rfb_server *server, int64_t id, struct rfb_stats *stats) {
    lock(server);
    struct rfb_client *c = find(server, id);
    if (c)
        *stats = c->stats_shared;
    unlock(server);
    return c ? 0 : -ENOENT;
}
