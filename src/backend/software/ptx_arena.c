/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Budgeted allocation; see ptx_arena.h. */
#include "ptx_arena.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (64u << 10)

struct ptx_chunk {
    struct ptx_chunk *next;
    size_t size, used; /* of the whole block, this header included */
    char pad[40];      /* the first item begins on a cache line */
};

static bool charge(struct ptx_budget *b, size_t bytes)
{
    if (bytes > b->limit_bytes || b->used_bytes > b->limit_bytes - bytes)
        return false;
    b->used_bytes += bytes;
    return true;
}

void *vgpu_ptx_arena_alloc(struct ptx_arena *a, size_t size)
{
    size_t align = size >= 64 ? 64 : 16;
    struct ptx_chunk *c = a->chunks;
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + 15) & ~(size_t)15;
    size_t at = c ? (c->used + align - 1) & ~(align - 1) : 0;
    if (!c || at > c->size || size > c->size - at) {
        size_t bytes = size + sizeof(*c) > CHUNK_BYTES / 4 ? size + sizeof(*c) : CHUNK_BYTES;
        bytes = (bytes + 63) & ~(size_t)63;
        if (!charge(a->budget, bytes))
            return NULL;
        struct ptx_chunk *n = aligned_alloc(64, bytes);
        if (!n) {
            a->budget->used_bytes -= bytes;
            return NULL;
        }
        n->size = bytes;
        n->used = at = sizeof(*n);
        /* A block made for one big item is full at once; the older one may still have room. */
        if (bytes != CHUNK_BYTES && c) {
            n->next = c->next;
            c->next = n;
        } else {
            n->next = c;
            a->chunks = n;
        }
        c = n;
    }
    c->used = at + size;
    return memset((char *)c + at, 0, size);
}

char *vgpu_ptx_arena_strndup(struct ptx_arena *a, const char *s, size_t len)
{
    char *copy = vgpu_ptx_arena_alloc(a, len + 1);
    if (copy && len)
        memcpy(copy, s, len);
    return copy;
}

void vgpu_ptx_arena_free(struct ptx_arena *a)
{
    while (a->chunks) {
        struct ptx_chunk *c = a->chunks;
        a->chunks = c->next;
        a->budget->used_bytes -= c->size;
        free(c);
    }
}

void *vgpu_ptx_vec_push(struct ptx_budget *b, struct ptx_vec *v, size_t elem)
{
    if (v->count == v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 16;
        size_t more = (cap - v->cap) * elem;
        if (cap > SIZE_MAX / 2 / elem || !charge(b, more))
            return NULL;
        void *data = realloc(v->data, cap * elem);
        if (!data) {
            b->used_bytes -= more;
            return NULL;
        }
        v->data = data;
        v->cap = cap;
    }
    return memset((char *)v->data + v->count++ * elem, 0, elem);
}

void vgpu_ptx_vec_free(struct ptx_budget *b, struct ptx_vec *v, size_t elem)
{
    b->used_bytes -= v->cap * elem;
    free(v->data);
    memset(v, 0, sizeof(*v));
}
