/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extents of the arena (docs/ring.md, G6, G13, G14), on a GPU that takes its time. */
#define _GNU_SOURCE /* memmem */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "channel_rig.h"
#include "fake_gpu.h"
#include "vgpu_test.h"
#include "worker/extents.h"

static const struct answer_place nowhere = {0, 0};

static int teardown(void **state)
{
    fake_gpu_hold(false);
    return channel_teardown(state);
}

static void g14_an_extent_is_whole_granules_and_ones_own(void **state)
{
    struct channel_rig *r = *state;
    unsigned pinned = fake_gpu_registered();
    uint64_t a = guest_out(guest_alloc_extent(r, 1), 0);
    uint64_t b = guest_out(guest_alloc_extent(r, 100000), 0);
    assert_int_equal(a % VGPU_ARENA_GRANULE, 0);
    assert_int_equal(b - a, VGPU_ARENA_GRANULE);
    assert_int_equal(fake_gpu_registered(), pinned + 2);
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 131072), 0);
    memset(r->window + b, 0x42, 131072);
    POST(r, COPY_WINDOW_TO_DEVICE, address, 131072, b, 0);
    POST(r, COPY_DEVICE_TO_WINDOW, a, address + 131072 - 65536, 65536, 0);
    guest_expect(guest_synchronize(r), 0);
    assert_memory_equal(r->window + a, r->window + b, 65536);
    /* Inside one, not over two. */
    POST(r, COPY_WINDOW_TO_DEVICE, address, 16, a + 65536 - 8, 0);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
    POST(r, COPY_WINDOW_TO_DEVICE, address, 1, b + 131072, 0);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
    guest_expect(guest_free_extent(r, b), 0);
    guest_expect(guest_free_extent(r, a), 0);
    rig_wait_returned(r, 2);
    assert_int_equal(r->returned[0].offset, b);
    assert_int_equal(r->returned[0].bytes, 131072);
    assert_int_equal(r->returned[1].bytes, 65536);
    assert_int_equal(fake_gpu_registered(), pinned);
    POST(r, COPY_WINDOW_TO_DEVICE, address, 16, a, 0);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
}

static void g14_refusals_are_statuses(void **state)
{
    struct channel_rig *r = *state;
    guest_expect(guest_alloc_extent(r, 0), CUDA_ERROR_INVALID_VALUE);
    guest_expect(guest_alloc_extent(r, UINT64_MAX), CUDA_ERROR_OUT_OF_MEMORY);
    guest_expect(guest_alloc_extent(r, CHANNEL_WINDOW + 1), CUDA_ERROR_OUT_OF_MEMORY);
    struct guest_answer a = guest_alloc_extent(r, CHANNEL_WINDOW);
    guest_expect(a, CUDA_ERROR_OUT_OF_MEMORY);
    char number[32];
    snprintf(number, sizeof(number), "%llu",
             (unsigned long long)(CHANNEL_WINDOW - CHANNEL_COUNT * VGPU_CHANNEL_BYTES));
    assert_non_null(memmem(a.bytes, a.length, number, strlen(number)));
    guest_expect(guest_free_extent(r, 0), CUDA_ERROR_INVALID_VALUE);
    uint64_t offset = guest_out(guest_alloc_extent(r, 200000), 0);
    guest_expect(guest_free_extent(r, offset + VGPU_ARENA_GRANULE), CUDA_ERROR_INVALID_VALUE);
    guest_expect(guest_free_extent(r, offset + 1), CUDA_ERROR_INVALID_VALUE);
    guest_expect(guest_free_extent(r, offset), 0);
    guest_expect(guest_free_extent(r, offset), CUDA_ERROR_INVALID_VALUE);
}

static void g6_a_dirty_extent_is_cleared_a_fresh_one_is_not_touched(void **state)
{
    struct channel_rig *r = *state;
    memset(r->window + CHANNEL_COUNT * VGPU_CHANNEL_BYTES, 0xff,
           CHANNEL_WINDOW - CHANNEL_COUNT * VGPU_CHANNEL_BYTES);
    uint64_t fresh = guest_out(guest_alloc_extent(r, 65536), 0);
    assert_int_equal(r->window[fresh], 0xff);
    r->dirty = true;
    uint64_t offset = guest_out(guest_alloc_extent(r, 5u << 20), 0);
    for (uint64_t i = 0; i < 5u << 20; i += 8)
        assert_int_equal(get64(r->window + offset + i), 0);
    assert_int_equal(r->window[offset + (5u << 20)], 0xff);
    assert_int_equal(r->window[offset - 1], 0xff);
}

static void the_ring_goes_on_while_the_mediator_thinks(void **state)
{
    struct channel_rig *r = *state;
    uint64_t bytes = 65536;
    struct vgpu_ring_part part = PART(&bytes, 8);
    r->answers_extents = false;
    uint32_t first = r->token + 1;
    for (unsigned i = 0; i < 40; i++)
        guest_write(r, VGPU_RING_ARENA_ALLOC, true, nowhere, &part, 1);
    guest_publish(r);
    rig_wait_asked(r, 16);
    guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
    assert_int_equal(r->asked_count, 16); /* no more at once */
    uint64_t base = CHANNEL_COUNT * VGPU_CHANNEL_BYTES;
    unsigned seen[40] = {0};
    for (unsigned i = 0; i < 40; i++) {
        rig_wait_asked(r, i + 1);
        rig_answer_extent(r, i, base + (39 - i) * bytes, i % 5 == 4 ? 0 : bytes, i % 2);
        struct vgpu_ring_completion c = guest_take(r);
        assert_int_equal(c.status, i % 5 == 4 ? CUDA_ERROR_OUT_OF_MEMORY : 0);
        assert_true(c.token - first < 40);
        seen[c.token - first]++;
        if (!c.status)
            assert_int_equal(get64(c.bytes), base + (39 - i) * bytes);
    }
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(seen[i], 1);
}

static void g14_no_more_than_1024_extents(void **state)
{
    struct channel_rig *r = *state;
    /* The window is too small for so many: the mediator of this test says the same place again, but
     * for what overlaps. */
    r->arena_free = UINT64_MAX / 2;
    unsigned held = 0;
    for (unsigned i = 0; i < 1100; i++) {
        struct guest_answer a;
        if (r->arena_next + 65536 > CHANNEL_WINDOW)
            break;
        a = guest_alloc_extent(r, 1);
        guest_expect(a, 0);
        held++;
    }
    assert_int_equal(held, (CHANNEL_WINDOW - CHANNEL_COUNT * VGPU_CHANNEL_BYTES) / 65536);
    /* What the session has already is not given again, whatever the mediator says. */
    r->arena_next = CHANNEL_COUNT * VGPU_CHANNEL_BYTES;
    guest_expect(guest_alloc_extent(r, 1), CUDA_ERROR_OUT_OF_MEMORY);
}

static void g14_an_extent_is_given_back_when_nothing_uses_it(void **state)
{
    struct channel_rig *r = *state;
    guest_load(r);
    uint64_t offset = guest_out(guest_alloc_extent(r, 65536), 0);
    uint64_t launched = fake_gpu_launched();
    unsigned pinned = fake_gpu_registered();
    fake_gpu_hold(true);
    POST(r, LAUNCH, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0);
    while (fake_gpu_launched() == launched)
        usleep(100);
    struct vgpu_ring_part part = PART(&offset, 8);
    uint32_t token = guest_write(r, VGPU_RING_ARENA_FREE, true, nowhere, &part, 1);
    guest_publish(r);
    guest_expect_silence(r, 20);
    assert_int_equal(r->returned_count, 0);
    assert_int_equal(fake_gpu_registered(), pinned);
    /* Nobody may name it any more. */
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 4096), 0);
    guest_expect(DO(r, COPY_WINDOW_TO_DEVICE, address, 16, offset, 0), 0);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
    fake_gpu_finish(1);
    struct vgpu_ring_completion c = guest_take(r);
    assert_int_equal(c.token, token);
    assert_int_equal(c.status, 0);
    rig_wait_returned(r, 1);
    assert_int_equal(fake_gpu_registered(), pinned - 1);
    assert_int_equal(fake_gpu_fences(), 0);
}

static void memory_that_cannot_be_pinned_works(void **state)
{
    struct channel_rig *r = *state;
    fake_gpu_refuse_register(CUDA_ERROR_OUT_OF_MEMORY);
    uint64_t offset = guest_out(guest_alloc_extent(r, 65536), 0);
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 4096), 0);
    POST(r, COPY_WINDOW_TO_DEVICE, address, 4096, offset, 0);
    guest_expect(guest_synchronize(r), 0);
    unsigned pinned = fake_gpu_registered();
    guest_expect(guest_free_extent(r, offset), 0);
    assert_int_equal(fake_gpu_registered(), pinned);
}

static void extents_outlive_their_channel_and_late_ones_go_back(void **state)
{
    struct channel_rig *r = *state;
    uint64_t kept = guest_out(guest_alloc_extent(r, 65536), 0), bytes = 65536;
    struct vgpu_ring_part part = PART(&bytes, 8);
    r->answers_extents = false;
    for (unsigned i = 0; i < 20; i++)
        guest_write(r, VGPU_RING_ARENA_ALLOC, true, nowhere, &part, 1);
    guest_publish(r);
    rig_wait_asked(r, 16);
    rig_detach(r);
    rig_attach(r);
    for (unsigned i = 0; i < 16; i++)
        rig_answer_extent(r, i, kept + (i + 1) * bytes, i % 2 ? bytes : 0, false);
    rig_wait_returned(r, 8);
    assert_int_equal(r->asked_count, 16);
    guest_expect_silence(r, 5);
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 4096), 0);
    POST(r, COPY_WINDOW_TO_DEVICE, address, 16, kept, 0);
    guest_expect(guest_synchronize(r), 0);
    guest_expect(guest_free_extent(r, kept), 0);
    rig_wait_returned(r, 9);
}

/* The engine registers, which is the GPU's business, under the lease only. */
static void an_extent_that_comes_without_the_lease_waits_for_it(void **state)
{
    struct channel_rig *r = *state;
    uint64_t bytes = 65536;
    struct vgpu_ring_part part = PART(&bytes, 8);
    unsigned pinned = fake_gpu_registered();
    r->answers_extents = false;
    uint32_t token = guest_write(r, VGPU_RING_ARENA_ALLOC, true, nowhere, &part, 1);
    guest_publish(r);
    rig_wait_asked(r, 1);
    rig_grants(r, false);
    (void)rig_recall(r, 0);
    rig_answer_extent(r, 0, CHANNEL_COUNT * VGPU_CHANNEL_BYTES, bytes, true);
    guest_expect_silence(r, 10);
    assert_int_equal(fake_gpu_registered(), pinned);
    rig_grants(r, true);
    assert_int_equal(guest_take(r).token, token);
}

/* W4: clearing is no work of the GPU's. What comes after the end of the grace is cleared without
 * the lease, and registered under the next one. */
static void w4_the_lease_does_not_wait_for_extents_to_be_cleared(void **state)
{
    enum { COUNT = 16 };
    struct channel_rig *r = *state;
    const uint64_t sizes[] = {7u << 20, 7 * VGPU_ARENA_GRANULE};
    uint64_t at = CHANNEL_COUNT * VGPU_CHANNEL_BYTES;
    unsigned returns = r->returns, answered = 0;
    struct vgpu_ring_completion c;
    r->answers_extents = false;
    for (unsigned i = 0; i < COUNT; i++) {
        const struct vgpu_ring_part part = PART(&sizes[i > 0], 8);
        guest_write(r, VGPU_RING_ARENA_ALLOC, true, nowhere, &part, 1);
    }
    guest_publish(r);
    rig_wait_asked(r, COUNT);
    rig_grants(r, false);
    for (unsigned i = 0; i < COUNT; at += sizes[i > 0], i++) {
        rig_answer_extent(r, i, at, sizes[i > 0], true);
        if (i == 0)
            rig_recall_only(r, 0, 0);
    }
    rig_wait_lease_back(r, returns);
    usleep(50000);
    while (guest_take_now(r, &c))
        answered++;
    /* The first one may have been done when the RECALL came, and a lease is good for one step. */
    assert_true(answered <= 2);
    rig_grants(r, true);
    for (; answered < COUNT; answered++)
        assert_int_equal(guest_take(r).status, 0);
}

/* ---- The table by itself ---- */

static void the_table_keeps_extents_apart(void **state)
{
    (void)state;
    static struct vgpu_extents e;
    static uint8_t window[1 << 20];
    struct vgpu_extent out;
    vgpu_extents_init(&e);
    assert_null(vgpu_extents_find(&e, 0, 1, false));
    e.window = window;
    e.window_bytes = sizeof(window);
    assert_true(vgpu_extents_add(&e, 4096, 4096, false));
    assert_false(vgpu_extents_add(&e, 4096, 1, false));
    assert_false(vgpu_extents_add(&e, 0, 4097, false));
    assert_false(vgpu_extents_add(&e, 8191, 1, false));
    assert_false(vgpu_extents_add(&e, 0, UINT64_MAX, false));
    assert_false(vgpu_extents_add(&e, UINT64_MAX, 2, false));
    assert_false(vgpu_extents_add(&e, sizeof(window), 1, false));
    assert_false(vgpu_extents_add(&e, 100, 0, false));
    assert_true(vgpu_extents_add(&e, 8192, 4096, false));
    assert_true(vgpu_extents_add(&e, 0, 4096, false));
    assert_ptr_equal(vgpu_extents_find(&e, 8191, 1, true), window + 8191);
    assert_null(vgpu_extents_find(&e, 8191, 2, true));
    assert_null(vgpu_extents_find(&e, 12288, 1, true));
    assert_null(vgpu_extents_find(&e, 4096, UINT64_MAX, true));
    assert_null(vgpu_extents_find(&e, UINT64_MAX, UINT64_MAX, true));
    assert_false(vgpu_extents_remove(&e, 4097, &out));
    assert_true(vgpu_extents_remove(&e, 4096, &out));
    assert_int_equal(out.bytes, 4096);
    assert_null(vgpu_extents_find(&e, 4096, 1, true));
    assert_non_null(vgpu_extents_find(&e, 8192, 4096, true));
    uint32_t count = e.count;
    for (uint32_t i = 0; i < VGPU_WORKER_EXTENTS_MAX; i++)
        count += vgpu_extents_add(&e, 65536 + (uint64_t)i * 16, 16, false);
    assert_int_equal(count, VGPU_WORKER_EXTENTS_MAX);
}

int main(void)
{
#define ON(f) VGPU_TEST_F(f, channel_setup_gpu, teardown)
    const struct CMUnitTest tests[] = {
        ON(g14_an_extent_is_whole_granules_and_ones_own),
        ON(g14_refusals_are_statuses),
        ON(g6_a_dirty_extent_is_cleared_a_fresh_one_is_not_touched),
        ON(the_ring_goes_on_while_the_mediator_thinks),
        ON(g14_no_more_than_1024_extents),
        ON(g14_an_extent_is_given_back_when_nothing_uses_it),
        ON(memory_that_cannot_be_pinned_works),
        ON(extents_outlive_their_channel_and_late_ones_go_back),
        ON(an_extent_that_comes_without_the_lease_waits_for_it),
        ON(w4_the_lease_does_not_wait_for_extents_to_be_cleared),
        VGPU_TEST(the_table_keeps_extents_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
