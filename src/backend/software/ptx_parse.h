/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loader's shared state: lexer, symbols, the function being read, and how to fail. Private to
 * the ptx_*.c files.
 *
 * Every step returns false once something is wrong; the first failure has written the log and set
 * the result, and the callers only unwind.
 */
#ifndef VGPU_PTX_PARSE_H
#define VGPU_PTX_PARSE_H

#include "ptx.h"
#include "ptx_lex.h"
#include "ptx_ops.h"
#include "ptx_symbol.h"

#define PTX_MAX_MODS     12
#define PTX_MAX_OPERANDS 24

enum ptx_operand_kind {
    PTX_OPD_NONE,
    PTX_OPD_REG,  /* row `index`, of `type` */
    PTX_OPD_PRED, /* predicate reference `index` */
    PTX_OPD_INT,  /* value */
    PTX_OPD_F32,  /* bits in value */
    PTX_OPD_F64,  /* bits in value */
    PTX_OPD_SYM,  /* variable `sym` + value */
    PTX_OPD_NAME, /* a label or function: text, len */
    PTX_OPD_SREG, /* enum ptx_sreg in index */
    PTX_OPD_SINK, /* _ */
    PTX_OPD_ADDR, /* [base + value]: base is `inner`; count 1: coordinates follow, [base, {x}] */
    PTX_OPD_VEC,  /* {..}: the next `count` operands are its elements */
    PTX_OPD_WARP_SZ
};

struct ptx_operand {
    uint8_t kind, inner, type, count;
    bool paired;  /* first of p|q */
    bool negated; /* !p */
    int32_t index;
    const struct ptx_symbol *sym;
    const char *text;
    uint32_t len;
    uint64_t value;
};

struct ptx_mod {
    const char *text;
    uint32_t len;
    bool used;
};

/* One instruction as written. */
struct ptx_stmt {
    const char *op;
    uint32_t op_len, line;
    const char *text; /* from the opcode on, for messages */
    struct ptx_mod mods[PTX_MAX_MODS];
    unsigned mod_count;
    struct ptx_operand opds[PTX_MAX_OPERANDS]; /* vectors flattened: their elements follow them */
    unsigned opd_count;
    uint16_t guard;
};

/* A branch to a label that its scope has not seen yet. */
struct ptx_pending {
    const char *name;
    uint32_t len, insn, line;
};

struct ptx_const_key {
    uint64_t value;
    int32_t slot;
    uint32_t wide, stamp; /* stamp: the function it belongs to */
};

struct ptx_parser {
    struct ptx_lexer lx;
    struct ptx_tok tok; /* the one to look at next */
    struct ptx_budget *budget;
    struct ptx_module *module;
    const ptx_exec_fn *handlers;
    struct ptx_symbols symbols;
    struct ptx_symbols members; /* of register families, of the function being read */
    struct ptx_function *fn;    /* being read, or NULL */
    struct ptx_function **fn_tail;
    uint32_t fn_stamp;
    uint32_t scope;
    struct ptx_vec pending; /* struct ptx_pending */
    struct ptx_const_key *const_keys;
    uint32_t const_cap, const_count;
    uint64_t const_seed;
    const uint32_t *stop; /* enum ptx_stop, atomic: anything but PTX_GO ends the load */
    int32_t sreg_rows[PTX_SR_ROWS];
    uint64_t shared_used, local_used;
    uint32_t param_bytes;
    bool saw_version, saw_target, failed;
    CUresult result;
    char *log;
    size_t log_size;
};

/* Records the first failure. Returns false, so that it can be returned. */
bool vgpu_ptx_fail(struct ptx_parser *p, CUresult result, uint32_t line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool vgpu_ptx_fail_memory(struct ptx_parser *p);

/* ptx_parse.c: tokens */
void vgpu_ptx_next(struct ptx_parser *p);
bool vgpu_ptx_accept(struct ptx_parser *p, char c);
bool vgpu_ptx_expect(struct ptx_parser *p, char c, const char *where);
bool vgpu_ptx_tok_text(const struct ptx_tok *t, const char *s);

/* ptx_decl.c: .reg, .shared, .global ... at module and function level; the token is behind the
 * linkage. */
enum ptx_linkage { PTX_LINK_NONE, PTX_LINK_VISIBLE, PTX_LINK_EXTERN, PTX_LINK_WEAK };
bool vgpu_ptx_declare(struct ptx_parser *p, enum ptx_space space, enum ptx_linkage linkage);
bool vgpu_ptx_declare_reg(struct ptx_parser *p);
/* One parameter of a signature: `.param .u64 .ptr .global .align 8 name`, the token behind
 * `.param`. */
bool vgpu_ptx_declare_param(struct ptx_parser *p, bool of_entry);
bool vgpu_ptx_type_by_name(const char *s, uint32_t len, enum ptx_type *t);
/* ptx_decode_tex.c: `.global .texref name;`, the token on the name; undoing them all. */
bool vgpu_ptx_declare_reference(struct ptx_parser *p, bool texture, enum ptx_linkage linkage);
void vgpu_ptx_drop_references(struct ptx_module *m);
/* Finds a register, making a family's member on first use; NULL and no failure when the name is
 * unknown. */
const struct ptx_symbol *vgpu_ptx_lookup(struct ptx_parser *p, const char *name, uint32_t len);
/* A .shared or .local variable's offset in the function being read. */
bool vgpu_ptx_place(struct ptx_parser *p, const struct ptx_symbol *s, uint64_t *offset);

/* ptx_stmt.c: function bodies. The token is behind '{'. */
bool vgpu_ptx_parse_body(struct ptx_parser *p);

/* ptx_rows.c: operands to rows */
bool vgpu_ptx_new_row(struct ptx_parser *p, bool wide, int32_t *row);
bool vgpu_ptx_const_row(struct ptx_parser *p, uint64_t value, bool wide, int32_t *row);
bool vgpu_ptx_sreg_row(struct ptx_parser *p, enum ptx_sreg r, int32_t *row);
bool vgpu_ptx_sreg_by_name(const char *s, uint32_t len, enum ptx_sreg *r);

/* ptx_decode*.c: statement to instruction */
bool vgpu_ptx_decode(struct ptx_parser *p, struct ptx_stmt *s);

#endif
