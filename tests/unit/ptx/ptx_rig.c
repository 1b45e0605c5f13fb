/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tests' rig around the software backend; see ptx_rig.h. */
#include "ptx_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "software.h"

void rig_open_config(struct rig *r, const struct vgpu_backend_config *config)
{
    memset(r, 0, sizeof(*r));
    r->o = &vgpu_backend_software;
    assert_int_equal(r->o->open(config, &r->b, r->log, sizeof(r->log)), CUDA_SUCCESS);
}

void rig_open(struct rig *r, unsigned threads)
{
    struct vgpu_backend_config config = {.threads = threads};
    rig_open_config(r, &config);
}

void rig_close(struct rig *r)
{
    r->o->close(r->b);
    r->b = NULL;
}

CUresult rig_load_raw(struct rig *r, const char *text, size_t bytes)
{
    return r->o->module_load(r->b, text, bytes, &r->m, r->log, sizeof(r->log));
}

void rig_load(struct rig *r, const char *text, CUresult want)
{
    size_t n = strlen(PTX_HEAD) + strlen(text);
    char *all = malloc(n + 1);
    assert_non_null(all);
    snprintf(all, n + 1, "%s%s", PTX_HEAD, text);
    CUresult got = rig_load_raw(r, all, n);
    if (got != want)
        print_error("load: %d, want %d: %s\n%s\n", (int)got, (int)want, r->log, text);
    free(all);
    assert_int_equal(got, want);
    if (want != CUDA_SUCCESS) {
        assert_null(r->m);
        assert_true(strncmp(r->log, "line ", 5) == 0);
    }
}

void rig_unload(struct rig *r)
{
    assert_int_equal(r->o->module_unload(r->b, r->m), CUDA_SUCCESS);
    r->m = NULL;
}

CUresult rig_launch(struct rig *r, const char *name, uint32_t grid, uint32_t block, uint32_t shared,
                    unsigned params, const uint64_t *values)
{
    struct vgpu_backend_kernel *k;
    const struct vgpu_kernel_info *info;
    assert_int_equal(r->o->module_kernel(r->b, r->m, name, &k, &info), CUDA_SUCCESS);
    assert_int_equal(info->param_count, params);
    uint8_t buffer[256] = {0};
    for (unsigned i = 0; i < params; i++)
        memcpy(buffer + info->params[i].offset, &values[i], info->params[i].size);
    struct vgpu_launch l = {.kernel = k,
                            .grid = {grid, 1, 1},
                            .block = {block, 1, 1},
                            .shared_bytes = shared,
                            .params = buffer,
                            .params_bytes = info->param_bytes};
    CUresult rc = r->o->launch(r->b, &l);
    return rc != CUDA_SUCCESS ? rc : r->o->synchronize(r->b);
}

CUresult rig_words(struct rig *r, const char *module, uint32_t threads, uint32_t got[RIG_WORDS])
{
    size_t bytes = RIG_WORDS * sizeof(got[0]);
    uint64_t out;
    rig_load(r, module, CUDA_SUCCESS);
    assert_int_equal(r->o->mem_alloc(r->b, bytes, &out), CUDA_SUCCESS);
    CUresult rc = rig_launch(r, "k", 1, threads, 0, 1, &out);
    if (rc == CUDA_SUCCESS)
        assert_int_equal(r->o->copy_dtoh(r->b, got, out, bytes), CUDA_SUCCESS);
    return rc;
}

char *rig_read(const char *path, size_t *bytes)
{
    char full[1024];
    const char *root = getenv("VGPU_SOURCE");
    snprintf(full, sizeof(full), "%s/%s", root ? root : ".", path);
    FILE *f = fopen(full, "rb");
    if (!f) {
        print_error("cannot read %s\n", full);
        fail();
        return NULL;
    }
    fseek(f, 0, SEEK_END);
    *bytes = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(*bytes + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, *bytes, f), *bytes);
    text[*bytes] = 0;
    fclose(f);
    return text;
}

/* Two kernels: the instruction for all lanes, and for odd lanes only, the result preset to a
 * pattern. */
static const char *const op_template =
    ".visible .entry %s(.param .u64 pin, .param .u64 pout)\n{\n"
    ".reg .pred %%odd, %%px, %%py, %%pa; .reg .b16 %%ha, %%hb, %%hc, %%hx;\n"
    ".reg .b32 %%ra, %%rb, %%rc, %%rx, %%ry, %%t; .reg .f32 %%fa, %%fb, %%fc, %%fx;\n"
    ".reg .b64 %%la, %%lb, %%lc, %%lx, %%in, %%out, %%off; .reg .f64 %%da, %%db, %%dc, %%dx;\n"
    "mov.u32 %%t, %%tid.x; and.b32 %%rx, %%t, 1; setp.ne.u32 %%odd, %%rx, 0;\n"
    "ld.param.u64 %%in, [pin]; ld.param.u64 %%out, [pout];\n"
    "mul.wide.u32 %%off, %%t, 24; add.u64 %%in, %%in, %%off;\n"
    "mul.wide.u32 %%off, %%t, 8; add.u64 %%out, %%out, %%off;\n"
    "ld.global.u64 %%la, [%%in]; ld.global.u64 %%lb, [%%in+8]; ld.global.u64 %%lc, [%%in+16];\n"
    "cvt.u32.u64 %%ra, %%la; cvt.u32.u64 %%rb, %%lb; cvt.u32.u64 %%rc, %%lc;\n"
    "cvt.u16.u64 %%ha, %%la; cvt.u16.u64 %%hb, %%lb; cvt.u16.u64 %%hc, %%lc;\n"
    "mov.b32 %%fa, %%ra; mov.b32 %%fb, %%rb; mov.b32 %%fc, %%rc;\n"
    "mov.b64 %%da, %%la; mov.b64 %%db, %%lb; mov.b64 %%dc, %%lc;\n"
    "setp.ne.u32 %%pa, %%ra, 0;\n"
    "mov.b32 %%rx, 0x5a5a5a5a; mov.b64 %%lx, 0x5a5a5a5a5a5a5a5a; mov.b16 %%hx, 0x5a5a;\n"
    "mov.b32 %%fx, %%rx; mov.b64 %%dx, %%lx; setp.ne.u32 %%px, %%rx, 0;\n"
    "%s %s\n%s\nst.global.u64 [%%out], %%lx;\nret;\n}\n";

static const char *result_text(char kind)
{
    switch (kind) {
    case 'r':
        return "cvt.u64.u32 %lx, %rx;";
    case 'l':
        return "";
    case 'h':
        return "cvt.u64.u16 %lx, %hx;";
    case 'f':
        return "mov.b32 %rx, %fx; cvt.u64.u32 %lx, %rx;";
    case 'd':
        return "mov.b64 %lx, %dx;";
    default:
        return "selp.b64 %lx, 1, 0, %px;";
    }
}

static uint64_t untouched(char kind)
{
    switch (kind) {
    case 'h':
        return 0x5a5a;
    case 'l':
    case 'd':
        return 0x5a5a5a5a5a5a5a5aull;
    case 'p':
        return 1;
    default:
        return 0x5a5a5a5a;
    }
}

#define OP_BLOCK 256u

static void run_op(struct rig *r, const char *text, char kind, rig_ref ref,
                   const uint64_t (*abc)[3], size_t n)
{
    uint64_t in, out, *got = malloc(OP_BLOCK * 8);
    assert_non_null(got);
    assert_int_equal(r->o->mem_alloc(r->b, OP_BLOCK * 24, &in), CUDA_SUCCESS);
    assert_int_equal(r->o->mem_alloc(r->b, OP_BLOCK * 8, &out), CUDA_SUCCESS);
    for (size_t at = 0; at < n; at += OP_BLOCK) {
        uint32_t count = (uint32_t)(n - at < OP_BLOCK ? n - at : OP_BLOCK);
        assert_int_equal(r->o->copy_htod(r->b, in, abc[at], count * 24u), CUDA_SUCCESS);
        for (int odd = 0; odd < 2; odd++) {
            uint64_t params[] = {in, out};
            assert_int_equal(rig_launch(r, odd ? "odd" : "all", 1, count, 0, 2, params),
                             CUDA_SUCCESS);
            assert_int_equal(r->o->copy_dtoh(r->b, got, out, count * 8u), CUDA_SUCCESS);
            for (uint32_t i = 0; i < count; i++) {
                const uint64_t *v = abc[at + i];
                uint64_t want = odd && !(i & 1) ? untouched(kind) : ref(v[0], v[1], v[2]);
                if (got[i] == want)
                    continue;
                print_error("%s: a=%#llx b=%#llx c=%#llx gives %#llx, want %#llx%s\n", text,
                            (unsigned long long)v[0], (unsigned long long)v[1],
                            (unsigned long long)v[2], (unsigned long long)got[i],
                            (unsigned long long)want, odd ? " (guarded)" : "");
                fail();
            }
        }
    }
    r->o->mem_free(r->b, in);
    r->o->mem_free(r->b, out);
    free(got);
}

void rig_op_on(const char *text, char kind, rig_ref ref, const uint64_t (*abc)[3], size_t n)
{
    static const char *const levels[] = {"base", "avx2"};
    char module[8192];
    struct rig r;
    rig_open(&r, 1);
    for (unsigned i = 0; i < 2; i++) {
        if (vgpu_software_set_level(r.b, levels[i]) != CUDA_SUCCESS)
            continue; /* this host lacks it */
        int len = snprintf(module, sizeof(module), op_template, "all", "", text, result_text(kind));
        assert_true(len > 0 && (size_t)len < sizeof(module) / 2);
        /* Several instructions cannot be guarded as one: they are branched around, which diverges.
         */
        bool one = strchr(text, ';') == strrchr(text, ';');
        char branched[2048];
        snprintf(branched, sizeof(branched), "%s\nskip:", text);
        snprintf(module + len, sizeof(module) - (size_t)len, op_template, "odd",
                 one ? "@%odd" : "@!%odd bra skip;\n", one ? text : branched, result_text(kind));
        rig_load(&r, module, CUDA_SUCCESS);
        run_op(&r, text, kind, ref, abc, n);
        rig_unload(&r);
    }
    rig_close(&r);
}

static const uint64_t edges[] = {
    0,
    1,
    2,
    31,
    32,
    33,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fffffff,
    0x80000000,
    0xffffffff,
    0xfffffffe,
    0x3f800000,         /* 1.0f */
    0xbf800000,         /* -1.0f */
    0x3f000001,         /* about 0.5f */
    0x00000001,         /* subnormal */
    0x807fffff,         /* largest negative subnormal */
    0x00800000,         /* smallest normal */
    0x7f7fffff,         /* largest */
    0x7f800000,         /* infinity */
    0xff800000,         /* -infinity */
    0x7fc00001,         /* NaN with a payload */
    0x3ff0000000000000, /* 1.0 */
    0xbfe8000000000001, /* about -0.75 */
    0x0010000000000000, /* smallest normal */
    0x000fffffffffffff, /* subnormal */
    0x7fefffffffffffff, /* largest */
    0x7ff0000000000000, /* infinity */
    0x7fffffffffffffff,
    0x8000000000000000,
    0xffffffffffffffff,
};
#define EDGES  (sizeof(edges) / sizeof(edges[0]))
#define RANDOM 1024u

void rig_op(const char *text, char kind, rig_ref ref)
{
    size_t n = EDGES * EDGES + RANDOM;
    uint64_t(*abc)[3] = malloc(n * sizeof(*abc));
    assert_non_null(abc);
    for (size_t i = 0; i < EDGES * EDGES; i++) {
        abc[i][0] = edges[i / EDGES];
        abc[i][1] = edges[i % EDGES];
        abc[i][2] = edges[(i * 7 + i / EDGES) % EDGES];
    }
    uint64_t x = 88172645463325252ull; /* xorshift64, fixed seed */
    for (size_t i = EDGES * EDGES; i < n; i++) {
        for (unsigned k = 0; k < 3; k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            abc[i][k] = x;
        }
        if (i % 4 == 0) { /* floats of like magnitude, or most sums would be one of the operands */
            for (unsigned k = 0; k < 3; k++)
                abc[i][k] = (abc[i][k] & 0x83ffffff) | 0x3c000000;
        } else if (i % 4 == 1) {
            for (unsigned k = 0; k < 3; k++)
                abc[i][k] = (abc[i][k] & 0x803fffffffffffffull) | 0x3fc0000000000000ull;
        }
    }
    rig_op_on(text, kind, ref, (const uint64_t(*)[3])abc, n);
    free(abc);
}
