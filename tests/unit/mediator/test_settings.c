/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The configuration file and admission: docs/mediator.md, docs/link.md L4 and L5. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mediator/admit.h"
#include "mediator/settings.h"
#include "mediator/watch.h"
#include "vgpu_test.h"

static struct vgpu_settings *parse(const char *text)
{
    char error[VGPU_SETTINGS_ERROR] = "";
    struct vgpu_settings *s = vgpu_settings_parse("test.conf", text, strlen(text), error);
    if (!s)
        fail_msg("%s", error);
    return s;
}

/* The message names the line and what is wrong. */
static void refuses(const char *text, unsigned line, const char *part)
{
    char error[VGPU_SETTINGS_ERROR] = "", where[32];
    assert_null(vgpu_settings_parse("test.conf", text, strlen(text), error));
    snprintf(where, sizeof(where), "test.conf:%u: ", line);
    if (strncmp(error, where, strlen(where)) || !strstr(error, part))
        fail_msg("'%s' says '%s'", text, error);
}

#define UUID "GPU-01234567-89ab-cdef-0123-456789abcdef"

/* What a pool asks for, before it is known what the host has. */
static void test_backends(void **state)
{
    (void)state;
    struct vgpu_settings *s = parse("[pool A]\nbackend = software\n"
                                    "[pool B]\nbackend = cuda\ncard_memory = 4G\n"
                                    "[pool C]\nbackend = auto\n"
                                    "[pool D]\nbackend = auto\ngpu = 1\n"
                                    "[pool E]\ngpus = " UUID ", 3\n"
                                    "[pool F]\nbackend = auto\ngpus = none\n"
                                    "[limits]\ncontext_memory = 300M\n");
    const struct vgpu_pool_setting *p = s->pools;
    static const uint8_t uuid[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                     0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
    assert_true(p[0].asked_count == 1 && p[0].asked[0].backend == VGPU_GPU_SOFTWARE);
    assert_true(!p[0].all && !p[0].or_software);
    assert_true(p[1].all && !p[1].or_software && p[1].asked_count == 0);
    assert_true(p[1].card_memory == 4ull << 30);
    assert_true(p[2].all && p[2].or_software);
    assert_true(!p[3].all && p[3].or_software && p[3].asked[0].ordinal == 1);
    assert_true(p[4].asked_count == 2 && p[4].asked[0].by_uuid && !p[4].asked[1].by_uuid);
    assert_memory_equal(p[4].asked[0].uuid, uuid, sizeof(uuid));
    assert_true(!p[5].all && !p[5].or_software && p[5].asked_count == 0);
    assert_true(s->context_memory == 300ull << 20);
    assert_true(vgpu_settings_need_gpus(s));
    for (unsigned i = 0; i < 6; i++)
        for (unsigned j = 0; j < 6; j++)
            assert_true(vgpu_settings_same_pool(&p[i], &p[j]) == (i == j));
    vgpu_settings_free(s);
    static const char *const need[] = {"backend = cuda", "backend = auto", "gpus = 0",
                                       "gpus = software, 0"};
    static const char *const need_not[] = {"gpus = software", "gpus = none", "backend = software",
                                           "threads = 1"};
    for (unsigned i = 0; i < 4; i++) {
        char text[64];
        snprintf(text, sizeof(text), "[pool B]\n%s", need[i]);
        s = parse(text);
        assert_true(vgpu_settings_need_gpus(s));
        vgpu_settings_free(s);
        snprintf(text, sizeof(text), "[pool B]\n%s", need_not[i]);
        s = parse(text);
        assert_false(vgpu_settings_need_gpus(s));
        vgpu_settings_free(s);
    }
}

static void test_default(void **state)
{
    (void)state;
    struct vgpu_settings *s = parse("");
    char pools[64];
    assert_string_equal(vgpu_settings_pools(s, pools), "A");
    assert_int_equal(s->quantum_ms, 5);
    assert_int_equal(s->watchdog_ms, 10000);
    assert_int_equal(s->default_sessions, 16);
    assert_int_equal(s->default_queue, 512);
    assert_true(s->default_memory == 1ull << 30);
    assert_true(s->context_memory == 526ull << 20);
    assert_false(vgpu_settings_need_gpus(s));
    assert_true(s->admit_unknown);
    assert_null(s->listen);
    vgpu_settings_free(s);
}

static void test_everything(void **state)
{
    (void)state;
    struct vgpu_settings *s =
        parse("# a comment\n"
              "[mediator]\n"
              " listen = /run/x.sock\r\n"
              "watch=/run/a b\n"
              "watch = /run/c\n"
              "log_level = debug\nlog_format = json\nworker = /w\nworker_uid_base = 100000\n"
              "control = /run/c\nregistry = /var/r\nadmin_group = wheel\nreaders = yes\n"
              "admit_unknown = no\nmax_vms = 8\nlocal_vm_base = 5\nlocal_clients = 3\n"
              "local_window = 64M\n"
              "; another\n\n"
              "[pool B]\ngpus = 0, 2\nbackend = cuda\n"
              "[pool Z]\ngpus = software\nthreads = 3\nlaunch_instructions = 5000000000\n"
              "[pool C]\ngpus = none\n"
              "[vm 7]\nsocket = /run/q.sock\npool = B\npriority = high\n"
              "memory = 2G\nsessions = 3\nqueue = 12\nuid = 4242\n"
              "[vm 0x10]\n"
              "[local 1000]\nvm = 9\npriority = 0\nallow = no\n"
              "[limits]\nquarantine_faults = 0\nquarantine_window_s = 9\nquarantine_s = "
              "8\nsessions = 5\nqueue = 99\nmemory = 64M\n"
              "[scheduler]\nquantum_ms = 7\naging_ms = 100\nmode = strict\nlow = 2\nhigh = "
              "9\nleases = 2\nlinger_us = 0\n"
              "watchdog_ms = 200\nanswer_ms = 3000\nstart_ms = 4000");
    char pools[64];
    assert_string_equal(s->listen, "/run/x.sock");
    assert_int_equal(s->watch_count, 2);
    assert_string_equal(s->watch[0], "/run/a b");
    assert_int_equal(s->log_level, VGPU_LOG_DEBUG);
    assert_int_equal(s->log_format, VGPU_LOG_JSON);
    assert_int_equal(s->worker_uid_base, 100000);
    assert_false(s->admit_unknown);
    assert_int_equal(s->max_vms, 8);
    assert_string_equal(s->control, "/run/c");
    assert_string_equal(s->registry, "/var/r");
    assert_string_equal(s->admin_group, "wheel");
    assert_true(s->readers);
    assert_int_equal(s->quarantine_faults, 0);
    assert_int_equal(s->quarantine_window_s, 9);
    assert_int_equal(s->quarantine_s, 8);
    assert_int_equal(s->local_clients, 3);
    assert_int_equal(s->local_window, 64 << 20);
    assert_string_equal(vgpu_settings_pools(s, pools), "B Z");
    assert_int_equal(s->pools[1].gpus[1].ordinal, 2);
    assert_int_equal(s->pools[25].threads, 3);
    assert_int_equal(s->pools[25].launch_instructions, 5000000000ull);
    assert_false(s->pools[0].present); /* a file's pools replace the default one */
    const struct vgpu_vm_setting *vm = vgpu_settings_vm(s, 7);
    assert_non_null(vm);
    assert_string_equal(vm->socket, "/run/q.sock");
    assert_true(vm->pool == 'B' && vm->priority == 2 && vm->memory == 2ull << 30);
    assert_int_equal(vm->uid, 4242);
    assert_int_equal(vm->sessions, 3);
    assert_int_equal(vm->queue, 12);
    vm = vgpu_settings_vm(s, 16);
    assert_true(vm && vm->priority == -1 && !vm->pool && vm->uid == VGPU_SETTINGS_NO_UID);
    assert_null(vgpu_settings_vm(s, 8));
    vm = vgpu_settings_local(s, 1000);
    assert_true(vm && vm->deny && vm->has_vm && vm->vm_id == 9 && vm->priority == 0);
    assert_int_equal(s->default_queue, 99);
    assert_true(s->default_sessions == 5 && s->default_memory == 64u << 20);
    assert_true(s->quantum_ms == 7 && s->aging_ms == 100 && s->mode == VGPU_SCHED_STRICT &&
                s->factor[0] == 2 && s->factor[1] == 4 && s->factor[2] == 9 && s->leases == 2 &&
                s->linger_us == 0 && s->watchdog_ms == 200 && s->answer_ms == 3000 &&
                s->start_ms == 4000);
    vgpu_settings_free(s);
}

static void test_errors(void **state)
{
    (void)state;
    refuses("x = 1", 1, "before the first [section]");
    refuses("[mediator]\nlisten", 2, "neither [section] nor key = value");
    refuses("[mediator]\n= 3", 2, "neither");
    refuses("[mediator]\nlisten =", 2, "no value");
    refuses("[mediator]\nlistne = /x", 2, "unknown key 'listne'");
    refuses("[mediator", 1, "ends with ]");
    refuses("[meditor]", 1, "unknown section [meditor]");
    refuses("[]", 1, "unknown section");
    refuses("[mediator x]", 1, "takes nothing");
    refuses("[limits]\n\n[limits]", 3, "twice");
    refuses("[mediator]\nlog_level = loud", 2, "loud");
    refuses("[mediator]\nlog_format = xml", 2, "neither text nor json");
    refuses("[mediator]\nadmit_unknown = maybe", 2, "maybe");
    refuses("[mediator]\nallow_pageable_access = maybe", 2, "maybe");
    refuses("[mediator]\nmax_vms = 0", 2, "max_vms");
    refuses("[mediator]\nlocal_window = 3M", 2, "power of two");
    refuses("[mediator]\nlocal_window = 512K", 2, "power of two");
    refuses("[mediator]\nlocal_window = 2T", 2, "power of two");
    refuses("[mediator]\nlocal_window = lots", 2, "power of two");
    refuses("[mediator]\nmax_vms = 12x", 2, "12x");
    refuses("[mediator]\nmax_vms = -1", 2, "-1");
    refuses("[mediator]\nmax_vms = 99999999999999999999", 2, "max_vms");
    refuses("[pool]", 1, "is not a pool");
    refuses("[pool a]", 1, "is not a pool");
    refuses("[pool AB]", 1, "is not a pool");
    refuses("[pool A]\n[pool A]", 2, "line 1 already");
    refuses("[pool A]\ngpus = 0,0", 2, "already in pool A");
    refuses("[pool A]\ngpus = 0\n[pool B]\ngpus = 1, 0", 4, "GPU 0 is already in pool A");
    refuses("[pool A]\ngpus = 64", 2, "no GPU");
    refuses("[pool A]\ngpus = 0,", 2, "no GPU");
    refuses("[pool A]\ngpus = software\nbackend = cuda\n", 3, "cannot run");
    refuses("[pool A]\ngpus = 0\nbackend = software\n[vm 1]\n", 4, "cannot run");
    refuses("[pool A]\nbackend = metal", 2, "none of software, cuda, auto");
    refuses("[pool A]\ngpus = software\nbackend = auto\n", 3, "backend = auto cannot run");
    refuses("[pool A]\ngpus = GPU-1", 2, "'GPU-1' is no GPU");
    refuses("[pool A]\ngpus = " UUID "0", 2, "is no GPU");
    refuses("[pool A]\ngpus = 0," UUID "\n[pool B]\ngpu = " UUID, 4, UUID " is already in pool A");
    refuses("[pool A]\ncard_memory = 0", 2, "card_memory");
    refuses("[limits]\ncontext_memory = much", 2, "context_memory");
    refuses("[pool A]\ncolour = red", 2, "unknown key 'colour'");
    refuses("[vm]", 1, "write a number");
    refuses("[vm x]", 1, "write a number");
    refuses("[vm 4294967296]", 1, "write a number");
    refuses("[vm 1]\n[vm 1]", 2, "line 1 already");
    refuses("[vm 1]\nsocket = run/x", 2, "start with /");
    refuses("[vm 1]\nsocket = /run/", 2, "end in a name");
    refuses("[vm 1]\nsocket = /", 2, "end in a name");
    refuses("[vm 1]\npriority = urgent", 2, "urgent");
    refuses("[vm 1]\npool = AA", 2, "AA");
    refuses("[vm 1]\nmemory = 0", 2, "memory");
    refuses("[vm 1]\nmemory = 1X", 2, "memory");
    refuses("[vm 1]\nuid = 0", 2, "uid");
    refuses("[vm 1]\nvm = 3", 2, "unknown key 'vm' in [vm]");
    refuses("[local 1]\nsocket = /x", 2, "unknown key 'socket' in [local]");
    refuses("[local 1]\nallow = perhaps", 2, "perhaps");
    refuses("[scheduler]\nwatchdog_ms = 1", 2, "watchdog_ms");
    refuses("[scheduler]\nfoo = 1", 2, "unknown key 'foo'");
    refuses("[limits]\nfoo = 1", 2, "unknown key 'foo'");
    refuses("[limits]\nquarantine_faults = 65", 2, "quarantine_faults");
    refuses("[limits]\nquarantine_s = 0", 2, "quarantine_s");
    refuses("[mediator]\nreaders = perhaps", 2, "neither yes nor no");
    char error[VGPU_SETTINGS_ERROR], longer[2000];
    memset(longer, 'a', sizeof(longer));
    assert_null(vgpu_settings_parse("n", longer, sizeof(longer), error));
    assert_null(vgpu_settings_parse("n", "[mediator]\nlisten = a\0b\n", 24, error));
    assert_null(vgpu_settings_load("/nonexistent/file", error));
    assert_non_null(strstr(error, "No such file"));
    assert_null(vgpu_settings_load("/", error));
}

static const struct vgpu_link_hello good = {
    .features = 1, .protocol = 0x00010000, .pool_id = 'A', .priority = 1, .timeout_ms = 30000};

static uint32_t admit(const struct vgpu_settings *s, struct vgpu_link_hello hello, uint32_t vm_id,
                      struct vgpu_admission *a)
{
    vgpu_admit(s, vgpu_settings_vm(s, vm_id), vm_id, s->admit_unknown, &hello, a);
    if (a->refusal)
        assert_true(strlen(a->text) > 0);
    return a->refusal;
}

/* L4, L5. */
static void test_admit(void **state)
{
    (void)state;
    struct vgpu_settings *s = parse("[pool A]\ngpus = software\n[pool B]\ngpus = software\n"
                                    "[vm 7]\npool = B\npriority = high\nmemory = 5\n");
    struct vgpu_admission a;
    struct vgpu_link_hello h = good;
    assert_int_equal(admit(s, h, 1, &a), 0);
    assert_true(a.pool_id == 'A' && a.share.priority == 1 && a.features == 1 && a.sessions == 16 &&
                a.queue == 512);
    h.features = UINT64_MAX; /* unknown bits are no violation */
    assert_int_equal(admit(s, h, 1, &a), 0);
    assert_true(a.features == VGPU_LINK_FEATURES_KNOWN);
    h.features = 2;
    assert_int_equal(admit(s, h, 1, &a), VGPU_REFUSE_PROTOCOL);
    h = good;
    h.protocol = 0x00010007; /* another minor version */
    assert_int_equal(admit(s, h, 1, &a), 0);
    h.protocol = 0x00020000;
    assert_int_equal(admit(s, h, 1, &a), VGPU_REFUSE_PROTOCOL);
    h = good;
    h.pool_id = 'C';
    assert_int_equal(admit(s, h, 7777, &a), VGPU_REFUSE_INVALID_POOL);
    assert_string_equal(a.text, "vm 7777: pool 'C' has no GPU (pools: A B)");
    uint32_t wrong[] = {0, 'A' - 1, 'Z' + 1, 'a', 'A' + 256, UINT32_MAX};
    for (unsigned i = 0; i < 6; i++) {
        h.pool_id = wrong[i];
        assert_int_equal(admit(s, h, 1, &a), VGPU_REFUSE_INVALID);
    }
    h = good;
    h.priority = 3;
    assert_int_equal(admit(s, h, 1, &a), VGPU_REFUSE_INVALID);
    h.priority = 0;
    assert_int_equal(admit(s, h, 7, &a), 0); /* the configuration wins over the wish */
    assert_true(a.pool_id == 'B' && a.share.priority == 2 && a.memory == 5);
    s->admit_unknown = false;
    assert_int_equal(admit(s, good, 1, &a), VGPU_REFUSE_UNKNOWN_VM);
    assert_int_equal(admit(s, good, 7, &a), 0);
    vgpu_settings_free(s);
}

/* L14: one name for each VM. */
static void test_names(void **state)
{
    (void)state;
    uint32_t id = 99;
    assert_true(vgpu_watch_parse_name("vm-7.sock", &id) && id == 7);
    assert_true(vgpu_watch_parse_name("vm-0.sock", &id) && id == 0);
    assert_true(vgpu_watch_parse_name("vm-4294967295.sock", &id) && id == UINT32_MAX);
    static const char *const others[] = {
        "vm-.sock",   "vm-07.sock", "vm-00.sock", "vm-0x7.sock",
        "vm- 7.sock", "vm-+7.sock", "vm--1.sock", "vm-7.soc",
        "vm-7.sockx", "xvm-7.sock", "vm-7a.sock", "vm-4294967296.sock",
        "vm-7",       "",           "..",         "vm-77777777777777777777777777777777777777.sock",
        "VM-7.sock"};
    for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_false(vgpu_watch_parse_name(others[i], &id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_default), VGPU_TEST(test_backends), VGPU_TEST(test_everything),
        VGPU_TEST(test_errors),  VGPU_TEST(test_admit),    VGPU_TEST(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
