/* SPDX-License-Identifier: GPL-2.0-only
 * Replacing functions of a loaded shared object, for its own callers. */
#ifndef TCG_REBIND_H
#define TCG_REBIND_H

#include <stddef.h>
#include <stdint.h>

struct tcg_replacement {
    void *from, *to;
    uint32_t bound; /* how many relocations pointed at `from` */
};

/* Points every relocation of the object that `handle` (of dlopen) names and
 * that is bound to the object's own definition `from` at `to`, and counts them
 * (0: nothing in the object calls it through its tables). 0, or -errno. */
int tcg_rebind_functions(void *handle, struct tcg_replacement *replacements, size_t n);

/* Gives back the pages of the object's read-only tables, symbols and relocations, which were read
 * to load it and are not needed again soon: 3.5 MB. They are the file's, and come back when
 * somebody reads them. */
void tcg_drop_tables(void *handle);

#endif
