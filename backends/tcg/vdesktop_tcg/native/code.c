/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Translated code and the memory it was made from.
 *
 * The stock library notices writes to translated code through the virtual
 * address the code was translated at, on the one CPU it knows. A page that is
 * also mapped writable elsewhere (a JIT's second mapping, the kernel's linear
 * map, another vCPU) is then executed stale. So we keep one bit a page of guest
 * memory, `code`: while it is set no TLB entry of any vCPU may write the page
 * on the fast path; TLB_NOTDIRTY in an entry sends the write to the library's
 * slow path, which invalidates. */
#include "priv.h"

#include <string.h>

#define JUMP_CACHE_BYTES 32768u
#define VICTIMS          8u

/* TLB flags of an entry's addresses: bits counted down from TARGET_PAGE_BITS_MIN. */
#define FLAG_INVALID(bits)  (1ull << ((bits)-1))
#define FLAG_NOTDIRTY(bits) (1ull << ((bits)-2))
#define FLAG_MMIO(bits)     (1ull << ((bits)-3))
#define FLAG_DISCARD(bits)  (1ull << ((bits)-6))

/* CPUTLBEntry, CPUTLBDesc, CPUTLBDescFast of 2.1.4, the same on all architectures. */
struct tlb_entry {
    uint64_t addr_read, addr_write, addr_code, paddr;
    uintptr_t addend;
    uint64_t pad[3];
};
struct tlb_desc {
    uint64_t large_page_addr, large_page_mask;
    int64_t window_begin_ns;
    size_t window_max_entries, n_used_entries, vindex;
    struct tlb_entry victim[VICTIMS];
    struct {
        uint64_t addr, attrs;
    } victim_io[VICTIMS];
    void *io;
};
struct tlb_fast {
    uintptr_t mask; /* (entries - 1) * sizeof(struct tlb_entry) */
    struct tlb_entry *table;
};
#define TLB_D 32u /* CPUTLB.d */

static struct tlb_desc *tlb_desc(const struct tcg_vcpu *vcpu, uint32_t mode) {
    return (struct tlb_desc *)((char *)vcpu->cs + vcpu->vm->layout->neg + TLB_D) + mode;
}

static struct tlb_fast *tlb_fast(const struct tcg_vcpu *vcpu, uint32_t mode) {
    return (struct tlb_fast *)((char *)vcpu->cs + vcpu->vm->layout->neg + vcpu->vm->layout->tlb_f) +
           mode;
}

static struct tcg_region *region_of_ram(struct tcg_vm *vm, uint64_t ram_addr) {
    for (uint32_t i = 0; i < vm->n_regions; i++)
        if (ram_addr - vm->region[i].ram_addr < vm->region[i].size)
            return &vm->region[i];
    return NULL;
}

static bool page_has_code(const struct tcg_region *r, uint64_t offset) {
    uint64_t page = offset >> TCG_PAGE_BITS;
    return atomic_load_explicit(&r->code[page / 64], memory_order_relaxed) >> (page % 64) & 1u;
}

static bool host_page_has_code(struct tcg_vm *vm, uintptr_t host) {
    for (uint32_t i = 0; i < vm->n_regions; i++) {
        uintptr_t offset = host - (uintptr_t)vm->region[i].host;
        if (offset < vm->region[i].size)
            return page_has_code(&vm->region[i], offset);
    }
    return false;
}

static void protect_entry(struct tlb_entry *e, uintptr_t host_page, uint32_t bits) {
    uint64_t w = e->addr_write;
    if (w & (FLAG_INVALID(bits) | FLAG_MMIO(bits) | FLAG_DISCARD(bits) | FLAG_NOTDIRTY(bits)))
        return;
    if (((w & ~(TCG_PAGE_SIZE - 1)) + e->addend) == host_page)
        e->addr_write = w | FLAG_NOTDIRTY(bits);
}

/* No vCPU writes `host_page` on the fast path any more. */
static void protect_host_page(struct tcg_vm *vm, uintptr_t host_page) {
    uint32_t bits = vm->layout->page_bits_min;
    for (uint32_t c = 0; c < vm->n_vcpus; c++) {
        for (uint32_t m = 0; m < vm->layout->mmu_modes; m++) {
            struct tlb_desc *d = tlb_desc(&vm->vcpu[c], m);
            struct tlb_fast *f = tlb_fast(&vm->vcpu[c], m);
            /* Empty since the last flush? The library's count of used entries
             * does not tell: it goes down for victims it never counted. */
            if (!(TCG_FIELD(vm->vcpu[c].cs, vm->layout->neg, uint16_t) >> m & 1u))
                continue;
            for (size_t i = 0; i <= f->mask / sizeof(struct tlb_entry); i++)
                protect_entry(&f->table[i], host_page, bits);
            for (uint32_t i = 0; i < VICTIMS; i++)
                protect_entry(&d->victim[i], host_page, bits);
        }
    }
}

/* The page at ram_addr gets its first translation. */
static void protect_code(struct tcg_vm *vm, uint64_t ram_addr) {
    struct tcg_region *r = region_of_ram(vm, ram_addr);
    if (!r)
        return;
    uint64_t offset = ram_addr - r->ram_addr, page = offset >> TCG_PAGE_BITS;
    atomic_fetch_or(&r->code[page / 64], 1ull << (page % 64));
    ++*vm->count.code_pages;
    protect_host_page(vm, (uintptr_t)r->host + (page << TCG_PAGE_BITS));
}

/* Its last one is gone. */
static void unprotect_code(struct tcg_vm *vm, uint64_t ram_addr) {
    struct tcg_region *r = region_of_ram(vm, ram_addr);
    if (!r)
        return;
    uint64_t page = (ram_addr - r->ram_addr) >> TCG_PAGE_BITS;
    atomic_fetch_and(&r->code[page / 64], ~(1ull << (page % 64)));
}

static void set_dirty_entry(struct tcg_vm *vm, struct tlb_entry *e, uint64_t page) {
    uint64_t flag = FLAG_NOTDIRTY(vm->layout->page_bits_min);
    if (e->addr_write == (page | flag) && !host_page_has_code(vm, page + e->addend))
        e->addr_write = page;
}

/* A write to `vaddr` took the slow path: spare the next ones, unless there is code. */
static void set_dirty(struct tcg_vcpu *vcpu, uint64_t vaddr) {
    struct tcg_vm *vm = vcpu->vm;
    uint64_t page = vaddr & ~(TCG_PAGE_SIZE - 1);
    for (uint32_t m = 0; m < vm->layout->mmu_modes; m++) {
        struct tlb_fast *f = tlb_fast(vcpu, m);
        size_t index = (vaddr >> TCG_PAGE_BITS) & (f->mask / sizeof(struct tlb_entry));
        set_dirty_entry(vm, &f->table[index], page);
        for (uint32_t i = 0; i < VICTIMS; i++)
            set_dirty_entry(vm, &tlb_desc(vcpu, m)->victim[i], page);
    }
}

/* A new entry: the library sends the first write of every page through the slow
 * path, and all writes where the page is executable, code or no code. */
static void entry_set(struct tcg_vcpu *vcpu, uint64_t vaddr, unsigned mode) {
    struct tlb_fast *f = tlb_fast(vcpu, mode);
    size_t index = (vaddr >> TCG_PAGE_BITS) & (f->mask / sizeof(struct tlb_entry));
    set_dirty_entry(vcpu->vm, &f->table[index], vaddr & ~(TCG_PAGE_SIZE - 1));
}

/* Every translation is gone: no page has code, no jump cache may be used. */
static void forget_code(struct tcg_vm *vm) {
    for (uint32_t i = 0; i < vm->n_regions; i++) {
        size_t words = (vm->region[i].size / TCG_PAGE_SIZE + 63) / 64;
        for (size_t w = 0; w < words; w++)
            atomic_store_explicit(&vm->region[i].code[w], 0, memory_order_relaxed);
    }
    for (uint32_t c = 0; c < vm->n_vcpus; c++)
        memset((char *)vm->vcpu[c].cs + vm->layout->cpu.tb_jmp_cache, 0, JUMP_CACHE_BYTES);
    tcg_blocks_forget(vm);
    ++*vm->count.flushes;
}

/* What devices wrote. */

static void queue_dirty(struct tcg_vm *vm, uint64_t start, uint64_t end) {
    for (uint32_t i = 0; i < vm->n_dirty; i++) {
        if (start <= vm->dirty[i].end && end >= vm->dirty[i].start) {
            vm->dirty[i].start = start < vm->dirty[i].start ? start : vm->dirty[i].start;
            vm->dirty[i].end = end > vm->dirty[i].end ? end : vm->dirty[i].end;
            return;
        }
    }
    if (vm->n_dirty == TCG_DIRTY_MAX) { /* full: widen the last one */
        vm->n_dirty--;
        start = start < vm->dirty[vm->n_dirty].start ? start : vm->dirty[vm->n_dirty].start;
        end = end > vm->dirty[vm->n_dirty].end ? end : vm->dirty[vm->n_dirty].end;
    }
    vm->dirty[vm->n_dirty].start = start;
    vm->dirty[vm->n_dirty].end = end;
    vm->n_dirty++;
}

static bool range_has_code(const struct tcg_region *r, uint64_t offset, uint64_t len) {
    for (uint64_t at = offset & ~(TCG_PAGE_SIZE - 1); at < offset + len; at += TCG_PAGE_SIZE)
        if (page_has_code(r, at))
            return true;
    return false;
}

/* struct vd_written. Returns when the guest cannot execute what was there
 * before. The vCPU thread may be waiting for the very thread that calls this,
 * inside an MMIO handler: then, and whenever it is outside guest code, it
 * drains the queue before it goes back, so there is nothing to wait for. */
void tcg_code_written(void *opaque, uint64_t gpa, uint64_t len) {
    struct tcg_vm *vm = opaque;
    bool queued = false;
    uint64_t ticket = 0;
    /* The data first; then whether code is being read just now; then whether
     * there is code. translate() does the same from the other end, so it reads
     * the new data, or one of the two looks finds it. */
    atomic_thread_fence(memory_order_seq_cst);
    bool translating = atomic_load(&vm->translating);
    for (uint32_t i = 0; i < vm->n_regions; i++) {
        struct tcg_region *r = &vm->region[i];
        if (gpa >= r->gpa + r->size || gpa + len <= r->gpa)
            continue;
        uint64_t from = gpa > r->gpa ? gpa - r->gpa : 0;
        uint64_t to = gpa + len - r->gpa < r->size ? gpa + len - r->gpa : r->size;
        if (!translating && !range_has_code(r, from, to - from))
            continue;
        pthread_mutex_lock(&vm->code_lock);
        queue_dirty(vm, r->ram_addr + from, r->ram_addr + to);
        ticket = vm->drains;
        pthread_mutex_unlock(&vm->code_lock);
        queued = true;
    }
    if (!queued)
        return;
    tcg_kick(vm, TCG_KICK_CODE);
    if (vm->thread_live && pthread_equal(pthread_self(), vm->thread))
        return; /* inside an MMIO handler: drained on the way back */
    pthread_mutex_lock(&vm->code_lock);
    while (vm->drains == ticket && atomic_load(&vm->in_guest))
        pthread_cond_wait(&vm->code_done, &vm->code_lock);
    pthread_mutex_unlock(&vm->code_lock);
}

void tcg_code_drain(struct tcg_vm *vm) {
    pthread_mutex_lock(&vm->code_lock);
    for (uint32_t i = 0; i < vm->n_dirty; i++)
        vm->fns->tb_invalidate_phys_range(vm->uc, vm->dirty[i].start, vm->dirty[i].end);
    *vm->count.invalidations += vm->n_dirty;
    vm->n_dirty = 0;
    vm->drains++;
    atomic_store(&vm->translating, false); /* a translation may have ended in an exception */
    pthread_cond_broadcast(&vm->code_done);
    pthread_mutex_unlock(&vm->code_lock);
}

void tcg_code_reset(struct tcg_vm *vm) {
    vm->fns->stock.tb_flush(vm->vcpu[0].cs);
    forget_code(vm);
    for (uint32_t c = 0; c < vm->n_vcpus; c++)
        vm->fns->tlb_flush(vm->vcpu[c].cs);
}

/* The replacements. One set an architecture: an engine that is not ours (some
 * other user of Unicorn in this process) gets the stock function of its own. */
static struct tcg_fns *stock_of[TCG_ARCHES_MAX];

typedef void *(*gen_code_fn)(void *cs, uint64_t pc, uint64_t cs_base, uint32_t flags, int cflags);

/* Between reading the guest's code and noting that the page has some, a device
 * must not believe that it has none. */
static void *translate(gen_code_fn stock, void *cs, uint64_t pc, uint64_t cs_base, uint32_t flags,
                       int cflags) {
    struct tcg_vcpu *vcpu = tcg_vcpu_of_cs(cs);
    if (!vcpu)
        return stock(cs, pc, cs_base, flags, cflags);
    atomic_store(&vcpu->vm->translating, true);
    void *block = stock(cs, pc, cs_base, flags, cflags);
    atomic_store(&vcpu->vm->translating, false);
    return block;
}

#define REPLACEMENTS(N)                                                                            \
    /* Emitted after loads, where leaving runs the load twice: our blocks go without. */           \
    static void check_exit_request_##N(void *tcg_ctx) {                                            \
        if (!tcg_vm_of_uc(TCG_FIELD(tcg_ctx, stock_of[N]->layout->tcg_uc, void *)))                \
            stock_of[N]->stock.check_exit_request(tcg_ctx);                                        \
    }                                                                                              \
    static void *tb_gen_code_##N(void *cs, uint64_t pc, uint64_t cs_base, uint32_t flags,          \
                                 int cflags) {                                                     \
        return translate(stock_of[N]->stock.tb_gen_code, cs, pc, cs_base, flags, cflags);          \
    }                                                                                              \
    static void tlb_protect_code_##N(void *uc, uint64_t ram_addr) {                                \
        struct tcg_vm *vm = tcg_vm_of_uc(uc);                                                      \
        stock_of[N]->stock.tlb_protect_code(uc, ram_addr);                                         \
        if (vm)                                                                                    \
            protect_code(vm, ram_addr);                                                            \
    }                                                                                              \
    static void tlb_unprotect_code_##N(void *uc, uint64_t ram_addr) {                              \
        struct tcg_vm *vm = tcg_vm_of_uc(uc);                                                      \
        stock_of[N]->stock.tlb_unprotect_code(uc, ram_addr);                                       \
        if (vm)                                                                                    \
            unprotect_code(vm, ram_addr);                                                          \
    }                                                                                              \
    static void tlb_set_page_with_attrs_##N(void *cs, uint64_t vaddr, uint64_t paddr,              \
                                            uint32_t attrs, int prot, int mode, uint64_t size) {   \
        struct tcg_vcpu *vcpu = tcg_vcpu_of_cs(cs);                                                \
        stock_of[N]->stock.tlb_set_page_with_attrs(cs, vaddr, paddr, attrs, prot, mode, size);     \
        if (vcpu)                                                                                  \
            entry_set(vcpu, vaddr, (unsigned)mode);                                                \
    }                                                                                              \
    static void tlb_set_dirty_##N(void *cs, uint64_t vaddr) {                                      \
        struct tcg_vcpu *vcpu = tcg_vcpu_of_cs(cs);                                                \
        if (vcpu)                                                                                  \
            set_dirty(vcpu, vaddr);                                                                \
        else                                                                                       \
            stock_of[N]->stock.tlb_set_dirty(cs, vaddr);                                           \
    }                                                                                              \
    /* Ours: protect_code has done it, by host page. */                                            \
    static void tlb_reset_dirty_by_vaddr_##N(void *cs, uint64_t start, uint64_t length) {          \
        if (!tcg_vcpu_of_cs(cs))                                                                   \
            stock_of[N]->stock.tlb_reset_dirty_by_vaddr(cs, start, length);                        \
    }                                                                                              \
    static void tb_flush_##N(void *cs) {                                                           \
        struct tcg_vcpu *vcpu = tcg_vcpu_of_cs(cs);                                                \
        stock_of[N]->stock.tb_flush(cs);                                                           \
        if (vcpu)                                                                                  \
            forget_code(vcpu->vm);                                                                 \
    }

REPLACEMENTS(0)
REPLACEMENTS(1)
REPLACEMENTS(2)

#define REPLACED(N, name)                                                                          \
    { #name, (void *)name##_##N, (void **)&fns->stock.name }
#define TABLE(N)                                                                                   \
    {                                                                                              \
        REPLACED(N, check_exit_request), REPLACED(N, tlb_protect_code),                            \
            REPLACED(N, tlb_unprotect_code), REPLACED(N, tlb_set_page_with_attrs),                 \
            REPLACED(N, tlb_set_dirty), REPLACED(N, tlb_reset_dirty_by_vaddr),                     \
            REPLACED(N, tb_flush), REPLACED(N, tb_gen_code), {                                     \
            NULL, NULL, NULL                                                                       \
        }                                                                                          \
    }

void tcg_engine_rebinds(uint32_t arch_index, struct tcg_fns *fns,
                        struct tcg_rebind to[TCG_ENGINE_REBINDS]) {
    const struct tcg_rebind tables[TCG_ARCHES_MAX][TCG_ENGINE_REBINDS] = {TABLE(0), TABLE(1),
                                                                          TABLE(2)};
    stock_of[arch_index] = fns;
    memcpy(to, tables[arch_index], sizeof tables[arch_index]);
}
