/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CUDA programs' figures put into rows, with the goals of a GPU or of the software backend. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/bench_channel.h"
#include "cli/bench_cuda.h"

#define MIB         ((uint64_t)1 << 20)
#define VM_UPLOAD   500e6 /* bytes a second */
#define STAGED_GOAL 0.9

/* What our library may be to NVIDIA's: `ratio` times the same figure there, plus `more`. */
struct native_goal {
    enum bench_goal_kind kind;
    double ratio, more_ns;
};

static const struct native_goal native_goals[BENCH_CUDA_FIGURES] = {
    [BENCH_LAUNCH_ENQUEUE] = {BENCH_AT_MOST, 0.25, 0},
    [BENCH_LAUNCHES] = {BENCH_AT_LEAST, 0.9, 0},
    [BENCH_LAUNCH_SYNC] = {BENCH_AT_MOST, 1, 2000},
    [BENCH_COPY4_TO] = {BENCH_AT_MOST, 1, 2000},
    [BENCH_COPY4_FROM] = {BENCH_AT_MOST, 1, 2000},
    [BENCH_PAGEABLE_TO] = {BENCH_AT_LEAST, 1, 0},
    [BENCH_PAGEABLE_FROM] = {BENCH_AT_LEAST, 1, 0},
    [BENCH_PINNED_TO] = {BENCH_AT_LEAST, 0.97, 0},
    [BENCH_PINNED_FROM] = {BENCH_AT_LEAST, 0.97, 0},
};

static enum bench_unit unit_of(const struct bench_cuda_series *series,
                               enum bench_cuda_figure figure)
{
    if (!series->amount)
        return BENCH_TIME;
    return figure == BENCH_LAUNCHES ? BENCH_RATE : BENCH_BYTES;
}

static struct bench_row *add_row(struct bench_report *report,
                                 const struct bench_cuda_result *result,
                                 enum bench_cuda_figure figure, const char *key, const char *title)
{
    const struct bench_cuda_series *series = &result->series[figure];
    return bench_report_samples(report, key, title, unit_of(series, figure), series->ns,
                                series->count, (double)series->amount);
}

static void add_pair(struct bench_report *report, const struct bench_cuda_result *ours,
                     const struct bench_cuda_result *native, enum bench_cuda_figure figure)
{
    static char keys[BENCH_CUDA_FIGURES][40], titles[BENCH_CUDA_FIGURES][56];
    const struct native_goal *goal = &native_goals[figure];
    struct bench_row *mine =
        add_row(report, ours, figure, bench_cuda_key(figure), bench_cuda_title(figure));
    snprintf(keys[figure], sizeof(keys[figure]), "native_%s", bench_cuda_key(figure));
    snprintf(titles[figure], sizeof(titles[figure]), "  native");
    struct bench_row *theirs = add_row(report, native, figure, keys[figure], titles[figure]);
    if (!mine || !theirs)
        return;
    bench_row_beside(mine, theirs->value, "native");
    if (goal->more_ns > 0)
        bench_row_goal(mine, goal->kind, theirs->value * goal->ratio + goal->more_ns,
                       "native + %.0f us", goal->more_ns / 1000);
    else if (goal->ratio > 0)
        bench_row_goal(mine, goal->kind, theirs->value * goal->ratio, "%.2f x native", goal->ratio);
}

static void add_alone(struct bench_report *report, const struct bench_cuda_result *ours,
                      enum bench_cuda_figure figure, bool local, double staged_bytes_per_s)
{
    struct bench_row *row =
        add_row(report, ours, figure, bench_cuda_key(figure), bench_cuda_title(figure));
    if (figure != BENCH_PAGEABLE_TO && figure != BENCH_PAGEABLE_FROM)
        return;
    bench_row_beside(row, staged_bytes_per_s, "bare staged copy");
    if (local)
        bench_row_goal(row, BENCH_AT_LEAST, STAGED_GOAL * staged_bytes_per_s,
                       "%.1f x a bare staged copy", STAGED_GOAL);
    else if (figure == BENCH_PAGEABLE_TO)
        bench_row_goal(row, BENCH_AT_LEAST, VM_UPLOAD, "%s", "");
}

bool bench_cuda_rows(const struct bench_settings *settings, const char *address, bool local,
                     double staged_bytes_per_s, struct bench_report *report)
{
    char library[512];
    struct bench_cuda_result *ours = bench_cuda_result_new(), *native = bench_cuda_result_new();
    struct bench_cuda_settings cuda = {.device = address,
                                       .pageable_bytes = settings->copy_bytes,
                                       .pinned_bytes = settings->pinned_bytes,
                                       .seconds = settings->seconds,
                                       .count = (uint32_t)settings->count};
    if (settings->library)
        snprintf(library, sizeof(library), "%s", settings->library);
    else
        bench_cuda_find(library, sizeof(library));
    bool good = ours && native;
    unsigned rounds = settings->native ? BENCH_CUDA_ROUNDS : 1;
    /* In turns, so that whatever else the machine does falls on both alike. */
    for (unsigned round = 0; good && round < rounds && !bench_stopped(); round++) {
        cuda.library = library;
        good = bench_cuda_measure(&cuda, ours);
        if (good && settings->native) {
            cuda.library = settings->native;
            good = bench_cuda_measure(&cuda, native);
        }
    }
    if (good && !bench_stopped()) {
        cuda.library = library;
        cuda.prove = true;
        good = bench_cuda_measure(&cuda, ours);
    }
    /* Once more, as it was taken before: a machine with other things to do changes meanwhile. */
    struct vgpu_floor_spread again = {0};
    uint32_t piece_bytes;
    if (good && staged_bytes_per_s > 0 &&
        vgpu_floor_staged_copy(settings->copy_bytes, &again, &piece_bytes) == 0 && again.median > 0)
        staged_bytes_per_s = (staged_bytes_per_s + again.median) / 2;
    for (unsigned figure = 0; good && figure < BENCH_CUDA_FIGURES; figure++) {
        if (settings->native)
            add_pair(report, ours, native, figure);
        else
            add_alone(report, ours, figure, local, staged_bytes_per_s);
    }
    if (good) {
        bench_report_note(report,
                          "CUDA programs: %s; pageable copies of %" PRIu64
                          " MiB, pinned ones of %" PRIu64 " MiB",
                          ours->device, ours->pageable_bytes / MIB, ours->pinned_bytes / MIB);
        /* Its access to the memory is taken away; the bytes have to be right all the same. */
        bench_report_note(report, "copies of pinned memory by the guest: %s",
                          ours->pinned_proof == BENCH_PINNED_NO_COPY ? "none (goal met)"
                                                                     : "yes (goal NOT MET)");
    }
    bench_cuda_result_free(ours);
    bench_cuda_result_free(native);
    return good && !bench_stopped();
}
