/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tex, tld4, txq, suld, sust, suq, and the .texref and .surfref variables they may name. More
 * operands than an instruction has room for: data goes through rows of its own, which moves before
 * or behind fill or empty.
 */
#include "ptx_decode.h"
#include "ptx_image.h"

#include <string.h>

static bool refuse_type(struct ptx_dec *d)
{
    return vgpu_ptx_refuse(d, "not for this type");
}

/* A vector or a single operand at *at: where its elements begin and how many they are. */
static bool take_group(struct ptx_dec *d, unsigned *at, unsigned *first, unsigned *count)
{
    if (*at >= d->s->opd_count)
        return vgpu_ptx_refuse(d, "wrong number of operands");
    const struct ptx_operand *o = &d->s->opds[*at];
    bool vec = o->kind == PTX_OPD_VEC;
    if (o->paired)
        return vgpu_ptx_refuse(d, "a second destination is not supported here");
    *first = *at + vec;
    *count = vec ? o->count : 1;
    *at = *first + *count;
    return *at <= d->s->opd_count || vgpu_ptx_refuse(d, "wrong number of operands");
}

static bool take_geometry(struct ptx_dec *d)
{
    static const char *const names[] = {"1d", "2d", "3d", "a1d", "a2d"};
    for (unsigned i = 0; i < 5; i++) {
        if (vgpu_ptx_mod(d, names[i])) {
            d->in.sub = (uint8_t)i;
            return true;
        }
    }
    return vgpu_ptx_refuse(d, "wants .1d, .2d, .3d, .a1d or .a2d: others are not supported");
}

/* [handle, {coordinates}] or [handle]; *at moves behind it. */
static bool take_handle(struct ptx_dec *d, unsigned *at, enum ptx_space ref, bool coordinates)
{
    if (*at >= d->s->opd_count || d->s->opds[*at].kind != PTX_OPD_ADDR)
        return vgpu_ptx_refuse(d, "an object in brackets belongs here");
    const struct ptx_operand *o = &d->s->opds[(*at)++];
    if ((o->count != 0) != coordinates)
        return vgpu_ptx_refuse(d, coordinates ? "coordinates belong behind the object"
                                              : "there are no coordinates here");
    if (o->inner == PTX_OPD_REG && vgpu_ptx_type_bytes(o->type) == 8 && o->value == 0) {
        d->in.a = o->index;
        return true;
    }
    if (o->inner == PTX_OPD_SYM && o->sym->space == ref && o->value == 0)
        return vgpu_ptx_const_row(d->p, o->sym->value, true, &d->in.a);
    return vgpu_ptx_refuse(d, "the object is a 64-bit register or a reference of its kind");
}

/* Coordinates of type t into b, c, e, a layer into imm. Those of .3d and .a2d are four, of which
 * the last means nothing. */
static bool take_coordinates(struct ptx_dec *d, unsigned *at, enum ptx_type t)
{
    static const uint8_t want[] = {1, 2, 4, 2, 4}, used[] = {1, 2, 3, 1, 2};
    unsigned first = 0, count = 0, layered = d->in.sub >= PTX_GEOM_A1D;
    int32_t *const rows[] = {&d->in.b, &d->in.c, &d->in.e};
    int32_t layer = PTX_SINK_ROW;
    if (!take_group(d, at, &first, &count))
        return false;
    if (count != want[d->in.sub])
        return vgpu_ptx_refuse(d, "another number of coordinates than the geometry has");
    if (layered && !vgpu_ptx_src(d, first, PTX_B32, &layer))
        return false;
    d->in.imm = layer;
    for (unsigned i = 0; i < 3 && i < used[d->in.sub]; i++)
        if (!vgpu_ptx_src(d, first + layered + i, t, rows[i]))
            return false;
    return true;
}

/* `n` rows in a row, for elements of that type. */
static bool new_rows(struct ptx_dec *d, enum ptx_type t, unsigned n, int32_t *first)
{
    for (unsigned i = 0; i < n; i++) {
        int32_t row;
        if (!vgpu_ptx_new_row(d->p, vgpu_ptx_type_bytes(t) == 8, &row))
            return false;
        if (i == 0)
            *first = row;
    }
    return true;
}

static int32_t row_at(enum ptx_type t, int32_t first, unsigned i)
{
    return first + (int32_t)(vgpu_ptx_type_bytes(t) == 8 ? 2 * i : i);
}

/* A move that the text does not have. */
static bool move(struct ptx_dec *d, int32_t to, int32_t from, unsigned op)
{
    struct ptx_insn saved = d->in;
    memset(&d->in, 0, sizeof(d->in));
    d->in.d = to;
    d->in.a = from;
    bool ok = vgpu_ptx_append(d, op);
    d->in = saved;
    return ok;
}

/* From the rows at `from` to the destinations, which may be wider than the type or `_`. */
static bool move_out(struct ptx_dec *d, enum ptx_type t, int32_t from, unsigned first, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int32_t to;
        unsigned bytes;
        if (!vgpu_ptx_dst_relaxed(d, first + i, t, &to, &bytes))
            return false;
        unsigned op = bytes != 8                    ? PTX_OP_MOV_32
                      : vgpu_ptx_type_bytes(t) == 8 ? PTX_OP_MOV_64
                                                    : PTX_OP_CVT_64_U32;
        if (d->s->opds[first + i].kind != PTX_OPD_SINK && !move(d, to, row_at(t, from, i), op))
            return false;
    }
    return true;
}

/* Behind a fetch there may be a level of detail or gradients: there is one level. */
static bool skip_level(struct ptx_dec *d, unsigned *at, bool level, bool grad)
{
    unsigned first = 0, count = 0;
    int32_t row;
    if (level)
        return vgpu_ptx_src(d, (*at)++, PTX_B32, &row);
    for (unsigned k = 0; grad && k < 2; k++) {
        if (!take_group(d, at, &first, &count))
            return false;
        for (unsigned i = 0; i < count; i++)
            if (!vgpu_ptx_src(d, first + i, PTX_F32, &row))
                return false;
    }
    return true;
}

/* tex, tld4 (arg 1) */
bool vgpu_ptx_dec_tex(struct ptx_dec *d)
{
    static const char *const parts[] = {"r", "g", "b", "a"};
    enum ptx_type to = PTX_B32, by = PTX_B32;
    unsigned at = 0, first = 0, count = 0, part = 0;
    bool gather = d->arg == 1, level = false, grad = false;
    if (gather) {
        while (part < 4 && !vgpu_ptx_mod(d, parts[part]))
            part++;
        if (part == 4)
            return vgpu_ptx_refuse(d, "wants .r, .g, .b or .a");
    } else if (!vgpu_ptx_mod(d, "base")) {
        level = vgpu_ptx_mod(d, "level");
        grad = !level && vgpu_ptx_mod(d, "grad");
    }
    if (!take_geometry(d))
        return false;
    if (gather && d->in.sub != PTX_GEOM_2D && d->in.sub != PTX_GEOM_A2D)
        return vgpu_ptx_refuse(d, "tld4 is for .2d and .a2d");
    if (!vgpu_ptx_mod(d, "v4"))
        return vgpu_ptx_refuse(d, "wants .v4: packed results are not supported");
    if (!vgpu_ptx_mod_type(d, &to) || !vgpu_ptx_mod_type(d, &by))
        return false;
    if ((to != PTX_F32 && to != PTX_S32 && to != PTX_U32) ||
        (by != PTX_F32 && (by != PTX_S32 || gather || level || grad)))
        return refuse_type(d);
    d->in.flags = by == PTX_F32 ? PTX_F_WIDE : 0;
    d->in.vec = (uint8_t)part;
    if (!take_group(d, &at, &first, &count) || !take_handle(d, &at, PTX_SPACE_TEXREF, true) ||
        !take_coordinates(d, &at, by) || !skip_level(d, &at, level, grad))
        return false;
    if (count != 4)
        return vgpu_ptx_refuse(d, "four destinations belong in braces");
    if (at != d->s->opd_count)
        return vgpu_ptx_refuse(d, "offsets and comparisons are not supported");
    return new_rows(d, PTX_B32, 4, &d->in.d) &&
           vgpu_ptx_emit(d, gather ? PTX_OP_TLD4 : PTX_OP_TEX) &&
           move_out(d, PTX_B32, d->in.d, first, 4);
}

/* .trap .clamp .zero, and the type and vector of an access */
static bool take_surface(struct ptx_dec *d, enum ptx_type *t)
{
    if (!vgpu_ptx_mod(d, "b"))
        return vgpu_ptx_refuse(d, "only unformatted access (.b) is supported");
    if (!take_geometry(d))
        return false;
    d->in.vec = vgpu_ptx_mod(d, "v2") ? 2 : vgpu_ptx_mod(d, "v4") ? 4 : 1;
    if (!vgpu_ptx_mod_type(d, t))
        return false;
    if (*t != PTX_B8 && *t != PTX_B16 && *t != PTX_B32 && *t != PTX_B64)
        return refuse_type(d);
    d->in.size = (uint8_t)vgpu_ptx_type_bytes(*t);
    if (d->in.size * d->in.vec > 16)
        return vgpu_ptx_refuse(d, "more than 16 bytes");
    if (vgpu_ptx_mod(d, "clamp"))
        d->in.flags |= PTX_F_SAT;
    else if (vgpu_ptx_mod(d, "zero"))
        d->in.flags |= PTX_F_FTZ;
    else if (!vgpu_ptx_mod(d, "trap"))
        return vgpu_ptx_refuse(d, "wants .trap, .clamp or .zero");
    static const char *const hints[] = {"ca", "cg", "cs", "cv", "wb", "wt"};
    for (unsigned i = 0; i < 6; i++)
        vgpu_ptx_mod(d, hints[i]);
    return true;
}

static bool want_elements(struct ptx_dec *d, unsigned count, unsigned at)
{
    if (count != d->in.vec)
        return vgpu_ptx_refuse(d, "as many registers as .v says belong in braces");
    return at == d->s->opd_count || vgpu_ptx_refuse(d, "wrong number of operands");
}

bool vgpu_ptx_dec_suld(struct ptx_dec *d)
{
    enum ptx_type t = PTX_B32;
    unsigned at = 0, first = 0, count = 0;
    return take_surface(d, &t) && take_group(d, &at, &first, &count) &&
           take_handle(d, &at, PTX_SPACE_SURFREF, true) && take_coordinates(d, &at, PTX_B32) &&
           want_elements(d, count, at) && new_rows(d, t, count, &d->in.d) &&
           vgpu_ptx_emit(d, PTX_OP_SULD) && move_out(d, t, d->in.d, first, count);
}

bool vgpu_ptx_dec_sust(struct ptx_dec *d)
{
    enum ptx_type t = PTX_B32;
    unsigned at = 0, first = 0, count = 0;
    if (!take_surface(d, &t) || !take_handle(d, &at, PTX_SPACE_SURFREF, true) ||
        !take_coordinates(d, &at, PTX_B32) || !take_group(d, &at, &first, &count) ||
        !want_elements(d, count, at) || !new_rows(d, t, count, &d->in.d))
        return false;
    for (unsigned i = 0; i < count; i++) {
        int32_t from;
        unsigned bytes;
        /* The low half of a wider register lies apart from its high half lane by lane. */
        if (!vgpu_ptx_src_relaxed(d, first + i, t, &from, &bytes))
            return false;
        unsigned op = bytes != 8                    ? PTX_OP_MOV_32
                      : vgpu_ptx_type_bytes(t) == 8 ? PTX_OP_MOV_64
                                                    : PTX_OP_CVT_32_U64;
        if (!move(d, row_at(t, d->in.d, i), from, op))
            return false;
    }
    return vgpu_ptx_emit(d, PTX_OP_SUST);
}

/* txq, suq (arg 1) */
bool vgpu_ptx_dec_txq(struct ptx_dec *d)
{
    static const char *const names[] = {"width",
                                        "height",
                                        "depth",
                                        "array_size",
                                        "channel_data_type",
                                        "channel_order",
                                        "normalized_coords",
                                        "num_samples",
                                        "num_mipmap_levels"};
    enum ptx_type t = PTX_B32;
    unsigned at = 1, what = 0, end = d->arg ? PTX_TXQ_NORMALIZED_COORDS : PTX_TXQ_COUNT;
    while (what < end && !vgpu_ptx_mod(d, names[what]))
        what++;
    if (what == end)
        return vgpu_ptx_refuse(d, "this property is not supported");
    if (!vgpu_ptx_mod_type(d, &t))
        return false;
    d->in.sub = (uint8_t)what;
    d->in.vec = (uint8_t)d->arg;
    return t == PTX_B32
               ? vgpu_ptx_want(d, 2) && vgpu_ptx_dst(d, 0, t, &d->in.d) &&
                     take_handle(d, &at, d->arg ? PTX_SPACE_SURFREF : PTX_SPACE_TEXREF, false) &&
                     vgpu_ptx_emit(d, PTX_OP_TXQ)
               : refuse_type(d);
}

bool vgpu_ptx_declare_reference(struct ptx_parser *p, bool texture, enum ptx_linkage linkage)
{
    struct ptx_module *m = p->module;
    struct ptx_tok name = p->tok;
    if (name.kind != PTX_TOK_IDENT)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, name.line,
                             "a reference's name belongs here");
    if (linkage == PTX_LINK_EXTERN)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, name.line,
                             "an .extern reference that no module defines");
    const struct ptx_symbol *old = vgpu_ptx_symbol_find(&p->symbols, name.text, name.len);
    if (old && old->scope == p->scope)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, name.line,
                             "'%.*s' is already declared on line %u",
                             (int)(name.len > 100 ? 100 : name.len), name.text, old->line);
    if (m->global_count >= PTX_MAX_VARS)
        return vgpu_ptx_fail(p, CUDA_ERROR_OUT_OF_MEMORY, name.line,
                             "more than %u variables in one module", PTX_MAX_VARS);
    struct ptx_reference *ref = vgpu_ptx_arena_alloc(&m->arena, sizeof(*ref));
    struct ptx_symbol *s =
        ref ? vgpu_ptx_symbol_add(&p->symbols, name.text, name.len, p->scope) : NULL;
    ref = s ? ref : NULL;
    if (ref)
        ref->name = vgpu_ptx_arena_strndup(&m->arena, name.text, name.len);
    if (!ref || !ref->name)
        return vgpu_ptx_fail_memory(p);
    struct ptx_image *image =
        vgpu_ptx_image_add(m->memory, texture ? PTX_IMAGE_TEXREF : PTX_IMAGE_SURFREF);
    if (!image)
        return vgpu_ptx_fail(p, CUDA_ERROR_OUT_OF_MEMORY, name.line,
                             "more textures and surfaces than a session may have");
    ref->handle = image->handle;
    ref->is_texture = texture;
    ref->next = m->references;
    m->references = ref;
    m->global_count++;
    s->kind = PTX_SYM_VAR;
    s->type = PTX_B64;
    s->space = texture ? PTX_SPACE_TEXREF : PTX_SPACE_SURFREF;
    s->line = name.line;
    s->value = image->handle;
    vgpu_ptx_next(p);
    return vgpu_ptx_expect(p, ';', "reference");
}

void vgpu_ptx_drop_references(struct ptx_module *m)
{
    for (struct ptx_reference *ref = m->references; ref; ref = ref->next) {
        struct ptx_image *image = vgpu_ptx_image_find(
            m->memory, ref->handle, ref->is_texture ? PTX_IMAGE_TEXREF : PTX_IMAGE_SURFREF);
        if (image)
            vgpu_ptx_image_drop(m->memory, image);
    }
}
