/* SPDX-License-Identifier: MIT
 * How fast the link is, and so how much work on a picture pays. Two witnesses, and the lower one
 * is believed: the kernel, which sees acknowledgements, and the client, which asks for more, or
 * answers a fence, only once it has all of a picture: whatever is between (a tunnel, a proxy, a
 * client that is slow itself) has taken it then. */
#include "encode.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

enum {
    RAW_FROM = 1 << 14,        /* pixels; fewer are little work anyway */
    ANSWER_FROM = 256 << 10,   /* bytes of a picture whose answer tells something */
    SAVES_AT_FIRST = 64000000, /* bytes a second that zlib saves; then it is measured */
    SAVES_WEIGHT = 4,          /* of the past */
    PROBE_TILES = 64,          /* of so many that leave as they are, one is compressed */
    SLOW = 16,                 /* so much slower than zlib: there is time for more */
    RISE = 8,                  /* an eighth more with every picture, once it fell; until then, */
    FAR = 8,                   /* or where it is so far below what was seen, twice */
    NANOSECONDS = 1000000000,
};

static uint64_t rate(uint64_t bytes, uint64_t ns) {
    return ns ? (uint64_t)((double)bytes * NANOSECONDS / (double)ns) : UINT64_MAX;
}

/* Bytes a second by the kernel's last sample that was not ours to blame (tcp_rate.c); what is not
 * TCP is on this host. */
static uint64_t delivered(const struct rfb_client *c) {
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size) ||
        size < offsetof(struct tcp_info, tcpi_delivery_rate) + sizeof info.tcpi_delivery_rate)
        return UINT64_MAX;
    return info.tcpi_delivery_rate;
}

/* A TCP connection may be a tunnel's, which is as fast as it ever gets where its buffers are empty:
 * the first picture is compressed, and doubts end soon. */
void rfb_pace_start(struct rfb_client *c) {
    bool near = delivered(c) == UINT64_MAX;
    c->pace = (struct rfb_pace){
        .saves = SAVES_AT_FIRST,
        .answers = near ? UINT64_MAX : SAVES_AT_FIRST / 2,
        .link = UINT64_MAX,
    };
}

void rfb_pace_begin(struct rfb_client *c) {
    struct rfb_pace *pace = &c->pace;
    uint64_t now = delivered(c);
    pace->link = now < pace->answers ? now : pace->answers;
    if (pace->state != PACE_NONE)
        return;
    pace->state = PACE_SENDING;
    pace->before = c->continuous ? c->fences : 0;
    pace->waited = 0;
    pace->bytes = c->stats.bytes_sent;
}

static void judge(struct rfb_pace *pace, uint64_t now) {
    uint64_t from = pace->ended > pace->answered ? pace->ended : pace->answered;
    uint64_t was = rate(pace->bytes, pace->waited + (now - from));
    bool near = pace->fell && was / FAR < pace->answers;
    uint64_t most = pace->answers + (near ? pace->answers / RISE : pace->answers) + 1;
    pace->state = PACE_NONE;
    if (pace->bytes < ANSWER_FROM)
        return;
    pace->fell |= was < pace->answers;
    pace->answers = was < most || most < pace->answers ? was : most;
}

void rfb_pace_end(struct rfb_client *c) {
    struct rfb_pace *pace = &c->pace;
    uint64_t now = rfb_now();
    if (pace->state != PACE_SENDING && pace->state != PACE_ASKED)
        return;
    pace->bytes = c->stats.bytes_sent - pace->bytes + (c->n_out - WS_SERVER_HEADER_MAX);
    pace->ended = now;
    if (pace->state == PACE_ASKED) /* before it had all: what it waited for is what is known */
        judge(pace, now);
    else
        pace->state = PACE_SENT;
}

void rfb_pace_answered(struct rfb_client *c) {
    struct rfb_pace *pace = &c->pace;
    uint64_t now = rfb_now();
    if (pace->before)
        pace->before--; /* it was another's */
    else if (pace->state == PACE_SENT)
        judge(pace, now);
    else if (pace->state == PACE_SENDING)
        pace->state = PACE_ASKED;
    pace->answered = now;
}

bool rfb_pace_raw(struct rfb_client *c, size_t pixels) {
    return pixels >= RAW_FROM && c->pace.link > c->pace.saves && ++c->pace.raw_tiles % PROBE_TILES;
}

bool rfb_pace_slow(const struct rfb_client *c) {
    return c->pace.link < c->pace.saves / SLOW;
}

void rfb_pace_saved(struct rfb_client *c, size_t pixels, size_t length, uint64_t ns) {
    size_t raw = pixels * (c->format.bits / 8);
    uint64_t now = length < raw ? rate(raw - length, ns) : 0;
    c->pace.saves =
        (c->pace.saves * (SAVES_WEIGHT - 1) + (now < INT32_MAX ? now : INT32_MAX)) / SAVES_WEIGHT;
}
