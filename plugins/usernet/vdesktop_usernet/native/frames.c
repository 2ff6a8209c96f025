/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "frames.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define SEND_BATCH 64

enum { HDR_F_NEEDS_CSUM = 1, HDR_F_DATA_VALID = 2 };

static uint16_t load_le16(const uint8_t *at) {
    return (uint16_t)(at[0] | at[1] << 8);
}

/* The ones' complement sum of RFC 1071; byte order does not matter to it. */
static uint16_t checksum(const uint8_t *at, size_t len) {
    uint64_t sum = 0;
    for (; len >= 4; at += 4, len -= 4) {
        uint32_t word;
        memcpy(&word, at, sizeof word);
        sum += word;
    }
    uint32_t rest = 0;
    memcpy(&rest, at, len);
    sum += rest;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

bool frame_complete(uint8_t *message, size_t len) {
    if (len < FRAME_HEADER || len > FRAME_HEADER + FRAME_MAX)
        return false;
    if (!(message[0] & HDR_F_NEEDS_CSUM))
        return true;
    uint8_t *frame = message + FRAME_HEADER;
    size_t size = len - FRAME_HEADER;
    size_t start = load_le16(message + 6), field = start + load_le16(message + 8);
    if (field + 2 > size)
        return false;
    /* The field holds the sum of the pseudo header. A segmentation request needs
     * no more than this: to libslirp it is one long packet, which it takes. */
    uint16_t sum = checksum(frame + start, size - start);
    if (!sum)
        sum = 0xffff; /* 0 means "none" in UDP, and the same as 0xffff elsewhere */
    memcpy(frame + field, &sum, sizeof sum);
    return true;
}

static void compact(struct out_queue *out) {
    uint32_t base = out->first < out->n ? out->at[out->first] : out->end;
    memmove(out->bytes, out->bytes + base, out->end - base);
    out->end -= base;
    for (uint32_t i = out->first; i < out->n; i++) {
        out->at[i - out->first] = out->at[i] - base;
        out->len[i - out->first] = out->len[i];
    }
    out->n -= out->first;
    out->first = 0;
}

bool out_put(struct out_queue *out, const void *frame, size_t len) {
    if (len > FRAME_MAX)
        return false;
    uint32_t total = FRAME_HEADER + (uint32_t)len;
    if (out->first && (out->n == OUT_FRAMES || out->end + total > OUT_BYTES))
        compact(out);
    if (out->n == OUT_FRAMES || out->end + total > OUT_BYTES)
        return false;
    uint8_t *to = out->bytes + out->end;
    memset(to, 0, FRAME_HEADER);
    to[0] = HDR_F_DATA_VALID; /* made here, and never on a wire */
    memcpy(to + FRAME_HEADER, frame, len);
    out->at[out->n] = out->end;
    out->len[out->n++] = total;
    out->end += total;
    return true;
}

bool out_flush(struct out_queue *out, int fd) {
    while (out->first < out->n) {
        struct mmsghdr messages[SEND_BATCH];
        struct iovec iov[SEND_BATCH];
        unsigned n = out->n - out->first < SEND_BATCH ? out->n - out->first : SEND_BATCH;
        memset(messages, 0, n * sizeof *messages);
        for (unsigned i = 0; i < n; i++) {
            iov[i] = (struct iovec){out->bytes + out->at[out->first + i], out->len[out->first + i]};
            messages[i].msg_hdr.msg_iov = &iov[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        int sent = sendmmsg(fd, messages, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS))
            return false;
        out->first += sent < 0 ? n : (unsigned)sent; /* nobody there: into the void */
    }
    out->first = out->n = out->end = 0;
    return true;
}
