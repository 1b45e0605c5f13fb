/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows of a function's register file: numbering them, constants as rows (each value once), special
 * registers as rows.
 */
#include <stdlib.h>
#include <string.h>

#include "ptx_parse.h"

bool vgpu_ptx_new_row(struct ptx_parser *p, bool wide, int32_t *row)
{
    uint32_t n = wide ? 2 : 1;
    if (p->fn->slots > PTX_MAX_SLOTS - n)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                             "more than %u register rows in one function", PTX_MAX_SLOTS);
    *row = (int32_t)p->fn->slots;
    p->fn->slots += n;
    return true;
}

/* Slots of the table looked at for one value; one that finds neither itself nor room in them gets a
 * row of its own each time it is used. */
#define MAX_PROBES 256u

/* Classes of constants: how wide they are, and whether the value names a shared variable. */
#define CONST_WIDE   1u
#define CONST_SHARED 2u

/*
 * Two multiplications by numbers the guest cannot know, with a fold between them: it cannot choose
 * constants that share a place, nor multiples that do whatever the number is.
 */
static uint32_t hash_const(const struct ptx_parser *p, uint64_t value, uint32_t class)
{
    uint64_t h = (value ^ p->const_seed) + class;
    h *= p->const_seed | 1;
    h ^= h >> 32;
    h *= (p->const_seed >> 7 ^ 0x9e3779b97f4a7c15ull) | 1;
    return (uint32_t)(h >> 32);
}

/* Where `value` is or could be put; false: it is not there and there is no room near its place. */
static bool probe_const(const struct ptx_parser *p, const struct ptx_const_key *keys, uint32_t cap,
                        uint64_t value, uint32_t class, uint32_t *at)
{
    uint32_t first = hash_const(p, value, class);
    for (uint32_t i = 0; i < MAX_PROBES && i < cap; i++) {
        const struct ptx_const_key *k = &keys[ *at = (first + i) & (cap - 1)];
        if (k->stamp != p->fn_stamp || (k->value == value && k->class == class))
            return true;
    }
    return false;
}

/* Doubles the table of known constants, keeping this function's. */
static bool grow_consts(struct ptx_parser *p)
{
    uint32_t cap = p->const_cap ? p->const_cap * 2 : 256;
    uint64_t more = (uint64_t)(cap - p->const_cap) * sizeof(*p->const_keys);
    if (more > p->budget->limit_bytes - p->budget->used_bytes)
        return vgpu_ptx_fail_memory(p);
    struct ptx_const_key *keys = calloc(cap, sizeof(*keys));
    if (!keys)
        return vgpu_ptx_fail_memory(p);
    for (uint32_t i = 0; i < p->const_cap; i++) {
        const struct ptx_const_key *k = &p->const_keys[i];
        uint32_t at;
        if (k->stamp == p->fn_stamp && probe_const(p, keys, cap, k->value, k->class, &at))
            keys[at] = *k;
    }
    free(p->const_keys);
    p->const_keys = keys;
    p->const_cap = cap;
    p->budget->used_bytes += more;
    return true;
}

/* Appends a constant: 32 lanes of `value`. */
static bool push_const(struct ptx_parser *p, uint64_t value, bool wide, int32_t *slot)
{
    struct ptx_vec *consts = &p->fn->consts;
    *slot = (int32_t)consts->count;
    for (unsigned half = 0; half < (wide ? 2u : 1u); half++) {
        uint8_t *bytes = vgpu_ptx_vec_push(p->budget, consts, PTX_SLOT_BYTES);
        if (!bytes)
            return vgpu_ptx_fail_memory(p);
        uint32_t v32 = (uint32_t)value;
        for (unsigned i = 0; i < PTX_SLOT_BYTES; i += wide ? 8 : 4)
            memcpy(bytes + i, wide ? (void *)&value : (void *)&v32, wide ? 8 : 4);
    }
    return true;
}

/* The row of what `value` and `class` name, and whether it is new. */
static bool keyed_row(struct ptx_parser *p, uint64_t value, uint32_t class, int32_t *row,
                      bool *is_new)
{
    if (p->const_count * 2 >= p->const_cap && !grow_consts(p))
        return false;
    uint32_t at;
    bool room = probe_const(p, p->const_keys, p->const_cap, value, class, &at);
    *is_new = !room || p->const_keys[at].stamp != p->fn_stamp;
    if (!*is_new) {
        *row = p->const_keys[at].slot | PTX_CONST_ROW;
        return true;
    }
    int32_t slot;
    if (!push_const(p, value, class & CONST_WIDE, &slot))
        return false;
    if (room) {
        p->const_keys[at] = (struct ptx_const_key){value, slot, class, p->fn_stamp};
        p->const_count++;
    }
    *row = slot | PTX_CONST_ROW;
    return true;
}

bool vgpu_ptx_const_row(struct ptx_parser *p, uint64_t value, bool wide, int32_t *row)
{
    bool is_new;
    return keyed_row(p, wide ? value : (uint32_t)value, wide ? CONST_WIDE : 0, row, &is_new);
}

bool vgpu_ptx_shared_row(struct ptx_parser *p, uint32_t var, int32_t addend, bool wide,
                         int32_t *row)
{
    bool is_new;
    if (!keyed_row(p, (uint64_t)var << 32 | (uint32_t)addend,
                   CONST_SHARED | (wide ? CONST_WIDE : 0), row, &is_new))
        return false;
    if (!is_new)
        return true;
    struct ptx_shared_use *use = vgpu_ptx_vec_push(p->budget, &p->shared_uses, sizeof(*use));
    if (!use)
        return vgpu_ptx_fail_memory(p);
    *use = (struct ptx_shared_use){.fn = p->fn,
                                   .var = var,
                                   .line = p->tok.line,
                                   .slot = *row & INT32_MAX,
                                   .addend = addend,
                                   .wide = wide};
    return true;
}

static const struct {
    const char *name;
    uint8_t sreg;
} sregs[] = {
    {"tid.x", PTX_SR_TID_X},
    {"tid.y", PTX_SR_TID_Y},
    {"tid.z", PTX_SR_TID_Z},
    {"ntid.x", PTX_SR_NTID_X},
    {"ntid.y", PTX_SR_NTID_Y},
    {"ntid.z", PTX_SR_NTID_Z},
    {"ctaid.x", PTX_SR_CTAID_X},
    {"ctaid.y", PTX_SR_CTAID_Y},
    {"ctaid.z", PTX_SR_CTAID_Z},
    {"nctaid.x", PTX_SR_NCTAID_X},
    {"nctaid.y", PTX_SR_NCTAID_Y},
    {"nctaid.z", PTX_SR_NCTAID_Z},
    {"laneid", PTX_SR_LANEID},
    {"warpid", PTX_SR_WARPID},
    {"nwarpid", PTX_SR_NWARPID},
    {"smid", PTX_SR_SMID},
    {"nsmid", PTX_SR_NSMID},
    {"gridid", PTX_SR_GRIDID},
    {"lanemask_eq", PTX_SR_LANEMASK_EQ},
    {"lanemask_le", PTX_SR_LANEMASK_LE},
    {"lanemask_lt", PTX_SR_LANEMASK_LT},
    {"lanemask_ge", PTX_SR_LANEMASK_GE},
    {"lanemask_gt", PTX_SR_LANEMASK_GT},
    {"envreg1", PTX_SR_ENVREG1},
    {"envreg2", PTX_SR_ENVREG2},
    {"total_smem_size", PTX_SR_TOTAL_SMEM},
    {"dynamic_smem_size", PTX_SR_DYNAMIC_SMEM},
    {"current_graph_exec", PTX_SR_ZERO},
    {"clock", PTX_SR_CLOCK},
    {"clock_hi", PTX_SR_CLOCK_HI},
    {"clock64", PTX_SR_CLOCK64},
    {"globaltimer", PTX_SR_GLOBALTIMER},
    {"globaltimer_lo", PTX_SR_GLOBALTIMER_LO},
    {"globaltimer_hi", PTX_SR_GLOBALTIMER_HI},
};

bool vgpu_ptx_sreg_by_name(const char *s, uint32_t len, enum ptx_sreg *r)
{
    for (size_t i = 0; i < sizeof(sregs) / sizeof(sregs[0]); i++) {
        if (strlen(sregs[i].name) == len && memcmp(sregs[i].name, s, len) == 0) {
            *r = (enum ptx_sreg)sregs[i].sreg;
            return true;
        }
    }
    /* %envreg0-31 belong to a driver there is not, %pm0-7 and %pm0_64-7_64 count nothing. */
    unsigned n = 0, digits = 0, stem = len > 6 && memcmp(s, "envreg", 6) == 0 ? 6 : 2;
    if (len < 3 || (stem == 2 && memcmp(s, "pm", 2) != 0))
        return false;
    for (; stem + digits < len && digits < 2 && s[stem + digits] >= '0' && s[stem + digits] <= '9';
         digits++)
        n = n * 10 + (unsigned)(s[stem + digits] - '0');
    uint32_t left = len - stem - digits;
    *r = PTX_SR_ZERO;
    if (digits == 0)
        return false;
    return stem == 6 ? n < 32 && left == 0
                     : n < 8 && (left == 0 || (left == 3 && memcmp(s + len - 3, "_64", 3) == 0));
}

bool vgpu_ptx_sreg_row(struct ptx_parser *p, enum ptx_sreg r, int32_t *row)
{
    if (p->sreg_rows[r] < 0) {
        if (!vgpu_ptx_new_row(p, r >= PTX_SR_GRIDID, &p->sreg_rows[r]))
            return false;
        if (r == PTX_SR_LOCAL_BASE) {
            *row = p->sreg_rows[r];
            return true; /* each call fills it */
        }
        struct ptx_special_use *u = vgpu_ptx_vec_push(p->budget, &p->fn->specials, sizeof(*u));
        if (!u)
            return vgpu_ptx_fail_memory(p);
        u->sreg = (uint32_t)r;
        u->row = p->sreg_rows[r];
    }
    *row = p->sreg_rows[r];
    return true;
}
