/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the decoders share: modifiers are taken one by one, operands become rows, and what is left
 * over is refused. A decoder handles a family of opcodes; the table in ptx_decode.c says which.
 */
#ifndef VGPU_PTX_DECODE_H
#define VGPU_PTX_DECODE_H

#include "ptx_parse.h"

struct ptx_dec {
    struct ptx_parser *p;
    struct ptx_stmt *s;
    struct ptx_insn in;
    unsigned arg; /* of the table's entry */
};

typedef bool (*ptx_decoder)(struct ptx_dec *d);

/* Fails with line, instruction and reason. */
bool vgpu_ptx_refuse(struct ptx_dec *d, const char *why);

/* Takes modifier `name` if it is there. */
bool vgpu_ptx_mod(struct ptx_dec *d, const char *name);
/* Takes the first modifier that is a type. */
bool vgpu_ptx_mod_type(struct ptx_dec *d, enum ptx_type *t);
/* Takes .rn .rz .rm .rp (and .rni ..): enum ptx_round. */
unsigned vgpu_ptx_mod_round(struct ptx_dec *d);

/* Which variant: 0..5 for U16 S16 U32 S32 U64 S64; 0, 1 for 32 (and 16), 64 bits; 0, 1 for F32,
 * F64; -1: none. */
int vgpu_ptx_variant_int(enum ptx_type t);
int vgpu_ptx_variant_width(enum ptx_type t);
int vgpu_ptx_variant_float(enum ptx_type t);

bool vgpu_ptx_want(struct ptx_dec *d, unsigned operands);
/* Operand `i` as a source or destination of exactly that type's width. */
bool vgpu_ptx_src(struct ptx_dec *d, unsigned i, enum ptx_type t, int32_t *row);
bool vgpu_ptx_dst(struct ptx_dec *d, unsigned i, enum ptx_type t, int32_t *row);
/* The same for instructions that take registers wider than the type; *bytes is the register's
 * width. */
bool vgpu_ptx_src_relaxed(struct ptx_dec *d, unsigned i, enum ptx_type t, int32_t *row,
                          unsigned *bytes);
bool vgpu_ptx_dst_relaxed(struct ptx_dec *d, unsigned i, enum ptx_type t, int32_t *row,
                          unsigned *bytes);
bool vgpu_ptx_src_pred(struct ptx_dec *d, unsigned i, int32_t *ref);
bool vgpu_ptx_dst_pred(struct ptx_dec *d, unsigned i, int32_t *pred);
/* The address of a variable in its own space, as a row. */
bool vgpu_ptx_sym_row(struct ptx_dec *d, const struct ptx_operand *o, bool wide, int32_t *row);

/* Checks that every modifier was taken and appends the instruction. */
bool vgpu_ptx_emit(struct ptx_dec *d, unsigned op);
/* Appends without that check: for an instruction that is only a part of what the text says. */
bool vgpu_ptx_append(struct ptx_dec *d, unsigned op);
/* d, a, b, c of one type from the operands in order, `sources` of them, then vgpu_ptx_emit. */
bool vgpu_ptx_emit_alu(struct ptx_dec *d, unsigned op, enum ptx_type t, unsigned sources);

/* ptx_decode_int.c */
bool vgpu_ptx_dec_addsub(struct ptx_dec *d);
bool vgpu_ptx_dec_carry(struct ptx_dec *d);
bool vgpu_ptx_dec_mul(struct ptx_dec *d);
bool vgpu_ptx_dec_mad(struct ptx_dec *d);
bool vgpu_ptx_dec_divrem(struct ptx_dec *d);
bool vgpu_ptx_dec_minmax(struct ptx_dec *d);
bool vgpu_ptx_dec_sign(struct ptx_dec *d);
bool vgpu_ptx_dec_mul24(struct ptx_dec *d);
bool vgpu_ptx_dec_sad(struct ptx_dec *d);
bool vgpu_ptx_dec_logic(struct ptx_dec *d);
bool vgpu_ptx_dec_not(struct ptx_dec *d);
bool vgpu_ptx_dec_shift(struct ptx_dec *d);
bool vgpu_ptx_dec_shf(struct ptx_dec *d);
bool vgpu_ptx_dec_bits(struct ptx_dec *d);
bool vgpu_ptx_dec_bfield(struct ptx_dec *d);
bool vgpu_ptx_dec_prmt(struct ptx_dec *d);
bool vgpu_ptx_dec_lop3(struct ptx_dec *d);
bool vgpu_ptx_dec_dp(struct ptx_dec *d);

/* ptx_decode_float.c */
bool vgpu_ptx_dec_float2(struct ptx_dec *d, unsigned op, unsigned rounded_op, enum ptx_type t,
                         unsigned n);
bool vgpu_ptx_dec_fma(struct ptx_dec *d);
bool vgpu_ptx_dec_unary(struct ptx_dec *d);
bool vgpu_ptx_dec_approx(struct ptx_dec *d);
bool vgpu_ptx_dec_copysign(struct ptx_dec *d);
bool vgpu_ptx_dec_testp(struct ptx_dec *d);
bool vgpu_ptx_dec_setp(struct ptx_dec *d);
bool vgpu_ptx_dec_selp(struct ptx_dec *d);
bool vgpu_ptx_dec_slct(struct ptx_dec *d);
bool vgpu_ptx_dec_cvt(struct ptx_dec *d);

/* ptx_decode_half.c */
bool vgpu_ptx_is_half(enum ptx_type t);
/* An operation of `n` sources on halves: `op` is the .f16 one. Takes .rn .ftz .sat where the ISA
 * has them. */
bool vgpu_ptx_dec_half(struct ptx_dec *d, unsigned op, enum ptx_type t, unsigned n);
bool vgpu_ptx_dec_set_type(struct ptx_dec *d, enum ptx_type to, enum ptx_type from);

/* ptx_decode_misc.c */
bool vgpu_ptx_dec_bmsk(struct ptx_dec *d);
bool vgpu_ptx_dec_szext(struct ptx_dec *d);
bool vgpu_ptx_dec_fns(struct ptx_dec *d);
bool vgpu_ptx_dec_lop3_pred(struct ptx_dec *d, enum ptx_bool with);
bool vgpu_ptx_dec_cvt_pack(struct ptx_dec *d);

/* ptx_decode_video.c */
bool vgpu_ptx_dec_video(struct ptx_dec *d);

/* ptx_decode_tex.c */
bool vgpu_ptx_dec_tex(struct ptx_dec *d);
bool vgpu_ptx_dec_suld(struct ptx_dec *d);
bool vgpu_ptx_dec_sust(struct ptx_dec *d);
bool vgpu_ptx_dec_txq(struct ptx_dec *d);

/* ptx_decode_mem.c */
bool vgpu_ptx_dec_mov(struct ptx_dec *d);
bool vgpu_ptx_dec_ld(struct ptx_dec *d);
bool vgpu_ptx_dec_st(struct ptx_dec *d);
bool vgpu_ptx_dec_atom(struct ptx_dec *d);
bool vgpu_ptx_dec_cvta(struct ptx_dec *d);
bool vgpu_ptx_dec_isspacep(struct ptx_dec *d);
bool vgpu_ptx_dec_prefetch(struct ptx_dec *d);

/* ptx_param.c: d->in has size and vec; `rows` are the elements' registers, of reg_bytes each. `o`
 * addresses a parameter in rows. */
bool vgpu_ptx_param_access(struct ptx_dec *d, const struct ptx_operand *o, const int32_t *rows,
                           unsigned reg_bytes, unsigned op, bool store);

/* Copies a function's parameter to its frame in .local memory, at *offset: its address is taken. */
bool vgpu_ptx_param_on_stack(struct ptx_dec *d, const struct ptx_symbol *s, uint64_t *offset);

/* ptx_call.c */
bool vgpu_ptx_dec_brx(struct ptx_dec *d);
bool vgpu_ptx_dec_stack(struct ptx_dec *d);

/* ptx_decode_flow.c */
bool vgpu_ptx_dec_bra(struct ptx_dec *d);
bool vgpu_ptx_dec_exit(struct ptx_dec *d);
bool vgpu_ptx_dec_trap(struct ptx_dec *d);
bool vgpu_ptx_dec_bar(struct ptx_dec *d);
bool vgpu_ptx_dec_fence(struct ptx_dec *d);
bool vgpu_ptx_dec_nanosleep(struct ptx_dec *d);
bool vgpu_ptx_dec_vote(struct ptx_dec *d);
bool vgpu_ptx_dec_shfl(struct ptx_dec *d);
bool vgpu_ptx_dec_match(struct ptx_dec *d);
bool vgpu_ptx_dec_activemask(struct ptx_dec *d);

#endif
