/* SPDX-License-Identifier: MIT
 *
 * A PLIC; see its header. */
#include "riscv64_plic.h"

#include <string.h>

/* §3, Memory Map. */
#define PRIORITY       0x000000u
#define PENDING        0x001000u
#define ENABLE         0x002000u
#define ENABLE_STRIDE  0x80u
#define CONTEXT        0x200000u
#define CONTEXT_STRIDE 0x1000u
#define THRESHOLD      0u
#define CLAIM          4u

#define PRIORITY_MAX 7u

static bool bit(const uint32_t *words, uint32_t number) {
    return words[number / 32] >> number % 32 & 1;
}

static void set_bit(uint32_t *words, uint32_t number, bool value) {
    uint32_t mask = 1u << number % 32;

    words[number / 32] = value ? words[number / 32] | mask : words[number / 32] & ~mask;
}

/* The source a context would claim now; 0: none. The lowest number wins among
 * those of the highest priority (§4). */
static uint32_t best(const struct vk_plic *plic, const struct vk_plic_context *c) {
    uint32_t found = 0, highest = c->threshold;

    for (uint32_t word = 0; word < VK_PLIC_WORDS; word++) {
        for (uint32_t left = plic->pending[word] & c->enabled[word]; left; left &= left - 1) {
            uint32_t source = word * 32 + (uint32_t)__builtin_ctz(left);
            if (plic->priority[source] > highest) {
                highest = plic->priority[source];
                found = source;
            }
        }
    }
    return found;
}

static void update(struct vk_plic *plic) {
    for (uint32_t i = 0; i < plic->contexts; i++) {
        struct vk_plic_context *c = &plic->context[i];
        bool raised = best(plic, c) != 0;
        if (raised != c->raised) {
            c->raised = raised;
            plic->set(plic->opaque, i, raised);
        }
    }
}

/* The gateway of a level-triggered source: one request until its completion (§7). */
static void gate(struct vk_plic *plic, uint32_t source) {
    if (!bit(plic->claimed, source)) {
        set_bit(plic->pending, source, bit(plic->level, source));
    }
}

void vk_plic_reset(struct vk_plic *plic) {
    memset(plic->priority, 0, sizeof plic->priority);
    memset(plic->claimed, 0, sizeof plic->claimed);
    memset(plic->context, 0, sizeof plic->context);
    for (uint32_t source = 1; source < VK_PLIC_SOURCES; source++) {
        gate(plic, source);
    }
}

void vk_plic_set_line(struct vk_plic *plic, uint32_t source, bool level) {
    if (source == 0 || source >= VK_PLIC_SOURCES) {
        return;
    }
    set_bit(plic->level, source, level);
    gate(plic, source);
    update(plic);
}

static uint32_t claim(struct vk_plic *plic, const struct vk_plic_context *c) {
    uint32_t source = best(plic, c);

    if (source) {
        set_bit(plic->pending, source, false);
        set_bit(plic->claimed, source, true);
        update(plic);
    }
    return source;
}

static void complete(struct vk_plic *plic, const struct vk_plic_context *c, uint32_t source) {
    /* §9: ignored for a source that the context has not enabled. */
    if (source == 0 || source >= VK_PLIC_SOURCES || !bit(c->enabled, source)) {
        return;
    }
    set_bit(plic->claimed, source, false);
    gate(plic, source);
    update(plic);
}

/* A word of `words` that lies in the context's part of a region; NULL: none. */
static uint32_t *enable_word(struct vk_plic *plic, uint64_t offset) {
    uint64_t context = (offset - ENABLE) / ENABLE_STRIDE;
    uint64_t word = (offset - ENABLE) % ENABLE_STRIDE / 4;

    return context < plic->contexts && word < VK_PLIC_WORDS ? &plic->context[context].enabled[word]
                                                            : NULL;
}

static struct vk_plic_context *context_at(struct vk_plic *plic, uint64_t offset) {
    uint64_t context = (offset - CONTEXT) / CONTEXT_STRIDE;

    return context < plic->contexts ? &plic->context[context] : NULL;
}

uint32_t vk_plic_read(struct vk_plic *plic, uint64_t offset) {
    if (offset % 4) {
        return 0;
    }
    if (offset >= CONTEXT) {
        struct vk_plic_context *c = context_at(plic, offset);
        uint64_t within = (offset - CONTEXT) % CONTEXT_STRIDE;
        return !c ? 0 : within == THRESHOLD ? c->threshold : within == CLAIM ? claim(plic, c) : 0;
    }
    if (offset >= ENABLE) {
        const uint32_t *word = enable_word(plic, offset);
        return word ? *word : 0;
    }
    if (offset >= PENDING) {
        uint64_t word = (offset - PENDING) / 4;
        return word < VK_PLIC_WORDS ? plic->pending[word] : 0;
    }
    return offset / 4 < VK_PLIC_SOURCES ? plic->priority[offset / 4] : 0;
}

void vk_plic_write(struct vk_plic *plic, uint64_t offset, uint32_t value) {
    if (offset % 4) {
        return;
    }
    if (offset >= CONTEXT) {
        struct vk_plic_context *c = context_at(plic, offset);
        uint64_t within = (offset - CONTEXT) % CONTEXT_STRIDE;
        if (c && within == CLAIM) {
            complete(plic, c, value);
        } else if (c && within == THRESHOLD) {
            c->threshold = value & PRIORITY_MAX;
            update(plic);
        }
        return;
    }
    if (offset >= ENABLE) {
        uint32_t *word = enable_word(plic, offset);
        if (word) {
            *word = offset % ENABLE_STRIDE ? value : value & ~1u; /* not source 0 */
            update(plic);
        }
        return;
    }
    if (offset < PENDING && offset / 4 > 0 && offset / 4 < VK_PLIC_SOURCES) {
        plic->priority[offset / 4] = value & PRIORITY_MAX;
        update(plic);
    }
}
