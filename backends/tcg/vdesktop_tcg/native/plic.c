/* SPDX-License-Identifier: GPL-2.0-only */
#include "plic.h"

#include <stdlib.h>
#include <string.h>

#define WORDS (TCG_PLIC_SOURCES / 32)

_Static_assert(TCG_PLIC_SOURCES % 32 == 0, "sources fill whole registers");

/* Register blocks, by offset: {first byte, bytes a unit, units}. A unit is a
 * source in the priority block, 32 sources in the pending block, and a context
 * in the enable and context blocks. */
enum {
    PRIORITY_BASE = 0x000000,
    PENDING_BASE = 0x001000,
    ENABLE_BASE = 0x002000,
    ENABLE_STRIDE = 0x80,
    CONTEXT_BASE = 0x200000,
    CONTEXT_STRIDE = 0x1000,
    CONTEXT_THRESHOLD = 0x0,
    CONTEXT_CLAIM = 0x4,
};

struct context {
    uint32_t enable[WORDS];
    uint32_t threshold;
    bool output;
};

struct tcg_plic {
    struct tcg_plic_output output;
    uint64_t claims;
    uint32_t priority[TCG_PLIC_SOURCES];
    /* A source's gateway: its line, the request it forwarded, and whether a
     * hart has claimed that request and not completed it yet. */
    uint32_t level[WORDS];
    uint32_t pending[WORDS];
    uint32_t claimed[WORDS];
    unsigned contexts;
    struct context context[];
};

/* Which register an access means. */
enum kind { NONE, PRIORITY, PENDING, ENABLE, THRESHOLD, CLAIM };

struct reg {
    enum kind kind;
    unsigned context;
    unsigned index; /* source, or word of sources */
};

static struct reg decode(const struct tcg_plic *plic, uint64_t offset, unsigned width) {
    struct reg reg = {NONE, 0, 0};

    if (width != 4 || offset % 4 || offset >= TCG_PLIC_SIZE)
        return reg;
    if (offset < PENDING_BASE) {
        reg.index = (unsigned)(offset - PRIORITY_BASE) / 4;
        if (reg.index > 0 && reg.index < TCG_PLIC_SOURCES)
            reg.kind = PRIORITY;
    } else if (offset < ENABLE_BASE) {
        reg.index = (unsigned)(offset - PENDING_BASE) / 4;
        if (reg.index < WORDS)
            reg.kind = PENDING;
    } else if (offset < CONTEXT_BASE) {
        reg.context = (unsigned)(offset - ENABLE_BASE) / ENABLE_STRIDE;
        reg.index = (unsigned)(offset - ENABLE_BASE) % ENABLE_STRIDE / 4;
        if (reg.context < plic->contexts && reg.index < WORDS)
            reg.kind = ENABLE;
    } else {
        unsigned within = (unsigned)(offset - CONTEXT_BASE) % CONTEXT_STRIDE;

        reg.context = (unsigned)(offset - CONTEXT_BASE) / CONTEXT_STRIDE;
        if (reg.context < plic->contexts && within == CONTEXT_THRESHOLD)
            reg.kind = THRESHOLD;
        else if (reg.context < plic->contexts && within == CONTEXT_CLAIM)
            reg.kind = CLAIM;
    }
    return reg;
}

/* The source a context would claim: the pending one of the highest priority
 * above the threshold; of equals, the lowest number. 0: none. */
static unsigned best(const struct tcg_plic *plic, const struct context *context) {
    uint32_t above = context->threshold;
    unsigned source = 0;

    for (unsigned word = 0; word < WORDS; word++) {
        uint32_t bits = plic->pending[word] & context->enable[word];

        for (; bits; bits &= bits - 1) {
            unsigned candidate = word * 32 + (unsigned)__builtin_ctz(bits);

            if (plic->priority[candidate] > above) {
                above = plic->priority[candidate];
                source = candidate;
            }
        }
    }
    return source;
}

static void update(struct tcg_plic *plic) {
    for (unsigned i = 0; i < plic->contexts; i++) {
        struct context *context = &plic->context[i];
        bool output = best(plic, context) != 0;

        if (output == context->output)
            continue;
        context->output = output;
        plic->output.set(plic->output.opaque, i, output);
    }
}

static uint32_t claim(struct tcg_plic *plic, struct context *context) {
    unsigned source = best(plic, context);
    uint32_t bit = 1u << source % 32;

    if (!source)
        return 0;
    plic->pending[source / 32] &= ~bit;
    plic->claimed[source / 32] |= bit;
    plic->claims++;
    update(plic);
    return source;
}

static void complete(struct tcg_plic *plic, struct context *context, uint32_t source) {
    uint32_t bit = 1u << source % 32;

    /* Chapter 9: a completion of a source that is not enabled for the context
     * is silently ignored. */
    if (source == 0 || source >= TCG_PLIC_SOURCES || !(context->enable[source / 32] & bit) ||
        !(plic->claimed[source / 32] & bit))
        return;
    plic->claimed[source / 32] &= ~bit;
    plic->pending[source / 32] |= plic->level[source / 32] & bit;
    update(plic);
}

struct tcg_plic *tcg_plic_new(unsigned contexts, const struct tcg_plic_output *output) {
    struct tcg_plic *plic = calloc(1, sizeof(*plic) + contexts * sizeof(plic->context[0]));

    if (!plic)
        return NULL;
    plic->output = *output;
    plic->contexts = contexts;
    return plic;
}

void tcg_plic_free(struct tcg_plic *plic) {
    free(plic);
}

void tcg_plic_reset(struct tcg_plic *plic) {
    memset(plic->priority, 0, sizeof(plic->priority));
    memset(plic->claimed, 0, sizeof(plic->claimed));
    memcpy(plic->pending, plic->level, sizeof(plic->pending));
    for (unsigned i = 0; i < plic->contexts; i++) {
        memset(plic->context[i].enable, 0, sizeof(plic->context[i].enable));
        plic->context[i].threshold = 0;
    }
    update(plic);
}

bool tcg_plic_set(struct tcg_plic *plic, unsigned source, bool level) {
    uint32_t bit = 1u << source % 32;
    unsigned word = source / 32;

    if (source == 0 || source >= TCG_PLIC_SOURCES)
        return false;
    if (level && !(plic->level[word] & bit)) {
        plic->level[word] |= bit;
        /* A gateway has one request under way at a time (chapter 4); the level
         * is looked at again on completion. */
        if (!(plic->claimed[word] & bit)) {
            plic->pending[word] |= bit;
            update(plic);
        }
    } else if (!level) {
        /* A request that was forwarded is not taken back. */
        plic->level[word] &= ~bit;
    }
    return true;
}

uint64_t tcg_plic_read(struct tcg_plic *plic, uint64_t offset, unsigned width) {
    struct reg reg = decode(plic, offset, width);
    uint32_t value = 0;

    switch (reg.kind) {
    case PRIORITY:
        value = plic->priority[reg.index];
        break;
    case PENDING:
        value = plic->pending[reg.index];
        break;
    case ENABLE:
        value = plic->context[reg.context].enable[reg.index];
        break;
    case THRESHOLD:
        value = plic->context[reg.context].threshold;
        break;
    case CLAIM:
        value = claim(plic, &plic->context[reg.context]);
        break;
    case NONE:
        break;
    }
    return value;
}

void tcg_plic_write(struct tcg_plic *plic, uint64_t offset, unsigned width, uint64_t value) {
    struct reg reg = decode(plic, offset, width);

    switch (reg.kind) {
    case PRIORITY:
        plic->priority[reg.index] = (uint32_t)value & TCG_PLIC_PRIORITY_MAX;
        update(plic);
        break;
    case ENABLE:
        /* Bit 0 of the first word is hard-wired: source 0 does not exist. */
        plic->context[reg.context].enable[reg.index] = (uint32_t)value & (reg.index ? ~0u : ~1u);
        update(plic);
        break;
    case THRESHOLD:
        plic->context[reg.context].threshold = (uint32_t)value & TCG_PLIC_PRIORITY_MAX;
        update(plic);
        break;
    case CLAIM:
        complete(plic, &plic->context[reg.context], (uint32_t)value);
        break;
    case PENDING: /* read-only */
    case NONE:
        break;
    }
}

bool tcg_plic_output_level(const struct tcg_plic *plic, unsigned context) {
    return plic->context[context].output;
}

uint64_t tcg_plic_claims(const struct tcg_plic *plic) {
    return plic->claims;
}
