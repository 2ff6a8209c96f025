/* SPDX-License-Identifier: GPL-2.0-only
 * Replacing functions of a loaded shared object, for its own callers. */
#ifndef TCG_REBIND_H
#define TCG_REBIND_H

#include <stddef.h>

/* Points every relocation of the object that `handle` (of dlopen) names and
 * that is bound to the object's own definition `from` at `to`. Returns how many
 * there were (0: nothing in the object calls it through its tables), or -errno. */
int tcg_rebind_function(void *handle, void *from, void *to);

#endif
