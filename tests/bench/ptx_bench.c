/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast the software backend runs PTX: lane-instructions per second of the SGEMM fixtures, by
 * thread count and instruction set level. Prints figures, asserts nothing.
 *
 *   ptx_bench FIXTURE.ptx [N] [threads...]
 *
 * A lane-instruction is one PTX instruction executed by one lane. They are counted from the text:
 * what the inner loop's body holds, times how often it runs; the little around the loop is left
 * out, so the figure is a lower bound.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend/backend.h"
#include "software.h"

static const struct vgpu_backend_ops *const ops = &vgpu_backend_software;

static double now_s(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static char *read_file(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) {
        perror(path);
        exit(1);
    }
    *bytes = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(*bytes + 1);
    if (!text || fread(text, 1, *bytes, f) != *bytes)
        exit(1);
    text[*bytes] = 0;
    fclose(f);
    return text;
}

/*
 * Instructions per multiply-add in the loop with the most fused multiply-adds of `kernel`: from a
 * label to the branch back to it, divided by the multiply-adds in between.
 */
static double per_fma(const char *text, const char *kernel)
{
    char head[128];
    snprintf(head, sizeof(head), ".entry %s(", kernel);
    const char *p = strstr(text, head);
    double best = 0;
    unsigned best_fmas = 0, insns = 0, fmas = 0;
    for (p = p ? strchr(p, '\n') : NULL; p && p[1] != '}'; p = strchr(p + 1, '\n')) {
        const char *line = p + 1;
        while (*line == ' ' || *line == '\t')
            line++;
        const char *end = strchr(line, '\n');
        if (!end)
            break;
        if (*line == '$' || *line == 'L' || *line == '_') {
            insns = fmas = 0;
        } else if (*line == '@' || (*line >= 'a' && *line <= 'z')) {
            insns++;
            fmas += strncmp(line, "fma", 3) == 0;
            if (*line == '@' && fmas > best_fmas) {
                best_fmas = fmas;
                best = (double)insns / fmas;
            }
        }
    }
    return best;
}

static void check(CUresult r, const char *what)
{
    if (r == CUDA_SUCCESS)
        return;
    fprintf(stderr, "%s: CUDA error %d\n", what, (int)r);
    exit(1);
}

static void bench(const char *text, size_t bytes, const char *kernel, unsigned tile, unsigned n,
                  unsigned threads, const char *level)
{
    struct vgpu_backend *b;
    struct vgpu_backend_config config = {.threads = threads};
    struct vgpu_backend_module *m;
    const struct vgpu_kernel_info *info;
    char log[512];
    check(ops->open(&config, &b, log, sizeof(log)), "open");
    if (vgpu_software_set_level(b, level) != CUDA_SUCCESS) {
        ops->close(b);
        return;
    }
    CUresult rc = ops->module_load(b, text, bytes, &m, log, sizeof(log));
    if (rc != CUDA_SUCCESS)
        fprintf(stderr, "%s\n", log);
    check(rc, "module_load");
    struct vgpu_launch l = {.grid = {n / tile, n / tile, 1}, .block = {tile, tile, 1}};
    check(ops->module_kernel(b, m, kernel, &l.kernel, &info), kernel);
    struct {
        uint64_t a, b, c;
        uint32_t n;
    } p = {.n = n};
    check(ops->mem_alloc(b, (uint64_t)n * n * 4, &p.a), "alloc");
    check(ops->mem_alloc(b, (uint64_t)n * n * 4, &p.b), "alloc");
    check(ops->mem_alloc(b, (uint64_t)n * n * 4, &p.c), "alloc");
    l.params = &p;
    l.params_bytes = info->param_bytes;
    check(ops->launch(b, &l), "launch"); /* warm */
    /* CPU time is what the executor costs; on a machine with other work elapsed time says little.
     */
    double best = 1e9, best_cpu = 1e9;
    for (unsigned i = 0; i < 7; i++) {
        double t = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
        check(ops->launch(b, &l), "launch");
        check(ops->synchronize(b), "synchronize");
        t = now_s(CLOCK_MONOTONIC) - t;
        cpu = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        best = t < best ? t : best;
        best_cpu = cpu < best_cpu ? cpu : best_cpu;
    }
    double macs = (double)n * n * n, insns = macs * per_fma(text, kernel);
    printf("%-15s n=%u %-5s threads=%u %8.2f ms elapsed %8.2f ms CPU; M lane-instructions/s: %5.0f "
           "elapsed, %5.0f per core\n",
           kernel, n, level, threads, best * 1e3, best_cpu * 1e3, insns / best * 1e-6,
           insns / best_cpu * 1e-6);
    ops->close(b);
}

int main(int argc, char **argv)
{
    static const char *const levels[] = {"base", "avx2"};
    if (argc < 2) {
        fprintf(stderr, "usage: %s sgemm.FLAVOUR.ptx [N] [threads...]\n", argv[0]);
        return 2;
    }
    size_t bytes;
    char *text = read_file(argv[1], &bytes);
    unsigned n = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 256;
    if (n == 0 || n % 32) {
        fprintf(stderr, "N must be a multiple of 32\n");
        return 2;
    }
    for (unsigned v = 0; v < 2; v++) {
        for (int i = argc > 3 ? 3 : 0; i < (argc > 3 ? argc : 2); i++) {
            unsigned threads = argc > 3 ? (unsigned)strtoul(argv[i], NULL, 10) : (unsigned)i + 1;
            bench(text, bytes, "sgemm_naive", 16, n, threads, levels[v]);
            bench(text, bytes, "sgemm_tiled_16", 16, n, threads, levels[v]);
            bench(text, bytes, "sgemm_tiled_32", 32, n, threads, levels[v]);
        }
    }
    free(text);
    return 0;
}
