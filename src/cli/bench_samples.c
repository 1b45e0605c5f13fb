/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Samples and their percentiles; the NOP that is measured. */
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"

void bench_add(struct bench_samples *samples, uint64_t ns)
{
    if (samples->count == samples->capacity) {
        size_t capacity = samples->capacity ? samples->capacity * 2 : 4096;
        uint64_t *larger = realloc(samples->ns, capacity * sizeof(*larger));
        if (!larger)
            return;
        samples->ns = larger;
        samples->capacity = capacity;
    }
    samples->ns[samples->count++] = ns;
}

void bench_free(struct bench_samples *samples)
{
    free(samples->ns);
    *samples = (struct bench_samples){0};
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The smallest sample that at least `share` of all do not exceed. */
static double at_share(const struct bench_samples *samples, double share)
{
    size_t rank = (size_t)(share * (double)samples->count);
    if (rank >= samples->count)
        rank = samples->count - 1;
    return (double)samples->ns[rank] / 1000.0;
}

struct bench_summary bench_summarize(struct bench_samples *samples)
{
    struct bench_summary summary = {.count = samples->count};
    if (samples->count == 0)
        return summary;
    qsort(samples->ns, samples->count, sizeof(samples->ns[0]), compare);
    summary.min_us = (double)samples->ns[0] / 1000.0;
    summary.median_us = at_share(samples, 0.5);
    summary.p90_us = at_share(samples, 0.9);
    summary.p99_us = at_share(samples, 0.99);
    summary.max_us = (double)samples->ns[samples->count - 1] / 1000.0;
    return summary;
}

uint32_t bench_build_nop(uint8_t bytes[VGPU_MAILBOX_BYTES])
{
    struct vgpu_request_header nop = {.version = VGPU_PROTOCOL_VERSION, .opcode = VGPU_OP_NOP};
    memcpy(bytes, &nop, sizeof(nop));
    return sizeof(nop);
}
