/* SPDX-License-Identifier: MIT
 * The way out of a raw terminal: two keys, `key` and then `then`, that write an
 * eventfd and never reach the guest. */
#ifndef VD_ESCAPE_H
#define VD_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

struct escape {
    int fd; /* -1: every key is the guest's */
    uint8_t key, then;
    bool armed;
};

/* Takes the escape out of n keys, in place; returns how many are left. */
static inline size_t escape_filter(struct escape *escape, uint8_t *keys, size_t n) {
    size_t kept = 0;
    if (escape->fd < 0)
        return n;
    for (size_t i = 0; i < n; i++) {
        uint8_t key = keys[i];
        if (!escape->armed && key == escape->key) {
            escape->armed = true;
            continue;
        }
        if (escape->armed && key == escape->then) {
            uint64_t one = 1;
            (void)!write(escape->fd, &one, sizeof one);
            escape->armed = false;
            continue;
        }
        escape->armed = false; /* the first key twice, or before another: that key alone */
        keys[kept++] = key;
    }
    return kept;
}

#endif
