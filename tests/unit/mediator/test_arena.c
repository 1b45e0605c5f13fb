/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The book of extents (docs/ring.md G6, G14), against a table that has an entry for each granule.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "mediator/arena.h"
#include "vgpu/ring.h"
#include "vgpu/worker.h"
#include "vgpu_test.h"

#define GRANULE ((uint64_t)VGPU_ARENA_GRANULE)

static struct vgpu_arena *make(uint64_t granules, bool clean)
{
    struct vgpu_arena *a = vgpu_arena_create(2 * GRANULE, (2 + granules) * GRANULE, clean);
    assert_non_null(a);
    assert_int_equal(vgpu_arena_free_bytes(a), granules * GRANULE);
    return a;
}

static uint64_t take(struct vgpu_arena *a, struct vgpu_arena_holder *h, uint64_t granules)
{
    uint64_t offset = 0;
    bool dirty;
    assert_int_equal(vgpu_arena_take(a, h, granules * GRANULE, &offset, &dirty), 0);
    return offset / GRANULE;
}

static void test_first_fit(void **state)
{
    (void)state;
    struct vgpu_arena *a = make(10, true);
    struct vgpu_arena_holder h;
    vgpu_arena_holder_init(&h);
    assert_int_equal(take(a, &h, 1), 2);
    assert_int_equal(take(a, &h, 3), 3);
    assert_int_equal(take(a, &h, 1), 6);
    assert_int_equal(take(a, &h, 5), 7);
    assert_int_equal(vgpu_arena_free_bytes(a), 0);
    assert_int_equal(h.count, 4);
    assert_int_equal(vgpu_arena_return(a, &h, 2 * GRANULE, GRANULE), 0);
    assert_int_equal(vgpu_arena_return(a, &h, 3 * GRANULE, 3 * GRANULE), 0);
    assert_int_equal(vgpu_arena_longest_gap(a), 4 * GRANULE); /* both are one gap now */
    assert_int_equal(take(a, &h, 4), 2);
    vgpu_arena_release(a, &h);
    assert_int_equal(vgpu_arena_longest_gap(a), 10 * GRANULE);
    assert_int_equal(h.count, 0);
    assert_int_equal(h.bytes, 0);
    vgpu_arena_destroy(a);
}

static void test_refused(void **state)
{
    (void)state;
    struct vgpu_arena *a = make(4, true);
    struct vgpu_arena_holder h, other;
    uint64_t offset = 99;
    bool dirty;
    vgpu_arena_holder_init(&h);
    vgpu_arena_holder_init(&other);
    assert_int_equal(vgpu_arena_take(a, &h, 0, &offset, &dirty), -EINVAL);
    assert_int_equal(vgpu_arena_take(a, &h, GRANULE - 1, &offset, &dirty), -EINVAL);
    assert_int_equal(vgpu_arena_take(a, &h, 5 * GRANULE, &offset, &dirty), -ENOSPC);
    assert_int_equal(vgpu_arena_take(a, &h, UINT64_MAX - GRANULE + 1, &offset, &dirty), -ENOSPC);
    assert_int_equal(offset, 99);
    assert_int_equal(take(a, &h, 2), 2);
    assert_int_equal(vgpu_arena_return(a, &other, 2 * GRANULE, 2 * GRANULE), -ENOENT);
    assert_int_equal(vgpu_arena_return(a, &h, 2 * GRANULE, GRANULE), -ENOENT);
    assert_int_equal(vgpu_arena_return(a, &h, 3 * GRANULE, GRANULE), -ENOENT);
    assert_int_equal(vgpu_arena_return(a, &h, 4 * GRANULE, 2 * GRANULE), -ENOENT); /* a gap */
    assert_int_equal(vgpu_arena_return(a, &h, 0, 0), -ENOENT);
    assert_int_equal(vgpu_arena_return(a, &h, UINT64_MAX, 2 * GRANULE), -ENOENT);
    assert_int_equal(vgpu_arena_return(a, &h, 2 * GRANULE, 2 * GRANULE), 0);
    assert_int_equal(vgpu_arena_return(a, &h, 2 * GRANULE, 2 * GRANULE), -ENOENT); /* twice */
    vgpu_arena_destroy(a);
}

/* A window that is all channels, and one whose end is no multiple. */
static void test_shapes(void **state)
{
    (void)state;
    struct vgpu_arena_holder h;
    uint64_t offset;
    bool dirty;
    vgpu_arena_holder_init(&h);
    struct vgpu_arena *a = vgpu_arena_create(1 << 20, 1 << 20, true);
    assert_non_null(a);
    assert_int_equal(vgpu_arena_take(a, &h, GRANULE, &offset, &dirty), -ENOSPC);
    assert_int_equal(vgpu_arena_free_bytes(a), 0);
    vgpu_arena_destroy(a);
    a = vgpu_arena_create(1, 3 * GRANULE - 1, true);
    assert_int_equal(vgpu_arena_free_bytes(a), GRANULE);
    assert_int_equal(take(a, &h, 1), 1);
    vgpu_arena_release(a, &h);
    vgpu_arena_destroy(a);
    a = vgpu_arena_create(UINT64_MAX, UINT64_MAX, true);
    assert_int_equal(vgpu_arena_free_bytes(a), 0);
    vgpu_arena_destroy(a);
    vgpu_arena_destroy(NULL);
}

/* G14: one worker has at most 1024, whatever there is room for. */
static void test_g14_count(void **state)
{
    (void)state;
    struct vgpu_arena *a = make(2000, true);
    struct vgpu_arena_holder h, other;
    uint64_t offset;
    bool dirty;
    vgpu_arena_holder_init(&h);
    vgpu_arena_holder_init(&other);
    for (unsigned i = 0; i < VGPU_WORKER_EXTENTS_MAX; i++)
        take(a, &h, 1);
    assert_int_equal(vgpu_arena_take(a, &h, GRANULE, &offset, &dirty), -EDQUOT);
    take(a, &other, 1);
    assert_int_equal(vgpu_arena_return(a, &h, 2 * GRANULE, GRANULE), 0);
    assert_int_equal(take(a, &h, 1), 2);
    vgpu_arena_release(a, &h);
    vgpu_arena_release(a, &other);
    vgpu_arena_destroy(a);
}

/* --- anything in any order --- */

enum { HOLDERS = 5, GRANULES = 300, STEPS = 40000 };

struct oracle {
    int owner[GRANULES]; /* 1 + holder, 0: free */
    bool used[GRANULES];
    struct {
        uint32_t at, length;
        int owner;
    } extents[GRANULES];
    unsigned count;
};

static uint32_t seed;
static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

/* Where the first gap of that length begins; GRANULES: there is none. */
static uint32_t expected_place(const struct oracle *o, uint32_t length)
{
    uint32_t run = 0;
    for (uint32_t i = 0; i < GRANULES; i++) {
        run = o->owner[i] ? 0 : run + 1;
        if (run == length)
            return i + 1 - length;
    }
    return GRANULES;
}

static void drop(struct oracle *o, unsigned which)
{
    for (uint32_t i = 0; i < o->extents[which].length; i++)
        o->owner[o->extents[which].at + i] = 0;
    o->extents[which] = o->extents[--o->count];
}

static void check(const struct oracle *o, const struct vgpu_arena *a,
                  const struct vgpu_arena_holder *holders)
{
    uint32_t free_count = 0, run = 0, longest = 0, counts[HOLDERS] = {0}, lengths[HOLDERS] = {0};
    for (uint32_t i = 0; i < GRANULES; i++) {
        free_count += !o->owner[i];
        run = o->owner[i] ? 0 : run + 1;
        longest = run > longest ? run : longest;
    }
    for (unsigned i = 0; i < o->count; i++) {
        counts[o->extents[i].owner - 1]++;
        lengths[o->extents[i].owner - 1] += o->extents[i].length;
    }
    assert_int_equal(vgpu_arena_free_bytes(a), free_count * GRANULE);
    assert_int_equal(vgpu_arena_longest_gap(a), longest * GRANULE);
    for (unsigned i = 0; i < HOLDERS; i++) {
        assert_int_equal(holders[i].count, counts[i]);
        assert_int_equal(holders[i].bytes, lengths[i] * GRANULE);
    }
}

static void try_take(struct oracle *o, struct vgpu_arena *a, struct vgpu_arena_holder *holders)
{
    uint32_t length = 1 + (draw(4) ? draw(8) : draw(GRANULES)), who = draw(HOLDERS);
    uint32_t at = expected_place(o, length);
    uint64_t offset;
    bool dirty, was_used = false;
    int rc = vgpu_arena_take(a, &holders[who], length * GRANULE, &offset, &dirty);
    if (at == GRANULES) {
        assert_int_equal(rc, -ENOSPC);
        return;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(offset, (2 + at) * GRANULE);
    for (uint32_t i = at; i < at + length; i++) {
        was_used |= o->used[i];
        o->used[i] = true;
        o->owner[i] = 1 + (int)who;
    }
    assert_int_equal(dirty, was_used);
    o->extents[o->count].at = at;
    o->extents[o->count].length = length;
    o->extents[o->count++].owner = 1 + (int)who;
}

static void try_return(struct oracle *o, struct vgpu_arena *a, struct vgpu_arena_holder *holders)
{
    uint32_t who = draw(HOLDERS), which = o->count ? draw(o->count) : 0;
    uint32_t at = o->count ? o->extents[which].at + (draw(8) == 0) : draw(GRANULES);
    uint32_t length = o->count ? o->extents[which].length + (draw(8) == 0) : draw(9);
    bool right = false;
    if (o->count && draw(4))
        who = (uint32_t)o->extents[which].owner - 1;
    for (unsigned i = 0; i < o->count; i++)
        if (o->extents[i].at == at && o->extents[i].length == length &&
            o->extents[i].owner == 1 + (int)who) {
            right = true;
            which = i;
        }
    int rc = vgpu_arena_return(a, &holders[who], (2 + at) * GRANULE, length * GRANULE);
    assert_int_equal(rc, right ? 0 : -ENOENT);
    if (right)
        drop(o, which);
}

/* Takes, right and wrong returns, and workers that are killed. */
static void test_any_order(void **state)
{
    (void)state;
    for (seed = 1; seed <= 4; seed++) {
        uint32_t first = seed;
        struct oracle o = {.count = 0};
        struct vgpu_arena_holder holders[HOLDERS];
        bool clean = seed % 2;
        struct vgpu_arena *a = make(GRANULES, clean);
        for (unsigned i = 0; i < GRANULES; i++)
            o.used[i] = !clean;
        for (unsigned i = 0; i < HOLDERS; i++)
            vgpu_arena_holder_init(&holders[i]);
        for (unsigned step = 0; step < STEPS; step++) {
            uint32_t what = draw(1000);
            if (what < 520) {
                try_take(&o, a, holders);
            } else if (what < 990) {
                try_return(&o, a, holders);
            } else {
                uint32_t who = draw(HOLDERS);
                vgpu_arena_release(a, &holders[who]);
                for (unsigned i = o.count; i-- > 0;)
                    if (o.extents[i].owner == 1 + (int)who)
                        drop(&o, i);
            }
            check(&o, a, holders);
        }
        for (unsigned i = 0; i < HOLDERS; i++)
            vgpu_arena_release(a, &holders[i]);
        assert_int_equal(vgpu_arena_longest_gap(a), GRANULES * GRANULE);
        vgpu_arena_destroy(a);
        seed = first;
    }
}

/* A terabyte, and the worst that a thousand holders do to it: many gaps, none long enough. */
static void test_large(void **state)
{
    (void)state;
    enum { WORKERS = 64 };
    struct vgpu_arena *a = vgpu_arena_create(0, VGPU_WINDOW_BYTES_MAX, true);
    struct vgpu_arena_holder *h = calloc(WORKERS, sizeof(*h));
    uint64_t offset;
    bool dirty;
    assert_non_null(a);
    assert_non_null(h);
    for (unsigned i = 0; i < WORKERS; i++)
        vgpu_arena_holder_init(&h[i]);
    for (unsigned n = 0; n < VGPU_WORKER_EXTENTS_MAX; n++)
        for (unsigned i = 0; i < WORKERS; i++)
            assert_int_equal(vgpu_arena_take(a, &h[i], GRANULE, &offset, &dirty), 0);
    for (unsigned i = 1; i < WORKERS; i += 2)
        vgpu_arena_release(a, &h[i]);
    assert_int_equal(vgpu_arena_take(a, &h[1], 2 * GRANULE, &offset, &dirty), 0);
    assert_int_equal(offset, GRANULE * (WORKERS * VGPU_WORKER_EXTENTS_MAX - 1));
    assert_true(dirty); /* its first half was used */
    for (unsigned i = 0; i < WORKERS; i++)
        vgpu_arena_release(a, &h[i]);
    assert_int_equal(vgpu_arena_longest_gap(a), VGPU_WINDOW_BYTES_MAX);
    vgpu_arena_destroy(a);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_first_fit), VGPU_TEST(test_refused),   VGPU_TEST(test_shapes),
        VGPU_TEST(test_g14_count), VGPU_TEST(test_any_order), VGPU_TEST(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
