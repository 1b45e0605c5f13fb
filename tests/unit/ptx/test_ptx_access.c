/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PTX ISA, "Data Movement Instructions: ld, st" and "Parallel Synchronization: atom, red": every
 * state space, type, vector and spelling of order, scope and cache hint, against plain C over
 * bytes; and cvta, isspacep and the clocks.
 */
#include "ptx_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t pattern[16] = {0x81, 0x02, 0xf3, 0x74, 0x05, 0x96, 0x17, 0x88,
                                    0x99, 0x3a, 0xab, 0x4c, 0xdd, 0x5e, 0xef, 0x60};

struct type {
    const char *name;
    char reg; /* the family of registers it goes to */
    uint8_t bytes, reg_bytes;
    bool is_signed; /* extended by its sign into the register */
};
static const struct type types[] = {
    {"b8", 'h', 1, 2, false},  {"u8", 'r', 1, 4, false},  {"s8", 'r', 1, 4, true},
    {"u8", 'l', 1, 8, false},  {"s8", 'l', 1, 8, true},   {"b16", 'h', 2, 2, false},
    {"u16", 'r', 2, 4, false}, {"s16", 'r', 2, 4, true},  {"u16", 'l', 2, 8, false},
    {"s16", 'l', 2, 8, true},  {"b32", 'r', 4, 4, false}, {"s32", 'l', 4, 8, true},
    {"u32", 'l', 4, 8, false}, {"f32", 'f', 4, 4, false}, {"b64", 'l', 8, 8, false},
    {"f64", 'd', 8, 8, false},
};
#define TYPES (sizeof(types) / sizeof(types[0]))

struct place {
    const char *mods;           /* behind the opcode */
    const char *address;        /* what goes into the brackets */
    bool loads, stores, orders; /* orders: not with a vector */
};
/* %g is global memory, %sh, %lo shared and local memory in their windows; P16 a parameter of 16
 * bytes, K a constant, both of the pattern. */
static const struct place places[] = {
    {"", "%g", true, true, false},
    {"", "%gs", true, true, false},
    {"", "%gl", true, true, false},
    {".global", "%g", true, true, false},
    {".shared", "%sh", true, true, false},
    {".shared::cta", "%sh", true, true, false},
    {".local", "%lo", true, true, false},
    {".const", "K", true, false, false},
    {".param", "P16", true, false, false},
    {".global.nc", "%g", true, false, false},
    {".global.nc.L1::no_allocate", "%g", true, false, false},
    {".global.ca", "%g", true, false, false},
    {".global.cg", "%g", true, true, false},
    {".global.cs", "%g", true, true, false},
    {".global.lu", "%g", true, false, false},
    {".global.cv", "%g", true, false, false},
    {".global.wb", "%g", false, true, false},
    {".global.wt", "%g", false, true, false},
    {".global.L1::evict_last.L2::128B", "%g", true, false, false},
    {".weak.global", "%g", true, true, false},
    {".volatile.global", "%g", true, true, false},
    {".volatile.shared", "%sh", true, true, false},
    {".volatile", "%g", true, true, false},
    {".relaxed.cta.global", "%g", true, true, false},
    {".relaxed.gpu.shared", "%sh", true, true, false},
    {".relaxed.sys", "%g", true, true, false},
    {".acquire.cta", "%g", true, false, true},
    {".acquire.gpu.global", "%g", true, false, true},
    {".acquire.sys.shared", "%sh", true, false, true},
    {".release.cta.shared", "%sh", false, true, true},
    {".release.gpu", "%g", false, true, true},
    {".release.sys.global", "%g", false, true, true},
    {".mmio.relaxed.sys.global", "%g", true, true, true},
};

/*
 * For each: loads the type's registers and stores them whole, 8 bytes apart, at out; or loads them
 * whole from in and stores them by the form into a place that held 0xee, whose bytes go to out.
 */
static size_t write_kernel(char *text, size_t room, size_t number, const struct place *p,
                           const struct type *t, unsigned vec, bool store)
{
    static const char *const whole[] = {"", "", "b16", "", "b32", "", "", "", "b64"};
    char regs[64], one[640] = "", all[1280] = "";
    unsigned stride = 8;
    for (unsigned k = 0; k < vec; k++) {
        snprintf(regs + (k ? strlen(regs) : 0), 16, "%s%%%c%u",
                 k         ? ","
                 : vec > 1 ? "{"
                           : "",
                 t->reg, k);
        if (store)
            snprintf(one, sizeof(one), "ld.global.%s %%%c%u, [%%in+%u];\n", whole[t->reg_bytes],
                     t->reg, k, k * stride);
        else
            snprintf(one, sizeof(one), "st.global.%s [%%out+%u], %%%c%u;\n", whole[t->reg_bytes],
                     k * stride, t->reg, k);
        strcat(all, one);
    }
    if (vec > 1)
        strcat(regs, "}");
    const char *v = vec == 4 ? ".v4" : vec == 2 ? ".v2" : "";
    size_t len = (size_t)snprintf(
        text, room,
        ".visible .entry k%zu(.param .u64 pg, .param .u64 pin, .param .u64 pout, .param .align 16 "
        ".b8 P16[16]) {\n.reg .b16 %%h<4>; .reg .b32 %%r<4>; .reg .f32 %%f<4>; .reg .b64 %%l<4>, "
        "%%g, %%gs, %%gl, %%sh, %%lo, %%in, %%out, %%x; .reg .f64 %%d<4>;\n"
        ".shared .align 16 .b8 s[16]; .local .align 16 .b8 o[16];\n"
        "ld.param.u64 %%g, [pg]; ld.param.u64 %%in, [pin]; ld.param.u64 %%out, [pout];\n"
        "mov.u64 %%sh, s; mov.u64 %%lo, o; cvta.shared.u64 %%gs, %%sh; cvta.local.u64 %%gl, %%lo;\n"
        "ld.global.b64 %%x, [%%g]; st.shared.b64 [s], %%x; st.local.b64 [o], %%x;\n"
        "ld.global.b64 %%x, [%%g+8]; st.shared.b64 [s+8], %%x; st.local.b64 [o+8], %%x;\n",
        number);
    if (store)
        len += (size_t)snprintf(
            text + len, room - len,
            "%sst%s%s.%s [%s], %s;\nld%s.b64 %%x, [%s]; st.global.b64 [%%out], %%x; ld%s.b64 %%x, "
            "[%s+8]; st.global.b64 [%%out+8], %%x; ret; }\n",
            all, p->mods, v, t->name, p->address, regs,
            strstr(p->mods, "shared")  ? ".shared"
            : strstr(p->mods, "local") ? ".local"
                                       : "",
            p->address,
            strstr(p->mods, "shared")  ? ".shared"
            : strstr(p->mods, "local") ? ".local"
                                       : "",
            p->address);
    else
        len += (size_t)snprintf(text + len, room - len, "ld%s%s.%s %s, [%s];\n%sret; }\n", p->mods,
                                v, t->name, regs, p->address, all);
    return len;
}

/* What a register holds after a load of the pattern's element k. */
static uint64_t element(const struct type *t, unsigned k)
{
    uint64_t raw = 0;
    memcpy(&raw, pattern + k * t->bytes, t->bytes);
    if (t->is_signed) {
        unsigned shift = 64 - 8u * t->bytes;
        raw = (uint64_t)((int64_t)(raw << shift) >> shift);
    }
    return t->reg_bytes == 8 ? raw : raw & ((1ull << 8 * t->reg_bytes) - 1);
}

static void all_of(bool store)
{
    const size_t room = 4u << 20;
    char *text = malloc(room);
    assert_non_null(text);
    size_t len = (size_t)snprintf(text, room, ".const .align 16 .b8 K[16] = {");
    for (unsigned i = 0; i < 16; i++)
        len += (size_t)snprintf(text + len, room - len, "%s%u", i ? "," : "", pattern[i]);
    len += (size_t)snprintf(text + len, room - len, "};\n");
    size_t count = 0;
    for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); p++)
        for (size_t t = 0; t < TYPES; t++)
            for (unsigned vec = 1; vec <= 4; vec *= 2)
                if ((store ? places[p].stores : places[p].loads) && vec * types[t].bytes <= 16 &&
                    (vec == 1 || !places[p].orders))
                    len += write_kernel(text + len, room - len, count++, &places[p], &types[t], vec,
                                        store);
    assert_true(len + 1 < room);
    struct rig r;
    uint64_t at;
    rig_open(&r, 1);
    rig_load(&r, text, CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, 256, &at), CUDA_SUCCESS);
    size_t number = 0;
    for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); p++)
        for (size_t i = 0; i < TYPES; i++)
            for (unsigned vec = 1; vec <= 4; vec *= 2) {
                const struct type *t = &types[i];
                char name[16];
                uint8_t memory[16], out[32];
                uint64_t in[4] = {0};
                if (!(store ? places[p].stores : places[p].loads) || vec * t->bytes > 16 ||
                    (vec > 1 && places[p].orders))
                    continue;
                memset(memory, 0xee, sizeof(memory));
                if (!store)
                    memcpy(memory, pattern, 16);
                for (unsigned k = 0; k < vec; k++) /* and something above what is stored */
                    in[k] = element(t, k) ^ (t->bytes < 8 ? 1ull << 8 * t->bytes : 0);
                memset(out, 0, sizeof(out));
                assert_int_equal(r.o->copy_htod(r.b, at, memory, 16), CUDA_SUCCESS);
                assert_int_equal(r.o->copy_htod(r.b, at + 64, in, sizeof(in)), CUDA_SUCCESS);
                assert_int_equal(r.o->copy_htod(r.b, at + 128, out, sizeof(out)), CUDA_SUCCESS);
                uint64_t params[5] = {at, at + 64, at + 128};
                memcpy(&params[3], pattern, 16);
                snprintf(name, sizeof(name), "k%zu", number++);
                assert_int_equal(rig_launch(&r, name, 1, 1, 0, 4, params), CUDA_SUCCESS);
                assert_int_equal(r.o->copy_dtoh(r.b, out, at + 128, sizeof(out)), CUDA_SUCCESS);
                if (store) {
                    memcpy(memory, pattern, vec * t->bytes);
                    if (memcmp(out, memory, 16) != 0)
                        print_error("st%s v%u %s\n", places[p].mods, vec, t->name);
                    assert_memory_equal(out, memory, 16);
                } else {
                    for (unsigned k = 0; k < vec; k++) {
                        uint64_t got, want = element(t, k);
                        memcpy(&got, out + 8 * k, 8);
                        if (got != want)
                            print_error("ld%s v%u %s to %c: %#llx, want %#llx\n", places[p].mods,
                                        vec, t->name, t->reg, (unsigned long long)got,
                                        (unsigned long long)want);
                        assert_int_equal(got, want);
                    }
                }
            }
    assert_int_equal(number, count);
    rig_close(&r);
    free(text);
}

static void test_loads(void **state)
{
    (void)state;
    all_of(false);
}

static void test_stores(void **state)
{
    (void)state;
    all_of(true);
}

/* --- atom and red --- */

static uint64_t new_value(const char *op, unsigned bytes, bool is_signed, char kind, uint64_t old,
                          uint64_t b, uint64_t c)
{
    int64_t so = bytes == 4 ? (int32_t)old : (int64_t)old;
    int64_t sb = bytes == 4 ? (int32_t)b : (int64_t)b;
    if (strcmp(op, "add") == 0) {
        if (kind == 'f')
            return bytes == 4 ? bits_of(f32_of(old) + f32_of(b))
                              : bits64_of(f64_of(old) + f64_of(b));
        return old + b;
    }
    if (strcmp(op, "min") == 0)
        return is_signed ? (so < sb ? old : b) : old < b ? old : b;
    if (strcmp(op, "max") == 0)
        return is_signed ? (so > sb ? old : b) : old > b ? old : b;
    if (strcmp(op, "and") == 0)
        return old & b;
    if (strcmp(op, "or") == 0)
        return old | b;
    if (strcmp(op, "xor") == 0)
        return old ^ b;
    if (strcmp(op, "exch") == 0)
        return b;
    if (strcmp(op, "cas") == 0)
        return old == b ? c : old;
    if (strcmp(op, "inc") == 0)
        return old >= b ? 0 : old + 1;
    return old == 0 || old > b ? b : old - 1; /* dec */
}

static const struct {
    const char *op, *type;
    char reg;
} atomics[] = {
    {"add", "u32", 'r'},  {"add", "s32", 'r'}, {"add", "u64", 'l'}, {"add", "f32", 'f'},
    {"add", "f64", 'd'},  {"min", "u32", 'r'}, {"min", "s32", 'r'}, {"min", "u64", 'l'},
    {"min", "s64", 'l'},  {"max", "u32", 'r'}, {"max", "s32", 'r'}, {"max", "u64", 'l'},
    {"max", "s64", 'l'},  {"and", "b32", 'r'}, {"and", "b64", 'l'}, {"or", "b32", 'r'},
    {"or", "b64", 'l'},   {"xor", "b32", 'r'}, {"xor", "b64", 'l'}, {"exch", "b32", 'r'},
    {"exch", "b64", 'l'}, {"cas", "b32", 'r'}, {"cas", "b64", 'l'}, {"cas", "b16", 'h'},
    {"inc", "u32", 'r'},  {"dec", "u32", 'r'},
};

/* old, b, c: pairs that are equal, ordered either way as signed and unsigned, and wrap. Their low
 * words are floats without rounding. */
static const uint64_t values[][3] = {
    {0, 0, 1},
    {5, 5, 9},
    {5, 7, 9},
    {7, 5, 9},
    {UINT64_MAX, 1, 2},
    {1, UINT64_MAX, 2},
    {0x8000000080000000, 0x7fffffff7fffffff, 3},
    {0x7fffffff7fffffff, 0x8000000080000000, 3},
    {0x4010000040400000, 0x3ff0000040800000, 4},
    {0xfedcba9876543210, 0xfedcba9876543210, 0x0123456789abcdef},
};
#define VALUES (sizeof(values) / sizeof(values[0]))

/* Every operation in every order and scope, in global, shared and generic addresses. */
static void test_atomics(void **state)
{
    (void)state;
    static const char *const sems[] = {"", ".relaxed", ".acquire", ".release", ".acq_rel"};
    static const char *const scopes[] = {"", ".cta", ".gpu", ".sys"};
    static const char *const spaces[] = {"", ".global", ".shared", ".shared::cta"};
    for (size_t i = 0; i < sizeof(atomics) / sizeof(atomics[0]); i++) {
        const char *type = atomics[i].type;
        unsigned bytes = type[1] == '6' ? 8 : type[1] == '1' ? 2 : 4;
        bool is_float = type[0] == 'f', cas = strcmp(atomics[i].op, "cas") == 0;
        bool has_red = !cas && strcmp(atomics[i].op, "exch") != 0;
        static const char *const plain[] = {"", "", "b16", "", "b32", "", "", "", "b64"};
        for (unsigned form = 0; form < 5 * 4 * 4 * 2; form++) {
            const char *sem = sems[form % 5], *scope = scopes[form / 5 % 4];
            const char *space = spaces[form / 20 % 4];
            bool red = form / 80, shared = strstr(space, "shared") != NULL;
            char text[1536], insn[128];
            if (red && (!has_red || form % 5 == 2 || form % 5 == 4))
                continue; /* red only releases */
            const char c = atomics[i].reg, result[] = {'%', c, '0', ',', ' ', 0};
            const char third[] = {',', ' ', '%', c, '2', 0};
            snprintf(insn, sizeof(insn), "%s%s%s%s.%s.%s %s[%s], %%%c1%s;", red ? "red" : "atom",
                     sem, scope, space, atomics[i].op, type, red ? "" : result,
                     shared ? "%s" : "%m", c, cas ? third : "");
            snprintf(
                text, sizeof(text),
                ".visible .entry k(.param .u64 p) { .reg .b64 %%m, %%s, %%x, %%l<3>; .reg .b32 "
                "%%i, %%r<3>; .reg .b16 %%h<3>; .reg .f32 %%f<3>; .reg .f64 %%d<3>;\n"
                ".shared .align 8 .b8 sh[512];\n"
                "ld.param.u64 %%m, [p]; mov.u32 %%i, %%tid.x; mul.wide.u32 %%x, %%i, 32; "
                "add.u64 %%m, %%m, %%x; mov.u64 %%s, sh; mul.wide.u32 %%x, %%i, 8; add.u64 "
                "%%s, %%s, %%x;\n"
                "ld.global.b64 %%x, [%%m]; st.shared.b64 [%%s], %%x; ld.global.%s %%%c1, "
                "[%%m+8]; ld.global.%s %%%c2, [%%m+16];\n"
                "%s\n%s st.global.%s [%%m+24], %%%c0; ret; }",
                plain[bytes], c, plain[bytes], c, insn,
                shared ? "ld.shared.b64 %x, [%s]; st.global.b64 [%m], %x;" : "", plain[bytes], c);
            struct rig r;
            uint64_t at, m[VALUES][4], got[VALUES][4];
            rig_open(&r, 1);
            rig_load(&r, text, CUDA_SUCCESS);
            for (unsigned k = 0; k < VALUES; k++) {
                memcpy(m[k], values[k], sizeof(values[k]));
                m[k][3] = 0;
            }
            assert_int_equal(r.o->mem_alloc(r.b, sizeof(m), &at), CUDA_SUCCESS);
            assert_int_equal(r.o->copy_htod(r.b, at, m, sizeof(m)), CUDA_SUCCESS);
            assert_int_equal(rig_launch(&r, "k", 1, VALUES, 0, 1, &at), CUDA_SUCCESS);
            assert_int_equal(r.o->copy_dtoh(r.b, got, at, sizeof(got)), CUDA_SUCCESS);
            uint64_t keep = bytes == 8 ? UINT64_MAX : (1ull << 8 * bytes) - 1;
            for (unsigned k = 0; k < VALUES; k++) {
                uint64_t old = m[k][0] & keep, b = m[k][1] & keep;
                uint64_t now = new_value(atomics[i].op, bytes, type[0] == 's', is_float ? 'f' : 'i',
                                         old, b, m[k][2] & keep) &
                               keep;
                /* NaN and subnormal sums are test_ptx_float.c's and test_ptx_sync.c's. */
                if (is_float && k != 0 && k != 8)
                    continue;
                if (got[k][0] != ((m[k][0] & ~keep) | now) || got[k][3] != (red ? 0 : old))
                    print_error("%s: old %#llx b %#llx: %#llx, want %#llx\n", insn,
                                (unsigned long long)old, (unsigned long long)b,
                                (unsigned long long)got[k][0], (unsigned long long)now);
                assert_int_equal(got[k][0], (m[k][0] & ~keep) | now); /* and nothing beside it */
                assert_int_equal(got[k][3], red ? 0 : old);
            }
            rig_close(&r);
        }
    }
}

/* Between generic addresses and a space's own, and which space an address is in. */
static void test_spaces(void **state)
{
    (void)state;
    struct rig r;
    uint64_t at, got[12];
    rig_open(&r, 1);
    rig_load(
        &r,
        ".const .align 8 .u64 K = 77; .global .align 8 .u64 G = 88;\n"
        ".visible .entry k(.param .u64 p) { .reg .b64 %p, %a, %x; .reg .b32 %r; .reg .pred "
        "%q<5>;\n"
        ".shared .align 8 .b8 s[8]; .local .align 8 .b8 o[8];\n"
        "ld.param.u64 %p, [p];\n"
        "mov.u64 %a, s; cvta.shared.u64 %x, %a; cvta.to.shared.u64 %a, %x; sub.u64 %x, %x, %a; "
        "st.global.u64 [%p], %x;\n"
        "mov.u64 %a, o; cvta.local.u64 %x, %a; cvta.to.local.u64 %a, %x; sub.u64 %x, %x, %a; "
        "st.global.u64 [%p+8], %x;\n"
        "mov.u64 %a, G; cvta.global.u64 %x, %a; cvta.to.global.u64 %a, %x; ld.global.u64 %x, "
        "[%a]; st.global.u64 [%p+16], %x;\n"
        "mov.u64 %a, K; cvta.const.u64 %x, %a; cvta.to.const.u64 %a, %x; ld.const.u64 %x, [%a]; "
        "st.global.u64 [%p+24], %x;\n"
        "cvta.global.u64 %x, G; ld.u64 %x, [%x]; st.global.u64 [%p+32], %x;\n"
#define ASK(make, n)                                                                               \
    make " isspacep.global %q0, %x; isspacep.shared::cta %q1, %x; isspacep.local %q2, %x; "        \
         "isspacep.const %q3, %x; isspacep.param %q4, %x;\n"                                       \
         "mov.u64 %a, 0; @%q0 or.b64 %a, %a, 1; @%q1 or.b64 %a, %a, 2; @%q2 or.b64 %a, %a, 4; "    \
         "@%q3 or.b64 %a, %a, 8; @%q4 or.b64 %a, %a, 16; st.global.u64 [%p+" #n "], %a;\n"
        ASK("mov.u64 %x, G;", 40) ASK("mov.u64 %x, s; cvta.shared.u64 %x, %x;", 48)
            ASK("mov.u64 %x, o; cvta.local.u64 %x, %x;", 56) ASK("mov.u64 %x, K;", 64)
                ASK("mov.u64 %x, p; cvta.param.u64 %x, %x;", 72)
                    ASK("mov.u64 %x, %p;", 80) "ret; }",
        CUDA_SUCCESS);
#undef ASK
    assert_int_equal(r.o->mem_alloc(r.b, sizeof(got), &at), CUDA_SUCCESS);
    assert_int_equal(rig_launch(&r, "k", 1, 1, 0, 1, &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_dtoh(r.b, got, at, sizeof(got)), CUDA_SUCCESS);
    assert_true(got[0] != 0 && got[1] != 0 && got[0] != got[1]); /* the windows' bases */
    assert_int_equal(got[2], 88);
    assert_int_equal(got[3], 77);
    assert_int_equal(got[4], 88);
    const uint64_t want[6] = {1, 2, 4, 8, 16, 1};
    assert_memory_equal(&got[5], want, sizeof(want));
    rig_close(&r);
}

/* The spellings of fences, barriers and hints; clocks that do not go back; registers that read as
 * zero; match.any of 64 bits. */
static void test_rest(void **state)
{
    (void)state;
    struct rig r;
    uint64_t at, got[64];
    rig_open(&r, 1);
    rig_load(
        &r,
        ".visible .entry k(.param .u64 p) { .reg .b64 %p, %a, %b, %x; .reg .b32 %i, %r<4>; .reg "
        ".pred %q;\n"
        "ld.param.u64 %p, [p]; mov.u32 %i, %tid.x; mul.wide.u32 %x, %i, 8; add.u64 %p, %p, %x;\n"
        "membar.cta; membar.gl; membar.sys; fence.sc.cta; fence.sc.sys; fence.acq_rel.gpu; "
        "fence.acquire.sys; fence.release.cta; fence.proxy.alias;\n"
        "nanosleep.u32 %i; nanosleep.u32 5; pmevent 3; pmevent.mask 7; prefetch.global.L1 [%p]; "
        "prefetch.L2 [%p]; prefetchu.L1 [%p];\n"
        "bar.sync 0; bar.cta.sync 1; barrier.sync 2; barrier.sync.aligned 3; barrier.cta.sync "
        "4, 64; barrier.cta.sync.aligned 5; bar.warp.sync 0xffffffff;\n"
        "barrier.cta.red.popc.aligned.u32 %r0, 6, %q; bar.cta.red.or.pred %q, 7, !%q; @!%q trap;\n"
        "mov.u64 %a, %clock64; mov.u64 %b, %clock64; setp.lo.u64 %q, %b, %a; @%q trap;\n"
        "mov.u64 %a, %globaltimer; mov.u64 %b, %globaltimer; setp.lo.u64 %q, %b, %a; @%q trap;\n"
        "mov.u32 %r0, %clock; mov.u32 %r1, %clock; sub.u32 %r0, %r1, %r0; setp.lt.s32 %q, %r0, "
        "0; @%q trap;\n"
        "mov.u32 %r0, %envreg0; mov.u32 %r1, %envreg31; or.b32 %r0, %r0, %r1; mov.u32 %r1, "
        "%pm3; or.b32 %r0, %r0, %r1; mov.u64 %a, %pm7_64; mov.u64 %b, %current_graph_exec; "
        "or.b64 %a, %a, %b; cvt.u32.u64 %r1, %a; or.b32 %r0, %r0, %r1; setp.ne.u32 %q, %r0, 0; "
        "@%q trap;\n"
        "mov.u64 %a, %gridid; mov.u32 %r0, %gridid; cvt.u32.u64 %r1, %a; setp.ne.u32 %q, %r0, "
        "%r1; @%q trap;\n"
        "shr.u32 %r0, %i, 2; mul.wide.u32 %a, %r0, 0x40000000; shl.b64 %a, %a, 8; "
        "match.any.sync.b64 %r1, %a, 0xffffffff; cvt.u64.u32 %a, %r1; st.global.u64 [%p], %a; "
        "bra.uni out; trap; out: ret; }",
        CUDA_SUCCESS);
    assert_int_equal(r.o->mem_alloc(r.b, sizeof(got), &at), CUDA_SUCCESS);
    assert_int_equal(rig_launch(&r, "k", 1, 64, 0, 1, &at), CUDA_SUCCESS);
    assert_int_equal(r.o->copy_dtoh(r.b, got, at, sizeof(got)), CUDA_SUCCESS);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(got[i], 0xfull << (i % 32 / 4 * 4));
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {VGPU_TEST(test_loads), VGPU_TEST(test_stores),
                                       VGPU_TEST(test_atomics), VGPU_TEST(test_spaces),
                                       VGPU_TEST(test_rest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
