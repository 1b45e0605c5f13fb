/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mailbox as one process after another uses it: request and response, what others leave behind,
 * resets, time-outs. */
#define _GNU_SOURCE /* mincore */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model.h"
#include "vgpu_test.h"

/* A host that answers each request with its own bytes as the data of a response, unless held. */
struct echo {
    bool hold; /* keep what comes */
    unsigned held_count;
    uint64_t held_seq[8]; /* what was kept */
    struct model_request held[8];
};

static void answer_echo(struct model *model, const struct model_request *request)
{
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    uint32_t length = request->length < 900 ? request->length : 900;
    length = model_build_response(bytes, 0, NULL, 0, request->bytes, length);
    model_respond(model, request->seq, 0, bytes, length);
}

static void handle_echo(struct model *model, const struct model_request *request)
{
    struct echo *echo = model->context;
    if (!echo->hold) {
        answer_echo(model, request);
        return;
    }
    echo->held[echo->held_count % 8] = *request;
    echo->held_count++;
}

struct fixture {
    struct model *model;
    struct vgpu *gpu;
    struct echo echo;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->model = model_start(handle_echo, &f->echo);
    struct vgpu_options options = model_options(f->model);
    assert_int_equal(vgpu_init(&options, &f->gpu), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    vgpu_cleanup(f->gpu);
    model_stop(f->model);
    free(f);
    return 0;
}

/* Makes a request whose bytes are all `letter`, and checks that the answer is to it. */
static void exchange(struct vgpu *gpu, char letter, uint32_t length)
{
    uint8_t request[VGPU_MAILBOX_BYTES];
    struct vgpu_response response;
    struct vgpu_answer answer;
    memset(request, letter, sizeof(request));
    assert_int_equal(vgpu_execute_request(gpu, request, length, 0, 0, &response), 0);
    assert_int_equal(response.error_code, 0);
    assert_int_equal(response.status, VGPU_STATUS_DONE);
    assert_int_equal(vgpu_response_parse(response.bytes, response.length, &answer), 0);
    assert_int_equal(answer.data_length, length < 900 ? length : 900);
    assert_memory_equal(answer.data, request, answer.data_length);
}

static void set_hold(struct fixture *f, bool hold)
{
    model_lock(f->model);
    f->echo.hold = hold;
    model_unlock(f->model);
}

/* Answers everything that was held. */
static void release_held(struct fixture *f)
{
    model_lock(f->model);
    for (unsigned i = 0; i < f->echo.held_count; i++)
        answer_echo(f->model, &f->echo.held[i % 8]);
    f->echo.held_count = 0;
    model_unlock(f->model);
}

/* R7, R8: every length from 1 to 1024 arrives as it was, though it is written eight bytes at a
 * time. */
static void test_every_length(void **state)
{
    struct fixture *f = *state;
    for (uint32_t length = 1; length <= VGPU_MAILBOX_BYTES; length += length < 20 ? 1 : 83)
        exchange(f->gpu, (char)('a' + length % 26), length);
    exchange(f->gpu, 'z', VGPU_MAILBOX_BYTES);
    unsigned count = model_request_count(f->model);
    assert_int_equal(model_request_at(f->model, count - 1).length, VGPU_MAILBOX_BYTES);
    /* R5: none of it was a guest error. */
    model_lock(f->model);
    assert_int_equal(f->model->device.stats.guest_errors, 0);
    model_unlock(f->model);
}

/* R10: reading the response acknowledges it, so the mailbox is left IDLE for others. */
static void test_left_idle(void **state)
{
    struct fixture *f = *state;
    exchange(f->gpu, 'a', 100);
    assert_int_equal(model_read32(VGPU_REG_STATUS), VGPU_STATUS_IDLE);
}

/* P11: each request has a number of its own; a repeated one keeps it. */
static void test_request_ids(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    exchange(f->gpu, 'a', 8);
    exchange(f->gpu, 'b', 8);
    assert_int_equal(vgpu_execute_request(f->gpu, "x", 1, 4711, 0, &response), 0);
    uint32_t first = model_request_at(f->model, 0).id, second = model_request_at(f->model, 1).id;
    assert_int_not_equal(first, second);
    assert_int_not_equal(first, 0);
    assert_int_equal(model_request_at(f->model, 2).id, 4711);
    assert_int_not_equal(vgpu_next_request_id(f->gpu), second);
}

static void test_bad_arguments(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    uint8_t bytes[1] = {0};
    assert_int_equal(vgpu_execute_request(f->gpu, bytes, 0, 0, 0, &response), -EINVAL);
    assert_int_equal(vgpu_execute_request(f->gpu, bytes, 1025, 0, 0, &response), -EINVAL);
    assert_int_equal(vgpu_execute_request(f->gpu, NULL, 1, 0, 0, &response), -EINVAL);
    assert_int_equal(vgpu_execute_request(f->gpu, bytes, 1, 0, 0, NULL), -EINVAL);
    assert_int_equal(vgpu_execute_request(NULL, bytes, 1, 0, 0, &response), -EINVAL);
    assert_int_equal(model_request_count(f->model), 0);
    assert_non_null(strstr(vgpu_last_error_text(), "NULL"));
}

/* R6: without a mediator the device answers by itself. */
static void test_no_mediator(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    uint32_t generation, link;
    model_lose_link(f->model);
    assert_int_equal(vgpu_execute_request(f->gpu, "x", 1, 0, 0, &response), 0);
    assert_int_equal(response.error_code, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    assert_int_equal(response.status, VGPU_STATUS_ERROR);
    assert_int_equal(response.length, 0);
    assert_int_equal(response.generation, 1);
    assert_int_equal(vgpu_generation(f->gpu, &generation), 0);
    assert_int_equal(generation, 1);
    assert_int_equal(vgpu_link_state(f->gpu, &link), 0);
    assert_int_equal(link, 0);
    assert_int_equal(model_read32(VGPU_REG_STATUS), VGPU_STATUS_IDLE);
}

/* R14: a request in flight when the mediator goes is answered with error 3. */
static void *lose_link_soon(void *opaque)
{
    struct fixture *f = opaque;
    assert_true(model_wait_requests(f->model, 1));
    model_lose_link(f->model);
    return NULL;
}

static void test_mediator_lost_in_flight(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    pthread_t thread;
    set_hold(f, true);
    pthread_create(&thread, NULL, lose_link_soon, f);
    assert_int_equal(vgpu_execute_request(f->gpu, "x", 1, 0, 0, &response), 0);
    assert_int_equal(response.error_code, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    assert_int_equal(response.generation, 1);
    pthread_join(thread, NULL);
}

/* R15: a reset ends a request without a completion. */
static void *reset_soon(void *opaque)
{
    struct fixture *f = opaque;
    assert_true(model_wait_requests(f->model, 1));
    model_reset(f->model);
    return NULL;
}

static void test_reset_in_flight(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    pthread_t thread;
    set_hold(f, true);
    pthread_create(&thread, NULL, reset_soon, f);
    assert_int_equal(vgpu_execute_request(f->gpu, "x", 1, 0, 0, &response), -ECONNRESET);
    pthread_join(thread, NULL);
    set_hold(f, false);
    exchange(f->gpu, 'b', 50);
}

/* A caller that gives up leaves the device BUSY; the next request waits, and gets its own answer.
 */
static void *release_after_wait(void *opaque)
{
    struct fixture *f = opaque;
    usleep(50000);
    set_hold(f, false);
    release_held(f);
    return NULL;
}

static void test_busy_leftover(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    pthread_t thread;
    set_hold(f, true);
    assert_int_equal(vgpu_execute_request(f->gpu, "oooo", 4, 0, 30, &response), -ETIMEDOUT);
    assert_int_equal(model_read32(VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    pthread_create(&thread, NULL, release_after_wait, f);
    exchange(f->gpu, 'n', 64);
    pthread_join(thread, NULL);
}

/* ... but not for ever. */
static void test_busy_leftover_time_out(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    set_hold(f, true);
    assert_int_equal(vgpu_execute_request(f->gpu, "oooo", 4, 0, 30, &response), -ETIMEDOUT);
    assert_int_equal(vgpu_execute_request(f->gpu, "nnnn", 4, 0, 30, &response), -ETIMEDOUT);
    assert_non_null(strstr(vgpu_last_error_text(), "left by another program"));
    assert_non_null(strstr(vgpu_last_error_text(), "given up here"));
    assert_int_equal(model_request_count(f->model), 1);
    /* The lock is free all the same. */
    set_hold(f, false);
    release_held(f);
    exchange(f->gpu, 'n', 10);
}

/* A program that died after DONE leaves its answer: it is never taken for ours. */
static void test_done_leftover(void **state)
{
    struct fixture *f = *state;
    model_write32(VGPU_REG_REQUEST_BUF, 0x64656164);
    model_write32(VGPU_REG_REQUEST_LEN, 4);
    model_write32(VGPU_REG_DOORBELL, 1);
    assert_int_equal(model_read32(VGPU_REG_STATUS), VGPU_STATUS_DONE);
    exchange(f->gpu, 'm', 200);
    assert_int_equal(model_read32(VGPU_REG_STATUS), VGPU_STATUS_IDLE);
}

/* ---- Three calls instead of one ---- */

static void *poll_elsewhere(void *opaque)
{
    struct fixture *f = opaque;
    struct vgpu_response response;
    assert_int_equal(vgpu_poll_status(f->gpu, 0, NULL), -EPERM);
    assert_int_equal(vgpu_read_response(f->gpu, &response), -EPERM);
    assert_int_equal(vgpu_abandon_request(f->gpu), -EPERM);
    return NULL;
}

static void test_send_poll_read(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    pthread_t thread;
    uint32_t status = 99;
    assert_int_equal(vgpu_poll_status(f->gpu, 0, &status), -EPERM);
    set_hold(f, true);
    assert_int_equal(vgpu_send_request(f->gpu, "abcd", 4, 0, 0), 0);
    assert_int_equal(vgpu_send_request(f->gpu, "abcd", 4, 0, 0), -EBUSY);
    assert_int_equal(vgpu_poll_status(f->gpu, 0, &status), -ETIMEDOUT);
    assert_int_equal(status, VGPU_STATUS_BUSY);
    assert_int_equal(vgpu_read_response(f->gpu, &response), -EINPROGRESS);
    pthread_create(&thread, NULL, poll_elsewhere, f);
    pthread_join(thread, NULL);
    release_held(f);
    assert_int_equal(vgpu_poll_status(f->gpu, 10000, &status), 0);
    assert_int_equal(status, VGPU_STATUS_DONE);
    assert_int_equal(vgpu_read_response(f->gpu, &response), 0);
    assert_int_equal(response.length, 36);
    assert_memory_equal(response.bytes + 32, "abcd", 4);
    assert_int_equal(vgpu_read_response(f->gpu, &response), -EPERM);
}

static void test_abandon(void **state)
{
    struct fixture *f = *state;
    set_hold(f, true);
    assert_int_equal(vgpu_send_request(f->gpu, "abcd", 4, 0, 0), 0);
    assert_int_equal(vgpu_abandon_request(f->gpu), 0);
    set_hold(f, false);
    release_held(f);
    exchange(f->gpu, 'q', 33);
}

static void test_reset_between_send_and_poll(void **state)
{
    struct fixture *f = *state;
    set_hold(f, true);
    assert_int_equal(vgpu_send_request(f->gpu, "abcd", 4, 0, 0), 0);
    assert_true(model_wait_requests(f->model, 1));
    model_reset(f->model);
    assert_int_equal(vgpu_poll_status(f->gpu, 1000, NULL), -ECONNRESET);
    assert_int_equal(vgpu_abandon_request(f->gpu), -EPERM);
    set_hold(f, false);
    exchange(f->gpu, 'q', 33);
}

/* ---- A device that lies ---- */

static void test_response_len_over(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    model_fake_register(f->model, VGPU_REG_RESPONSE_LEN, 1025);
    assert_int_equal(vgpu_execute_request(f->gpu, "x", 1, 0, 0, &response), -EBADMSG);
    model_fake_register(f->model, VGPU_REG_RESPONSE_LEN, 0xFFFFFFFF);
    assert_int_equal(vgpu_execute_request(f->gpu, "x", 1, 0, 0, &response), -ENODEV);
    model_fake_register(f->model, -1, 0);
    exchange(f->gpu, 'a', 16);
}

static void test_status_nonsense(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    model_fake_register(f->model, VGPU_REG_STATUS, 4);
    assert_int_equal(vgpu_execute_request(f->gpu, "x", 1, 0, 0, &response), -EBADMSG);
    model_fake_register(f->model, VGPU_REG_STATUS, 0xFFFFFFFF);
    assert_int_equal(vgpu_execute_request(f->gpu, "x", 1, 0, 0, &response), -ENODEV);
    assert_int_equal(model_request_count(f->model), 0);
    uint32_t value;
    model_fake_register(f->model, VGPU_REG_POOL_ID, 0xFFFFFFFF);
    assert_int_equal(vgpu_pool(f->gpu, &value), -ENODEV);
    model_fake_register(f->model, -1, 0);
    exchange(f->gpu, 'a', 16);
}

/* R16: the registers show the mediator's decision. */
static void test_registers(void **state)
{
    struct fixture *f = *state;
    uint32_t value, channels, channel_bytes;
    uint64_t window;
    assert_int_equal(vgpu_pool(f->gpu, &value), 0);
    assert_int_equal(value, 'C');
    assert_int_equal(vgpu_priority(f->gpu, &value), 0);
    assert_int_equal(value, VGPU_PRIORITY_HIGH);
    assert_int_equal(vgpu_vm_id(f->gpu, &value), 0);
    assert_int_equal(value, 77);
    assert_int_equal(vgpu_protocol_version(f->gpu, &value), 0);
    assert_int_equal(value, VGPU_PROTOCOL_VERSION);
    assert_int_equal(vgpu_capabilities(f->gpu, &value), 0);
    assert_int_equal(value & VGPU_CAP_MAILBOX, VGPU_CAP_MAILBOX);
    assert_int_equal(vgpu_link_state(f->gpu, &value), 0);
    assert_int_equal(value, VGPU_LINK_ATTACHED);
    assert_int_equal(vgpu_window(f->gpu, &window, &channels, &channel_bytes), 0);
    assert_int_equal(window, 0);
    assert_int_equal(channels, 0);
}

/* ---- Several threads, several processes ---- */

static void *exchange_many(void *opaque)
{
    static pthread_mutex_t letter_lock = PTHREAD_MUTEX_INITIALIZER;
    static char next = 'A';
    pthread_mutex_lock(&letter_lock);
    char letter = next++;
    pthread_mutex_unlock(&letter_lock);
    for (int i = 0; i < 50; i++)
        exchange(opaque, letter, 40 + (uint32_t)i);
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *f = *state;
    struct vgpu_statistics statistics;
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, exchange_many, f->gpu), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(vgpu_read_statistics(f->gpu, &statistics), 0);
    assert_int_equal(statistics.requests, 300);
    assert_int_equal(model_request_count(f->model), 300);
}

/* Runs `body` in a child; it must end with status 0. */
static void wait_child(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A child's exchanges: no cmocka in a child, since a failed assertion would run the rest of the
 * tests twice. */
static void child_exchanges(const struct vgpu_options *options, char letter)
{
    struct vgpu *gpu;
    uint8_t request[64];
    struct vgpu_response response;
    memset(request, letter, sizeof(request));
    if (vgpu_init(options, &gpu) != 0)
        _exit(2);
    for (int i = 0; i < 40; i++)
        if (vgpu_execute_request(gpu, request, sizeof(request), 0, 0, &response) != 0 ||
            response.length != 96 || memcmp(response.bytes + 32, request, sizeof(request)) != 0)
            _exit(3);
    vgpu_cleanup(gpu);
    _exit(0);
}

static void test_processes(void **state)
{
    struct fixture *f = *state;
    struct vgpu_options options = model_options(f->model);
    pid_t children[4];
    for (int i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] == 0)
            child_exchanges(&options, (char)('a' + i));
    }
    for (int i = 0; i < 20; i++)
        exchange(f->gpu, 'P', 64);
    for (int i = 0; i < 4; i++)
        wait_child(children[i]);
}

/* The lock of a process that was killed in the midst of a request falls open, and its answer is
 * nobody's. */
static void test_killed_in_flight(void **state)
{
    struct fixture *f = *state;
    struct vgpu_options options = model_options(f->model);
    pthread_t thread;
    int status;
    set_hold(f, true);
    pid_t pid = fork();
    if (pid == 0) {
        struct vgpu *gpu;
        if (vgpu_init(&options, &gpu) != 0 || vgpu_send_request(gpu, "dead", 4, 0, 0) != 0)
            _exit(2);
        for (;;)
            pause();
    }
    assert_true(model_wait_requests(f->model, 1));
    /* While it lives the mailbox is its own. */
    struct vgpu_response response;
    assert_int_equal(vgpu_execute_request(f->gpu, "x", 1, 0, 50, &response), -ETIMEDOUT);
    assert_non_null(strstr(vgpu_last_error_text(), "other programs"));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    pthread_create(&thread, NULL, release_after_wait, f);
    exchange(f->gpu, 'n', 64);
    pthread_join(thread, NULL);
    assert_int_equal(model_request_count(f->model), 2);
}

/* A forked child is told so, and closing its copy leaves its parent's request alone. */
static void test_fork_guard(void **state)
{
    struct fixture *f = *state;
    struct vgpu_response response;
    set_hold(f, true);
    assert_int_equal(vgpu_send_request(f->gpu, "abcd", 4, 0, 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        uint32_t value;
        int bad = vgpu_execute_request(f->gpu, "x", 1, 0, 0, &response) != -ECHILD;
        bad |= vgpu_pool(f->gpu, &value) != -ECHILD;
        bad |= vgpu_abandon_request(f->gpu) != -ECHILD;
        vgpu_cleanup(f->gpu);
        _exit(bad);
    }
    wait_child(pid);
    /* Still locked for others. */
    int fd = open(f->model->resource0, O_RDWR | O_CLOEXEC);
    struct vgpu_options options = model_options(f->model);
    struct vgpu *other;
    assert_int_equal(vgpu_init(&options, &other), 0);
    assert_int_equal(vgpu_execute_request(other, "x", 1, 0, 30, &response), -ETIMEDOUT);
    vgpu_cleanup(other);
    close(fd);
    release_held(f);
    assert_int_equal(vgpu_poll_status(f->gpu, 10000, NULL), 0);
    assert_int_equal(vgpu_read_response(f->gpu, &response), 0);
    assert_memory_equal(response.bytes + 32, "abcd", 4);
}

/* Where the kernel has mapped a file in this process. */
static void *find_mapping(const char *path)
{
    char line[512];
    void *found = NULL;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (!found && fgets(line, sizeof(line), maps)) {
        line[strcspn(line, "\n")] = 0;
        char *name = strchr(line, '/');
        if (name && strcmp(name, path) == 0)
            found = (void *)(uintptr_t)strtoull(line, NULL, 16);
    }
    fclose(maps);
    return found;
}

/* BAR0 is not there in a forked child, so what stands at its address is the child's own: freeing
 * the inherited handle must leave it alone. */
static void test_fork_keeps_memory(void **state)
{
    struct fixture *f = *state;
    void *bar = find_mapping(f->model->resource0);
    assert_non_null(bar);
    pid_t pid = fork();
    if (pid == 0) {
        unsigned char resident[VGPU_BAR0_SIZE / 4096 + 1];
        char *own = mmap(bar, VGPU_BAR0_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (own != bar)
            _exit(2);
        own[0] = 42;
        vgpu_cleanup(f->gpu);
        _exit(mincore(own, VGPU_BAR0_SIZE, resident) == 0 && own[0] == 42 ? 0 : 1);
    }
    wait_child(pid);
    exchange(f->gpu, 'p', 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_every_length, setup, teardown),
        VGPU_TEST_F(test_left_idle, setup, teardown),
        VGPU_TEST_F(test_request_ids, setup, teardown),
        VGPU_TEST_F(test_bad_arguments, setup, teardown),
        VGPU_TEST_F(test_no_mediator, setup, teardown),
        VGPU_TEST_F(test_mediator_lost_in_flight, setup, teardown),
        VGPU_TEST_F(test_reset_in_flight, setup, teardown),
        VGPU_TEST_F(test_busy_leftover, setup, teardown),
        VGPU_TEST_F(test_busy_leftover_time_out, setup, teardown),
        VGPU_TEST_F(test_done_leftover, setup, teardown),
        VGPU_TEST_F(test_send_poll_read, setup, teardown),
        VGPU_TEST_F(test_abandon, setup, teardown),
        VGPU_TEST_F(test_reset_between_send_and_poll, setup, teardown),
        VGPU_TEST_F(test_response_len_over, setup, teardown),
        VGPU_TEST_F(test_status_nonsense, setup, teardown),
        VGPU_TEST_F(test_registers, setup, teardown),
        VGPU_TEST_F(test_threads, setup, teardown),
        VGPU_TEST_F(test_processes, setup, teardown),
        VGPU_TEST_F(test_killed_in_flight, setup, teardown),
        VGPU_TEST_F(test_fork_guard, setup, teardown),
        VGPU_TEST_F(test_fork_keeps_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
