/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random straight-line PTX, run by a backend (the software one) and by a second evaluator that does
 * one lane and one instruction at a time and was written from the PTX ISA manual, not from the
 * backend. They must leave the same bits in every register.
 *
 *   program.c   makes a program of choices and writes it as text
 *   ops_*.c     the instructions: how they are written, which types they have, what they do
 *   run.c       runs both and compares
 *
 * What the manual leaves open is taken as docs/software-backend.md says (division by zero, NaNs of
 * single precision); NaNs of double precision are made the same one after each instruction.
 */
#ifndef VGPU_DIFF_H
#define VGPU_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "backend/backend.h"
#include "soft.h"

enum type {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    B16,
    B32,
    B64,
    F16,
    F32,
    F64,
    F16X2,
    PRED,
    TYPES
};
#define T(x)    (1u << (x))
#define T_INT   (T(U16) | T(S16) | T_INT32)
#define T_INT32 (T(U32) | T(S32) | T(U64) | T(S64))
#define T_BITS  (T(B16) | T(B32) | T(B64))
#define T_FLOAT (T(F32) | T(F64))

unsigned type_bits(enum type t);
bool type_signed(enum type t);
bool type_float(enum type t);

/* Register files, and how many of each a program has. */
enum kind { KIND_P, KIND_H, KIND_R, KIND_L, KIND_F, KIND_D, KINDS };
#define DIFF_REGS  8u
#define DIFF_LANES 32u
unsigned kind_bits(enum kind k);

struct lane {
    uint64_t reg[KINDS][DIFF_REGS];
    bool carry;      /* CC.CF */
    uint64_t second; /* what an instruction with two results gives to the other */
};

struct operand {
    enum kind kind;
    unsigned index;
    bool immediate, negated; /* negated: a predicate source with ! */
    uint64_t value;          /* of an immediate */
};

enum { MODE_NONE = -1 };

struct insn {
    const struct family *family;
    enum type t, t2;
    int mode;      /* enum soft_mode, or MODE_NONE */
    bool integral; /* rounding to an integral value */
    bool ftz, sat;
    unsigned cmp;   /* index in the family's list of comparisons */
    unsigned logic; /* 0, or the boolean operation 1 and 2 or 3 xor */
    unsigned sub;   /* index in the family's variants */
    bool guarded;
    struct operand guard, d, d2, s[4];
    unsigned sources;
    bool two; /* d2 is there */
};

/*
 * A group of instructions that differ in type and modifiers. `text` is the opcode with %t %u types,
 * %m rounding, %z .ftz, %s .sat, %c comparison, %b boolean, %v variant. `operands` has a letter
 * for the result and each source: t and u the types, w twice as wide as t, r 32 bits, n 32 bits or
 * a number below 256, h 16 bits, p predicate, f single precision, > and < the types in registers
 * that may be wider, i and j numbers below 256 and 32, b the predicate of a boolean, m the member
 * mask, | and & a predicate as second result that may or must be there.
 */
struct family {
    const char *text;
    uint32_t types, types2;
    const char *operands;
    uint64_t (*eval)(const struct insn *in, const uint64_t *s, struct lane *l);
    const char *variants[8];
    /* Instead of eval: all lanes at once; never guarded. */
    void (*across)(const struct insn *in, struct lane *lanes);
    bool any_nan; /* the manual does not say which NaN: made one after it */
    bool whole;   /* takes an .f16x2 as one */
    bool later;   /* came with half-precision arithmetic: only where the backend has that */
    /* Chooses what the table cannot say (comparison, conversion); NULL: nothing. */
    void (*choose)(struct insn *in, uint32_t random);
};

extern const struct family diff_integer[], diff_bits[], diff_float[], diff_half[], diff_warp[];
extern const size_t diff_integer_count, diff_bits_count, diff_float_count, diff_half_count,
    diff_warp_count;

uint64_t diff_mask(unsigned bits);
__int128 diff_value(uint64_t bits, enum type t); /* as a number */
const struct soft_format *diff_format(enum type t);

/* Where choices come from: the bytes, then a generator started by them. */
struct choices {
    const uint8_t *data;
    size_t size, at;
    uint64_t state;
};
uint32_t diff_choose(struct choices *c, uint32_t n); /* below n */

#define DIFF_INSNS 48u
struct program {
    struct insn insns[DIFF_INSNS];
    unsigned count;
    uint64_t input[DIFF_LANES][KINDS][DIFF_REGS];
};
void diff_generate(struct program *p, struct choices *c, bool later);
/* Into `text`, with PTX's header; answers the length. */
size_t diff_print(const struct program *p, char *text, size_t size);
void diff_evaluate(const struct program *p, struct lane lanes[DIFF_LANES]);

/* One lane's arithmetic, shared by the files of floating point. */
uint64_t diff_flush(const struct insn *in, enum type t, uint64_t bits);
bool diff_compare(const struct insn *in, const uint64_t *s);
bool diff_combine(const struct insn *in, bool r, uint64_t c);
uint64_t diff_add(const struct insn *in, const uint64_t *s, struct lane *l);
uint64_t diff_sub(const struct insn *in, const uint64_t *s, struct lane *l);
uint64_t diff_mul(const struct insn *in, const uint64_t *s, struct lane *l);
uint64_t diff_fma(const struct insn *in, const uint64_t *s, struct lane *l);
uint64_t diff_abs(const struct insn *in, const uint64_t *s, struct lane *l);
uint64_t diff_neg(const struct insn *in, const uint64_t *s, struct lane *l);
void diff_choose_flush(struct insn *in, uint32_t random);
void diff_choose_rounded(struct insn *in, uint32_t random);
void diff_choose_free(struct insn *in, uint32_t random);
void diff_choose_compare(struct insn *in, uint32_t random);

/* Compares programs on a session of a backend; of the software backend, one of each instruction set
 * level. NULL when there is none. */
struct diff;
struct diff *diff_open(const struct vgpu_backend_ops *ops);
void diff_close(struct diff *d);
/* Answers false, and has said why on `out`, when the two disagree. */
bool diff_run(struct diff *d, const uint8_t *data, size_t size, uint64_t seed, FILE *out);

#endif
