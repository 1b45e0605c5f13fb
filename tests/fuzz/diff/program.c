/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes programs and writes them as PTX. */
#include "diff.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

static const struct {
    const char *name;
    uint8_t bits;
    bool is_signed;
    enum kind kind;
} types[TYPES] = {[U8] = {"u8", 8, false, KIND_H},        [S8] = {"s8", 8, true, KIND_H},
                  [U16] = {"u16", 16, false, KIND_H},     [S16] = {"s16", 16, true, KIND_H},
                  [U32] = {"u32", 32, false, KIND_R},     [S32] = {"s32", 32, true, KIND_R},
                  [U64] = {"u64", 64, false, KIND_L},     [S64] = {"s64", 64, true, KIND_L},
                  [B16] = {"b16", 16, false, KIND_H},     [B32] = {"b32", 32, false, KIND_R},
                  [B64] = {"b64", 64, false, KIND_L},     [F16] = {"f16", 16, false, KIND_H},
                  [F32] = {"f32", 32, false, KIND_F},     [F64] = {"f64", 64, false, KIND_D},
                  [F16X2] = {"f16x2", 32, false, KIND_R}, [PRED] = {"pred", 1, false, KIND_P}};
static const struct {
    char letter;
    uint8_t bits;
    const char *declare;
} kinds[KINDS] = {{'p', 1, "pred"}, {'h', 16, "b16"}, {'r', 32, "b32"},
                  {'l', 64, "b64"}, {'f', 32, "f32"}, {'d', 64, "f64"}};

unsigned type_bits(enum type t)
{
    return types[t].bits;
}
bool type_signed(enum type t)
{
    return types[t].is_signed;
}
bool type_float(enum type t)
{
    return t == F16 || t == F32 || t == F64;
}
unsigned kind_bits(enum kind k)
{
    return kinds[k].bits;
}
uint64_t diff_mask(unsigned bits)
{
    return bits >= 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
}
__int128 diff_value(uint64_t bits, enum type t)
{
    bool below = type_signed(t) && (bits >> (type_bits(t) - 1) & 1);
    return (__int128)bits - (below ? (__int128)1 << type_bits(t) : 0);
}
const struct soft_format *diff_format(enum type t)
{
    return t == F16 ? &soft_f16 : t == F32 ? &soft_f32 : &soft_f64;
}

uint32_t diff_choose(struct choices *c, uint32_t n)
{
    if (c->at < c->size) {
        uint32_t v = c->data[c->at++];
        if (n > 256 && c->at < c->size)
            v |= (uint32_t)c->data[c->at++] << 8;
        return v % n;
    }
    c->state ^= c->state << 13;
    c->state ^= c->state >> 7;
    c->state ^= c->state << 17;
    return (uint32_t)(c->state >> 24) % n;
}

static uint64_t choose_bits(struct choices *c)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 4; i++)
        v = v << 16 | diff_choose(c, 65536);
    return v;
}

/* Values at which things change: ends of ranges, special floats, few bits set, and any. */
static uint64_t choose_value(struct choices *c, enum kind k)
{
    static const uint64_t f32[] = {0,          0x80000000, 1,          0x807fffff, 0x00800000,
                                   0x3f800000, 0xbf800000, 0x7f7fffff, 0x7f800000, 0xff800000,
                                   0x7fc00000, 0x7f800001, 0x4b800000, 0x3f000000, 0x4f000000,
                                   0x5f000000, 0xcf000000, 0x33800000};
    static const uint64_t f64[] = {0,
                                   0x8000000000000000,
                                   1,
                                   0x800fffffffffffff,
                                   0x0010000000000000,
                                   0x3ff0000000000000,
                                   0xbff0000000000000,
                                   0x7fefffffffffffff,
                                   0x7ff0000000000000,
                                   0xfff0000000000000,
                                   0x7ff8000000000000,
                                   0x43e0000000000000,
                                   0xc1e0000000000000,
                                   0x3fe0000000000000,
                                   0x36a0000000000001,
                                   0x380fffffffffffff,
                                   0x47efffffffffffff};
    uint64_t v = choose_bits(c);
    unsigned how = diff_choose(c, 4);
    if (k == KIND_P)
        return v & 1;
    if (k == KIND_F && how == 0)
        return f32[v % (sizeof(f32) / sizeof(f32[0]))];
    if (k == KIND_D && how == 0)
        return f64[v % (sizeof(f64) / sizeof(f64[0]))];
    if (k == KIND_F && how < 3) /* of like size, or sums are one of the operands */
        return (v & 0x83ffffff) | 0x3c000000;
    if (k == KIND_D && how < 3)
        return (v & 0x803fffffffffffff) | 0x3fc0000000000000;
    if (how == 0)
        v = (uint64_t)0 - (v & 1) + (v >> 1 & 1) +
            (v >> 2 & 1 ? (uint64_t)1 << (kind_bits(k) - 1) : 0);
    else if (how == 1)
        v = (uint64_t)1 << (v % 64);
    else if (how == 2)
        v &= 63;
    return v & diff_mask(kind_bits(k));
}

/* A register, or now and then, where the type has any, an immediate. */
static struct operand choose_source(struct choices *c, enum kind k, bool immediate)
{
    struct operand o = {.kind = k, .index = diff_choose(c, DIFF_REGS)};
    if (immediate && k != KIND_P && diff_choose(c, 6) == 0) {
        o.immediate = true;
        o.value = choose_value(c, k);
    }
    return o;
}

static enum type choose_type(struct choices *c, uint32_t set)
{
    enum type t;
    do
        t = (enum type)diff_choose(c, TYPES);
    while (!(set >> t & 1));
    return t;
}

static enum kind at_least(struct choices *c, enum type t)
{
    if (type_float(t))
        return types[t].kind;
    enum kind k = (enum kind)(KIND_H + diff_choose(c, 3));
    return kind_bits(k) < type_bits(t) ? types[t].kind : k;
}

static void choose_operands(struct insn *in, struct choices *c)
{
    static const enum kind wider[] = {[KIND_H] = KIND_R, [KIND_R] = KIND_L};
    bool first = true;
    for (const char *o = in->family->operands; *o; o++) {
        struct operand *to = first ? &in->d : &in->s[in->sources];
        enum kind k = types[in->t].kind;
        switch (*o) {
        case '|':
        case '&':
            in->two = *o == '&' || diff_choose(c, 2);
            in->d2 = choose_source(c, KIND_P, false);
            if (in->d.kind == KIND_P && in->d2.index == in->d.index)
                in->d2.index = (in->d2.index + 1) % DIFF_REGS;
            continue;
        case 'm': /* printed, not an operand */
            continue;
        case 'b': /* the predicate of a boolean operation */
            if (!in->logic)
                continue;
            k = KIND_P;
            break;
        case 'u':
            k = types[in->t2].kind;
            break;
        case 'w':
            k = wider[k];
            break;
        case 'p':
            k = KIND_P;
            break;
        case 'h':
            k = KIND_H;
            break;
        case 'r':
        case 'n':
            k = KIND_R;
            break;
        case 'f':
            k = KIND_F;
            break;
        case '>':
            k = at_least(c, in->t);
            break;
        case '<':
            k = at_least(c, in->t2);
            break;
        case 'i':
        case 'j':
            *to = (struct operand){.kind = KIND_R, .immediate = true};
            to->value = diff_choose(c, *o == 'i' ? 256 : 32);
            in->sources++;
            continue;
        default:
            break;
        }
        bool vector = strchr(in->family->text, '{') || strchr(in->family->text, '}');
        *to = choose_source(c, k, !first && !vector && *o != '<' && in->t != F16 && in->t != F16X2);
        to->negated =
            !first && k == KIND_P && *o != 't' && strcmp(o, "p") != 0 && diff_choose(c, 2);
        if (*o == 'n') /* an immediate has to be one byte */
            to->value &= 255;
        in->sources += !first;
        first = false;
    }
    if (strchr(in->family->text, '}')) {
        in->two = true;
        in->d2 = choose_source(c, in->d.kind, false);
        if (in->d2.index == in->d.index)
            in->d2.index = (in->d2.index + 1) % DIFF_REGS;
    }
}

static const struct family *choose_family(struct choices *c, bool later)
{
    const struct family *f;
    do {
        unsigned list = diff_choose(c, 16);
        f = list < 5    ? &diff_integer[diff_choose(c, (uint32_t)diff_integer_count)]
            : list < 9  ? &diff_bits[diff_choose(c, (uint32_t)diff_bits_count)]
            : list < 14 ? &diff_float[diff_choose(c, (uint32_t)diff_float_count)]
            : list < 15 ? &diff_half[diff_choose(c, (uint32_t)diff_half_count)]
                        : &diff_warp[diff_choose(c, (uint32_t)diff_warp_count)];
    } while (f->later && !later);
    return f;
}

void diff_generate(struct program *p, struct choices *c, bool later)
{
    memset(p, 0, sizeof(*p));
    c->state |= 1;
    p->count = 1 + diff_choose(c, DIFF_INSNS);
    for (unsigned i = 0; i < p->count; i++) {
        struct insn *in = &p->insns[i];
        in->family = choose_family(c, later);
        in->mode = MODE_NONE;
        in->t = choose_type(c, in->family->types);
        if (in->family->types2)
            in->t2 = choose_type(c, in->family->types2);
        unsigned variants = 0;
        while (variants < 8 && in->family->variants[variants])
            variants++;
        in->sub = variants ? diff_choose(c, variants) : 0;
        if (in->family->choose)
            in->family->choose(in, diff_choose(c, 65536));
        choose_operands(in, c);
        if (in->family->eval && diff_choose(c, 4) == 0) {
            in->guarded = true;
            in->guard = choose_source(c, KIND_P, false);
            in->guard.negated = diff_choose(c, 2);
        }
    }
    for (unsigned lane = 0; lane < DIFF_LANES; lane++)
        for (unsigned k = 0; k < KINDS; k++)
            for (unsigned r = 0; r < DIFF_REGS; r++)
                p->input[lane][k][r] = choose_value(c, (enum kind)k);
}

/* Text that grows; what does not fit is dropped, which the length shows. */
struct text {
    char *at;
    size_t size, length;
};
static void put(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->length < t->size ? t->at + t->length : NULL,
                      t->length < t->size ? t->size - t->length : 0, format, args);
    va_end(args);
    t->length += n > 0 ? (size_t)n : 0;
}

static void put_operand(struct text *t, const struct operand *o)
{
    if (!o->immediate)
        put(t, "%s%%%c%u", o->negated ? "!" : "", kinds[o->kind].letter, o->index);
    else if (o->kind == KIND_F)
        put(t, "0f%08" PRIx64, o->value);
    else if (o->kind == KIND_D)
        put(t, "0d%016" PRIx64, o->value);
    else
        put(t, "0x%" PRIx64, o->value);
}

static void put_opcode(struct text *t, const struct insn *in)
{
    static const char *const modes[] = {".rn", ".rz", ".rm", ".rp"};
    static const char *const booleans[] = {"", ".and", ".or", ".xor"};
    static const char *const comparisons[] = {"eq",  "ne",  "lt",  "le",  "gt",  "ge",
                                              "lo",  "ls",  "hi",  "hs",  "equ", "neu",
                                              "ltu", "leu", "gtu", "geu", "num", "nan"};
    for (const char *s = in->family->text; *s && *s != '{' && *s != '}'; s++) {
        if (*s != '%') {
            put(t, "%c", *s);
            continue;
        }
        switch (*++s) {
        case 't':
            put(t, "%s", types[in->t].name);
            break;
        case 'u':
            put(t, "%s", types[in->t2].name);
            break;
        case 'm':
            put(t, "%s%s", in->mode < 0 ? "" : modes[in->mode], in->integral ? "i" : "");
            break;
        case 'z':
            put(t, "%s", in->ftz ? ".ftz" : "");
            break;
        case 's':
            put(t, "%s", in->sat ? ".sat" : "");
            break;
        case 'c':
            put(t, ".%s", comparisons[in->cmp]);
            break;
        case 'b':
            put(t, "%s", booleans[in->logic]);
            break;
        default:
            put(t, "%s", in->family->variants[in->sub]);
        }
    }
}

static void put_insn(struct text *t, const struct insn *in)
{
    bool join = strchr(in->family->text, '{'), part = strchr(in->family->text, '}');
    if (in->guarded) {
        put(t, "@");
        put_operand(t, &in->guard);
        put(t, " ");
    }
    put_opcode(t, in);
    put(t, part ? " {" : " ");
    put_operand(t, &in->d);
    if (in->two) {
        put(t, part ? ", " : "|");
        put_operand(t, &in->d2);
    }
    put(t, part ? "}" : "");
    for (unsigned i = 0; i < in->sources; i++) {
        put(t, i == 0 && join ? ", {" : ", ");
        put_operand(t, &in->s[i]);
    }
    put(t, join ? "}" : "");
    put(t, "%s;\n", strchr(in->family->operands, 'm') ? ", 0xffffffff" : "");
    if (in->family->any_nan && (in->d.kind == KIND_F || in->d.kind == KIND_D))
        put(t, "setp.nan.%s %%n, %%%c%u, %%%c%u; @%%n mov.%s %%%c%u, %s;\n",
            kinds[in->d.kind].declare, kinds[in->d.kind].letter, in->d.index,
            kinds[in->d.kind].letter, in->d.index, kinds[in->d.kind].declare,
            kinds[in->d.kind].letter, in->d.index,
            in->d.kind == KIND_F ? "0f7fffffff" : "0d7fffffffffffffff");
}

size_t diff_print(const struct program *p, char *buffer, size_t size)
{
    struct text t = {.at = buffer, .size = size};
    put(&t, ".version 7.8\n.target sm_75\n.address_size 64\n"
            ".visible .entry k(.param .u64 pin, .param .u64 pout)\n{\n"
            ".reg .b64 %%in, %%out, %%off; .reg .b32 %%t; .reg .pred %%n;\n");
    for (unsigned k = 0; k < KINDS; k++)
        put(&t, ".reg .%s %%%c<%u>;\n", kinds[k].declare, kinds[k].letter, DIFF_REGS);
    put(&t,
        "ld.param.u64 %%in, [pin]; ld.param.u64 %%out, [pout]; mov.u32 %%t, %%tid.x;\n"
        "mul.wide.u32 %%off, %%t, %u; add.u64 %%in, %%in, %%off; add.u64 %%out, %%out, %%off;\n",
        (unsigned)sizeof(p->input[0]));
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned r = 0; r < DIFF_REGS; r++) {
            unsigned at = (k * DIFF_REGS + r) * 8;
            if (k == KIND_P)
                put(&t, "ld.global.u32 %%t, [%%in+%u]; setp.ne.u32 %%p%u, %%t, 0;\n", at, r);
            else
                put(&t, "ld.global.%s %%%c%u, [%%in+%u];\n", kinds[k].declare, kinds[k].letter, r,
                    at);
        }
    put(&t, "mov.u32 %%t, 0; add.cc.u32 %%t, %%t, 0;\n"); /* CC.CF begins as 0 */
    for (unsigned i = 0; i < p->count; i++)
        put_insn(&t, &p->insns[i]);
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned r = 0; r < DIFF_REGS; r++) {
            unsigned at = (k * DIFF_REGS + r) * 8;
            if (k == KIND_P)
                put(&t, "selp.u32 %%t, 1, 0, %%p%u; st.global.u32 [%%out+%u], %%t;\n", r, at);
            else
                put(&t, "st.global.%s [%%out+%u], %%%c%u;\n", kinds[k].declare, at, kinds[k].letter,
                    r);
        }
    put(&t, "ret;\n}\n");
    return t.length;
}
