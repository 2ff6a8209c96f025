/* SPDX-License-Identifier: MIT
 * libFuzzer target: what an RFB client sends, in pieces of any length, to a
 * server whose screen changes in between. Nobody else runs but one who reads all that
 * the server says, and each step waits for that: the same input gives the same run.
 * What the server says of the client is checked: Python takes it at its word.
 *
 * An input is one byte of options, then operations: a byte, and what it takes. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "server.h"
#include "vdesktop/display.h"

enum { OPTION_WEBSOCKET = 1, OPTION_PASSWORD = 2, OPTION_TWO_SCREENS = 4 };
enum { OP_BYTES, OP_DAMAGE, OP_SHOW, OP_BLANK, OP_CURSOR, OP_LEDS, OP_SEND, OP_HOLD, OP_MOVE, OPS };
enum { SIDE_MAX = 96, MEMORY_MAX = 32 << 20 };

static struct {
    struct vd_host *host;
    struct vd_scanout *scanout[2];
    int wake_fd;
    struct rfb_server *open, *closed; /* without and with a password */
} rig;

static struct {
    struct rfb_client *client;
    struct rfb_server *server;
    int peer;
    bool hold; /* nobody takes events */
    uint32_t screens;
} run;

static struct rfb_server *new_server(const char *password) {
    int error;
    struct rfb_config config = {
        .name = "fuzz",
        .wake_fd = rig.wake_fd,
        .max_clients = 1,
        .login_ms = 1u << 30,
        .password = password,
    };
    struct rfb_server *server = rfb_server_new(&config, &error);
    fuzz_check(server && !error);
    return server;
}

static void show(struct vd_scanout *scanout, uint32_t width, uint32_t height, uint32_t seed) {
    int error;
    struct vd_pixels *pixels = vd_pixels_new(rig.host, (uint64_t)width * height * 4, &error);
    fuzz_check(pixels);
    uint32_t *pixel = vd_pixels_base(pixels);
    for (uint32_t i = 0; i < width * height; i++)
        pixel[i] = seed & 1 ? i * 0x9E3779B1u : seed & 2 ? i / 7 % (seed | 1) : seed;
    struct vd_surface surface = {pixels, 0, width, height, width * 4, VD_FORMAT_XRGB8888};
    vd_scanout_show(scanout, &surface);
    vd_pixels_unref(pixels);
}

static void set_up(void) {
    rig.host = vd_host_posix_new(-1);
    fuzz_check(rig.host);
    for (int i = 0; i < 2; i++)
        rig.scanout[i] = vd_scanout_new(rig.host);
    rig.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    rig.open = new_server(NULL);
    rig.closed = new_server("secret");
}

static void check_event(const struct rfb_event *event) {
    fuzz_check(event->type >= RFB_JOINED && event->type <= RFB_LOGIN_FAILED);
    fuzz_check(event->client == 1 && (event->blob || !event->length));
    switch (event->type) {
    case RFB_POINTER:
        fuzz_check(event->b >= 0 && event->b <= 32767 && event->c >= 0 && event->c <= 32767);
        break;
    case RFB_TOUCH:
        fuzz_check((event->a & ~TOUCH_MORE) <= TOUCH_END && event->b < TOUCH_SLOTS);
        fuzz_check((event->c >> 16) <= 32767 && (event->c & 0xFFFF) <= 32767);
        break;
    case RFB_RESIZE:
        fuzz_check((uint32_t)event->a < run.screens && event->b > 0 && event->c > 0);
        fuzz_check(event->b <= SIZE_MAX_PIXELS && event->c <= SIZE_MAX_PIXELS);
        break;
    case RFB_CUT_TEXT:
        fuzz_check(event->length <= CUT_TEXT_MAX);
        break;
    case RFB_PRIVATE:
        fuzz_check(event->length <= VDESKTOP_PAYLOAD_MAX);
        break;
    }
}

static void take_events(void) {
    struct rfb_event events[16];
    uint32_t n;
    while ((n = rfb_take(run.server, events, 16)) > 0)
        for (uint32_t i = 0; i < n; i++) {
            check_event(&events[i]);
            rfb_blob_free(events[i].blob);
        }
}

/* A thread: a picture may be larger than the socket's buffer, and is waited for. */
static void *read_all(void *unused) {
    static uint8_t said[1 << 16];
    (void)unused;
    while (recv(run.peer, said, sizeof said, 0) > 0)
        continue;
    return NULL;
}

/* Lets the server act until it has nothing to do, and all that it says is read. */
static bool turn(void) {
    bool on = true;
    for (int i = 0; on && (i < 4 || !rfb_drained(run.client)); i++) {
        run.client->next_frame = 0;
        on = rfb_client_turn(run.client, i < 4 ? 0 : 1);
        if (!run.hold)
            take_events();
    }
    fuzz_check(run.client->stats.memory < MEMORY_MAX);
    return on;
}

static bool bytes(struct fuzz_input *in) {
    size_t n = (size_t)fuzz_take(in, 2) % 4096;
    n = n < in->left ? n : in->left;
    if (n && send(run.peer, in->at, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return !run.hold; /* it is full where the server does not read */
    in->at += n;
    in->left -= n;
    return true;
}

static void operate(uint8_t op, struct fuzz_input *in) {
    struct vd_scanout *scanout = rig.scanout[fuzz_take(in, 1) % run.screens];
    static struct vd_cursor cursor;
    struct vd_rect rect;
    uint8_t message[8];
    switch (op) {
    case OP_DAMAGE:
        rect.x = (uint32_t)fuzz_take(in, 1);
        rect.y = (uint32_t)fuzz_take(in, 1);
        rect.width = (uint32_t)fuzz_take(in, 4);
        rect.height = (uint32_t)fuzz_take(in, 1);
        vd_scanout_damage(scanout, &rect);
        break;
    case OP_SHOW:
        rect.width = 1 + (uint32_t)fuzz_take(in, 1) % SIDE_MAX;
        rect.height = 1 + (uint32_t)fuzz_take(in, 1) % SIDE_MAX;
        show(scanout, rect.width, rect.height, (uint32_t)fuzz_take(in, 1));
        break;
    case OP_BLANK:
        vd_scanout_show(scanout, NULL);
        break;
    case OP_CURSOR:
        cursor.visible = fuzz_take(in, 1) & 1;
        cursor.hot_x = (uint32_t)fuzz_take(in, 1);
        cursor.x = (int8_t)fuzz_take(in, 1) * (1 << fuzz_take(in, 1) % 24);
        cursor.y = (int8_t)fuzz_take(in, 1);
        memset(cursor.pixels, (int)cursor.hot_x, sizeof cursor.pixels);
        vd_scanout_set_cursor(scanout, &cursor);
        break;
    case OP_MOVE:
        cursor.x = (int8_t)fuzz_take(in, 1);
        cursor.y = (int8_t)fuzz_take(in, 1);
        vd_scanout_move_cursor(scanout, cursor.x, cursor.y);
        break;
    case OP_LEDS:
        rfb_set_leds(run.server, (uint32_t)fuzz_take(in, 1));
        break;
    case OP_SEND:
        memset(message, 0, sizeof message);
        rfb_send(run.server, 1, message, sizeof message);
        break;
    case OP_HOLD:
        run.hold = fuzz_take(in, 1) & 1;
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input in = {data, size};
    if (!rig.host)
        set_up();
    uint8_t options = (uint8_t)fuzz_take(&in, 1);
    int ends[2];
    fuzz_check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends));
    run.peer = ends[0];
    fuzz_check(
        !fcntl(run.peer, F_SETFL, 0)); /* it blocks; what is sent on it says that it must not */
    pthread_t reader;
    fuzz_check(!pthread_create(&reader, NULL, read_all, NULL));
    run.server = options & OPTION_PASSWORD ? rig.closed : rig.open;
    run.screens = options & OPTION_TWO_SCREENS ? 2 : 1;
    run.hold = false;
    struct vd_viewing viewings[2];
    const struct vd_viewing *given[2] = {&viewings[0], &viewings[1]};
    struct vd_viewer *viewers[2] = {NULL, NULL};
    int fds[2];
    for (uint32_t i = 0; i < run.screens; i++) {
        show(rig.scanout[i], 40 + 7 * i, 30, 1 + i);
        fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        viewers[i] = vd_viewer_new(rig.scanout[i], fds[i]);
        fuzz_check(viewers[i]);
        vd_viewer_viewing(viewers[i], &viewings[i]);
    }
    run.client =
        rfb_client_new(run.server, ends[1], options & OPTION_WEBSOCKET, given, run.screens);
    fuzz_check(run.client);
    run.client->id = 1;
    run.server->clients = run.client; /* what rfb_attach does, but for the thread */
    bool on = turn();
    while (on && in.left) {
        uint8_t op = (uint8_t)fuzz_take(&in, 1) % OPS;
        if (op == OP_BYTES)
            on = bytes(&in);
        else
            operate(op, &in);
        on = turn() && on;
    }
    take_events();
    run.server->clients = NULL;
    run.server->blocked_until = run.server->failures = 0;
    rfb_client_free(run.client);
    pthread_join(reader, NULL); /* it has read the end */
    close(run.peer);
    for (uint32_t i = 0; i < run.screens; i++) {
        vd_viewer_free(viewers[i]);
        close(fds[i]);
    }
    return 0;
}
