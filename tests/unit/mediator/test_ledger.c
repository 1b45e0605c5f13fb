/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is remembered of a VM or a user beyond its connection (ledger.h). */
#include <stdlib.h>

#include "mediator/ledger.h"
#include "vgpu_test.h"

#define S 1000000000ull

static unsigned starts(struct vgpu_ledger *l, uint64_t key, uint64_t now)
{
    unsigned n = 0;
    while (n < 10000 && vgpu_ledger_start(l, key, now))
        n++;
    return n;
}

/* 100 at once and 50 a second, whoever asks for the account in between. */
static void test_bucket(void **state)
{
    (void)state;
    struct vgpu_ledger *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    uint64_t vm = vgpu_ledger_key(false, 7), user = vgpu_ledger_key(true, 7);
    assert_true(vm != user);
    assert_int_equal(starts(l, vm, S), 100);
    assert_int_equal(starts(l, user, S), 100);
    vgpu_ledger_account(l, vm, S);
    assert_int_equal(starts(l, vm, S), 0);
    assert_int_equal(starts(l, vm, 2 * S), 50);
    assert_int_equal(starts(l, vm, 60 * S), 100);
    free(l);
}

/* What its workers say: 60 lines at once, 10 a second. */
static void test_say(void **state)
{
    (void)state;
    struct vgpu_ledger *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    uint64_t vm = vgpu_ledger_key(false, 7);
    for (uint64_t second = 1; second <= 3; second++) {
        unsigned n = 0;
        while (n < 1000 && vgpu_ledger_say(l, vm, second * S))
            n++;
        assert_int_equal(n, second == 1 ? 60 : 10);
    }
    assert_true(vgpu_ledger_say(l, vgpu_ledger_key(false, 8), 3 * S));
    assert_int_equal(starts(l, vm, 3 * S), 100); /* a bucket of its own */
    free(l);
}

/* Many together get four times what one gets. */
static void test_all_together(void **state)
{
    (void)state;
    struct vgpu_ledger *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    unsigned n = 0;
    for (uint32_t vm = 0; vm < 50; vm++)
        n += starts(l, vgpu_ledger_key(false, vm), S);
    assert_int_equal(n, 400);
    n = 0;
    for (uint32_t vm = 100; vm < 150; vm++)
        n += starts(l, vgpu_ledger_key(false, vm), 2 * S);
    assert_int_equal(n, 200);
    free(l);
}

/* The table is bounded: who was not heard of for longest is forgotten, nobody else. */
static void test_eviction(void **state)
{
    (void)state;
    struct vgpu_ledger *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    uint64_t vm = vgpu_ledger_key(false, 7);
    vgpu_ledger_account(l, vm, S)->start_credit_ns = 1;
    for (uint32_t n = 0; n < 100000; n++) {
        vgpu_ledger_account(l, vgpu_ledger_key(true, n), 2 * S + n);
        assert_true(vgpu_ledger_account(l, vm, 2 * S + n)->start_credit_ns == 1);
    }
    for (uint32_t n = 0; n < 100000; n++)
        vgpu_ledger_account(l, vgpu_ledger_key(true, n), 3 * S + n);
    assert_true(vgpu_ledger_account(l, vm, 4 * S)->start_credit_ns == 0);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_bucket),
        VGPU_TEST(test_say),
        VGPU_TEST(test_all_together),
        VGPU_TEST(test_eviction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
