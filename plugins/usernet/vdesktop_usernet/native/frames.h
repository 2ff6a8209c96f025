/* SPDX-License-Identifier: MIT
 * Frames between the socket pair and libslirp: headers, checksums, batches. */
#ifndef USERNET_FRAMES_H
#define USERNET_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_MAX    65550u
#define FRAME_HEADER 12u /* struct virtio_net_hdr_v1 */

/* What waits for the guest, one message after the other: a bound in bytes, and
 * a batch for one sendmmsg. */
#define OUT_BYTES  (1u << 20)
#define OUT_FRAMES 1024u

struct out_queue {
    uint8_t *bytes;
    uint32_t end;            /* of the bytes in use */
    uint32_t first, n;       /* frames first .. n-1 wait */
    uint32_t at[OUT_FRAMES]; /* where each starts */
    uint32_t len[OUT_FRAMES];
};

/* Finishes the checksum that the guest left to us (virtio 1.4 §5.1.6.2).
 * `message` is header and frame. false: the header does not fit the frame. */
bool frame_complete(uint8_t *message, size_t len);

/* Copies a frame in, with a header that says its checksums are right. false: full. */
bool out_put(struct out_queue *out, const void *frame, size_t len);
/* Sends what the socket takes. false: it is full, and some wait. */
bool out_flush(struct out_queue *out, int fd);

#endif
