/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sessions, memory, modules and launches against an honest host; and sessions whose program died.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"
#include "vgpu/curesult.h"
#include "vgpu_test.h"

struct fixture {
    struct model *model;
    struct vgpu *gpu;
    struct host host;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    host_init(&f->host);
    f->model = model_start(host_handle, &f->host);
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
    assert_int_equal(f->host.violations, 0);
    host_free(&f->host);
    free(f);
    return 0;
}

static struct vgpu_session *open_one(struct fixture *f)
{
    struct vgpu_session *session;
    assert_int_equal(vgpu_session_open(f->gpu, &session), 0);
    return session;
}

static bool is_open(struct fixture *f, uint64_t number)
{
    model_lock(f->model);
    bool found = host_has_session(&f->host, number);
    model_unlock(f->model);
    return found;
}

/* How many files the run directory holds. */
static int count_records(struct fixture *f)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/test", f->model->run_dir);
    DIR *list = opendir(path);
    int count = 0;
    for (struct dirent *e; list && (e = readdir(list));)
        count += e->d_name[0] != '.';
    if (list)
        closedir(list);
    return count;
}

/* ---- Opening and closing ---- */

static void test_open_close(void **state)
{
    struct fixture *f = *state;
    struct vgpu_device_info_wire info;
    struct vgpu_session *session = open_one(f);
    uint64_t number = vgpu_session_number(session);
    assert_true(is_open(f, number));
    assert_true(vgpu_session_recorded(session, NULL));
    assert_int_equal(count_records(f), 1);
    assert_int_equal(vgpu_nop(session), 0);
    assert_int_equal(vgpu_device_info(session, &info), 0);
    assert_string_equal(info.backend, "test");
    assert_int_equal(vgpu_session_close(session), 0);
    assert_false(is_open(f, number));
    assert_int_equal(count_records(f), 0);
}

/* vgpu_cleanup closes what is still open. */
static void test_cleanup_closes(void **state)
{
    struct fixture *f = *state;
    struct vgpu_options options = model_options(f->model);
    struct vgpu *other;
    struct vgpu_session *a, *b;
    assert_int_equal(vgpu_init(&options, &other), 0);
    assert_int_equal(vgpu_session_open(other, &a), 0);
    assert_int_equal(vgpu_session_open(other, &b), 0);
    assert_int_not_equal(vgpu_session_number(a), vgpu_session_number(b));
    vgpu_cleanup(other);
    assert_int_equal(f->host.closed_count, 2);
    assert_int_equal(count_records(f), 0);
}

/* P24: more sessions than the VM may have. */
static void test_too_many(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session;
    f->host.session_limit = 0;
    struct vgpu_options options = model_options(f->model);
    options.timeout_ms = 50;
    struct vgpu *hasty;
    assert_int_equal(vgpu_init(&options, &hasty), 0);
    assert_int_equal(vgpu_session_open(hasty, &session), -EAGAIN);
    vgpu_cleanup(hasty);
    assert_int_equal(count_records(f), 0);
}

/* P15: a session that the host no longer has. */
static void test_closed_behind_our_back(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    model_lock(f->model);
    memset(f->host.sessions, 0, sizeof(f->host.sessions));
    model_unlock(f->model);
    assert_int_equal(vgpu_nop(session), CUDA_ERROR_INVALID_CONTEXT);
    assert_int_equal(vgpu_session_close(session), 0);
}

/* P17, R17: when GENERATION moves the session is dead for good, whatever the host would say. */
static void test_generation_moves(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    assert_int_equal(vgpu_nop(session), 0);
    model_reset(f->model);
    assert_int_equal(vgpu_nop(session), -ESTALE);
    unsigned before = model_request_count(f->model);
    assert_int_equal(vgpu_nop(session), -ESTALE);
    assert_int_equal(model_request_count(f->model), before);
    assert_int_equal(vgpu_session_close(session), 0);
    assert_int_equal(count_records(f), 0);
    /* A new one works. */
    session = open_one(f);
    assert_int_equal(vgpu_nop(session), 0);
    vgpu_session_close(session);
}

static void test_mediator_lost(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    model_lose_link(f->model);
    assert_int_equal(vgpu_nop(session), -ESTALE);
    assert_int_equal(vgpu_session_close(session), 0);
    assert_int_equal(vgpu_session_open(f->gpu, &session), -ENOLINK);
    assert_int_equal(count_records(f), 0);
    model_attach(f->model);
    session = open_one(f);
    assert_int_equal(vgpu_session_close(session), 0);
}

/* When the host cannot be told, the record stays for the next opener. */
static void test_close_fails(void **state)
{
    struct fixture *f = *state;
    struct vgpu_options options = model_options(f->model);
    struct vgpu *hasty;
    struct vgpu_session *session;
    options.timeout_ms = 50;
    assert_int_equal(vgpu_init(&options, &hasty), 0);
    assert_int_equal(vgpu_session_open(hasty, &session), 0);
    uint64_t number = vgpu_session_number(session);
    model_fake_register(f->model, VGPU_REG_STATUS, VGPU_STATUS_BUSY);
    assert_int_equal(vgpu_session_close(session), -ETIMEDOUT);
    model_fake_register(f->model, -1, 0);
    assert_true(is_open(f, number));
    assert_int_equal(count_records(f), 1);
    vgpu_cleanup(hasty);
    session = open_one(f);
    assert_false(is_open(f, number));
    assert_int_equal(count_records(f), 1);
    vgpu_session_close(session);
}

/* ---- Programs that die ---- */

/* A child that opens a session, says its number, and waits to be killed. */
static pid_t start_holder(struct fixture *f, uint64_t *number)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct vgpu_options options = model_options(f->model);
    pid_t pid = fork();
    if (pid == 0) {
        struct vgpu *gpu;
        struct vgpu_session *session;
        uint64_t mine = 0;
        if (vgpu_init(&options, &gpu) == 0 && vgpu_session_open(gpu, &session) == 0)
            mine = vgpu_session_number(session);
        if (write(fds[1], &mine, sizeof(mine)) != sizeof(mine))
            _exit(2);
        for (;;)
            pause();
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], number, sizeof(*number)), sizeof(*number));
    close(fds[0]);
    assert_int_not_equal(*number, 0);
    return pid;
}

static void end_holder(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* P14: a killed program's session is ended by the next opener; a living one's is not. */
static void test_dead_program(void **state)
{
    struct fixture *f = *state;
    uint64_t dead, alive;
    pid_t to_kill = start_holder(f, &dead);
    pid_t to_live = start_holder(f, &alive);
    end_holder(to_kill);
    assert_true(is_open(f, dead));
    struct vgpu_session *session = open_one(f);
    assert_false(is_open(f, dead));
    assert_true(is_open(f, alive));
    assert_int_equal(count_records(f), 2);
    assert_int_equal(f->host.closed_count, 1);
    end_holder(to_live);
    vgpu_session_close(session);
}

/* When its generation is over a dead program's session needs no SESSION_CLOSE, only a broom. */
static void test_dead_program_old_generation(void **state)
{
    struct fixture *f = *state;
    uint64_t dead;
    end_holder(start_holder(f, &dead));
    model_reset(f->model);
    struct vgpu_session *session = open_one(f);
    assert_int_equal(f->host.closed_count, 0);
    assert_int_equal(count_records(f), 1);
    vgpu_session_close(session);
}

/* Several openers at once after a death: each dead session is closed once. */
static void *open_and_close(void *opaque)
{
    struct fixture *f = opaque;
    for (int i = 0; i < 10; i++) {
        struct vgpu_session *session = open_one(f);
        assert_int_equal(vgpu_nop(session), 0);
        assert_int_equal(vgpu_session_close(session), 0);
    }
    return NULL;
}

static void test_many_openers(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];
    uint64_t dead[3];
    for (int i = 0; i < 3; i++)
        end_holder(start_holder(f, &dead[i]));
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, open_and_close, f);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 3; i++) {
        int times = 0;
        for (unsigned k = 0; k < f->host.closed_count; k++)
            times += f->host.closed[k] == dead[i];
        assert_int_equal(times, 1);
    }
    assert_int_equal(count_records(f), 0);
}

/* Without a run directory everything works but the clean-up, and the session says so. */
static void test_no_run_dir(void **state)
{
    struct fixture *f = *state;
    struct vgpu_options options = model_options(f->model);
    struct vgpu *gpu;
    struct vgpu_session *session;
    const char *why;
    options.run_dir = "/proc/no/such/place";
    assert_int_equal(vgpu_init(&options, &gpu), 0);
    assert_int_equal(vgpu_session_open(gpu, &session), 0);
    assert_false(vgpu_session_recorded(session, &why));
    assert_non_null(strstr(why, "/proc/no/such/place"));
    assert_int_equal(vgpu_nop(session), 0);
    assert_int_equal(vgpu_session_close(session), 0);
    vgpu_cleanup(gpu);
}

/* ---- Memory ---- */

static void test_copies(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    struct vgpu_statistics statistics;
    static const size_t sizes[] = {1, 7, 919, 920, 921, 992, 993, 1840, 1841, 5000, 20011};
    uint8_t *out = malloc(20011), *back = malloc(20011);
    uint64_t address, copied = 0;
    assert_int_equal(vgpu_memory_alloc(session, HOST_MEMORY_BYTES, &address), 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t k = 0; k < sizes[i]; k++)
            out[k] = (uint8_t)(k * 31 + i);
        memset(back, 0, sizes[i]);
        assert_int_equal(vgpu_copy_to_device(session, address + i, out, sizes[i]), 0);
        assert_int_equal(vgpu_copy_on_device(session, address + 65536, address + i, sizes[i]), 0);
        assert_int_equal(vgpu_copy_from_device(session, back, address + 65536, sizes[i]), 0);
        assert_memory_equal(out, back, sizes[i]);
        copied += sizes[i];
    }
    assert_int_equal(vgpu_copy_to_device(session, address, NULL, 0), 0);
    assert_int_equal(vgpu_copy_from_device(session, NULL, address, 0), 0);
    assert_int_equal(vgpu_read_statistics(f->gpu, &statistics), 0);
    assert_int_equal(statistics.bytes_to_device, copied);
    assert_int_equal(statistics.bytes_from_device, copied);
    assert_int_equal(vgpu_memory_free(session, address), 0);
    assert_true(f->host.posted > 0); /* P10: the pieces in the middle */
    free(out);
    free(back);
    vgpu_session_close(session);
}

/* P20, P21: what the host refuses comes back as its CUresult, from the first piece on. */
static void test_memory_refusals(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    uint64_t address;
    uint8_t bytes[4000] = {0};
    assert_int_equal(vgpu_memory_alloc(session, 0, &address), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(vgpu_memory_alloc(session, 1ull << 40, &address), CUDA_ERROR_OUT_OF_MEMORY);
    assert_non_null(strstr(vgpu_last_error_text(), "CUDA_ERROR_OUT_OF_MEMORY"));
    assert_int_equal(vgpu_memory_free(session, 4), CUDA_ERROR_INVALID_VALUE);
    unsigned before = model_request_count(f->model);
    assert_int_equal(vgpu_copy_to_device(session, 64, bytes, sizeof(bytes)),
                     CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(model_request_count(f->model), before + 1);
    assert_int_equal(vgpu_copy_from_device(session, bytes, UINT64_MAX - 5, 100), -EINVAL);
    assert_int_equal(vgpu_copy_to_device(session, 64, NULL, 4), -EINVAL);
    vgpu_session_close(session);
}

/* P12: refused because too much is in flight, a piece is sent again. */
static void test_queue_full(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    uint64_t address;
    uint8_t bytes[3000], back[3000];
    memset(bytes, 0x5A, sizeof(bytes));
    assert_int_equal(vgpu_memory_alloc(session, HOST_MEMORY_BYTES, &address), 0);
    model_lock(f->model);
    f->host.full = 3;
    model_unlock(f->model);
    assert_int_equal(vgpu_copy_to_device(session, address, bytes, sizeof(bytes)), 0);
    assert_int_equal(vgpu_copy_from_device(session, back, address, sizeof(back)), 0);
    assert_memory_equal(bytes, back, sizeof(bytes));
    vgpu_session_close(session);
}

/* ---- Not yet ---- */

/* P11: asked again with the same bytes and the same number, until the answer comes. */
static void test_not_yet(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    struct vgpu_statistics statistics;
    model_lock(f->model);
    f->host.not_yet = 5;
    unsigned first = f->model->log_count;
    model_unlock(f->model);
    assert_int_equal(vgpu_synchronize(session, 10000), 0);
    assert_int_equal(model_request_count(f->model), first + 6);
    struct model_request a = model_request_at(f->model, first);
    for (unsigned i = 1; i < 6; i++) {
        struct model_request b = model_request_at(f->model, first + i);
        assert_int_equal(a.id, b.id);
        assert_int_equal(a.length, b.length);
        assert_memory_equal(a.bytes, b.bytes, a.length);
    }
    vgpu_read_statistics(f->gpu, &statistics);
    assert_int_equal(statistics.not_yet, 5);
    vgpu_session_close(session);
}

/* A caller that stopped waiting picks the same request up again, so that an error told once is not
 * lost; and asks anew when a launch came in between. */
static void test_synchronize_time_out(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    model_lock(f->model);
    f->host.not_yet = 1000000;
    unsigned first = f->model->log_count;
    model_unlock(f->model);
    assert_int_equal(vgpu_synchronize(session, 20), -ETIMEDOUT);
    uint32_t id = model_request_at(f->model, first).id;
    struct vgpu_launch launch = {.function = HOST_FUNCTION, .grid = {1, 1, 1}, .block = {1, 1, 1}};
    uint64_t arguments[3] = {1, 2, 3};
    launch.arguments = arguments;
    launch.argument_bytes = sizeof(arguments);
    assert_int_equal(vgpu_launch(session, &launch), 0);
    model_lock(f->model);
    f->host.not_yet = 0;
    unsigned again = f->model->log_count;
    model_unlock(f->model);
    assert_int_equal(vgpu_synchronize(session, 10000), 0);
    assert_int_equal(model_request_count(f->model), again + 2);
    assert_int_equal(model_request_at(f->model, again).id, id);
    assert_int_not_equal(model_request_at(f->model, again + 1).id, id);
    /* Nothing pending now: one request. */
    assert_int_equal(vgpu_synchronize(session, 10000), 0);
    assert_int_equal(model_request_count(f->model), again + 3);
    vgpu_session_close(session);
}

/* P22: a sticky error comes through as it is, even one without a name here. */
static void test_synchronize_error(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    f->host.sync_status = CUDA_ERROR_ILLEGAL_ADDRESS;
    assert_int_equal(vgpu_synchronize(session, 1000), CUDA_ERROR_ILLEGAL_ADDRESS);
    f->host.sync_status = 0xFFFFFFFF;
    assert_int_equal(vgpu_synchronize(session, 1000), CUDA_ERROR_UNKNOWN);
    f->host.sync_status = 0;
    vgpu_session_close(session);
}

/* ---- Modules and launches ---- */

static void test_module_sizes(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    static const size_t sizes[] = {1, 975, 976, 977, 968 * 2, 968 * 2 + 1, 100000};
    char *image = malloc(100000);
    for (size_t i = 0; i < 100000; i++)
        image[i] = (char)('a' + i % 23);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t module = 0;
        assert_int_equal(vgpu_module_load(session, image, sizes[i], &module), 0);
        assert_true(module == HOST_MODULE);
        assert_int_equal(f->host.image_bytes, sizes[i]);
        assert_memory_equal(f->host.image, image, sizes[i]);
        assert_int_equal(vgpu_module_unload(session, module), 0);
    }
    uint64_t module;
    assert_int_equal(vgpu_module_load(session, image, 0, &module), -EINVAL);
    assert_int_equal(vgpu_module_load(session, image, (64u << 20) + 1, &module), -E2BIG);
    free(image);
    vgpu_session_close(session);
}

/* P27: the compiler's log comes as text, harmless for a terminal. */
static void test_module_refused(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    uint64_t module;
    assert_int_equal(vgpu_module_load(session, "bad ptx", 7, &module), CUDA_ERROR_INVALID_PTX);
    assert_non_null(strstr(vgpu_last_error_text(), "line 1: no ?[31mversion"));
    vgpu_session_close(session);
}

/* P19, P23: layouts come in as many answers as they need; big argument buffers go by a stage. */
static void test_launch(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    static const uint32_t counts[] = {0, 1, 3, 114, 115, 116, 512};
    for (size_t n = 0; n < sizeof(counts) / sizeof(counts[0]); n++) {
        uint32_t count = counts[n];
        struct vgpu_function function;
        struct vgpu_param_layout layout[512];
        uint64_t values[512];
        const void *pointers[512];
        uint8_t arguments[VGPU_PARAM_BUFFER_MAX];
        f->host.param_count = count;
        assert_int_equal(
            vgpu_module_function(session, HOST_MODULE, "kernel", &function, layout, 512), 0);
        assert_int_equal(function.param_count, count);
        assert_int_equal(function.param_bytes, count * 8);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(layout[i].offset, i * 8);
            values[i] = 0x1111111100000000ull + i;
            pointers[i] = &values[i];
        }
        assert_int_equal(
            vgpu_pack_arguments(&function, layout, count, pointers, arguments, sizeof(arguments)),
            0);
        struct vgpu_launch launch = {.function = function.handle,
                                     .grid = {2, 3, 4},
                                     .block = {5, 6, 7},
                                     .dynamic_shared_bytes = 8,
                                     .arguments = count ? arguments : NULL,
                                     .argument_bytes = function.param_bytes};
        assert_int_equal(vgpu_launch(session, &launch), 0);
        assert_int_equal(f->host.argument_bytes, count * 8);
        assert_memory_equal(f->host.arguments, values, count * 8);
        assert_int_equal(f->host.launch[VGPU_KERNEL_GRID_X + 2], 4);
        assert_int_equal(f->host.launch[VGPU_KERNEL_BLOCK_X], 5);
        assert_int_equal(f->host.launch[VGPU_KERNEL_SHARED_BYTES], 8);
    }
    vgpu_session_close(session);
}

static void test_look_up_refusals(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    struct vgpu_function function = {.param_count = 2, .param_bytes = 16};
    struct vgpu_param_layout layout[2] = {{0, 8}, {12, 8}};
    uint64_t value = 0;
    const void *values[2] = {&value, &value};
    uint8_t buffer[16];
    char name[600];
    assert_int_equal(vgpu_module_function(session, HOST_MODULE, "no", &function, NULL, 0),
                     CUDA_ERROR_NOT_FOUND);
    assert_int_equal(vgpu_module_function(session, 1, "kernel", &function, NULL, 0),
                     CUDA_ERROR_INVALID_HANDLE);
    memset(name, 'x', sizeof(name));
    name[513] = 0;
    assert_int_equal(vgpu_module_function(session, HOST_MODULE, name, &function, NULL, 0), -EINVAL);
    assert_int_equal(vgpu_module_function(session, HOST_MODULE, "", &function, NULL, 0), -EINVAL);
    function = (struct vgpu_function){.param_count = 2, .param_bytes = 16};
    assert_int_equal(vgpu_pack_arguments(&function, layout, 2, values, buffer, 16), -EINVAL);
    layout[1].offset = 8;
    assert_int_equal(vgpu_pack_arguments(&function, layout, 1, values, buffer, 16), -EINVAL);
    assert_int_equal(vgpu_pack_arguments(&function, layout, 2, values, buffer, 15), -EINVAL);
    assert_int_equal(vgpu_pack_arguments(&function, layout, 2, values, buffer, 16), 0);
    vgpu_session_close(session);
}

/* A session in a forked child is refused, and the child's copy can be freed. */
static void test_fork(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    pid_t pid = fork();
    if (pid == 0) {
        int bad = vgpu_nop(session) != -ECHILD || vgpu_session_close(session) != -ECHILD;
        vgpu_cleanup(f->gpu);
        _exit(bad);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(count_records(f), 1);
    assert_int_equal(vgpu_nop(session), 0);
    vgpu_session_close(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_open_close, setup, teardown),
        VGPU_TEST_F(test_cleanup_closes, setup, teardown),
        VGPU_TEST_F(test_too_many, setup, teardown),
        VGPU_TEST_F(test_closed_behind_our_back, setup, teardown),
        VGPU_TEST_F(test_generation_moves, setup, teardown),
        VGPU_TEST_F(test_mediator_lost, setup, teardown),
        VGPU_TEST_F(test_close_fails, setup, teardown),
        VGPU_TEST_F(test_dead_program, setup, teardown),
        VGPU_TEST_F(test_dead_program_old_generation, setup, teardown),
        VGPU_TEST_F(test_many_openers, setup, teardown),
        VGPU_TEST_F(test_no_run_dir, setup, teardown),
        VGPU_TEST_F(test_copies, setup, teardown),
        VGPU_TEST_F(test_memory_refusals, setup, teardown),
        VGPU_TEST_F(test_queue_full, setup, teardown),
        VGPU_TEST_F(test_not_yet, setup, teardown),
        VGPU_TEST_F(test_synchronize_time_out, setup, teardown),
        VGPU_TEST_F(test_synchronize_error, setup, teardown),
        VGPU_TEST_F(test_module_sizes, setup, teardown),
        VGPU_TEST_F(test_module_refused, setup, teardown),
        VGPU_TEST_F(test_launch, setup, teardown),
        VGPU_TEST_F(test_look_up_refusals, setup, teardown),
        VGPU_TEST_F(test_fork, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
