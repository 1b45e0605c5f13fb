/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs every kernel of tests/fixtures on a backend and compares with plain C: one line each, with
 * the compiler whose PTX it is, the largest error and the time a launch took.
 *
 *   backend_check BACKEND [KERNEL...]
 *   backend_check -d COUNT BACKEND
 *
 * The second form runs COUNT random programs against the evaluator of tests/fuzz/diff instead and
 * prints the beginnings that it disagrees with.
 *
 * Reads the PTX below $VGPU_SOURCE (default: the current folder). Exit status: 0 when all are
 * right, 1 when one is not, 2 when the backend cannot be used.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "diff.h"
#include "kernels.h"

/* What can be named on the command line: one line each. */
static const struct vgpu_backend_ops *const backends[] = {
    &vgpu_backend_software,
    &vgpu_backend_cuda,
};
#define BACKENDS (sizeof(backends) / sizeof(backends[0]))

/* Standard output as it was at the start: while a session is open, a backend may keep the real one
 * for what kernels print. */
static FILE *report;

static bool wanted(const char *name, int names, char **list)
{
    for (int i = 0; i < names; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return names == 0;
}

/* A session per run: a kernel that breaks one breaks no other, and the time holds no one else's
 * leftovers. */
static bool check_one(const struct vgpu_backend_ops *ops, const struct vgpu_fixture *f,
                      unsigned compiler)
{
    const char *root = getenv("VGPU_SOURCE"), *flavour = vgpu_fixture_compilers[compiler];
    struct vgpu_backend_config config = {0};
    struct vgpu_backend *b;
    struct vgpu_fixture_result result;
    size_t bytes;
    char why[256];
    char *text = vgpu_fixture_read(root ? root : ".", f, compiler, &bytes);
    if (!text) {
        fprintf(report, "%-16s %-8s wrong  %s.%s.ptx: %s\n", f->kernel, flavour, f->file, flavour,
                strerror(errno));
        return false;
    }
    if (ops->open(&config, &b, why, sizeof(why)) != CUDA_SUCCESS) {
        fprintf(report, "%-16s %-8s wrong  no session: %s\n", f->kernel, flavour, why);
        free(text);
        return false;
    }
    bool ok = vgpu_fixture_run(ops, b, f, text, bytes, &result);
    fprintf(report, "%-16s %-8s %-5s  max error %-9.3g %9.3f ms  %s\n", f->kernel, flavour,
            ok ? "ok" : "wrong", result.max_error, result.ms, ok ? "" : result.message);
    ops->close(b);
    free(text);
    return ok;
}

static int check_all(const struct vgpu_backend_ops *ops, int names, char **list)
{
    size_t count;
    unsigned runs = 0, wrong = 0;
    const struct vgpu_fixture *const *all = vgpu_fixtures(&count);
    for (size_t i = 0; i < count; i++) {
        for (unsigned c = 0; c < VGPU_FIXTURE_COMPILERS; c++) {
            if (!(all[i]->compilers >> c & 1) || !wanted(all[i]->kernel, names, list))
                continue;
            runs++;
            wrong += !check_one(ops, all[i], c);
            fflush(report);
        }
    }
    fprintf(report, "%u runs, %u wrong\n", runs, wrong);
    return runs == 0 || wrong ? 1 : 0;
}

static int check_random(const struct vgpu_backend_ops *ops, unsigned long count)
{
    unsigned long wrong = 0;
    struct diff *d = diff_open(ops);
    if (!d)
        return 2;
    for (unsigned long seed = 1; seed <= count; seed++)
        if (!diff_run(d, NULL, 0, seed, report)) {
            fprintf(report, "seed %lu\n\n", seed);
            wrong++;
        }
    diff_close(d);
    fprintf(report, "%lu programs, %lu with another result\n", count, wrong);
    return count == 0 || wrong ? 1 : 0;
}

static bool introduce(const struct vgpu_backend_ops *ops)
{
    struct vgpu_backend_config config = {0};
    struct vgpu_backend *b;
    struct vgpu_device_info info;
    char why[256];
    if (ops->open(&config, &b, why, sizeof(why)) != CUDA_SUCCESS) {
        fprintf(stderr, "%s: %s\n", ops->name, why);
        return false;
    }
    ops->device_info(b, &info);
    ops->close(b);
    fprintf(report, "backend %s: %s, compute capability %u.%u\n", ops->name, info.name,
            info.compute_major, info.compute_minor);
    return true;
}

int main(int argc, char **argv)
{
    const struct vgpu_backend_ops *ops = NULL;
    unsigned long programs = 0;
    bool random = false;
    int option;
    int out = dup(STDOUT_FILENO);
    report = out < 0 ? NULL : fdopen(out, "w");
    if (!report) {
        perror("backend_check");
        return 2;
    }
    while ((option = getopt(argc, argv, "d:")) != -1) {
        random = option == 'd';
        programs = random ? strtoul(optarg, NULL, 10) : 0;
        if (!random)
            optind = argc;
    }
    for (size_t i = 0; optind < argc && i < BACKENDS; i++)
        if (strcmp(argv[optind], backends[i]->name) == 0)
            ops = backends[i];
    if (!ops) {
        fprintf(stderr, "usage: %s BACKEND [KERNEL...], or -d COUNT BACKEND; backends:", argv[0]);
        for (size_t i = 0; i < BACKENDS; i++)
            fprintf(stderr, " %s", backends[i]->name);
        fputs("\n", stderr);
        return 2;
    }
    if (!introduce(ops))
        return 2;
    int status =
        random ? check_random(ops, programs) : check_all(ops, argc - optind - 1, argv + optind + 1);
    return fclose(report) ? 2 : status;
}
