/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoded operations: one name per handler. An operation is specialised by what its inner loop
 * needs to know (width, signedness), so several PTX forms may share one; 16-bit arithmetic shares
 * the 32-bit handler wherever the upper half of the row does not matter, because every reader of a
 * 16-bit register looks at its low half only.
 */
#ifndef VGPU_PTX_OPS_H
#define VGPU_PTX_OPS_H

/* Lists like these are indented deeper at every run of the formatter. */
/* clang-format off */
#define PTX_OPS_I6(X, n)    X(n##_U16) X(n##_S16) X(n##_U32) X(n##_S32) X(n##_U64) X(n##_S64)
#define PTX_OPS_32_64(X, n) X(n##_32) X(n##_64)
#define PTX_OPS_F(X, n)     X(n##_F32) X(n##_F64)

/* Integer, exec_int.c */
#define PTX_OPS_INT(X)                                                                             \
    PTX_OPS_32_64(X, ADD)                                                                          \
    PTX_OPS_32_64(X, SUB)                                                                          \
    PTX_OPS_32_64(X, MULLO)                                                                        \
    PTX_OPS_32_64(X, MADLO) PTX_OPS_I6(X, MULHI) PTX_OPS_I6(X, MADHI) X(MULWIDE_U16)               \
    X(MULWIDE_S16) X(MULWIDE_U32) X(MULWIDE_S32) X(MADWIDE_U16) X(MADWIDE_S16) X(MADWIDE_U32)      \
    X(MADWIDE_S32) X(ADDSAT_S32) X(SUBSAT_S32) X(MUL24LO_U32) X(MUL24LO_S32)                       \
    X(MUL24HI_U32) X(MUL24HI_S32) X(MAD24LO_U32) X(MAD24LO_S32) X(MAD24HI_U32)                     \
    X(MAD24HI_S32) PTX_OPS_I6(X, DIV) PTX_OPS_I6(X, REM) PTX_OPS_I6(X, MIN)                        \
    PTX_OPS_I6(X, MAX) X(ABS_S16) X(ABS_S32) X(ABS_S64) PTX_OPS_I6(X, SAD)                         \
    PTX_OPS_32_64(X, NEG)

/* Bits and predicates, exec_bits.c */
#define PTX_OPS_BITS(X)                                                                            \
    PTX_OPS_32_64(X, AND)                                                                          \
    PTX_OPS_32_64(X, OR)                                                                           \
    PTX_OPS_32_64(X, XOR)                                                                          \
    PTX_OPS_32_64(X, NOT) X(CNOT_16) PTX_OPS_32_64(X, CNOT) PTX_OPS_32_64(X, SHL)                  \
    PTX_OPS_I6(X, SHR) X(SHF_L_WRAP) X(SHF_L_CLAMP) X(SHF_R_WRAP) X(SHF_R_CLAMP) X(BFE_U32)        \
    X(BFE_S32) X(BFE_U64) X(BFE_S64) PTX_OPS_32_64(X, BFI) X(BFIND_U32) X(BFIND_S32)               \
    X(BFIND_U64) X(BFIND_S64) PTX_OPS_32_64(X, BREV) PTX_OPS_32_64(X, POPC)                        \
    PTX_OPS_32_64(X, CLZ) X(PRMT) X(LOP3) X(DP4A) X(DP2A) PTX_OPS_32_64(X, ADDC)                   \
    PTX_OPS_32_64(X, SUBC) PTX_OPS_32_64(X, MADCLO) X(MADCHI_U32)                                  \
    X(MADCHI_S32) X(MADCHI_U64) X(MADCHI_S64) PTX_OPS_32_64(X, MOV)                                \
    X(PACK) X(UNPACK) PTX_OPS_32_64(X, SELP) PTX_OPS_32_64(X, SLCT)                                \
    X(PMOV) X(PAND) X(POR) X(PXOR) X(PNOT)

/* Floating point and comparison, exec_float.c and exec_cmp.c */
#define PTX_OPS_FLOAT(X)                                                                           \
    PTX_OPS_F(X, ADD)                                                                              \
    PTX_OPS_F(X, SUB)                                                                              \
    PTX_OPS_F(X, MUL)                                                                              \
    PTX_OPS_F(X, FMA) PTX_OPS_F(X, DIV) PTX_OPS_F(X, SQRT) PTX_OPS_F(X, RCP) PTX_OPS_F(X, RSQRT)   \
    PTX_OPS_F(X, MIN) PTX_OPS_F(X, MAX) PTX_OPS_F(X, ABS) PTX_OPS_F(X, NEG)                        \
    PTX_OPS_F(X, COPYSIGN) PTX_OPS_F(X, TESTP) X(SIN_F32) X(COS_F32) X(LG2_F32) X(EX2_F32)         \
    X(TANH_F32)
#define PTX_OPS_CMP(X) PTX_OPS_I6(X, SETP) PTX_OPS_F(X, SETP) PTX_OPS_I6(X, SET) PTX_OPS_F(X, SET)

/* Directed rounding, exec_round.c: sub is enum ptx_round */
#define PTX_OPS_ROUND(X)                                                                           \
    PTX_OPS_F(X, RND_ADD)                                                                          \
    PTX_OPS_F(X, RND_SUB)                                                                          \
    PTX_OPS_F(X, RND_MUL)                                                                          \
    PTX_OPS_F(X, RND_FMA) PTX_OPS_F(X, RND_DIV) PTX_OPS_F(X, RND_SQRT) PTX_OPS_F(X, RND_RCP)

/* Conversion, exec_cvt.c */
#define PTX_OPS_CVT(X)                                                                             \
    X(CVT_32_U8)                                                                                   \
    X(CVT_32_S8)                                                                                   \
    X(CVT_32_U16)                                                                                  \
    X(CVT_32_S16) X(CVT_64_U8) X(CVT_64_S8) X(CVT_64_U16) X(CVT_64_S16) X(CVT_64_U32)              \
    X(CVT_64_S32) X(CVT_32_U64) X(CVT_F32_S32) X(CVT_F32_U32) X(CVT_F64_S32) X(CVT_F64_F32)        \
    X(CVT_F32_F64) X(CVT_ANY)

/* Half precision, exec_half.c and exec_cmp.c: the packed form follows the plain one */
#define PTX_OPS_F16(X, n) X(n##_F16) X(n##_F16X2)
#define PTX_OPS_HALF(X)                                                                            \
    PTX_OPS_F16(X, ADD)                                                                            \
    PTX_OPS_F16(X, SUB)                                                                            \
    PTX_OPS_F16(X, MUL)                                                                            \
    PTX_OPS_F16(X, FMA)                                                                            \
    PTX_OPS_F16(X, NEG)                                                                            \
    PTX_OPS_F16(X, ABS)                                                                            \
    PTX_OPS_F16(X, EX2)                                                                            \
    PTX_OPS_F16(X, TANH)                                                                           \
    PTX_OPS_F16(X, SETP) PTX_OPS_F16(X, SET) X(CVT_F32_F16) X(CVT_F16_F32) X(ATOM_16)

/* Rare integer operations, exec_misc.c and exec_video.c */
#define PTX_OPS_MISC(X)                                                                            \
    X(BMSK) X(SZEXT) X(FNS) X(LOP3P) X(MADHISAT_S32) X(MAD24HISAT_S32) X(CVT_PACK) X(VIDEO)

/* Textures and surfaces, exec_tex.c */
#define PTX_OPS_TEX(X) X(TEX) X(TLD4) X(TXQ) X(SULD) X(SUST)

/* Memory, exec_mem.c and exec_atom.c */
#define PTX_OPS_LD(X, n)                                                                           \
    X(n##_U8_32)                                                                                   \
    X(n##_S8_32)                                                                                   \
    X(n##_U16_32)                                                                                  \
    X(n##_S16_32) X(n##_U32_32) X(n##_U8_64) X(n##_S8_64) X(n##_U16_64) X(n##_S16_64)              \
    X(n##_U32_64) X(n##_S32_64) X(n##_U64_64)
#define PTX_OPS_MEM(X)                                                                             \
    PTX_OPS_LD(X, LD)                                                                              \
    PTX_OPS_LD(X, LDP)                                                                             \
    X(ST_8_32)                                                                                     \
    X(ST_16_32) X(ST_32_32) X(ST_8_64) X(ST_16_64) X(ST_32_64) X(ST_64_64) PTX_OPS_32_64(X, ATOM)  \
    X(ISSPACEP) X(FENCE) X(NOP)

/* Parameters in rows, and the stack of called functions, exec_call.c */
#define PTX_OPS_CALL(X)                                                                            \
    PTX_OPS_LD(X, LDA)                                                                             \
    X(STA_8_32)                                                                                    \
    X(STA_16_32) X(STA_32_32) X(STA_8_64) X(STA_16_64) X(STA_32_64) X(STA_64_64) X(ALLOCA)         \
    X(STACKSAVE) X(STACKRESTORE)

/* Across lanes, exec_warp.c */
#define PTX_OPS_WARP(X) X(VOTE) X(SHFL) PTX_OPS_32_64(X, MATCH) X(ACTIVEMASK) X(CLOCK)

#define PTX_OPS(X)                                                                                 \
    PTX_OPS_INT(X)                                                                                 \
    PTX_OPS_BITS(X)                                                                                \
    PTX_OPS_FLOAT(X) PTX_OPS_CMP(X) PTX_OPS_ROUND(X) PTX_OPS_CVT(X) PTX_OPS_MEM(X) PTX_OPS_WARP(X) \
    PTX_OPS_HALF(X)                                                                                \
    PTX_OPS_MISC(X) PTX_OPS_TEX(X)                                                                  \
    PTX_OPS_CALL(X)
/* clang-format on */

enum ptx_op {
#define PTX_OP_ENUM(n) PTX_OP_##n,
    PTX_OPS(PTX_OP_ENUM)
#undef PTX_OP_ENUM
        PTX_OP_COUNT
};

/* sub of the comparisons */
enum ptx_cmp {
    PTX_CMP_EQ,
    PTX_CMP_NE,
    PTX_CMP_LT,
    PTX_CMP_LE,
    PTX_CMP_GT,
    PTX_CMP_GE,
    PTX_CMP_EQU, /* floating point only, here to the end */
    PTX_CMP_NEU,
    PTX_CMP_LTU,
    PTX_CMP_LEU,
    PTX_CMP_GTU,
    PTX_CMP_GEU,
    PTX_CMP_NUM,
    PTX_CMP_NAN
};

enum ptx_bool { PTX_BOOL_NONE, PTX_BOOL_AND, PTX_BOOL_OR, PTX_BOOL_XOR };

/* sub of the rounded operations and of CVT_ANY; the *I ones round to an integral value */
enum ptx_round {
    PTX_RND_NONE,
    PTX_RND_N,
    PTX_RND_Z,
    PTX_RND_M,
    PTX_RND_P,
    PTX_RND_NI,
    PTX_RND_ZI,
    PTX_RND_MI,
    PTX_RND_PI
};

enum ptx_atom {
    PTX_ATOM_ADD,
    PTX_ATOM_ADD_F,
    PTX_ATOM_MIN_U,
    PTX_ATOM_MIN_S,
    PTX_ATOM_MAX_U,
    PTX_ATOM_MAX_S,
    PTX_ATOM_AND,
    PTX_ATOM_OR,
    PTX_ATOM_XOR,
    PTX_ATOM_EXCH,
    PTX_ATOM_CAS,
    PTX_ATOM_INC,
    PTX_ATOM_DEC,
    PTX_ATOM_ADD_FTZ, /* what ADD_F is for a lane on global memory: never in an instruction */
    PTX_ATOM_ADD_F16X2
};

enum ptx_bar { PTX_BAR_SYNC, PTX_BAR_ARRIVE, PTX_BAR_POPC, PTX_BAR_AND, PTX_BAR_OR };
enum ptx_vote { PTX_VOTE_ALL, PTX_VOTE_ANY, PTX_VOTE_UNI, PTX_VOTE_BALLOT };
enum ptx_shfl { PTX_SHFL_UP, PTX_SHFL_DOWN, PTX_SHFL_BFLY, PTX_SHFL_IDX };
enum ptx_match { PTX_MATCH_ANY, PTX_MATCH_ALL };
/* sub of VIDEO, and its vec */
enum ptx_video {
    PTX_VIDEO_ADD,
    PTX_VIDEO_SUB,
    PTX_VIDEO_AVRG,
    PTX_VIDEO_ABSDIFF,
    PTX_VIDEO_MIN,
    PTX_VIDEO_MAX,
    PTX_VIDEO_SET
};
enum ptx_video_then { PTX_VIDEO_ALONE, PTX_VIDEO_THEN_ADD, PTX_VIDEO_THEN_MIN, PTX_VIDEO_THEN_MAX };

/* sub of textures and surfaces, the layered ones last; sub of TXQ */
enum ptx_geometry { PTX_GEOM_1D, PTX_GEOM_2D, PTX_GEOM_3D, PTX_GEOM_A1D, PTX_GEOM_A2D };
enum ptx_txq {
    PTX_TXQ_WIDTH,
    PTX_TXQ_HEIGHT,
    PTX_TXQ_DEPTH,
    PTX_TXQ_ARRAY_SIZE,
    PTX_TXQ_CHANNEL_DATA_TYPE,
    PTX_TXQ_CHANNEL_ORDER,
    PTX_TXQ_NORMALIZED_COORDS, /* from here on of textures only */
    PTX_TXQ_SAMPLES,
    PTX_TXQ_LEVELS,
    PTX_TXQ_COUNT
};
enum ptx_testp {
    PTX_TESTP_FINITE,
    PTX_TESTP_INFINITE,
    PTX_TESTP_NUMBER,
    PTX_TESTP_NOTANUMBER,
    PTX_TESTP_NORMAL,
    PTX_TESTP_SUBNORMAL
};

#endif
