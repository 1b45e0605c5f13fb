/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows in memory (model.h), requests (change.h) and plans (plan.h): docs/control.md K7, K20 to K31.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry/plan.h"
#include "vgpu_test.h"

static struct vgpu_change change;
static struct vgpu_change_error failure;
static struct vgpu_registry_state state;
static struct vgpu_registry_txn txn;

static int clean(void **s)
{
    (void)s;
    vgpu_change_free(&change);
    vgpu_registry_txn_free(&txn);
    vgpu_registry_state_free(&state);
    return 0;
}

static int nothing(void **s)
{
    (void)s;
    return 0;
}

static int read_change(const char *text)
{
    struct json_object *json = json_tokener_parse(text), *op = NULL;
    enum vgpu_change_op number;
    assert_non_null(json);
    assert_true(json_object_object_get_ex(json, "op", &op));
    assert_true(vgpu_change_find(json_object_get_string(op), &number));
    vgpu_change_free(&change);
    int rc = vgpu_change_read(&change, number, json, &failure);
    json_object_put(json);
    return rc;
}

static const struct vgpu_plan_facts no_facts;

static int plan_with(const char *text, const struct vgpu_plan_facts *facts)
{
    const struct vgpu_plan_who who = {
        .time_ms = 1000000, .uid = 5, .pid = 6, .default_seconds = 300};
    vgpu_registry_txn_free(&txn);
    assert_int_equal(read_change(text), 0);
    return vgpu_plan(&state, &change, facts, &who, &txn, &failure);
}

static void make(const char *text)
{
    if (plan_with(text, &no_facts))
        fail_msg("%s: %s", text, failure.message);
    assert_int_equal(vgpu_registry_reserve(&state, &txn), 0);
    vgpu_registry_apply(&state, &txn);
}

static void refused(const char *text, enum vgpu_change_code code, const char *part)
{
    assert_int_equal(plan_with(text, &no_facts), -EINVAL);
    assert_string_equal(vgpu_change_code_name(failure.code), vgpu_change_code_name(code));
    if (!strstr(failure.message, part))
        fail_msg("%s", failure.message);
}

static void test_life_of_a_vm(void **s)
{
    (void)s;
    make("{\"op\": \"register-vm\", \"vms\": [9, 7], \"pool\": \"B\", \"rate\": \"12.5%\"}");
    assert_int_equal(state.vm_count, 2);
    assert_int_equal(state.vms[0].vm, 7);
    assert_int_equal(state.vms[1].rate, 125);
    assert_int_equal(txn.audit_count, 2);
    assert_string_equal(txn.audit[0].target, "vm 9");
    assert_string_equal(txn.audit[0].before, "registered=no pool=- rate=-");
    assert_string_equal(txn.audit[0].after, "registered=yes pool=B rate=12.5%");
    assert_int_equal(txn.audit[0].uid, 5);
    refused("{\"op\": \"register-vm\", \"vms\": [8, 7]}", VGPU_CODE_EXISTS, "vm 7 is registered");
    assert_int_equal(state.vm_count, 2);
    make("{\"op\": \"set-rate\", \"vms\": [7], \"rate\": null, \"burst_ms\": 9}");
    assert_int_equal(state.vms[0].rate, 0);
    assert_int_equal(state.vms[0].burst_ms, 9);
    refused("{\"op\": \"set-weight\", \"vms\": [8], \"weight\": 5}", VGPU_CODE_NOT_FOUND,
            "vm 8 is not registered");
    make("{\"op\": \"quarantine\", \"vms\": [7, 8], \"reason\": \"x\"}");
    assert_int_equal(state.vm_count, 3);
    assert_true(state.vms[0].quarantine.until_ms == 1000000 + 300 * 1000);
    assert_false(state.vms[1].registered);
    make("{\"op\": \"quarantine\", \"vms\": [7], \"seconds\": null}");
    assert_true(state.vms[0].quarantine.until_ms == VGPU_REGISTRY_FOREVER);
    make("{\"op\": \"remove-vm\", \"vms\": [7]}"); /* it is in quarantine all the same */
    assert_false(state.vms[0].registered);
    assert_int_equal(state.vms[0].burst_ms, 0);
    assert_true(state.vms[0].quarantine.until_ms != 0);
    make("{\"op\": \"release\", \"vms\": [7, 8]}");
    assert_int_equal(state.vm_count, 1); /* nothing is left to say of 7 and 8 */
    refused("{\"op\": \"release\", \"vms\": [9]}", VGPU_CODE_NOT_FOUND, "not in quarantine");
    make("{\"op\": \"drain\", \"vms\": [9], \"seconds\": 1}");
    assert_true(state.vms[0].drain.until_ms == 1001000);
    make("{\"op\": \"undrain\", \"vms\": [9]}");
    make("{\"op\": \"remove-vm\", \"vms\": [9]}");
    assert_int_equal(state.vm_count, 0);
    refused("{\"op\": \"drain\", \"pool\": \"A\"}", VGPU_CODE_UNSUPPORTED, "mediator");
}

static bool seven(void *context, uint32_t vm)
{
    (void)context;
    return vm == 7;
}

static bool seven_in_file(void *context, uint32_t vm, uint32_t *line)
{
    (void)context;
    *line = 12;
    return vm == 7;
}

static bool only_a(void *context, char pool, char *pools)
{
    (void)context;
    strcpy(pools, "A");
    return pool == 'A';
}

static uint64_t small_card(void *context, char pool)
{
    (void)context;
    return pool == 'B' ? 0 : 1000;
}

/* What speaks against it besides the registry. */
static void test_facts(void **s)
{
    const struct vgpu_plan_facts file = {.in_file = seven_in_file},
                                 local = {.is_local = seven_in_file},
                                 there = {.is_attached = seven}, pools = {.has_gpu = only_a},
                                 cards = {.largest_card = small_card},
                                 quarantined = {.is_quarantined = seven};
    (void)s;
    assert_int_equal(plan_with("{\"op\": \"register-vm\", \"vms\": [7]}", &file), -EINVAL);
    assert_int_equal(failure.code, VGPU_CODE_EXISTS);
    assert_int_equal(plan_with("{\"op\": \"remove-vm\", \"vms\": [7]}", &file), -EINVAL);
    assert_int_equal(failure.code, VGPU_CODE_CONFLICT);
    assert_non_null(strstr(failure.message, "line 12"));
    assert_int_equal(plan_with("{\"op\": \"set-weight\", \"vms\": [7], \"weight\": 1}", &file), 0);
    assert_int_equal(plan_with("{\"op\": \"set-weight\", \"vms\": [7], \"weight\": 1}", &local),
                     -EINVAL);
    assert_int_equal(failure.code, VGPU_CODE_CONFLICT);
    assert_int_equal(plan_with("{\"op\": \"quarantine\", \"vms\": [7]}", &local), 0);
    make("{\"op\": \"register-vm\", \"vms\": [7, 8]}");
    assert_int_equal(plan_with("{\"op\": \"remove-vm\", \"vms\": [8, 7]}", &there), -EINVAL);
    assert_int_equal(failure.code, VGPU_CODE_BUSY);
    assert_int_equal(plan_with("{\"op\": \"remove-vm\", \"vms\": [7], \"force\": true}", &there),
                     0);
    assert_int_equal(plan_with("{\"op\": \"set-pool\", \"vms\": [7], \"pool\": \"B\"}", &pools),
                     -EINVAL);
    assert_string_equal(failure.message, "vm 7: pool 'B' has no GPU (pools: A)");
    assert_int_equal(plan_with("{\"op\": \"set-pool\", \"vms\": [7], \"pool\": null}", &pools), 0);
    assert_int_equal(plan_with("{\"op\": \"set-quota\", \"vms\": [7], \"memory\": 1001}", &cards),
                     -EINVAL);
    assert_int_equal(failure.code, VGPU_CODE_INVALID);
    assert_int_equal(plan_with("{\"op\": \"set-quota\", \"vms\": [7], \"memory\": 1000}", &cards),
                     0);
    make("{\"op\": \"set-quota\", \"vms\": [7], \"memory\": 5000}");
    assert_int_equal(plan_with("{\"op\": \"set-pool\", \"vms\": [7], \"pool\": \"A\"}", &cards),
                     -EINVAL);
    assert_int_equal(plan_with("{\"op\": \"set-pool\", \"vms\": [7], \"pool\": \"B\"}", &cards), 0);
    assert_int_equal(plan_with("{\"op\": \"set-weight\", \"vms\": [7], \"weight\": 1}", &cards), 0);
    assert_int_equal(plan_with("{\"op\": \"release\", \"vms\": [7]}", &quarantined), 0);
}

/* K3, K22: what is not a request of that operation. */
static void test_requests_that_are_none(void **s)
{
    static const char *const bad[] = {
        "{\"op\": \"register-vm\"}",
        "{\"op\": \"register-vm\", \"vms\": {}}",
        "{\"op\": \"register-vm\", \"vms\": [1], \"seconds\": 5}",
        "{\"op\": \"set-weight\", \"vms\": [1]}",
        "{\"op\": \"set-weight\", \"vms\": [1], \"weight\": 18446744073709551616}",
        "{\"op\": \"set-weight\", \"vms\": [1], \"weight\": true}",
        "{\"op\": \"set-quota\", \"vms\": [1]}",
        "{\"op\": \"set-quota\", \"vms\": [1], \"memory\": 1e3}",
        "{\"op\": \"set-name\", \"vms\": [1], \"name\": \"a\\u0000b\"}",
        "{\"op\": \"quarantine\", \"vms\": [1], \"seconds\": 0}",
        "{\"op\": \"quarantine\", \"vms\": [1], \"seconds\": 31536001}",
        "{\"op\": \"quarantine\", \"vms\": null}",
        "{\"op\": \"drain\", \"vms\": [1], \"gpu\": 0}",
        "{\"op\": \"remove-vm\", \"vms\": [1], \"force\": 1}",
        "{\"op\": \"add-pool\", \"pool\": null}",
        "{\"op\": \"add-pool\", \"pool\": \"A\", \"gpus\": []}",
        "{\"op\": \"add-pool\", \"pool\": \"A\", \"gpus\": [\"\"]}",
        "{\"op\": \"assign-gpu\", \"pool\": \"A\", \"gpu\": -1}",
        "{\"op\": \"assign-gpu\", \"pool\": \"A\", \"gpu\": [0]}",
        "{\"op\": \"set-rate\", \"vms\": [1], \"rate\": \"30 %\"}",
    };
    (void)s;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        failure.message[0] = 0;
        if (read_change(bad[i]) != -EINVAL)
            fail_msg("%s was let through", bad[i]);
        assert_int_equal(failure.code, VGPU_CODE_INVALID);
        assert_true(failure.message[0] != 0);
    }
    assert_int_equal(read_change("{\"op\": \"add-pool\", \"id\": 1, \"pool\": \"A\", \"gpus\": [0, "
                                 "\"software\"], \"backend\": \"cuda\"}"),
                     0);
    assert_int_equal(change.gpu_count, 2);
    assert_true(change.gpus[0].by_number && !change.gpus[1].by_number && change.cuda);
}

/* Random puts and drops against a plain list. */
static void test_rows_against_a_list(void **s)
{
    static bool there[200];
    (void)s;
    srand(7);
    for (unsigned round = 0; round < 3000; round++) {
        struct vgpu_registry_vm row;
        struct vgpu_registry_txn some = {0};
        for (unsigned i = 0; i < 3; i++) {
            vgpu_registry_vm_init(&row, (uint32_t)(rand() % 200));
            row.registered = rand() % 2;
            assert_int_equal(vgpu_registry_txn_vm(&some, &row), 0);
            there[row.vm] = row.registered;
        }
        assert_int_equal(vgpu_registry_reserve(&state, &some), 0);
        vgpu_registry_apply(&state, &some);
        vgpu_registry_txn_free(&some);
        uint32_t count = 0;
        for (uint32_t vm = 0; vm < 200; vm++) {
            assert_int_equal(vgpu_registry_find_vm(&state, vm) != NULL, there[vm]);
            count += there[vm];
        }
        assert_int_equal(state.vm_count, count);
        for (uint32_t i = 1; i < count; i++)
            assert_true(state.vms[i - 1].vm < state.vms[i].vm);
    }
}

static void test_room(void **s)
{
    struct vgpu_registry_vm row;
    (void)s;
    for (uint32_t i = 0; i < VGPU_REGISTRY_VMS_MAX; i++) {
        vgpu_registry_vm_init(&row, i);
        row.registered = true;
        assert_int_equal(vgpu_registry_add_vm(&state, &row), 0);
    }
    assert_int_equal(vgpu_registry_add_vm(&state, &row), -ENOSPC);
    vgpu_registry_vm_init(&row, 5000);
    row.registered = true;
    assert_int_equal(vgpu_registry_txn_vm(&txn, &row), 0);
    assert_int_equal(vgpu_registry_reserve(&state, &txn), -ENOSPC);
    txn.vms[0].row.vm = 17; /* one that is there */
    assert_int_equal(vgpu_registry_reserve(&state, &txn), 0);
}

/* A text that does not fit is cut, and nothing else. */
static void test_texts_are_cut(void **s)
{
    struct vgpu_registry_vm a, b;
    char x[24], y[24];
    (void)s;
    vgpu_registry_vm_init(&a, 1);
    b = a;
    memset(b.name, 'n', sizeof(b.name) - 1);
    b.memory = 1ull << 46;
    b.queue = 3;
    vgpu_registry_vm_differ(&a, &b, x, y, sizeof(x));
    assert_int_equal(strlen(y), sizeof(y) - 1);
    assert_string_equal(x, "name=- memory=- queue=-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_life_of_a_vm, nothing, clean),
        VGPU_TEST_F(test_facts, nothing, clean),
        VGPU_TEST_F(test_requests_that_are_none, nothing, clean),
        VGPU_TEST_F(test_rows_against_a_list, nothing, clean),
        VGPU_TEST_F(test_room, nothing, clean),
        VGPU_TEST_F(test_texts_are_cut, nothing, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
