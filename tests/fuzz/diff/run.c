/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a program on the backend and in the evaluator, and compares. */
#include "diff.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "software.h"

#define LEVELS 2u

struct diff {
    const struct vgpu_backend_ops *ops;
    struct vgpu_backend *b[LEVELS]; /* NULL where the host has no such level */
    uint64_t in[LEVELS], out[LEVELS];
    bool later;
    struct program program;
    struct lane want[DIFF_LANES];
    uint64_t got[DIFF_LANES][KINDS][DIFF_REGS];
    char text[32768];
};

static uint64_t read_operand(const struct operand *o, const struct lane *l)
{
    uint64_t v = o->immediate ? o->value : l->reg[o->kind][o->index];
    return o->negated ? !v : v;
}

static void write_register(struct lane *l, const struct operand *d, uint64_t v)
{
    l->reg[d->kind][d->index] = v & diff_mask(kind_bits(d->kind));
}

static void evaluate_lane(const struct insn *in, struct lane *l)
{
    uint64_t s[4] = {0}, r;
    if (!in->guarded || read_operand(&in->guard, l)) {
        for (unsigned i = 0; i < in->sources; i++)
            s[i] = read_operand(&in->s[i], l);
        if (in->t == F16X2 && !in->family->whole) { /* twice the same, on halves */
            struct insn half = *in;
            uint64_t low[3] = {s[0] & 0xffff, s[1] & 0xffff, s[2] & 0xffff};
            uint64_t high[3] = {s[0] >> 16, s[1] >> 16, s[2] >> 16};
            half.t = F16;
            r = in->family->eval(&half, low, l) | in->family->eval(&half, high, l) << 16;
        } else {
            r = in->family->eval(in, s, l);
        }
        write_register(l, &in->d, r);
        if (in->two)
            write_register(l, &in->d2, l->second);
    }
    if (in->family->any_nan && (in->d.kind == KIND_F || in->d.kind == KIND_D)) {
        const struct soft_format *f = in->d.kind == KIND_F ? &soft_f32 : &soft_f64;
        uint64_t *v = &l->reg[in->d.kind][in->d.index];
        *v = soft_unpack(f, *v).kind == SOFT_NAN ? f->nan : *v;
    }
}

void diff_evaluate(const struct program *p, struct lane lanes[DIFF_LANES])
{
    for (unsigned i = 0; i < DIFF_LANES; i++) {
        memset(&lanes[i], 0, sizeof(lanes[i]));
        memcpy(lanes[i].reg, p->input[i], sizeof(lanes[i].reg));
    }
    for (unsigned i = 0; i < p->count; i++) {
        const struct insn *in = &p->insns[i];
        if (in->family->across)
            in->family->across(in, lanes);
        for (unsigned lane = 0; lane < DIFF_LANES && in->family->eval; lane++)
            evaluate_lane(in, &lanes[lane]);
    }
}

/* Into d->got; answers what failed, or NULL. */
static const char *run_backend(struct diff *d, unsigned level, size_t length, char *log,
                               size_t log_size)
{
    const struct vgpu_backend_ops *ops = d->ops;
    struct vgpu_backend *b = d->b[level];
    struct vgpu_backend_module *m;
    const struct vgpu_kernel_info *info;
    uint64_t params[2] = {d->in[level], d->out[level]};
    struct vgpu_launch l = {.grid = {1, 1, 1},
                            .block = {DIFF_LANES, 1, 1},
                            .params = params,
                            .params_bytes = sizeof(params)};
    const char *failed = NULL;
    if (ops->module_load(b, d->text, length, &m, log, log_size) != CUDA_SUCCESS)
        return "load";
    snprintf(log, log_size, "no log");
    if (ops->module_kernel(b, m, "k", &l.kernel, &info) != CUDA_SUCCESS)
        failed = "kernel";
    else if (ops->copy_htod(b, d->in[level], d->program.input, sizeof(d->program.input)) !=
                 CUDA_SUCCESS ||
             ops->mem_set(b, d->out[level], 0, sizeof(d->got)) != CUDA_SUCCESS)
        failed = "copy to device";
    else if (ops->launch(b, &l) != CUDA_SUCCESS || ops->synchronize(b) != CUDA_SUCCESS)
        failed = "launch";
    else if (ops->copy_dtoh(b, d->got, d->out[level], sizeof(d->got)) != CUDA_SUCCESS)
        failed = "copy from device";
    if (ops->module_unload(b, m) != CUDA_SUCCESS && !failed)
        failed = "unload";
    return failed;
}

/* The last `count` instructions are left out: with how few do they still disagree? */
static bool agree(struct diff *d, FILE *out)
{
    static const char names[] = "phrlfd";
    char log[256];
    size_t length = diff_print(&d->program, d->text, sizeof(d->text));
    if (length >= sizeof(d->text)) {
        fprintf(out, "the program is too long: %zu bytes\n", length);
        return false;
    }
    diff_evaluate(&d->program, d->want);
    for (unsigned level = 0; level < LEVELS; level++) {
        if (!d->b[level])
            continue;
        const char *failed = run_backend(d, level, length, log, sizeof(log));
        if (failed) {
            fprintf(out, "%s failed: %s\n", failed, log);
            return false;
        }
        for (unsigned lane = 0; lane < DIFF_LANES; lane++)
            for (unsigned k = 0; k < KINDS; k++)
                for (unsigned r = 0; r < DIFF_REGS; r++)
                    if (d->got[lane][k][r] != d->want[lane].reg[k][r]) {
                        fprintf(out, "level %u, lane %u: %%%c%u is %" PRIx64 ", want %" PRIx64 "\n",
                                level, lane, names[k], r, d->got[lane][k][r],
                                d->want[lane].reg[k][r]);
                        fprintf(out, "before the program, that lane's registers were:\n");
                        for (unsigned i = 0; i < KINDS * DIFF_REGS; i++)
                            fprintf(out, "%%%c%u %" PRIx64 "%s", names[i / DIFF_REGS],
                                    i % DIFF_REGS,
                                    d->program.input[lane][i / DIFF_REGS][i % DIFF_REGS],
                                    i % DIFF_REGS == DIFF_REGS - 1 ? "\n" : "  ");
                        return false;
                    }
    }
    return true;
}

bool diff_run(struct diff *d, const uint8_t *data, size_t size, uint64_t seed, FILE *out)
{
    struct choices c = {.data = data, .size = size, .state = seed * 0x9e3779b97f4a7c15ull};
    diff_generate(&d->program, &c, d->later);
    FILE *nowhere = fopen("/dev/null", "w");
    if (!nowhere)
        return false;
    bool ok = agree(d, nowhere);
    if (!ok) { /* the shortest beginning that shows it */
        unsigned all = d->program.count;
        for (d->program.count = 0; d->program.count < all; d->program.count++)
            if (!agree(d, nowhere))
                break;
        fprintf(out, "after %u of %u instructions ", d->program.count, all);
        agree(d, out);
        fprintf(out, "%s\n", d->text);
    }
    fclose(nowhere);
    return ok;
}

static bool has_later(const struct vgpu_backend_ops *ops, struct vgpu_backend *b)
{
    static const char text[] =
        ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k() {\n"
        ".reg .b32 %r; mov.b32 %r, 0; fma.rn.f16x2 %r, %r, %r, %r; ret; }";
    struct vgpu_backend_module *m;
    char log[128];
    if (ops->module_load(b, text, sizeof(text) - 1, &m, log, sizeof(log)) != CUDA_SUCCESS)
        return false;
    return ops->module_unload(b, m) == CUDA_SUCCESS;
}

void diff_close(struct diff *d)
{
    for (unsigned i = 0; d && i < LEVELS; i++)
        if (d->b[i])
            d->ops->close(d->b[i]);
    free(d);
}

struct diff *diff_open(const struct vgpu_backend_ops *ops)
{
    static const char *const levels[LEVELS] = {"base", "avx2"};
    struct vgpu_backend_config config = {.threads = 1, .memory_bytes = 1 << 24};
    struct diff *d = calloc(1, sizeof(*d));
    char why[128];
    bool software = ops == &vgpu_backend_software;
    if (d)
        d->ops = ops;
    for (unsigned i = 0; d && i < (software ? LEVELS : 1); i++) {
        if (ops->open(&config, &d->b[i], why, sizeof(why)) != CUDA_SUCCESS) {
            diff_close(d);
            return NULL;
        }
        if (software && vgpu_software_set_level(d->b[i], levels[i]) != CUDA_SUCCESS) {
            ops->close(d->b[i]);
            d->b[i] = NULL;
            continue;
        }
        d->later = has_later(ops, d->b[i]);
        if (ops->mem_alloc(d->b[i], sizeof(d->program.input), &d->in[i]) != CUDA_SUCCESS ||
            ops->mem_alloc(d->b[i], sizeof(d->got), &d->out[i]) != CUDA_SUCCESS) {
            diff_close(d);
            return NULL;
        }
    }
    return d;
}
