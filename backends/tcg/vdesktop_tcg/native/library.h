/* SPDX-License-Identifier: GPL-2.0-only
 * Unicorn's shared library: found, checked, looked into. */
#ifndef TCG_LIBRARY_H
#define TCG_LIBRARY_H

#include <stddef.h>

/* Loads libunicorn from `path` and checks that it is the one we know. Once a
 * process. 0, or -1 and one line for a person in `error`. Thread-safe. */
int tcg_library_load(const char *path, char *error, size_t size);

#endif
