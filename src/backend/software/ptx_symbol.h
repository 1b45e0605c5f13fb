/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names in scopes: a hash table whose entries vanish when their scope ends. Owns look-up; what a
 * symbol means is for the parser. Cost is linear in the text: each entry is made once and removed
 * once.
 */
#ifndef VGPU_PTX_SYMBOL_H
#define VGPU_PTX_SYMBOL_H

#include "ptx.h"

enum ptx_symbol_kind {
    PTX_SYM_REG,        /* row or predicate number in `index` */
    PTX_SYM_REG_FAMILY, /* .reg .f32 %f<57>: `size` members, none made yet */
    PTX_SYM_LABEL,      /* instruction number in `index` */
    PTX_SYM_VAR,        /* in `space`: address or offset in `value`, bytes in `size`; .shared: its
                           number in `index`; .param: its first row, or -1 in a kernel's buffer */
    PTX_SYM_FUNCTION,   /* number in `index` */
    PTX_SYM_TARGETS,    /* .branchtargets: `size` of the module's targets from `index` on */
    PTX_SYM_PROTOTYPE   /* .callprototype, .calltargets: signature in `index` */
};

struct ptx_symbol {
    struct ptx_symbol *chain;
    const char *name; /* a slice of the image, or a copy */
    uint32_t len, hash;
    uint32_t scope; /* depth it was declared at */
    uint8_t kind, type, space;
    bool is_extern; /* .extern: no storage of its own; .shared: the dynamic part */
    int32_t index;
    uint32_t line;
    uint32_t align;
    uint32_t stamp; /* .local: the function whose offset `value` is */
    uint64_t value, size;
};

struct ptx_symbols {
    struct ptx_budget *budget;
    struct ptx_symbol **buckets;
    uint32_t bucket_count, seed;
    struct ptx_vec order; /* struct ptx_symbol *, by declaration; a scope is a tail of it */
    struct ptx_arena arena;
};

/* A number a guest cannot know: what the hashes of its names and constants start from. */
uint64_t vgpu_ptx_hash_seed(const void *salt);

bool vgpu_ptx_symbols_init(struct ptx_symbols *t, struct ptx_budget *budget);
void vgpu_ptx_symbols_free(struct ptx_symbols *t);

/* The innermost symbol of that name, or NULL. */
struct ptx_symbol *vgpu_ptx_symbol_find(const struct ptx_symbols *t, const char *name,
                                        uint32_t len);
/* Adds without asking whether the name is taken; NULL when memory is out. `name` must live as long
 * as the table. */
struct ptx_symbol *vgpu_ptx_symbol_add(struct ptx_symbols *t, const char *name, uint32_t len,
                                       uint32_t scope);
/* Ends a scope: drops what was declared since t->order.count was `mark`. */
void vgpu_ptx_symbols_pop(struct ptx_symbols *t, size_t mark);

#endif
