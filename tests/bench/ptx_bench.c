/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast the software backend runs PTX: lane-instructions per second of the SGEMM and n-body
 * fixtures, by thread count and instruction set level. Prints figures, asserts nothing.
 *
 *   ptx_bench [-k KERNEL] [-l LEVEL] [-r RUNS] FIXTURE.ptx [N] [threads...]
 *
 * N is the side of the matrices or the number of bodies. Without -k every kernel known here that
 * the fixture has, without -l every level of this host; the best of RUNS (7) launches counts, after
 * one to warm up.
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
#include <unistd.h>

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

/* What can be measured: `steps` inner steps, each with one `marker` instruction. */
struct kernel {
    const char *name, *marker;
    unsigned tile; /* n must be a multiple of it; threads along x of a block */
    bool flat;     /* one-dimensional, n * n steps; otherwise tile x tile blocks, n * n * n steps */
};
static const struct kernel kernels[] = {
    {"sgemm_naive", "fma", 16, false},
    {"sgemm_tiled_16", "fma", 16, false},
    {"sgemm_tiled_32", "fma", 32, false},
    {"nbody", "rsqrt", 128, true},
};
#define KERNELS (sizeof(kernels) / sizeof(kernels[0]))

static const char *find_entry(const char *text, const struct kernel *k)
{
    char head[128];
    snprintf(head, sizeof(head), ".entry %s(", k->name);
    return strstr(text, head);
}

/*
 * Instructions per marker in the loop with the most markers of a kernel: from a label to the branch
 * back to it, divided by the markers in between.
 */
static double per_step(const char *text, const struct kernel *k)
{
    const char *p = find_entry(text, k);
    double best = 0;
    unsigned best_steps = 0, insns = 0, steps = 0;
    for (p = p ? strchr(p, '\n') : NULL; p && p[1] != '}'; p = strchr(p + 1, '\n')) {
        const char *line = p + 1;
        while (*line == ' ' || *line == '\t')
            line++;
        const char *end = strchr(line, '\n');
        if (!end)
            break;
        if (*line == '$' || *line == 'L' || *line == '_') {
            insns = steps = 0;
        } else if (*line == '@' || (*line >= 'a' && *line <= 'z')) {
            insns++;
            steps += strncmp(line, k->marker, strlen(k->marker)) == 0;
            if (*line == '@' && steps > best_steps) {
                best_steps = steps;
                best = (double)insns / steps;
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

struct image {
    char *text;
    size_t bytes;
    unsigned runs;
};

static uint64_t allocate(struct vgpu_backend *b, uint64_t bytes)
{
    uint64_t at;
    check(ops->mem_alloc(b, bytes, &at), "alloc");
    return at;
}

static void bench(const struct image *image, const struct kernel *k, unsigned n, unsigned threads,
                  const char *level)
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
    CUresult rc = ops->module_load(b, image->text, image->bytes, &m, log, sizeof(log));
    if (rc != CUDA_SUCCESS)
        fprintf(stderr, "%s\n", log);
    check(rc, "module_load");
    struct vgpu_launch l = {.grid = {n / k->tile, k->flat ? 1 : n / k->tile, 1},
                            .block = {k->tile, k->flat ? 1 : k->tile, 1}};
    check(ops->module_kernel(b, m, k->name, &l.kernel, &info), k->name);
    /* (a, b, c, n), or (bodies, moved bodies, velocities, n, dt): three arrays and a count */
    uint64_t bytes = k->flat ? (uint64_t)n * 16 : (uint64_t)n * n * 4;
    struct {
        uint64_t array[3];
        uint32_t n;
        float dt;
    } p = {.n = n, .dt = 0.01f};
    for (unsigned i = 0; i < 3; i++)
        p.array[i] = allocate(b, bytes);
    /* Bytes of 0x3c are floats of about 0.01, so that nothing overflows or is trivial. */
    check(ops->mem_set(b, p.array[0], 0x3c, bytes), "mem_set");
    check(ops->mem_set(b, p.array[1], 0x3c, bytes), "mem_set");
    l.params = &p;
    l.params_bytes = info->param_bytes;
    if (l.params_bytes > sizeof(p))
        check(CUDA_ERROR_INVALID_VALUE, "parameters");
    if (image->runs > 1) /* warm */
        check(ops->launch(b, &l), "launch");
    /* CPU time is what the executor costs; on a machine with other work elapsed time says little.
     */
    double best = 1e9, best_cpu = 1e9;
    for (unsigned i = 0; i < image->runs; i++) {
        double t = now_s(CLOCK_MONOTONIC), cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
        check(ops->launch(b, &l), "launch");
        check(ops->synchronize(b), "synchronize");
        t = now_s(CLOCK_MONOTONIC) - t;
        cpu = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        best = t < best ? t : best;
        best_cpu = cpu < best_cpu ? cpu : best_cpu;
    }
    double steps = (double)n * n * (k->flat ? 1 : n), insns = steps * per_step(image->text, k);
    printf("%-15s n=%u %-5s threads=%u %8.2f ms elapsed %8.2f ms CPU; M lane-instructions/s: %5.0f "
           "elapsed, %5.0f per core\n",
           k->name, n, level, threads, best * 1e3, best_cpu * 1e3, insns / best * 1e-6,
           insns / best_cpu * 1e-6);
    fflush(stdout);
    ops->close(b);
}

int main(int argc, char **argv)
{
    static const char *const levels[] = {"base", "avx2"};
    const char *only_kernel = NULL, *only_level = NULL;
    struct image image = {.runs = 7};
    int option;
    while ((option = getopt(argc, argv, "k:l:r:")) != -1) {
        if (option == 'k')
            only_kernel = optarg;
        else if (option == 'l')
            only_level = optarg;
        else if (option == 'r')
            image.runs = (unsigned)strtoul(optarg, NULL, 10);
        else
            optind = argc;
    }
    if (optind >= argc || image.runs == 0) {
        fprintf(stderr, "usage: %s [-k KERNEL] [-l LEVEL] [-r RUNS] FIXTURE.ptx [N] [threads...]\n",
                argv[0]);
        return 2;
    }
    image.text = read_file(argv[optind++], &image.bytes);
    unsigned n = optind < argc ? (unsigned)strtoul(argv[optind++], NULL, 10) : 256;
    unsigned ran = 0;
    for (unsigned v = 0; v < 2; v++) {
        if (only_level && strcmp(only_level, levels[v]) != 0)
            continue;
        for (int i = 0; i < (optind < argc ? argc - optind : 2); i++) {
            unsigned threads =
                optind < argc ? (unsigned)strtoul(argv[optind + i], NULL, 10) : (unsigned)i + 1;
            for (unsigned k = 0; k < KERNELS; k++) {
                if (!find_entry(image.text, &kernels[k]) ||
                    (only_kernel && strcmp(only_kernel, kernels[k].name) != 0))
                    continue;
                if (n == 0 || n % kernels[k].tile) {
                    fprintf(stderr, "%s: N must be a multiple of %u\n", kernels[k].name,
                            kernels[k].tile);
                    return 2;
                }
                bench(&image, &kernels[k], n, threads, levels[v]);
                ran++;
            }
        }
    }
    free(image.text);
    if (!ran)
        fprintf(stderr, "nothing to run: no such kernel or level\n");
    return ran ? 0 : 2;
}
