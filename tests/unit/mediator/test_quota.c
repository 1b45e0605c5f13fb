/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mediator's side of accounts (quota.h; docs/worker.md W9): slots, and what it believes. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mediator/quota.h"
#include "vgpu_test.h"

static struct vgpu_list quotas = {&quotas, &quotas};

static struct vgpu_quota *join(uint64_t key, uint32_t gpu, uint64_t bytes)
{
    struct vgpu_quota *q = NULL;
    assert_int_equal(vgpu_quota_join(&quotas, key, gpu, bytes, &q), 0);
    return q;
}

/* One account for each VM or user and GPU, however many join it; the last one out ends it. */
static void test_who_shares(void **state)
{
    (void)state;
    struct vgpu_quota *a = join(7, 0, 100), *again = join(7, 0, 50);
    struct vgpu_quota *other = join(8, 0, 100), *card = join(7, 1, 100);
    assert_ptr_equal(a, again);
    assert_true(a != other && a != card && other != card);
    assert_true(a->quota_bytes == 50);
    vgpu_quota_leave(a);
    assert_ptr_equal(join(7, 0, 60), again);
    vgpu_quota_leave(a);
    vgpu_quota_leave(a);
    vgpu_quota_leave(other);
    vgpu_quota_leave(card);
    assert_true(vgpu_list_empty(&quotas));
}

/* The file is what vgpu/account.h says, close-on-exec, and nobody can take pages from it. */
static void test_file(void **state)
{
    (void)state;
    struct vgpu_quota *q = join(1, 0, 100);
    struct stat st;
    assert_int_equal(fstat(q->fd, &st), 0);
    assert_int_equal(st.st_size, VGPU_ACCOUNT_FILE_BYTES);
    assert_int_equal(q->page->magic, VGPU_ACCOUNT_MAGIC);
    assert_true(fcntl(q->fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(ftruncate(q->fd, 0), -1);
    assert_int_equal(ftruncate(q->fd, 2 * VGPU_ACCOUNT_FILE_BYTES), -1);
    vgpu_quota_leave(q);
}

static void test_slots(void **state)
{
    (void)state;
    struct vgpu_quota *q = join(1, 0, 100);
    uint32_t slot;
    for (uint32_t i = 0; i < VGPU_ACCOUNT_SLOTS; i++) {
        assert_int_equal(vgpu_quota_take(q, &slot), 0);
        assert_int_equal(slot, i);
        assert_int_equal(q->page->slot_count, i + 1);
    }
    assert_int_equal(vgpu_quota_take(q, &slot), -ENOSPC);
    vgpu_quota_give_back(q, 4000);
    vgpu_quota_give_back(q, 64);
    q->page->slots[64].held_bytes = 5; /* a neighbour's doing */
    assert_int_equal(vgpu_quota_take(q, &slot), 0);
    assert_int_equal(slot, 64); /* the lowest */
    assert_true(q->page->slots[64].held_bytes == 0);
    assert_int_equal(q->page->slot_count, VGPU_ACCOUNT_SLOTS);
    vgpu_quota_leave(q);
}

/* What a process held is free when it is gone, and nothing that is written there counts for more
 * than the quota, or for a process that is not. */
static void test_beliefs(void **state)
{
    (void)state;
    struct vgpu_quota *q = join(1, 0, 100);
    uint32_t a, b;
    assert_true(vgpu_quota_held(q) == 0 && vgpu_quota_contexts(q) == 0);
    assert_int_equal(vgpu_quota_take(q, &a), 0);
    assert_int_equal(vgpu_quota_take(q, &b), 0);
    assert_true(vgpu_quota_contexts(q) == 2); /* each may make one any time */
    q->page->slots[a].held_bytes = 30;
    q->page->slots[b].held_bytes = 50;
    q->page->slots[b].contexts = 3;
    assert_true(vgpu_quota_held(q) == 80 && vgpu_quota_contexts(q) == 4);
    q->page->slots[a].held_bytes = UINT64_MAX;
    q->page->slots[a].contexts = UINT32_MAX;
    assert_true(vgpu_quota_held(q) == 100);
    assert_true(vgpu_quota_contexts(q) == 3 + VGPU_QUOTA_CONTEXTS_MAX);
    q->page->slots[a].held_bytes = q->page->slots[b].held_bytes = 1ull << 63; /* their sum is 0 */
    assert_true(vgpu_quota_held(q) == 100);
    q->page->slot_count = 0; /* it has its own */
    q->page->slots[7].held_bytes = 10;
    vgpu_quota_give_back(q, a);
    assert_true(q->page->slots[a].held_bytes == 0 && q->page->slots[a].contexts == 0);
    vgpu_quota_give_back(q, b);
    assert_true(vgpu_quota_held(q) == 0 && vgpu_quota_contexts(q) == 0);
    vgpu_quota_leave(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_who_shares),
        VGPU_TEST(test_file),
        VGPU_TEST(test_slots),
        VGPU_TEST(test_beliefs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
