/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PTX module as the software backend keeps it: what the parser makes, the executor runs and the
 * backend hands out. Data only. Instructions are decoded once, at load, so that running them costs
 * no look-up:
 *
 * A *row* is 32 lanes side by side, counted in slots of 128 bytes: a register of up to 32 bits
 * takes one slot, a 64-bit one two. An operand is a slot number; PTX_CONST_ROW in it means the
 * function's constant rows (immediates, addresses of symbols) instead of the warp's register file.
 * Predicates are 32-bit lane masks, numbered apart; number 0 is always true, and bit 15 of a
 * reference inverts.
 */
#ifndef VGPU_PTX_H
#define VGPU_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "ptx_arena.h"

#define PTX_LANES        32u
#define PTX_SLOT_BYTES   128u
#define PTX_CONST_ROW    INT32_MIN
#define PTX_SINK_ROW     0 /* two slots that take what `_` throws away */
#define PTX_FIRST_ROW    2
/* What a call keeps in its callee's frame; parameters follow, returned ones first. */
#define PTX_FRAME_PC     2 /* where to return to, per lane */
#define PTX_FRAME_SP     3 /* the caller's local stack pointer, per lane */
#define PTX_FRAME_BASE   4 /* where the caller's frame begins, per lane */
#define PTX_FRAME_PARAMS 5
#define PTX_PRED_TRUE    0u
#define PTX_PRED_SINK    1u
#define PTX_FIRST_PRED   2u
#define PTX_PRED_NOT     0x8000u

/* Limits on one module. What goes beyond is CUDA_ERROR_INVALID_PTX with a log line, or the memory
 * budget ends it. */
#define PTX_MAX_IMAGE_BYTES  (16u << 20)
#define PTX_MAX_SLOTS        (1u << 17) /* register rows of one function */
#define PTX_MAX_PREDS        0x7ffeu
#define PTX_MAX_INSNS        (1u << 22)
#define PTX_MAX_SCOPES       64
#define PTX_MAX_PARAM_BYTES  4096u
#define PTX_MAX_SHARED_BYTES (48u << 10)
#define PTX_MAX_CONST_BYTES  (64u << 10)
#define PTX_MAX_LOCAL_BYTES  (512u << 10) /* per thread */
#define PTX_MAX_VARS         16384u       /* .global and .const variables of one module */
#define PTX_MAX_THREADS      1024u
#define PTX_MAX_BARRIERS     16u
#define PTX_MAX_FUNCTIONS    65535u
#define PTX_PARTED_STACKS    8u /* of lanes that wait in different functions; more may not fit */
#define PTX_MAX_STACK_SLOTS  (1u << 20) /* register rows of one warp, all frames */
#define PTX_NONE             UINT32_MAX /* no function, no signature */

enum ptx_type {
    PTX_NOTYPE,
    PTX_PRED,
    PTX_B8,
    PTX_U8,
    PTX_S8,
    PTX_B16,
    PTX_U16,
    PTX_S16,
    PTX_F16,
    PTX_B32,
    PTX_U32,
    PTX_S32,
    PTX_F32,
    PTX_F16X2,
    PTX_B64,
    PTX_U64,
    PTX_S64,
    PTX_F64,
    PTX_TYPES
};

enum ptx_space {
    PTX_SPACE_GENERIC,
    PTX_SPACE_GLOBAL, /* also .const, whose addresses are global ones in read-only allocations */
    PTX_SPACE_SHARED,
    PTX_SPACE_LOCAL,
    PTX_SPACE_PARAM,
    PTX_SPACE_CONST,
    PTX_SPACE_REG,
    PTX_SPACE_TEXREF, /* of a .texref or .surfref: nothing that could be loaded or stored */
    PTX_SPACE_SURFREF
};

/* Where the windows lie in the generic address space; docs/software-backend.md has the map. */
#define PTX_SHARED_WINDOW 0x0000006000000000ull
#define PTX_LOCAL_WINDOW  0x0000006100000000ull
#define PTX_PARAM_WINDOW  0x0000006200000000ull
#define PTX_WINDOW_BYTES  0x0000000001000000ull /* of each */
/* Function pointers: 16 bytes apart, 2^16 to a module, modules told apart by their serial number.
 */
#define PTX_CODE_WINDOW   0x0000006300000000ull
#define PTX_CODE_BYTES    0x0000000100000000ull
#define PTX_CODE_STEP     16u

/* Special registers that are rows of the register file, filled before a block starts. */
enum ptx_sreg {
    PTX_SR_TID_X,
    PTX_SR_TID_Y,
    PTX_SR_TID_Z,
    PTX_SR_NTID_X,
    PTX_SR_NTID_Y,
    PTX_SR_NTID_Z,
    PTX_SR_CTAID_X,
    PTX_SR_CTAID_Y,
    PTX_SR_CTAID_Z,
    PTX_SR_NCTAID_X,
    PTX_SR_NCTAID_Y,
    PTX_SR_NCTAID_Z,
    PTX_SR_LANEID,
    PTX_SR_WARPID,
    PTX_SR_NWARPID,
    PTX_SR_SMID,
    PTX_SR_NSMID,
    PTX_SR_LANEMASK_EQ,
    PTX_SR_LANEMASK_LE,
    PTX_SR_LANEMASK_LT,
    PTX_SR_LANEMASK_GE,
    PTX_SR_LANEMASK_GT,
    PTX_SR_TOTAL_SMEM,
    PTX_SR_DYNAMIC_SMEM,
    PTX_SR_ZERO,       /* what reads as zero here: %pm, %current_graph_exec, other %envreg */
    PTX_SR_ENVREG1,    /* the grid's workspace, high half; 0 unless launched cooperatively */
    PTX_SR_ENVREG2,    /* low half */
    PTX_SR_GRIDID,     /* from here on 64-bit rows */
    PTX_SR_DYN_BASE,   /* not PTX: where .extern .shared begins */
    PTX_SR_LOCAL_BASE, /* not PTX: where the frame of a called function begins, per lane */
    PTX_SR_ROWS,
    PTX_SR_CLOCK = PTX_SR_ROWS, /* read when executed */
    PTX_SR_CLOCK_HI,
    PTX_SR_CLOCK64,
    PTX_SR_GLOBALTIMER,
    PTX_SR_GLOBALTIMER_LO,
    PTX_SR_GLOBALTIMER_HI,
    PTX_SR_COUNT
};
_Static_assert(PTX_SR_ROWS <= 64, "a set of them fits a word");

/* What the warp loop itself must do; everything else is a handler call. */
enum ptx_kind {
    PTX_KIND_PLAIN,
    PTX_KIND_BRA,
    PTX_KIND_EXIT,
    PTX_KIND_BAR,
    PTX_KIND_WARPSYNC, /* waits for the lanes of its member mask, then is plain */
    PTX_KIND_TRAP,
    PTX_KIND_CALL, /* target: function index, or PTX_NONE and a the pointer's row; imm: which call
                    */
    PTX_KIND_RET,
    PTX_KIND_BRX /* a: the index's row; target: first of the targets; imm: how many */
};

struct ptx_warp;
struct ptx_insn;
typedef void (*ptx_exec_fn)(struct ptx_warp *w, const struct ptx_insn *in, uint32_t mask);

/* One decoded instruction, a cache line. What a, b, c, e and sub mean is the handler's affair. */
struct ptx_insn {
    ptx_exec_fn fn;
    int64_t imm;
    int32_t d, a, b, c, e;
    uint32_t target;
    uint16_t guard; /* predicate reference; 0: always */
    uint8_t kind;   /* enum ptx_kind */
    uint8_t space;  /* enum ptx_space */
    uint8_t size;   /* bytes of one element in memory */
    uint8_t vec;    /* elements */
    uint8_t sub;
    uint8_t flags;
    uint32_t line;
    uint16_t op;       /* enum ptx_op */
    uint16_t function; /* it is in: index in the module's table */
};

_Static_assert(sizeof(struct ptx_insn) <= 64, "an instruction fits a cache line");

enum {
    PTX_F_FTZ = 1,
    PTX_F_SAT = 2,
    PTX_F_ADDR32 = 4,
    PTX_F_CCIN = 8,
    PTX_F_CCOUT = 16,
    PTX_F_WIDE = 32
};

struct ptx_special_use {
    uint32_t sreg;
    int32_t row;
};

/* Functions that are not in the module: the device's own. */
enum ptx_builtin {
    PTX_BUILTIN_NONE,
    PTX_BUILTIN_PRINTF,
    PTX_BUILTIN_MALLOC,
    PTX_BUILTIN_FREE,
    PTX_BUILTIN_ASSERT
};

/*
 * A value that a call hands over: rows of the caller, in the same layout in the callee. A parameter
 * of up to 4 bytes is a 32-bit row, any other a row of 64 bits for each 8 bytes.
 */
struct ptx_copy {
    int32_t row; /* of what is returned, -1: not wanted */
    uint32_t slots;
};

struct ptx_call {
    uint32_t signature;
    uint32_t first; /* of its copies: first what is returned, then what is passed */
    uint32_t returned, passed;
};

enum ptx_visit { PTX_VISIT_NEW, PTX_VISIT_OPEN, PTX_VISIT_DONE };

struct ptx_function {
    struct ptx_function *next;
    struct ptx_module *module;
    char *name;
    bool is_entry, has_body;
    uint8_t builtin; /* enum ptx_builtin */
    uint32_t line;
    uint32_t index;             /* in the module's table */
    uint32_t signature;         /* equal for functions whose parameters have equal sizes */
    uint32_t first, insn_count; /* of the module's code */
    struct ptx_vec consts;      /* slots */
    struct ptx_vec specials;    /* struct ptx_special_use */
    uint32_t slots;             /* of the register file, without predicates */
    uint32_t preds;             /* words, in the rows behind the registers */
    uint32_t frame_slots;       /* with predicates */
    uint32_t shared_align_bytes;
    int32_t local_row;    /* of PTX_SR_LOCAL_BASE; -1: none */
    uint32_t local_align; /* of .local variables */
    bool moves_sp;        /* has .local variables, or calls alloca */
    bool has_alloca;      /* how much local memory it takes cannot be known */
    bool indirect;        /* calls through a pointer */
    bool deep;            /* how deep it calls cannot be known */
    bool calls;           /* anything but built-in functions */
    bool uses_shared;     /* it or what it calls, other than .extern */
    uint8_t visit;        /* enum ptx_visit */
    /* The graph of calls, while loading. */
    struct ptx_function *caller;
    uint32_t first_edge, edge_count, next_edge;
    uint32_t callee_slots, callee_local_bytes;
    uint32_t need_slots, need_local_bytes; /* with all it calls, as far as that is known */
    uint32_t reqntid[3];                   /* all 0: none */
    struct vgpu_kernel_info
        *info; /* entries only; its shared and local sizes serve the launch, too */
    uint32_t shared_bytes, local_bytes;
};

/* A .global or .const variable and the device memory that holds it. */
struct ptx_global {
    struct ptx_global *next;
    char *name;
    uint64_t address, size_bytes;
};

/* A .texref or .surfref: the object whose handle it is stands for whatever it is bound to. */
struct ptx_reference {
    struct ptx_reference *next;
    char *name;
    uint64_t handle;
    bool is_texture;
};

struct ptx_memory;

struct ptx_module {
    struct ptx_module *next;
    struct ptx_arena arena;
    struct ptx_memory *memory; /* where globals live */
    struct ptx_vec code;       /* struct ptx_insn, of all functions */
    struct ptx_vec table;      /* struct ptx_function *, by index */
    struct ptx_vec calls;      /* struct ptx_call */
    struct ptx_vec copies;     /* struct ptx_copy */
    struct ptx_vec targets;    /* uint32_t, of all .branchtargets */
    uint64_t code_base;        /* function pointers begin here */
    /* What a kernel that calls to unknown depth gets on top, at least. */
    uint32_t deep_slots, deep_local_bytes;
    uint64_t callee_specials; /* a bit for each enum ptx_sreg that a called function reads */
    bool uses_heap;
    uint32_t target_sm; /* of its .target: 70 for sm_70 */
    struct ptx_function *functions;
    struct ptx_global *globals;
    struct ptx_reference *references;
    uint32_t global_count; /* of both */
    uint64_t const_bytes;
};

/* Blocks and loads go on while this is PTX_GO; one word, so that an interrupt cannot hit the launch
 * after the one it meant. */
enum ptx_stop { PTX_GO, PTX_STOP_FAULT, PTX_STOP_INTERRUPT, PTX_STOP_BUDGET, PTX_STOP_IDLE };

/*
 * Parses and decodes `bytes` bytes of PTX. `handlers` is one of vgpu_ptx_handlers' tables; `stop`
 * is read at every token; function pointers are made of `serial`. On failure *out is NULL, nothing
 * is left behind, and `log` says which line and why; LAUNCH_TIMEOUT: *stop was no longer PTX_GO.
 */
CUresult vgpu_ptx_module_load(const char *text, size_t bytes, struct ptx_budget *budget,
                              struct ptx_memory *memory, const ptx_exec_fn *handlers,
                              const uint32_t *stop, uint32_t serial, struct ptx_module **out,
                              char *log, size_t log_size);
void vgpu_ptx_module_free(struct ptx_module *m);

uint32_t vgpu_ptx_type_bytes(enum ptx_type t);

/* Rows of a parameter of `bytes` bytes. */
static inline uint32_t ptx_param_slots(uint32_t bytes)
{
    return bytes <= 4 ? 1 : (bytes + 7) / 8 * 2;
}

#endif
