/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The account of device memory that a tenant's sessions share (vgpu/account.h, docs/worker.md W9).
 * Several processes are played through every order of their accesses to the shared page, with a
 * kill between any two of them: each has a stack of its own and stops before each access.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
static void stop_here(void);
#define VGPU_ACCOUNT_STEP()   stop_here()
#define VGPU_ACCOUNT_ATTEMPTS 2 /* one more is enough to see what a second one does */
#include "worker/account.c" // NOLINT(bugprone-suspicious-include): to see into it and to stop in it

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/sys.h"
#include "vgpu_test.h"

#if defined(__SANITIZE_THREAD__)
#define CAN_SWITCH                                                                                 \
    0 /* it would have to be told of each stack, and there are no threads to watch                 \
       */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CAN_SWITCH 0
#endif
#endif
#ifndef CAN_SWITCH
#define CAN_SWITCH 1
#endif

#include <ucontext.h>

#define PROCESSES   3
#define OPERATIONS  4
#define STACK_BYTES (256u << 10)
#define MAX_CHOICES 256

/* --- an account --- */

static int make_file(void)
{
    int fd = vgpu_memfd_create("account", VGPU_MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, VGPU_ACCOUNT_FILE_BYTES), 0);
    struct vgpu_account_page head = {.magic = VGPU_ACCOUNT_MAGIC, .slot_count = PROCESSES};
    assert_int_equal(pwrite(fd, &head, 64, 0), 64);
    return fd;
}

struct fixture {
    int fd;
    struct vgpu_account *account[PROCESSES];
};

static int setup(void **state, uint64_t quota_bytes)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->fd = make_file();
    for (uint32_t i = 0; i < PROCESSES; i++)
        assert_int_equal(vgpu_account_open(f->fd, i, quota_bytes, &f->account[i]), 0);
    *state = f;
    return 0;
}

static int setup_100(void **state)
{
    return setup(state, 100);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < PROCESSES; i++)
        vgpu_account_close(f->account[i]);
    close(f->fd);
    free(f);
    return 0;
}

/* --- processes --- */

struct process {
    ucontext_t context;
    char *stack;
    struct vgpu_account *account;
    const int64_t *program; /* bytes to reserve, or minus bytes to release; 0: the end */
    uint64_t granted;       /* what it was granted and has not freed */
    unsigned refused;
    bool running, killed, given_back;
};

static struct {
    struct process p[PROCESSES];
    unsigned count; /* of processes in this play */
    struct process *now;
    ucontext_t director;
} play;

static void stop_here(void)
{
    if (play.now)
        swapcontext(&play.now->context, &play.director);
}

static void run_program(void)
{
    struct process *p = play.now;
    for (const int64_t *op = p->program; *op; op++) {
        if (*op > 0) {
            if (vgpu_account_reserve(p->account, (uint64_t)*op))
                p->refused++;
            else
                p->granted += (uint64_t)*op;
        } else if (p->granted >= (uint64_t) - *op) {
            p->granted -= (uint64_t) - *op; /* freed first, then told */
            vgpu_account_release(p->account, (uint64_t) - *op);
        }
    }
    p->running = false;
}

static void begin(struct process *p)
{
    p->granted = 0;
    p->refused = 0;
    p->running = true;
    p->killed = p->given_back = false;
    /* One that was killed had its lock: its memory is gone with it. */
    pthread_mutex_init(&p->account->lock, NULL);
    p->account->held_bytes = 0;
    memset(&p->account->page->slots[p->account->slot], 0, sizeof(struct vgpu_account_slot));
    assert_int_equal(getcontext(&p->context), 0);
    p->context.uc_stack.ss_sp = p->stack;
    p->context.uc_stack.ss_size = STACK_BYTES;
    p->context.uc_link = &play.director;
    makecontext(&p->context, run_program, 0);
}

static void check(void)
{
    uint64_t granted = 0;
    for (unsigned i = 0; i < play.count; i++) {
        const struct process *p = &play.p[i];
        granted += p->granted;
        if (!p->killed)
            assert_true(p->account->page->slots[i].held_bytes >= p->granted);
    }
    assert_true(granted <= play.p[0].account->quota_bytes);
}

static void step(struct process *p)
{
    play.now = p;
    swapcontext(&play.director, &p->context);
    play.now = NULL;
}

/* --- every order --- */

/* One way through the play: at each place which of the things that could happen did. */
struct path {
    unsigned choice[MAX_CHOICES], options[MAX_CHOICES];
    unsigned length, at;
};

static unsigned choose(struct path *path, unsigned options)
{
    assert_true(path->at < MAX_CHOICES);
    if (path->at == path->length) {
        path->choice[path->length] = 0;
        path->options[path->length++] = options;
    }
    return path->choice[path->at++];
}

static bool next_path(struct path *path)
{
    while (path->length && path->choice[path->length - 1] + 1 == path->options[path->length - 1])
        path->length--;
    if (!path->length)
        return false;
    path->choice[path->length - 1]++;
    path->at = 0;
    return true;
}

enum act { RUN, KILL, GIVE_BACK };

static void go_through(struct path *path, unsigned kills)
{
    for (unsigned i = 0; i < play.count; i++)
        begin(&play.p[i]);
    for (;;) {
        struct {
            enum act act;
            struct process *p;
        } can[3 * PROCESSES];
        unsigned n = 0;
        for (unsigned i = 0; i < play.count; i++) {
            struct process *p = &play.p[i];
            if (p->running)
                can[n++].act = RUN, can[n - 1].p = p;
            if (p->running && kills)
                can[n++].act = KILL, can[n - 1].p = p;
            if (p->killed && !p->given_back)
                can[n++].act = GIVE_BACK, can[n - 1].p = p;
        }
        if (!n)
            return;
        unsigned c = choose(path, n);
        struct process *p = can[c].p;
        switch (can[c].act) {
        case RUN:
            step(p);
            break;
        case KILL: /* the driver takes back what it had */
            p->running = false;
            p->killed = true;
            p->granted = 0;
            kills--;
            break;
        case GIVE_BACK: /* what the mediator does when it has been reaped */
            p->given_back = true;
            __atomic_store_n(&p->account->page->slots[p->account->slot].held_bytes, 0,
                             __ATOMIC_SEQ_CST);
            break;
        }
        check();
    }
}

/* When all is said: the page says what is held, no more and no less, and all of the rest can be
 * had. */
static void check_end(struct vgpu_account *spare, uint64_t quota)
{
    uint64_t granted = 0;
    for (unsigned i = 0; i < play.count; i++) {
        const struct process *p = &play.p[i];
        granted += p->granted;
        assert_true(spare->page->slots[i].held_bytes == p->granted);
    }
    assert_true(vgpu_account_free_bytes(spare) == quota - granted);
    assert_int_equal(vgpu_account_reserve(spare, quota - granted + 1), -ENOMEM);
    assert_int_equal(vgpu_account_reserve(spare, quota - granted), 0);
    vgpu_account_release(spare, quota - granted);
}

/* Returns how many ways there were. *both: in how many both first reservations were refused. */
static unsigned explore(struct fixture *f, unsigned count, const int64_t programs[][OPERATIONS + 1],
                        unsigned kills, unsigned *both)
{
    static struct path path;
    unsigned ways = 0;
    memset(&path, 0, sizeof(path));
    memset(&play, 0, sizeof(play));
    play.count = count;
    f->account[0]->page->slot_count = count;
    for (unsigned i = 0; i < count; i++) {
        play.p[i].account = f->account[i];
        play.p[i].program = programs[i];
        play.p[i].stack = malloc(STACK_BYTES);
        assert_non_null(play.p[i].stack);
    }
    *both = 0;
    do {
        go_through(&path, kills);
        check_end(f->account[PROCESSES - 1], 100);
        *both += count == 2 && play.p[0].refused && play.p[1].refused;
        ways++;
    } while (next_path(&path));
    for (unsigned i = 0; i < count; i++)
        free(play.p[i].stack);
    return ways;
}

static void needs_stacks(void)
{
    if (!CAN_SWITCH)
        skip();
}

/* W9: two that together want too much are never both granted it, in whatever order they run. */
static void test_never_over_quota(void **state)
{
    static const int64_t programs[][OPERATIONS + 1] = {{60, -60, 40}, {60, -10}};
    unsigned both;
    needs_stacks();
    unsigned ways = explore(*state, 2, programs, 0, &both);
    print_message("%u orders, %u with both refused at some time\n", ways, both);
    assert_true(ways > 1000);
    assert_true(both < ways / 2);
}

/* W9: killed between any two accesses, it neither leaks nor frees what others hold. */
static void test_killed_anywhere(void **state)
{
    static const int64_t programs[][OPERATIONS + 1] = {{60, -60}, {50}};
    unsigned both;
    needs_stacks();
    unsigned ways = explore(*state, 2, programs, 1, &both);
    print_message("%u orders\n", ways);
    assert_true(ways > 10000);
}

/* --- one at a time --- */

static void test_quota_is_shared(void **state)
{
    struct fixture *f = *state;
    struct vgpu_account **a = f->account;
    assert_int_equal(vgpu_account_reserve(a[0], 60), 0);
    assert_true(vgpu_account_free_bytes(a[1]) == 40);
    assert_true(vgpu_account_quota_bytes(a[1]) == 100);
    assert_int_equal(vgpu_account_reserve(a[1], 41), -ENOMEM);
    assert_int_equal(vgpu_account_reserve(a[1], 40), 0);
    assert_int_equal(vgpu_account_reserve(a[2], 1), -ENOMEM);
    assert_int_equal(vgpu_account_reserve(a[2], 0), 0);
    vgpu_account_release(a[0], 10);
    assert_int_equal(vgpu_account_reserve(a[2], 10), 0);
    assert_true(vgpu_account_held_bytes(a[0]) == 50);
    assert_true(vgpu_account_free_bytes(a[0]) == 0);
}

/* Sizes that overflow are refused; a release of too much frees what is held. */
static void test_extremes(void **state)
{
    struct fixture *f = *state;
    struct vgpu_account *a = f->account[0];
    assert_int_equal(vgpu_account_reserve(a, UINT64_MAX), -ENOMEM);
    assert_int_equal(vgpu_account_reserve(a, 1), 0);
    assert_int_equal(vgpu_account_reserve(a, UINT64_MAX), -ENOMEM);
    assert_int_equal(vgpu_account_reserve(a, 100), -ENOMEM);
    assert_int_equal(vgpu_account_reserve(a, 99), 0);
    vgpu_account_release(a, UINT64_MAX);
    assert_true(vgpu_account_held_bytes(a) == 0);
    vgpu_account_release(a, 1);
    assert_true(a->page->slots[0].held_bytes == 0);
    vgpu_account_set_contexts(a, 2);
    assert_int_equal(a->page->slots[0].contexts, 2);
}

/* Whatever a neighbour that was taken over writes misleads, and ends with the next word of who was
 * written over. */
static void test_hostile_neighbour(void **state)
{
    struct fixture *f = *state;
    struct vgpu_account *a = f->account[0];
    struct vgpu_account_page *page = f->account[1]->page;
    assert_int_equal(vgpu_account_reserve(a, 30), 0);
    page->slots[1].held_bytes = page->slots[2].held_bytes = UINT64_MAX;
    assert_true(vgpu_account_free_bytes(a) == 0);
    assert_int_equal(vgpu_account_reserve(a, 1), -ENOMEM);
    page->slots[1].held_bytes = page->slots[2].held_bytes = 0;
    page->slots[0].held_bytes = 0;
    assert_int_equal(vgpu_account_reserve(a, 70), 0);
    assert_true(page->slots[0].held_bytes == 100);
    page->slots[0].held_bytes = UINT64_MAX;
    assert_int_equal(vgpu_account_reserve(a, 1), -ENOMEM);
    vgpu_account_release(a, 100);
    assert_true(page->slots[0].held_bytes == 0);
    page->slot_count = UINT32_MAX; /* no more than there are is read */
    assert_true(vgpu_account_free_bytes(a) == 100);
    page->slot_count = 0;
    assert_int_equal(vgpu_account_reserve(a, 101), -ENOMEM);
}

static void test_open(void **state)
{
    struct vgpu_account *a;
    (void)state;
    int fd = make_file();
    assert_int_equal(vgpu_account_open(-1, 0, 1, &a), -EBADF);
    assert_int_equal(vgpu_account_open(fd, VGPU_ACCOUNT_SLOTS, 1, &a), -EBADMSG);
    assert_int_equal(vgpu_account_open(fd, VGPU_ACCOUNT_SLOTS - 1, 1, &a), 0);
    vgpu_account_close(a);
    assert_int_equal(pwrite(fd, "x", 1, 0), 1);
    assert_int_equal(vgpu_account_open(fd, 0, 1, &a), -EBADMSG);
    assert_int_equal(ftruncate(fd, VGPU_ACCOUNT_FILE_BYTES - 1), 0);
    assert_int_equal(vgpu_account_open(fd, 0, 1, &a), -EBADMSG);
    close(fd);
}

static void test_no_account(void **state)
{
    (void)state;
    assert_int_equal(vgpu_account_reserve(NULL, UINT64_MAX), 0);
    vgpu_account_release(NULL, UINT64_MAX);
    vgpu_account_set_contexts(NULL, 1);
    assert_true(vgpu_account_free_bytes(NULL) == UINT64_MAX);
    assert_true(vgpu_account_quota_bytes(NULL) == UINT64_MAX);
    assert_true(vgpu_account_held_bytes(NULL) == 0);
    vgpu_account_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_never_over_quota, setup_100, teardown),
        VGPU_TEST_F(test_killed_anywhere, setup_100, teardown),
        VGPU_TEST_F(test_quota_is_shared, setup_100, teardown),
        VGPU_TEST_F(test_extremes, setup_100, teardown),
        VGPU_TEST_F(test_hostile_neighbour, setup_100, teardown),
        VGPU_TEST(test_open),
        VGPU_TEST(test_no_account),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
