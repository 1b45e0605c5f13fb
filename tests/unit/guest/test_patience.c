/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What calls do about a host that does not answer, answers late, or is replaced meanwhile: what
 * they keep, what they give back, and when they stop. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "guest/guest.h"
#include "host.h"
#include "vgpu/curesult.h"
#include "vgpu_test.h"

#define SEEN 512

/* An honest host, but for one opcode. The handler's context has to begin with the host. */
struct slow_host {
    struct host host;
    uint32_t opcode;     /* the one */
    uint32_t error_code; /* answers it with this, */
    uint32_t status;     /* or else with this status; 0 too: honestly */
    unsigned honest;     /* so many of them are answered honestly first */
    unsigned pause_ms;   /* before each answer, */
    unsigned pauses;     /* so many times */
    unsigned moves;      /* GENERATION moves as it comes, so many times */
    unsigned seen;       /* so many came */
    uint32_t ids[SEEN];  /* their REQUEST_IDs */
    unsigned changes;    /* how often another REQUEST_ID came than before */
    uint32_t last_id;
    unsigned drops;    /* STAGE_DROPs that came */
    bool no_loads;     /* MODULE_LOAD is error 1 */
    uint32_t moved_to; /* the last GENERATION that was made up */
    struct model *model;
    struct vgpu *gpu;
};

static uint32_t opcode_of(const struct model_request *request)
{
    struct vgpu_request_header header;
    memcpy(&header, request->bytes, sizeof(header));
    if (header.opcode == VGPU_OP_SESSION_REQUEST)
        memcpy(&header, request->bytes + sizeof(header) + sizeof(uint64_t), sizeof(header));
    return header.opcode;
}

static void handle(struct model *model, const struct model_request *request)
{
    struct slow_host *host = model->context;
    uint32_t opcode = opcode_of(request);
    host->drops += opcode == VGPU_OP_STAGE_DROP;
    if (host->no_loads && opcode == VGPU_OP_MODULE_LOAD) {
        model_respond(model, request->seq, VGPU_ERR_INVALID_REQUEST, NULL, 0);
        return;
    }
    if (opcode != host->opcode) {
        host_handle(model, request);
        return;
    }
    host->changes += host->seen && request->id != host->last_id;
    host->last_id = request->id;
    host->ids[host->seen++ % SEEN] = request->id;
    if (host->pauses) {
        host->pauses--;
        nanosleep(&(struct timespec){.tv_sec = host->pause_ms / 1000,
                                     .tv_nsec = host->pause_ms % 1000 * 1000000L},
                  NULL);
    }
    if (host->moves) {
        host->moves--;
        model->fake_offset = VGPU_REG_GENERATION;
        model->fake_value = ++host->moved_to;
    }
    if (host->honest) {
        host->honest--;
        host_handle(model, request);
        return;
    }
    if (host->error_code) {
        model_respond(model, request->seq, host->error_code, NULL, 0);
    } else if (host->status) {
        uint8_t bytes[VGPU_MAILBOX_BYTES];
        uint32_t length = model_build_response(bytes, host->status, NULL, 0, NULL, 0);
        model_respond(model, request->seq, 0, bytes, length);
    } else {
        host_handle(model, request);
    }
}

static int setup(void **state)
{
    struct slow_host *f = calloc(1, sizeof(*f));
    host_init(&f->host);
    f->moved_to = 1000;
    f->model = model_start(handle, f);
    struct vgpu_options options = model_options(f->model);
    assert_int_equal(vgpu_init(&options, &f->gpu), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct slow_host *f = *state;
    model_lock(f->model);
    f->opcode = UINT32_MAX;
    f->model->fake_offset = -1;
    model_unlock(f->model);
    vgpu_cleanup(f->gpu);
    model_stop(f->model);
    assert_int_equal(f->host.violations, 0);
    host_free(&f->host);
    free(f);
    return 0;
}

/* From now on `opcode` is answered with `error_code` or `status`; both 0: honestly. Counts anew. */
static void answer(struct slow_host *f, uint32_t opcode, uint32_t error_code, uint32_t status)
{
    model_lock(f->model);
    f->opcode = opcode;
    f->error_code = error_code;
    f->status = status;
    f->seen = 0;
    f->changes = 0;
    f->drops = 0;
    model_unlock(f->model);
}

static unsigned count_sessions(struct slow_host *f)
{
    unsigned count = 0;
    model_lock(f->model);
    for (int i = 0; i < HOST_SESSIONS; i++)
        count += f->host.sessions[i] != 0;
    model_unlock(f->model);
    return count;
}

static unsigned count_records(struct slow_host *f)
{
    char path[160];
    unsigned count = 0;
    snprintf(path, sizeof(path), "%s/test", f->model->run_dir);
    DIR *list = opendir(path);
    for (struct dirent *e; list && (e = readdir(list));)
        count += e->d_name[0] != '.';
    if (list)
        closedir(list);
    return count;
}

/* Records of `count` sessions whose programs died. */
static void leave_dead(struct slow_host *f, unsigned count)
{
    uint32_t generation;
    assert_int_equal(vgpu_generation(f->gpu, &generation), 0);
    int dir = vgpu_record_open_dir(f->model->run_dir, "test");
    assert_true(dir >= 0);
    for (unsigned i = 1; i <= count; i++) {
        struct vgpu_record record;
        assert_int_equal(vgpu_record_create(dir, i, generation, &record), 0);
        vgpu_record_release(&record);
    }
    close(dir);
}

static struct vgpu *open_hasty(struct slow_host *f, uint32_t timeout_ms)
{
    struct vgpu_options options = model_options(f->model);
    struct vgpu *gpu;
    options.timeout_ms = timeout_ms;
    assert_int_equal(vgpu_init(&options, &gpu), 0);
    return gpu;
}

/* ---- SYNCHRONIZE ---- */

/* P11: the number of a SYNCHRONIZE that goes on survives a repeat that could not be made. */
static void test_pending_is_kept(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    assert_int_equal(vgpu_session_open(f->gpu, &session), 0);
    answer(f, VGPU_OP_SYNCHRONIZE, 0, CUDA_ERROR_NOT_READY);
    assert_int_equal(vgpu_synchronize(session, 20), -ETIMEDOUT);
    uint32_t id = f->ids[0];
    /* The mailbox is another program's for a while. */
    int fd = open(f->model->resource0, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(vgpu_synchronize(session, 20), -ETIMEDOUT);
    close(fd);
    /* Or the host has no room for the repeat. */
    answer(f, VGPU_OP_SYNCHRONIZE, VGPU_ERR_QUEUE_FULL, 0);
    assert_int_equal(vgpu_synchronize(session, 20), -EAGAIN);
    assert_int_equal(f->ids[0], id);
    /* Or the device gave it up. */
    answer(f, VGPU_OP_SYNCHRONIZE, VGPU_ERR_TIMEOUT, 0);
    assert_int_equal(vgpu_synchronize(session, 20), -ETIMEDOUT);
    assert_int_equal(f->ids[0], id);
    answer(f, VGPU_OP_SYNCHRONIZE, 0, CUDA_ERROR_LAUNCH_FAILED);
    assert_int_equal(vgpu_synchronize(session, 5000), CUDA_ERROR_LAUNCH_FAILED);
    assert_int_equal(f->ids[0], id);
    /* That was an answer: the next is a new request. */
    answer(f, VGPU_OP_SYNCHRONIZE, 0, 0);
    assert_int_equal(vgpu_synchronize(session, 5000), 0);
    assert_int_not_equal(f->ids[0], id);
    vgpu_session_close(session);
}

/* Both rounds of vgpu_synchronize(s, 0) share the session's time-out: when the first has used it
 * up, the second asks for a moment, not for as long again. */
static void test_one_time_out_for_two_rounds(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    const struct vgpu_launch launch = {
        .function = HOST_FUNCTION, .grid = {1, 1, 1}, .block = {1, 1, 1}};
    assert_int_equal(vgpu_session_open(f->gpu, &session), 0);
    f->host.param_count = 0;
    answer(f, VGPU_OP_SYNCHRONIZE, 0, CUDA_ERROR_NOT_READY);
    assert_int_equal(vgpu_synchronize(session, 20), -ETIMEDOUT);
    assert_int_equal(vgpu_launch(session, &launch), 0);
    /* The pending one is answered when the time is up, every later one with "not yet". */
    vgpu_session_set_timeout(session, 1000);
    answer(f, VGPU_OP_SYNCHRONIZE, 0, CUDA_ERROR_NOT_READY);
    model_lock(f->model);
    f->honest = 1;
    f->pauses = 1;
    f->pause_ms = 1100;
    model_unlock(f->model);
    assert_int_equal(vgpu_synchronize(session, 0), -ETIMEDOUT);
    assert_int_not_equal(f->ids[1], f->ids[0]);
    /* A millisecond's worth; the whole time-out has room for a hundred and more. */
    assert_in_range(f->seen, 2, 10);
    vgpu_session_set_timeout(session, 0);
    vgpu_session_close(session);
}

/* ---- Opening a session ---- */

/* R14, P17: GENERATION moves between its read and SESSION_OPEN. The host has the session, so that
 * is ended; then once more. */
static void test_open_while_moving(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    answer(f, VGPU_OP_SESSION_OPEN, 0, 0);
    f->moves = 1;
    assert_int_equal(vgpu_session_open(f->gpu, &session), 0);
    assert_int_equal(f->seen, 2);
    assert_int_equal(count_sessions(f), 1);
    assert_true(host_has_session(&f->host, vgpu_session_number(session)));
    assert_int_equal(count_records(f), 1);
    assert_int_equal(vgpu_nop(session), 0);
    assert_int_equal(vgpu_session_close(session), 0);
    assert_int_equal(count_sessions(f), 0);
    assert_int_equal(count_records(f), 0);
}

/* When it moves each time the call gives up, and leaves nothing behind. */
static void test_open_while_always_moving(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    answer(f, VGPU_OP_SESSION_OPEN, 0, 0);
    f->moves = 100;
    assert_int_equal(vgpu_session_open(f->gpu, &session), -ESTALE);
    assert_non_null(strstr(vgpu_last_error_text(), "try again"));
    assert_int_equal(f->seen, 2);
    assert_int_equal(count_sessions(f), 0);
    assert_int_equal(count_records(f), 0);
}

/* A sweep takes its time: GENERATION is read after it, so a move meanwhile costs nothing. */
static void test_move_during_sweep(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    leave_dead(f, 1);
    answer(f, VGPU_OP_SESSION_CLOSE, 0, 0);
    f->moves = 1;
    unsigned before = model_request_count(f->model);
    assert_int_equal(vgpu_session_open(f->gpu, &session), 0);
    assert_int_equal(model_request_count(f->model), before + 2); /* CLOSE, OPEN */
    assert_int_equal(vgpu_nop(session), 0);
    vgpu_session_close(session);
}

/* P24: all sessions used is an answer, not a reason to wait; and the text says what to do. */
static void test_all_sessions_used(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    answer(f, VGPU_OP_SESSION_OPEN, VGPU_ERR_QUEUE_FULL, 0);
    assert_int_equal(vgpu_session_open(f->gpu, &session), -EAGAIN);
    assert_int_equal(f->seen, 1);
    assert_non_null(strstr(vgpu_last_error_text(), "close one"));
    assert_int_equal(count_records(f), 0);
}

/* Dead programs' sessions that cannot be ended are not tried one after the other. */
static void test_sweep_without_answers(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    struct vgpu *hasty = open_hasty(f, 500);
    leave_dead(f, 8);
    answer(f, VGPU_OP_SESSION_CLOSE, 0, CUDA_ERROR_NOT_READY);
    assert_int_equal(vgpu_session_open(hasty, &session), 0);
    assert_true(f->seen >= 1);
    assert_int_equal(f->changes, 0); /* of one session, and no other */
    assert_int_equal(count_records(f), 9);
    answer(f, UINT32_MAX, 0, 0);
    assert_int_equal(vgpu_session_close(session), 0);
    vgpu_cleanup(hasty);
}

/* And slow answers to them do not add up: one deadline, a tenth of the time-out, for all. */
static void test_slow_sweep(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    struct vgpu *hasty = open_hasty(f, 5000);
    leave_dead(f, 40);
    answer(f, VGPU_OP_SESSION_CLOSE, 0, 0);
    f->pauses = 100;
    f->pause_ms = 60;
    assert_int_equal(vgpu_session_open(hasty, &session), 0);
    assert_in_range(f->seen, 1, 20);
    assert_int_equal(count_records(f), 41 - f->seen);
    f->pauses = 0;
    assert_int_equal(vgpu_session_close(session), 0);
    vgpu_cleanup(hasty);
}

/* A host that says no to one of them is asked about the others. */
static void test_sweep_refused(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    leave_dead(f, 3);
    answer(f, VGPU_OP_SESSION_CLOSE, 0, CUDA_ERROR_UNKNOWN);
    assert_int_equal(vgpu_session_open(f->gpu, &session), 0);
    assert_int_equal(f->seen, 3);
    assert_int_equal(count_records(f), 4);
    answer(f, UINT32_MAX, 0, 0);
    vgpu_session_close(session);
}

/* ---- Stages ---- */

static int load_staged(struct vgpu_session *session)
{
    char image[3000];
    uint64_t module;
    memset(image, 'a', sizeof(image));
    return vgpu_module_load(session, image, sizeof(image), &module);
}

static int launch_staged(struct vgpu_session *session)
{
    uint8_t arguments[2000] = {0};
    const struct vgpu_launch launch = {.function = HOST_FUNCTION,
                                       .grid = {1, 1, 1},
                                       .block = {1, 1, 1},
                                       .arguments = arguments,
                                       .argument_bytes = sizeof(arguments)};
    return vgpu_launch(session, &launch);
}

/* P26: what used the stage was not understood, so the stage is still there, and is dropped. */
static void test_stage_is_dropped(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    static const struct {
        uint32_t opcode, error_code, status;
        unsigned honest;
        bool launch;
        int want;
        unsigned drops;
    } cases[] = {
        {VGPU_OP_MODULE_LOAD, VGPU_ERR_QUEUE_FULL, 0, 0, false, -EAGAIN, 1},
        {VGPU_OP_MODULE_LOAD, VGPU_ERR_INVALID_REQUEST, 0, 0, false, -EPROTO, 1},
        {VGPU_OP_MODULE_LOAD, VGPU_ERR_TIMEOUT, 0, 0, false, -ETIMEDOUT, 1},
        {VGPU_OP_CUDA_KERNEL, VGPU_ERR_RATE_LIMITED, 0, 0, true, -EAGAIN, 1},
        {VGPU_OP_STAGE_WRITE, VGPU_ERR_TIMEOUT, 0, 0, false, -ETIMEDOUT, 1},
        {VGPU_OP_STAGE_WRITE, VGPU_ERR_TIMEOUT, 0, 1, false, -ETIMEDOUT, 1},
        {VGPU_OP_STAGE_WRITE, 0, CUDA_ERROR_OUT_OF_MEMORY, 1, true, CUDA_ERROR_OUT_OF_MEMORY, 1},
        /* Understood and refused: there is none. */
        {VGPU_OP_STAGE_WRITE, 0, CUDA_ERROR_OUT_OF_MEMORY, 0, true, CUDA_ERROR_OUT_OF_MEMORY, 0},
        {VGPU_OP_MODULE_LOAD, 0, CUDA_ERROR_INVALID_PTX, 0, false, CUDA_ERROR_INVALID_PTX, 0},
        {VGPU_OP_CUDA_KERNEL, 0, CUDA_ERROR_INVALID_VALUE, 0, true, CUDA_ERROR_INVALID_VALUE, 0},
    };
    assert_int_equal(vgpu_session_open(f->gpu, &session), 0);
    vgpu_session_set_timeout(session, 20);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        answer(f, cases[i].opcode, cases[i].error_code, cases[i].status);
        f->honest = cases[i].honest;
        int err = cases[i].launch ? launch_staged(session) : load_staged(session);
        if (err != cases[i].want || f->drops != cases[i].drops)
            fail_msg("case %zu: %d, %u drops", i, err, f->drops);
        /* The text is the failure's, whatever came of the drop. */
        assert_non_null(strstr(vgpu_last_error_text(),
                               cases[i].launch ? "vgpu_launch: " : "vgpu_module_load: "));
    }
    vgpu_session_set_timeout(session, 0);
    vgpu_session_close(session);
}

/* The drop has a short time-out of its own. */
static void test_drop_is_quick(void **state)
{
    struct slow_host *f = *state;
    struct vgpu_session *session;
    assert_int_equal(vgpu_session_open(f->gpu, &session), 0);
    vgpu_session_set_timeout(session, 2000);
    answer(f, VGPU_OP_STAGE_DROP, 0, CUDA_ERROR_NOT_READY);
    f->no_loads = true;
    assert_int_equal(load_staged(session), -EPROTO);
    assert_in_range(f->seen, 1, 20);
    vgpu_session_close(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_pending_is_kept, setup, teardown),
        VGPU_TEST_F(test_one_time_out_for_two_rounds, setup, teardown),
        VGPU_TEST_F(test_open_while_moving, setup, teardown),
        VGPU_TEST_F(test_open_while_always_moving, setup, teardown),
        VGPU_TEST_F(test_move_during_sweep, setup, teardown),
        VGPU_TEST_F(test_all_sessions_used, setup, teardown),
        VGPU_TEST_F(test_sweep_without_answers, setup, teardown),
        VGPU_TEST_F(test_slow_sweep, setup, teardown),
        VGPU_TEST_F(test_sweep_refused, setup, teardown),
        VGPU_TEST_F(test_stage_is_dropped, setup, teardown),
        VGPU_TEST_F(test_drop_is_quick, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
