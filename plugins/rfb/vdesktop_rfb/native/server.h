/* SPDX-License-Identifier: MIT */
#ifndef RFB_SERVER_H
#define RFB_SERVER_H

#include "client.h"

enum {
    FAILURES_FREE = 5,       /* wrong passwords in a row before the door closes */
    BLOCK_MS = 10000,        /* for so long, doubled by every further one, */
    BLOCK_MAX_MS = 300000,   /* up to this */
    EVENTS_OF_A_MESSAGE = 18 /* at most */
};

struct rfb_server {
    struct rfb_config config; /* its strings are ours */
    struct libraries libraries;
    struct tls_context *tls;
    char problem[200];

    pthread_mutex_t lock; /* all below, and what client.h says */
    struct rfb_client *clients;
    uint32_t n_clients;
    int64_t last_id;
    uint32_t leds;
    uint32_t failures;
    uint64_t blocked_until;
};

#endif
