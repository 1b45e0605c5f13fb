/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The floor of a copy of pageable memory: one thread copies from the source into staging, piece by
 * piece, another from there to the destination. Nothing but memcpy and two counters.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "cli/floors_internal.h"
#include "common/clock.h"
#include "ring/barrier.h"

#define PIECES    4u /* of staging, in turn */
#define RUNS      7u
#define PIECE_MIN (64u << 10)
#define PIECE_MAX (2u << 20)

struct copy {
    uint8_t *source, *staging, *destination;
    uint64_t bytes;
    uint32_t piece;
    _Alignas(128) uint64_t staged;
    _Alignas(128) uint64_t landed; /* bytes */
};

static uint64_t next_piece(const struct copy *c, uint64_t at)
{
    return c->bytes - at < c->piece ? c->bytes - at : c->piece;
}

static uint8_t *stage_of(const struct copy *c, uint64_t at)
{
    return c->staging + at / c->piece % PIECES * c->piece;
}

static void *land(void *arg)
{
    struct copy *c = arg;
    unsigned spins = 0;
    for (uint64_t at = 0; at < c->bytes;) {
        uint64_t n = next_piece(c, at);
        while (vgpu_shared_acquire64(&c->staged) < at + n)
            vgpu_floor_relax(&spins);
        memcpy(c->destination + at, stage_of(c, at), n);
        at += n;
        vgpu_shared_release64(&c->landed, at);
    }
    return NULL;
}

static void stage(struct copy *c)
{
    unsigned spins = 0;
    for (uint64_t at = 0; at < c->bytes;) {
        uint64_t n = next_piece(c, at);
        while (at + n > vgpu_shared_acquire64(&c->landed) + (uint64_t)PIECES * c->piece)
            vgpu_floor_relax(&spins);
        memcpy(stage_of(c, at), c->source + at, n);
        at += n;
        vgpu_shared_release64(&c->staged, at);
    }
}

static int copy_once(struct copy *c, double *bytes_per_s)
{
    pthread_t other;
    c->staged = c->landed = 0;
    uint64_t t = vgpu_clock_ns();
    int rc = pthread_create(&other, NULL, land, c);
    if (rc)
        return -rc;
    stage(c);
    pthread_join(other, NULL);
    *bytes_per_s = (double)c->bytes * 1e9 / (double)(vgpu_clock_ns() - t);
    return 0;
}

int vgpu_floor_staged_copy(uint64_t copy_bytes, struct vgpu_floor_spread *bytes_per_s,
                           uint32_t *piece_bytes)
{
    if (copy_bytes == 0 || copy_bytes > SIZE_MAX / 4)
        return -EINVAL;
    size_t all = 2 * (size_t)copy_bytes + (size_t)PIECES * PIECE_MAX;
    uint8_t *memory =
        mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    struct copy c = {.source = memory,
                     .destination = memory + copy_bytes,
                     .staging = memory + 2 * copy_bytes,
                     .bytes = copy_bytes};
    struct vgpu_floor_spread spread;
    int rc = 0;
    memset(memory, 0x5A, all); /* the pages are there before the clock runs */
    *bytes_per_s = (struct vgpu_floor_spread){0};
    for (c.piece = PIECE_MIN; !rc && c.piece <= PIECE_MAX; c.piece *= 2) {
        double samples[RUNS];
        for (unsigned run = 0; !rc && run < RUNS; run++)
            rc = copy_once(&c, &samples[run]);
        if (rc)
            break;
        vgpu_floor_summarize(samples, RUNS, &spread);
        if (spread.median > bytes_per_s->median) {
            *bytes_per_s = spread;
            *piece_bytes = c.piece;
        }
    }
    munmap(memory, all);
    return rc;
}
