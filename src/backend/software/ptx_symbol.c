/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scoped symbol table; see ptx_symbol.h. */
#include "ptx_symbol.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#define FIRST_BUCKETS 256u

/*
 * FNV-1a with a final mix: names differ in their last digits, and buckets are taken from the low
 * bits. It starts from a number the guest cannot know, or it could choose names that all share a
 * bucket.
 */
static uint32_t hash_name(uint32_t seed, const char *s, uint32_t len)
{
    uint32_t h = 2166136261u ^ seed;
    for (uint32_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    h ^= h >> 15;
    h *= 0x2c1b3c6du;
    return h ^ h >> 12;
}

uint64_t vgpu_ptx_hash_seed(const void *salt)
{
    struct timespec now;
    uint64_t seed = 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    /* Sixteen random bytes that the kernel gives every program when it starts. */
    const void *random = (const void *)getauxval(AT_RANDOM);
    if (random)
        memcpy(&seed, random, sizeof(seed));
    seed ^= (uint64_t)now.tv_nsec ^ (uint64_t)(uintptr_t)salt << 20;
    /* One way, more or less: what the seed is made of guards other things. */
    for (unsigned i = 0; i < 2; i++) {
        seed ^= seed >> 32;
        seed *= 0xd6e8feb86659fd93ull;
    }
    return seed ^ seed >> 32;
}

bool vgpu_ptx_symbols_init(struct ptx_symbols *t, struct ptx_budget *budget)
{
    memset(t, 0, sizeof(*t));
    t->budget = budget;
    t->arena.budget = budget;
    t->seed = (uint32_t)vgpu_ptx_hash_seed(t);
    t->buckets = calloc(FIRST_BUCKETS, sizeof(*t->buckets));
    t->bucket_count = FIRST_BUCKETS;
    return t->buckets != NULL;
}

void vgpu_ptx_symbols_free(struct ptx_symbols *t)
{
    if (!t->budget)
        return;
    if (t->bucket_count > FIRST_BUCKETS)
        t->budget->used_bytes -= t->bucket_count * sizeof(*t->buckets);
    free(t->buckets);
    vgpu_ptx_vec_free(t->budget, &t->order, sizeof(struct ptx_symbol *));
    vgpu_ptx_arena_free(&t->arena);
    memset(t, 0, sizeof(*t));
}

struct ptx_symbol *vgpu_ptx_symbol_find(const struct ptx_symbols *t, const char *name, uint32_t len)
{
    uint32_t h = hash_name(t->seed, name, len);
    for (struct ptx_symbol *s = t->buckets[h & (t->bucket_count - 1)]; s; s = s->chain)
        if (s->hash == h && s->len == len && memcmp(s->name, name, len) == 0)
            return s;
    return NULL;
}

static void insert(struct ptx_symbols *t, struct ptx_symbol *s)
{
    struct ptx_symbol **b = &t->buckets[s->hash & (t->bucket_count - 1)];
    s->chain = *b;
    *b = s;
}

/* Doubles the table. Failing to is harmless: chains get longer, within the budget of the entries
 * themselves. */
static void grow(struct ptx_symbols *t)
{
    uint32_t n = t->bucket_count * 2;
    uint64_t bytes = n * sizeof(*t->buckets);
    uint64_t old = t->bucket_count > FIRST_BUCKETS ? t->bucket_count * sizeof(*t->buckets) : 0;
    if (n > 1u << 24 || bytes - old > t->budget->limit_bytes - t->budget->used_bytes)
        return;
    struct ptx_symbol **b = calloc(n, sizeof(*b));
    if (!b)
        return;
    free(t->buckets);
    t->buckets = b;
    t->bucket_count = n;
    t->budget->used_bytes += bytes - old;
    /* In order of declaration, so that inner symbols stay before outer ones in their chains. */
    struct ptx_symbol **order = t->order.data;
    for (size_t i = 0; i < t->order.count; i++)
        insert(t, order[i]);
}

struct ptx_symbol *vgpu_ptx_symbol_add(struct ptx_symbols *t, const char *name, uint32_t len,
                                       uint32_t scope)
{
    struct ptx_symbol *s = vgpu_ptx_arena_alloc(&t->arena, sizeof(*s));
    if (!s)
        return NULL;
    if (t->order.count >= t->bucket_count)
        grow(t);
    struct ptx_symbol **slot = vgpu_ptx_vec_push(t->budget, &t->order, sizeof(struct ptx_symbol *));
    if (!slot)
        return NULL;
    *slot = s;
    s->name = name;
    s->len = len;
    s->hash = hash_name(t->seed, name, len);
    s->scope = scope;
    insert(t, s);
    return s;
}

void vgpu_ptx_symbols_pop(struct ptx_symbols *t, size_t mark)
{
    struct ptx_symbol **order = t->order.data;
    while (t->order.count > mark) {
        struct ptx_symbol *s = order[--t->order.count];
        struct ptx_symbol **b = &t->buckets[s->hash & (t->bucket_count - 1)];
        /* Last in, first out: it heads its chain, unless a later insert of an outer scope came
         * between. */
        while (*b && *b != s)
            b = &(*b)->chain;
        if (*b)
            *b = s->chain;
    }
}
