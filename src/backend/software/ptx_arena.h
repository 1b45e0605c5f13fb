/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host memory for decoded modules, charged to one budget per session so that no guest can make the
 * host pay for more than its configuration says. Owns allocation and accounting; knows nothing of
 * PTX.
 */
#ifndef VGPU_PTX_ARENA_H
#define VGPU_PTX_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct ptx_budget {
    uint64_t used_bytes, limit_bytes;
};

struct ptx_chunk;

struct ptx_arena {
    struct ptx_budget *budget;
    struct ptx_chunk *chunks;
};

/* Zeroed memory aligned to 16 (`size` 64 or more: to 64), freed with the arena; NULL when the
 * budget or the host has no more. */
void *vgpu_ptx_arena_alloc(struct ptx_arena *a, size_t size);
/* A copy of `len` bytes with a NUL behind them. */
char *vgpu_ptx_arena_strndup(struct ptx_arena *a, const char *s, size_t len);
void vgpu_ptx_arena_free(struct ptx_arena *a);

/* A growing array of `elem`-byte items, charged to the budget. data is NULL while cap is 0. */
struct ptx_vec {
    void *data;
    size_t count, cap;
};

/* Room for one more item: its address (zeroed, counted), or NULL. Moves the array: hold indexes,
 * not pointers. */
void *vgpu_ptx_vec_push(struct ptx_budget *b, struct ptx_vec *v, size_t elem);
void vgpu_ptx_vec_free(struct ptx_budget *b, struct ptx_vec *v, size_t elem);

#endif
