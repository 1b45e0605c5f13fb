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
    uint32_t len, line;
    uint32_t at;   /* instruction, or place in the module's targets */
    bool is_table; /* the latter */
};

/* One parameter of a signature as written. */
struct ptx_formal {
    struct ptx_tok name;
    enum ptx_type type;
    uint32_t align, elems; /* of a vector */
    uint64_t size;         /* bytes; 0: of unknown size */
    bool is_reg;
};

/* What one call hands over, before it is known what the callee expects. */
struct ptx_item {
    uint8_t kind; /* enum ptx_operand_kind: REG, SYM (a .param variable), SINK, INT, F32, F64 */
    int32_t row;
    uint32_t bytes;
    uint64_t value;
};

/* A function is called or its address taken: it must be there in the end. */
struct ptx_use {
    uint32_t function, line;
};

/* A row that no variable of an open scope uses. */
struct ptx_free_row {
    int32_t row;
    uint32_t next; /* 1 + index of the next one of that size; 0: none */
};
#define PTX_REUSED_SLOTS 64u /* parameters of more rows get new ones each time */

/* Where a .shared variable lies is known when the module has been read. */
struct ptx_shared_var {
    uint64_t size_bytes, offset;
    uint32_t align;
    uint32_t stamp; /* of the kernel whose offset it is */
    bool common;    /* a called function uses it: at the same place in every kernel */
};
struct ptx_shared_use {
    struct ptx_function *fn;
    uint32_t var, line;
    int32_t slot; /* of fn's constants: gets offset + addend */
    int32_t addend;
    bool wide;
};

struct ptx_const_key {
    uint64_t value;
    int32_t slot;
    uint32_t class, stamp; /* stamp: the function it belongs to */
};

struct ptx_parser {
    struct ptx_lexer lx;
    struct ptx_tok tok; /* the one to look at next */
    struct ptx_budget *budget;
    struct ptx_module *module;
    const ptx_exec_fn *handlers;
    struct ptx_symbols symbols;
    struct ptx_symbols members;    /* of register families, of the function being read */
    struct ptx_symbols signatures; /* by their parameters' sizes */
    struct ptx_vec sizes;          /* uint32_t: of the signature being read */
    struct ptx_vec formals;   /* uint32_t: of all signatures: count returned, count passed, sizes */
    struct ptx_vec items;     /* struct ptx_item: of the call being read */
    struct ptx_vec uses;      /* struct ptx_use, by function */
    struct ptx_vec free_rows; /* struct ptx_free_row, of the function being read */
    uint32_t free_row[PTX_REUSED_SLOTS + 1]; /* by slots: 1 + index of the first; 0: none */
    struct ptx_vec shared_vars, shared_uses;
    struct ptx_function *fn; /* being read, or NULL */
    struct ptx_function **fn_tail;
    uint32_t fn_stamp;
    uint32_t scope;
    struct ptx_vec pending; /* struct ptx_pending */
    struct ptx_const_key *const_keys;
    uint32_t const_cap, const_count;
    uint64_t const_seed;
    const uint32_t *stop; /* enum ptx_stop, atomic: anything but PTX_GO ends the load */
    int32_t sreg_rows[PTX_SR_ROWS];
    uint64_t local_used;
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
bool vgpu_ptx_is_dot(const struct ptx_parser *p, const char *s);
bool vgpu_ptx_unexpected(struct ptx_parser *p, const char *where);
bool vgpu_ptx_skip_to_semicolon(struct ptx_parser *p, const char *where);

/* ptx_decl.c: .reg, .shared, .global ... at module and function level; the token is behind the
 * linkage. */
enum ptx_linkage { PTX_LINK_NONE, PTX_LINK_VISIBLE, PTX_LINK_EXTERN, PTX_LINK_WEAK };
bool vgpu_ptx_declare(struct ptx_parser *p, enum ptx_space space, enum ptx_linkage linkage);
bool vgpu_ptx_declare_reg(struct ptx_parser *p);
/* A new name in the present scope: the same one twice is an error, hiding an outer one is not. */
struct ptx_symbol *vgpu_ptx_declare_name(struct ptx_parser *p, const struct ptx_tok *name);
/* `.align 8`, a vector size, then the type; the token is behind the state space. */
bool vgpu_ptx_parse_type(struct ptx_parser *p, enum ptx_type *type, uint32_t *align,
                         uint32_t *elems);
/* `[4][8]`: multiplies into *count; *open is set by one leading `[]`. */
bool vgpu_ptx_parse_dimensions(struct ptx_parser *p, uint64_t *count, bool *open);
bool vgpu_ptx_type_by_name(const char *s, uint32_t len, enum ptx_type *t);
/* ptx_decode_tex.c: `.global .texref name;`, the token on the name; undoing them all. */
bool vgpu_ptx_declare_reference(struct ptx_parser *p, bool texture, enum ptx_linkage linkage);
void vgpu_ptx_drop_references(struct ptx_module *m);
/* Finds a register, making a family's member on first use; NULL and no failure when the name is
 * unknown. */
const struct ptx_symbol *vgpu_ptx_lookup(struct ptx_parser *p, const char *name, uint32_t len);
/* A .local variable's offset in the frame of the function being read. */
bool vgpu_ptx_place(struct ptx_parser *p, const struct ptx_symbol *s, uint64_t *offset);

/* ptx_param.c */
/* One parameter of a signature: `.param .u64 .ptr .global .align 8 name`, the token behind
 * `.param` or `.reg`. */
bool vgpu_ptx_parse_formal(struct ptx_parser *p, bool is_reg, struct ptx_formal *f);
/* Makes it a symbol: a place in the kernel's parameters, or rows of a function. */
bool vgpu_ptx_declare_formal(struct ptx_parser *p, const struct ptx_formal *f);
/* `.param .b32 x;` in a body, the token behind `.param`. */
bool vgpu_ptx_declare_call_param(struct ptx_parser *p);
/* At the end of a scope: rows of the .param variables declared since `mark` are free again. */
bool vgpu_ptx_release_params(struct ptx_parser *p, size_t mark);

/* ptx_func.c. The token is behind `.entry`, `.func`, `.alias`, `.callprototype`. */
bool vgpu_ptx_parse_function(struct ptx_parser *p, bool is_entry);
bool vgpu_ptx_parse_alias(struct ptx_parser *p);
bool vgpu_ptx_parse_prototype(struct ptx_parser *p, uint32_t *signature);
/* The record behind a symbol, as far as it has been read. */
struct ptx_function *vgpu_ptx_function_of(const struct ptx_parser *p, const struct ptx_symbol *s);
/* Notes that function `s` must be there in the end. */
bool vgpu_ptx_use_function(struct ptx_parser *p, const struct ptx_symbol *s, uint32_t line);
/* A function's address; false when `name` is none that can be called. */
bool vgpu_ptx_function_address(struct ptx_parser *p, const char *name, uint32_t len, uint32_t line,
                               uint64_t *address);
/* Sizes of a signature's parameters, first of those it returns. */
const uint32_t *vgpu_ptx_signature(const struct ptx_parser *p, uint32_t signature,
                                   uint32_t *returned, uint32_t *passed);

/* ptx_call.c: `call`, the token behind its modifiers; and what a label may name besides code:
 * .branchtargets, .calltargets, .callprototype, the token on the directive. */
bool vgpu_ptx_parse_call(struct ptx_parser *p, struct ptx_stmt *s);
bool vgpu_ptx_parse_label_directive(struct ptx_parser *p, const struct ptx_tok *label);

/* ptx_link.c: once all of the module is read. */
bool vgpu_ptx_link(struct ptx_parser *p);

/* ptx_stmt.c: function bodies. The token is behind '{'. */
bool vgpu_ptx_parse_body(struct ptx_parser *p);
/* One operand that is neither a vector nor an address, behind s->opds. */
bool vgpu_ptx_parse_plain(struct ptx_parser *p, struct ptx_stmt *s);

/* ptx_rows.c: operands to rows */
bool vgpu_ptx_new_row(struct ptx_parser *p, bool wide, int32_t *row);
bool vgpu_ptx_const_row(struct ptx_parser *p, uint64_t value, bool wide, int32_t *row);
/* A constant that is the address of .shared variable number `var` plus `addend`. */
bool vgpu_ptx_shared_row(struct ptx_parser *p, uint32_t var, int32_t addend, bool wide,
                         int32_t *row);
bool vgpu_ptx_sreg_row(struct ptx_parser *p, enum ptx_sreg r, int32_t *row);
bool vgpu_ptx_sreg_by_name(const char *s, uint32_t len, enum ptx_sreg *r);

/* ptx_decode*.c: statement to instruction */
bool vgpu_ptx_decode(struct ptx_parser *p, struct ptx_stmt *s);

#endif
