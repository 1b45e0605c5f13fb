/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * src/guest/cuda/copy_team.h: several threads make one copy, the right one, and let go of it; they
 * sleep when there is nothing to do, and handle none of the program's signals (docs/guest.md,
 * VGPU_COPY_THREADS).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "guest/cuda/copy_team.h"
#include "vgpu_test.h"

#define MOST (5u << 20)

static unsigned threads_here(void)
{
    unsigned n = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (const struct dirent *e; (e = readdir(tasks));)
        n += e->d_name[0] != '.';
    closedir(tasks);
    return n;
}

static void fill(uint8_t *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (uint8_t)(seed >> 24);
    }
}

/* One copy between bytes that must stay. */
static void check_copy(uint8_t *to, const uint8_t *from, size_t at, size_t n, bool past_cache)
{
    memset(to, 0xee, at + n + 64);
    vgpu_copy_team_copy(to + at, from, n, past_cache);
    assert_memory_equal(to + at, from, n);
    for (size_t i = 0; i < at; i++)
        assert_int_equal(to[i], 0xee);
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(to[at + n + i], 0xee);
}

static void *nothing(void *argument)
{
    return argument;
}

/* VGPU_COPY_THREADS=1: no thread of our own, whatever is copied. */
static void test_alone(void **state)
{
    (void)state;
    uint8_t *from = malloc(MOST), *to = malloc(MOST + 128);
    assert_true(from && to);
    fill(from, MOST, 1);
    /* A sanitizer starts a thread of its own with the first one. */
    pthread_t first;
    assert_int_equal(pthread_create(&first, NULL, nothing, NULL), 0);
    pthread_join(first, NULL);
    unsigned before = threads_here();
    setenv("VGPU_COPY_THREADS", "1", 1);
    vgpu_copy_team_set_up();
    check_copy(to, from, 3, MOST, false);
    check_copy(to, from, 3, MOST, true);
    assert_int_equal(threads_here(), before);
    setenv("VGPU_COPY_THREADS", "3", 1);
    vgpu_copy_team_set_up();
    check_copy(to, from, 0, 100, false); /* too little for a team */
    assert_int_equal(threads_here(), before);
    check_copy(to, from, 0, MOST, false);
    assert_int_equal(threads_here(), before + 2);
    free(from);
    free(to);
}

static void test_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,       1,       63,      4096,    0x1ffff,  0x20000,  0x3ffff,
                                   0x40000, 0x40001, 0x60000, 0x7ffff, 0x200000, 0x2fffff, MOST};
    uint8_t *from = malloc(MOST + 64), *to = malloc(MOST + 256);
    assert_true(from && to);
    fill(from, MOST + 64, 2);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (unsigned k = 0; k < 4; k++)
            check_copy(to, from + (k & 1) * 13, k * 17, sizes[i], k >= 2);
    free(from);
    free(to);
}

/* A copy of many chunks right behind one of few, over and over: no chunk of the one is taken with
 * what the other's fields say. */
static void test_turns(void **state)
{
    (void)state;
    enum { SMALL = 0x40000, LARGE = 0x100000, TURNS = 6000 };
    uint8_t *from = malloc(LARGE), *to = malloc(LARGE);
    assert_true(from && to);
    for (uint32_t i = 0; i < TURNS; i++) {
        size_t n = i & 1 ? LARGE : SMALL;
        for (size_t at = 0; at < n; at += 0x10000)
            memcpy(from + at, &i, sizeof(i));
        vgpu_copy_team_copy(to, from, n, false);
        for (size_t at = 0; at < n; at += 0x10000)
            assert_memory_equal(to + at, &i, sizeof(i));
    }
    free(from);
    free(to);
}

struct user {
    pthread_t thread;
    uint32_t seed;
    unsigned wrong;
};

static void *copy_much(void *argument)
{
    struct user *u = argument;
    uint8_t *from = malloc(1 << 20), *to = malloc(1 << 20);
    for (unsigned i = 0; from && to && i < 300; i++) {
        u->seed = u->seed * 1664525u + 1013904223u;
        size_t n = 0x40000 + (u->seed >> 14) % 0xc0000;
        memset(from, (int)(u->seed >> 8 & 0xff), n);
        from[n - 1] = (uint8_t)i;
        vgpu_copy_team_copy(to, from, n, i & 1);
        u->wrong += memcmp(from, to, n) != 0;
        if (i % 16 == 0) /* now and then long enough that helpers go to sleep, and not quite */
            usleep(150 + (u->seed >> 24));
    }
    u->wrong += !from || !to;
    free(from);
    free(to);
    return NULL;
}

/* Several threads of the program at once: one has the team, each gets its bytes. */
static void test_users(void **state)
{
    (void)state;
    struct user users[3] = {{.seed = 1}, {.seed = 2}, {.seed = 3}};
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&users[i].thread, NULL, copy_much, &users[i]), 0);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(users[i].thread, NULL);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(users[i].wrong, 0);
}

static uint64_t spent_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Without work they sleep: two of them looking for it would spend a second in half of one. */
static void test_sleep(void **state)
{
    (void)state;
    usleep(100000);
    uint64_t before = spent_ns();
    usleep(500000);
    assert_true(spent_ns() - before < 100000000u);
}

static atomic_int handled;
static void handle(int number)
{
    (void)number;
    handled++;
}

/* A signal to the process that this thread holds back stays where it is. */
static void test_signals(void **state)
{
    (void)state;
    sigset_t one, pending;
    struct sigaction action = {.sa_handler = handle};
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    kill(getpid(), SIGUSR1);
    usleep(20000);
    assert_int_equal(handled, 0);
    sigpending(&pending);
    assert_true(sigismember(&pending, SIGUSR1));
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    assert_int_equal(handled, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {VGPU_TEST(test_alone), VGPU_TEST(test_sizes),
                                       VGPU_TEST(test_turns), VGPU_TEST(test_users),
                                       VGPU_TEST(test_sleep), VGPU_TEST(test_signals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
