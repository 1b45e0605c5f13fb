/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parameters (PTX ISA, "Parameter State Space"): a kernel's lie in the buffer of its launch, those
 * of a function and of its calls are rows of the register file, so that a call copies rows and
 * nobody computes addresses.
 */
#include <string.h>

#include "ptx_decode.h"

static bool parse_name(struct ptx_parser *p, struct ptx_formal *f)
{
    uint64_t count = (uint64_t)f->elems * vgpu_ptx_type_bytes(f->type);
    bool open = false;
    if (p->tok.kind != PTX_TOK_IDENT)
        return vgpu_ptx_unexpected(p, "a parameter's name belongs here");
    f->name = p->tok;
    vgpu_ptx_next(p);
    if (!f->is_reg && !vgpu_ptx_parse_dimensions(p, &count, &open))
        return false;
    f->size = open ? 0 : count;
    return true;
}

bool vgpu_ptx_parse_formal(struct ptx_parser *p, bool is_reg, struct ptx_formal *f)
{
    memset(f, 0, sizeof(*f));
    f->is_reg = is_reg;
    f->type = PTX_B32;
    if (!vgpu_ptx_parse_type(p, &f->type, &f->align, &f->elems))
        return false;
    /* .ptr says what the pointer points to: a promise to an optimiser, nothing to us. */
    if (vgpu_ptx_is_dot(p, "ptr")) {
        vgpu_ptx_next(p);
        while (p->tok.kind == PTX_TOK_DOT) {
            bool is_align = vgpu_ptx_tok_text(&p->tok, "align");
            vgpu_ptx_next(p);
            if (is_align) {
                if (p->tok.kind != PTX_TOK_INT)
                    return vgpu_ptx_unexpected(p, "an alignment belongs here");
                vgpu_ptx_next(p);
            }
        }
    }
    if (is_reg && f->elems != 1)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                             "vector registers are not supported as parameters");
    return parse_name(p, f);
}

static bool declare_kernel_param(struct ptx_parser *p, const struct ptx_formal *f)
{
    struct ptx_symbol *s = vgpu_ptx_declare_name(p, &f->name);
    if (!s)
        return false;
    s->kind = PTX_SYM_VAR;
    s->type = (uint8_t)f->type;
    s->space = PTX_SPACE_PARAM;
    s->size = f->size;
    s->index = -1;
    uint64_t at = ((uint64_t)p->param_bytes + f->align - 1) & ~(uint64_t)(f->align - 1);
    if (s->size > PTX_MAX_PARAM_BYTES || at > PTX_MAX_PARAM_BYTES - s->size)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, f->name.line,
                             "more than %u bytes of parameters", PTX_MAX_PARAM_BYTES);
    s->value = at;
    p->param_bytes = (uint32_t)(at + s->size);
    struct vgpu_kernel_info *info = p->fn->info;
    if (info->param_count >= VGPU_KERNEL_MAX_PARAMS)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, f->name.line, "more than %u parameters",
                             VGPU_KERNEL_MAX_PARAMS);
    info->params[info->param_count].offset = (uint32_t)at;
    info->params[info->param_count].size = (uint32_t)s->size;
    info->param_count++;
    return true;
}

static bool take_rows(struct ptx_parser *p, uint32_t slots, int32_t *row)
{
    if (p->fn->slots > PTX_MAX_SLOTS - slots)
        return vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, p->tok.line,
                             "more than %u register rows in one function", PTX_MAX_SLOTS);
    *row = (int32_t)p->fn->slots;
    p->fn->slots += slots;
    return true;
}

static bool check_size(struct ptx_parser *p, const struct ptx_formal *f)
{
    return (f->size && f->size <= PTX_MAX_PARAM_BYTES) ||
           vgpu_ptx_fail(p, CUDA_ERROR_INVALID_PTX, f->name.line,
                         "a function's parameter has 1 to %u bytes", PTX_MAX_PARAM_BYTES);
}

bool vgpu_ptx_declare_formal(struct ptx_parser *p, const struct ptx_formal *f)
{
    if (p->fn->is_entry)
        return declare_kernel_param(p, f);
    int32_t row = 0;
    if (!check_size(p, f) || !take_rows(p, ptx_param_slots((uint32_t)f->size), &row))
        return false;
    if (f->name.len == 1 && f->name.text[0] == '_')
        return true;
    struct ptx_symbol *s = vgpu_ptx_declare_name(p, &f->name);
    if (!s)
        return false;
    s->kind = f->is_reg ? PTX_SYM_REG : PTX_SYM_VAR;
    s->type = (uint8_t)f->type;
    s->space = PTX_SPACE_PARAM;
    s->size = f->size;
    s->index = row;
    return true;
}

/* Calls come one after the other, each with parameters of its own: rows are used again. */
bool vgpu_ptx_declare_call_param(struct ptx_parser *p)
{
    struct ptx_formal f;
    bool ok = vgpu_ptx_parse_formal(p, false, &f);
    for (;;) {
        int32_t row = 0;
        if (!ok || !check_size(p, &f))
            return false;
        uint32_t slots = ptx_param_slots((uint32_t)f.size);
        if (slots <= PTX_REUSED_SLOTS && p->free_row[slots]) {
            const struct ptx_free_row *rows = p->free_rows.data;
            row = rows[p->free_row[slots] - 1].row;
            p->free_row[slots] = rows[p->free_row[slots] - 1].next;
        } else if (!take_rows(p, slots, &row)) {
            return false;
        }
        struct ptx_symbol *s = vgpu_ptx_declare_name(p, &f.name);
        if (!s)
            return false;
        s->kind = PTX_SYM_VAR;
        s->type = (uint8_t)f.type;
        s->space = PTX_SPACE_PARAM;
        s->size = f.size;
        s->index = row;
        if (!vgpu_ptx_accept(p, ','))
            return vgpu_ptx_expect(p, ';', ".param");
        ok = parse_name(p, &f);
    }
}

bool vgpu_ptx_release_params(struct ptx_parser *p, size_t mark)
{
    struct ptx_symbol **order = p->symbols.order.data;
    for (size_t i = mark; i < p->symbols.order.count; i++) {
        const struct ptx_symbol *s = order[i];
        if (s->kind != PTX_SYM_VAR || s->space != PTX_SPACE_PARAM || s->index < 0)
            continue;
        uint32_t slots = ptx_param_slots((uint32_t)s->size);
        if (slots > PTX_REUSED_SLOTS)
            continue;
        struct ptx_free_row *f = vgpu_ptx_vec_push(p->budget, &p->free_rows, sizeof(*f));
        if (!f)
            return vgpu_ptx_fail_memory(p);
        f->row = s->index;
        f->next = p->free_row[slots];
        p->free_row[slots] = (uint32_t)p->free_rows.count;
    }
    return true;
}

/* Where in the rows of variable `o` an access of `bytes` bytes lies, at `at` from its beginning. */
static bool place_access(struct ptx_dec *d, const struct ptx_operand *o, uint64_t at,
                         uint32_t bytes, int32_t *row, unsigned *offset, unsigned *unit)
{
    const struct ptx_symbol *s = o->sym;
    if (at > s->size || bytes > s->size - at)
        return vgpu_ptx_refuse(d, "beyond the parameter");
    if (at & (bytes - 1))
        return vgpu_ptx_refuse(d, "a misaligned parameter");
    *unit = s->size <= 4 ? 4 : 8;
    *row = s->index + (int32_t)(at / *unit * (*unit / 4));
    *offset = (unsigned)(at % *unit);
    return true;
}

/* One instruction per element; a whole unit is a register's own layout. */
bool vgpu_ptx_param_access(struct ptx_dec *d, const struct ptx_operand *o, const int32_t *rows,
                           unsigned reg_bytes, unsigned op, bool store)
{
    const unsigned size = d->in.size, vec = d->in.vec;
    const struct ptx_insn saved = d->in;
    if (o->value & (size * vec - 1))
        return vgpu_ptx_refuse(d, "a misaligned parameter");
    for (unsigned i = 0; i < vec; i++) {
        int32_t row = 0;
        unsigned offset = 0, unit = 4, what = op;
        if (!place_access(d, o, o->value + (uint64_t)i * size, size, &row, &offset, &unit))
            return false;
        d->in = saved;
        d->in.vec = 1;
        d->in.sub = (uint8_t)unit;
        d->in.imm = offset;
        d->in.d = store ? row : rows[i];
        d->in.a = store ? rows[i] : row;
        if (size == unit && (reg_bytes == 8) == (unit == 8))
            what = unit == 8 ? PTX_OP_MOV_64 : PTX_OP_MOV_32;
        if (!(i + 1 < vec ? vgpu_ptx_append(d, what) : vgpu_ptx_emit(d, what)))
            return false;
    }
    return true;
}

/* "If the address of a device function parameter is moved to a register, the parameter will be
 * copied onto the stack and the address will be in the local state space" (PTX ISA, "mov"). */
bool vgpu_ptx_param_on_stack(struct ptx_dec *d, const struct ptx_symbol *sym, uint64_t *offset)
{
    /* The table is ours; vgpu_ptx_place keeps the place for the next time. */
    struct ptx_symbol copy = *sym, *s = (struct ptx_symbol *)(uintptr_t)sym;
    const uint32_t unit = s->size <= 4 ? 4 : 8;
    if (d->p->fn->is_entry)
        return vgpu_ptx_refuse(d, "the parameter of a call has no address in a kernel");
    copy.align = 16;
    copy.size = (s->size + 7) & ~(uint64_t)7;
    if (!vgpu_ptx_place(d->p, &copy, offset))
        return false;
    s->stamp = copy.stamp;
    s->value = copy.value;
    const struct ptx_insn saved = d->in;
    bool ok = true;
    for (uint64_t at = 0; ok && at < s->size; at += unit) {
        memset(&d->in, 0, sizeof(d->in));
        d->in.space = PTX_SPACE_LOCAL;
        d->in.size = (uint8_t)unit;
        d->in.vec = 1;
        d->in.imm = (int64_t)(*offset + at);
        d->in.d = s->index + (int32_t)(at / 4);
        ok = vgpu_ptx_sreg_row(d->p, PTX_SR_LOCAL_BASE, &d->in.a) &&
             vgpu_ptx_append(d, unit == 8 ? PTX_OP_ST_64_64 : PTX_OP_ST_32_32);
    }
    d->in = saved;
    return ok;
}
