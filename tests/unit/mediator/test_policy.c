/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pure parts of policy: overlay.h (K8), mark.h (K31), events.h (K14). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mediator/events.h"
#include "mediator/ledger.h"
#include "mediator/mark.h"
#include "mediator/overlay.h"
#include "vgpu_test.h"

static const char config[] = "[pool A]\ngpus = software\n[pool B]\nbackend = auto\n"
                             "[vm 5]\nsessions = 3\nrate = 50%\n[vm 9]\nsocket = /run/x/y\n";

static struct vgpu_settings *parse(void)
{
    char error[VGPU_SETTINGS_ERROR];
    struct vgpu_settings *s = vgpu_settings_parse("test", config, sizeof(config) - 1, error);
    if (!s)
        fail_msg("%s", error);
    return s;
}

static struct vgpu_registry_vm row_of(uint32_t vm, bool registered, uint32_t sessions)
{
    struct vgpu_registry_vm row;
    vgpu_registry_vm_init(&row, vm);
    row.registered = registered;
    row.sessions = sessions;
    return row;
}

/* Field by field, and back; what only the registry knows comes and goes. */
static void test_overlay_vms(void **state)
{
    struct vgpu_settings *s = parse();
    struct vgpu_registry_state r = {0};
    struct vgpu_registry_vm five = row_of(5, false, 7), six = row_of(6, true, 1),
                            seven = row_of(7, false, 2);
    (void)state;
    assert_int_equal(vgpu_registry_add_vm(&r, &five), 0);
    assert_int_equal(vgpu_registry_add_vm(&r, &six), 0);
    assert_int_equal(vgpu_registry_add_vm(&r, &seven), 0);
    assert_int_equal(vgpu_overlay_all(s, &r), 0);
    assert_int_equal(s->vm_count, 3);
    assert_int_equal(vgpu_settings_vm(s, 5)->sessions, 7);
    assert_int_equal(vgpu_settings_vm(s, 5)->rate, 500);
    assert_true(vgpu_settings_vm(s, 5)->in_file && vgpu_settings_vm(s, 9)->registered);
    assert_int_equal(vgpu_settings_vm(s, 6)->sessions, 1);
    assert_false(vgpu_settings_vm(s, 6)->in_file);
    assert_int_equal(vgpu_settings_vm(s, 6)->priority, -1);
    assert_null(vgpu_settings_vm(s, 7)); /* not registered: as good as unknown */
    seven.registered = true;
    vgpu_overlay_vm(s, 7, &seven);
    assert_int_equal(vgpu_settings_vm(s, 7)->sessions, 2);
    five.sessions = 0;
    vgpu_overlay_vm(s, 5, &five);
    assert_int_equal(vgpu_settings_vm(s, 5)->sessions, 3);
    vgpu_overlay_vm(s, 6, NULL);
    vgpu_overlay_vm(s, 5, NULL);
    assert_null(vgpu_settings_vm(s, 6));
    assert_non_null(vgpu_settings_vm(s, 7));
    assert_int_equal(s->vm_count, 3);
    for (uint32_t vm = 100; vm < 100 + VGPU_REGISTRY_VMS_MAX - 1; vm++) {
        struct vgpu_registry_vm row = row_of(vm, true, 4);
        vgpu_overlay_vm(s, vm, &row);
    }
    assert_int_equal(vgpu_settings_vm(s, 99 + VGPU_REGISTRY_VMS_MAX - 1)->sessions, 4);
    vgpu_registry_state_free(&r);
    vgpu_settings_free(s);
}

static void test_overlay_pools(void **state)
{
    static const char *const names[] = {"software", "cuda:3",
                                        "GPU-01234567-89ab-cdef-0123-456789abcdef"};
    struct vgpu_settings *s = parse();
    struct vgpu_registry_state r = {0};
    (void)state;
    r.pools[1] = (struct vgpu_registry_pool){.pool = 'B', .has_gpus = true};
    for (unsigned i = 0; i < 3; i++) {
        struct vgpu_gpu_setting gpu;
        char name[VGPU_REGISTRY_GPU_NAME];
        strcpy(r.pools[1].gpus[r.pools[1].gpu_count++], names[i]);
        assert_int_equal(vgpu_overlay_gpu_read(names[i], &gpu), 0);
        vgpu_overlay_gpu_name(&gpu, name);
        assert_string_equal(name, names[i]);
    }
    strcpy(r.pools[1].gpus[r.pools[1].gpu_count++], "cuda:x"); /* that of no GPU */
    r.pools[0] =
        (struct vgpu_registry_pool){.pool = 'A', .drain = {5, ""}}; /* no GPUs of its own */
    assert_int_equal(vgpu_overlay_all(s, &r), 0);
    assert_int_equal(s->pools[1].asked_count, 3);
    assert_int_equal(s->pools[1].gpus[1].ordinal, 3);
    assert_true(s->pools[1].gpus[2].by_uuid && !s->pools[1].all && !s->pools[1].or_software);
    assert_int_equal(s->pools[0].gpu_count, 1);
    vgpu_settings_free(s);
}

/* K31: so many in the window, and no older ones; the watchdog's count for more. */
static void test_faults(void **state)
{
    struct vgpu_list marks;
    (void)state;
    vgpu_list_init(&marks);
    struct vgpu_mark *m = vgpu_mark_get(&marks, vgpu_ledger_key(false, 7));
    for (uint64_t t = 1; t <= 2; t++)
        assert_false(vgpu_mark_fault(m, 1, 3, 100, t * 10));
    assert_true(vgpu_mark_fault(m, 1, 3, 100, 109));  /* 10, 20, 109 */
    assert_false(vgpu_mark_fault(m, 1, 3, 100, 120)); /* 20 is too old */
    assert_int_equal(m->faults, 4);
    vgpu_mark_forgive(m);
    assert_false(vgpu_mark_fault(m, 1, 3, 100, 121));
    assert_false(vgpu_mark_fault(m, 1, 3, 100, 122));
    assert_true(vgpu_mark_fault(m, 1, 3, 100, 123));
    vgpu_mark_forgive(m);
    assert_true(vgpu_mark_fault(m, VGPU_MARK_WATCHDOG, VGPU_MARK_WATCHDOG, 100, 130));
    vgpu_mark_forgive(m);
    for (uint32_t i = 1; i < VGPU_SETTINGS_FAULTS; i++)
        assert_false(vgpu_mark_fault(m, 1, VGPU_SETTINGS_FAULTS, 1000, 200));
    assert_true(vgpu_mark_fault(m, 1, VGPU_SETTINGS_FAULTS, 1000, 200));
    assert_false(vgpu_mark_fault(m, 1, 0, 1000, 200)); /* 0: never */
    assert_ptr_equal(vgpu_mark_find(&marks, 7), m);
    vgpu_mark_put(m);
    assert_true(vgpu_list_empty(&marks)); /* nothing to remember */
}

static void test_marks_stay(void **state)
{
    struct vgpu_list marks;
    int64_t next = INT64_MAX;
    (void)state;
    vgpu_list_init(&marks);
    struct vgpu_mark *m = vgpu_mark_get(&marks, 7);
    m->quarantine.until_ms = 100;
    m->drain.until_ms = VGPU_REGISTRY_FOREVER;
    vgpu_mark_put(m);
    assert_ptr_equal(vgpu_mark_find(&marks, 7), m);
    assert_false(vgpu_aside_over(&m->quarantine, 99, &next));
    assert_true(next == 100);
    assert_true(vgpu_aside_over(&m->quarantine, 100, &next));
    assert_false(vgpu_aside_over(&m->drain, INT64_MAX, &next));
    assert_true(next == 100);
    vgpu_mark_free_all(&marks);
    assert_true(vgpu_list_empty(&marks));
}

static unsigned told;

static void on_told(void *context)
{
    assert_ptr_equal(context, &told);
    told++;
}

/* K14: numbers without gaps, the newest are kept, and what is lost is counted. */
static void test_events(void **state)
{
    struct vgpu_events *e = calloc(1, sizeof(*e));
    uint64_t lost;
    char text[400];
    (void)state;
    assert_null(vgpu_events_after(e, 0, &lost));
    e->told = on_told;
    e->context = &told;
    memset(text, 't', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    for (unsigned i = 1; i <= VGPU_EVENTS_KEPT + 10; i++)
        vgpu_events_add(e, "x", i, VGPU_EVENT_NONE, "%s", text);
    assert_int_equal(told, VGPU_EVENTS_KEPT + 10);
    const struct vgpu_event *first = vgpu_events_after(e, 0, &lost);
    assert_true(lost == 10 && first->seq == 11 && first->vm == 11);
    assert_int_equal(strlen(first->text), sizeof(first->text) - 1);
    first = vgpu_events_after(e, 11, &lost);
    assert_true(lost == 0 && first->seq == 12);
    assert_true(vgpu_events_after(e, e->last - 1, &lost)->seq == e->last);
    assert_null(vgpu_events_after(e, e->last, &lost));
    assert_null(vgpu_events_after(e, UINT64_MAX, &lost));
    vgpu_events_add(NULL, "x", 1, 1, "nobody can ask");
    free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_overlay_vms), VGPU_TEST(test_overlay_pools), VGPU_TEST(test_faults),
        VGPU_TEST(test_marks_stay),  VGPU_TEST(test_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
