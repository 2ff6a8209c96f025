/* SPDX-License-Identifier: MIT
 * What the encodings share. */
#ifndef RFB_ENCODE_H
#define RFB_ENCODE_H

#include "client.h"

/* How hard zlib tries. What finds little to repeat goes through Huffman's code alone, what does not
 * become smaller at all is only stored: for so many tiles, then it is tried again. */
enum { EFFORT_TILES = 16 };
enum rfb_effort { EFFORT_ALL, EFFORT_HUFFMAN, EFFORT_STORED };
/* The effort for the next tile of many colours, and what came of it. */
enum rfb_effort rfb_effort_next(struct rfb_client *c);
void rfb_effort_done(struct rfb_client *c, enum rfb_effort effort, size_t n, size_t length);

/* Of pixels of many colours, about to be compressed. true: they leave as they are, as the link
 * takes them faster than zlib would make them fewer. */
bool rfb_pace_raw(struct rfb_client *c, size_t pixels);
/* They were compressed, in so much time, to so many bytes. */
void rfb_pace_saved(struct rfb_client *c, size_t pixels, size_t length, uint64_t ns);
bool rfb_pace_slow(const struct rfb_client *c); /* there is time for more of zlib's effort */

/* A rectangle of c->tile as it is, which every client takes (RFC 6143 §7.7.1). */
void rfb_encode_raw(struct rfb_client *c, const struct vd_rect *rect);

/* Compresses into `to`, which has room for rfb_deflate_bound(n) bytes; ends on a byte, and all of
 * it can be read (Z_SYNC_FLUSH). The stream goes on with the next call. Returns the length; 0: the
 * client is over. */
size_t rfb_deflate(struct rfb_client *c, uint32_t stream, enum rfb_effort effort,
                   const uint8_t *from, size_t n, uint8_t *to);
size_t rfb_deflate_bound(size_t n);

void rfb_encode_zrle(struct rfb_client *c, const struct vd_rect *rect);
void rfb_encode_tight(struct rfb_client *c, const struct vd_rect *rect);

#endif
