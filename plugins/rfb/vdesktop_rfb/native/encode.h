/* SPDX-License-Identifier: MIT
 * What the encodings share. */
#ifndef RFB_ENCODE_H
#define RFB_ENCODE_H

#include "client.h"

/* Raw pixels that do not become smaller: so many tiles go uncompressed, then it is tried again. */
enum { INCOMPRESSIBLE_TILES = 16 };

/* Compresses into `to`, which has room for rfb_deflate_bound(n) bytes; ends on a byte, and all of
 * it can be read (Z_SYNC_FLUSH). The stream goes on with the next call. Level 0 .. 9. Returns the
 * length; 0: the client is over. */
size_t rfb_deflate(struct rfb_client *c, uint32_t stream, int level, const uint8_t *from, size_t n,
                   uint8_t *to);
size_t rfb_deflate_bound(size_t n);
/* The effort that the client wants, within what keeps up with a moving picture. */
int rfb_effort(const struct rfb_client *c);

void rfb_encode_zrle(struct rfb_client *c, const struct vd_rect *rect);
void rfb_encode_tight(struct rfb_client *c, const struct vd_rect *rect);

#endif
