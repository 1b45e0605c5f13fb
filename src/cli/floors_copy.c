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
#define RUNS      7u /* of a size, when a second is enough for them */
#define RUNS_MIN  3u
#define SIZE_NS   VGPU_NS_PER_S
#define PIECE_MIN (64u << 10)
#define PIECE_MAX (2u << 20)

struct copy {
    uint8_t *source, *staging, *destination;
    uint64_t bytes;
    uint32_t piece;
    /* Bytes; on lines of their own. */
    uint64_t reserved0[16], staged, reserved1[16], landed, reserved2[16];
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
    /* All pages are there before the clock runs. */
    memset(memory, 0, all);
    for (uint64_t at = 0; at < copy_bytes; at++)
        memory[at] = (uint8_t)(at ^ at >> 12);
    *bytes_per_s = (struct vgpu_floor_spread){0};
    for (c.piece = PIECE_MIN; !rc && c.piece <= PIECE_MAX; c.piece *= 2) {
        double samples[RUNS];
        uint64_t start = vgpu_clock_ns();
        unsigned run = 0;
        while (!rc && run < RUNS && (run < RUNS_MIN || vgpu_clock_ns() - start < SIZE_NS))
            rc = copy_once(&c, &samples[run++]);
        if (rc)
            break;
        vgpu_floor_summarize(samples, run, &spread);
        if (spread.median > bytes_per_s->median) {
            *bytes_per_s = spread;
            *piece_bytes = c.piece;
        }
    }
    if (!rc && memcmp(c.source, c.destination, copy_bytes) != 0)
        rc = -EIO;
    munmap(memory, all);
    return rc;
}
