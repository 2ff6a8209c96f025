/* SPDX-License-Identifier: MIT
 * Several devices on one interrupt line. */
#include "vdesktop/irq_share.h"

#include "lock.h"

struct input {
    struct vd_irq irq;
    struct vd_irq_share *share;
    uint32_t index;
};

struct vd_irq_share {
    const struct vd_host *host;
    struct vd_irq line;
    struct vd_lock lock;
    uint32_t count;
    uint64_t high; /* inputs that are, by bit */
    struct input input[];
};

static void input_set(void *opaque, bool level) {
    struct input *in = opaque;
    struct vd_irq_share *s = in->share;
    uint64_t bit = 1ull << in->index;
    /* Under the lock, so that two threads cannot reach the line in the wrong order. */
    vd_lock(&s->lock, s->host);
    bool was = s->high;
    s->high = level ? s->high | bit : s->high & ~bit;
    bool is = s->high;
    if (was != is || level) /* an edge-triggered controller hears of each rise */
        s->line.set(s->line.opaque, is);
    vd_unlock(&s->lock);
}

struct vd_irq_share *vd_irq_share_new(const struct vd_host *host, const struct vd_irq *line,
                                      uint32_t inputs) {
    if (!inputs || inputs > VD_IRQ_SHARE_MAX)
        return NULL;
    struct vd_irq_share *s = host->alloc(host->opaque, sizeof *s + inputs * sizeof s->input[0]);
    if (!s)
        return NULL;
    s->host = host;
    s->line = *line;
    s->count = inputs;
    for (uint32_t i = 0; i < inputs; i++)
        s->input[i] = (struct input){{input_set, &s->input[i]}, s, i};
    return s;
}

void vd_irq_share_free(struct vd_irq_share *s) {
    if (s)
        s->host->free(s->host->opaque, s);
}

const struct vd_irq *vd_irq_share_input(struct vd_irq_share *s, uint32_t input) {
    return input < s->count ? &s->input[input].irq : NULL;
}
