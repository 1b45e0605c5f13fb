/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions over the channels of a PCI device: getting one, what becomes of it when its owner dies
 * at any point, when there is none, when it breaks. docs/ring.md, G1 to G5, G19, G20;
 * docs/guest.md.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/channel.h"
#include "guest/deadline.h"
#include "guest/guest.h"
#include "guestd/guestd.h"
#include "host.h"
#include "vgpu/curesult.h"
#include "vgpu_test.h"

#define ARENA ((uint64_t)2 << 20) /* behind the channels */

struct fixture {
    struct model *model;
    struct vgpu *gpu;
    struct host host;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    host_init(&f->host);
    f->model = model_start_windowed(host_handle, host_handle_record, &f->host);
    struct vgpu_options options = model_options(f->model);
    assert_int_equal(vgpu_init(&options, &f->gpu), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    vgpu_cleanup(f->gpu);
    for (uint32_t n = 0; n < MODEL_CHANNELS; n++)
        assert_int_equal(model_read32(VGPU_REG_CHANNEL_OWNER(n)), 0);
    model_stop(f->model);
    assert_int_equal(f->host.violations, 0);
    host_free(&f->host);
    free(f);
    return 0;
}

static struct vgpu_session *open_one(struct fixture *f)
{
    struct vgpu_session *session;
    if (vgpu_session_open(f->gpu, &session) != 0)
        fail_msg("%s", vgpu_last_error_text());
    return session;
}

static void expect_transport(const struct vgpu_session *session, const char *text)
{
    if (!strstr(vgpu_session_transport(session), text))
        fail_msg("'%s', want '%s'", vgpu_session_transport(session), text);
}

/* ---- All is well ---- */

/* Everything but the three of G5 goes by the ring. */
static void test_requests(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    struct vgpu_device_info_wire info;
    static uint8_t to[5000], from[5000];
    uint64_t address;
    expect_transport(session, "channel 0 of 2, in a window of 32 MiB");
    unsigned before = f->model->device.stats.requests;
    assert_int_equal(vgpu_nop(session), 0);
    assert_int_equal(vgpu_device_info(session, &info), 0);
    assert_string_equal(info.backend, "test");
    assert_int_equal(vgpu_memory_alloc(session, 1 << 20, &address), 0);
    for (size_t i = 0; i < sizeof(to); i++)
        to[i] = (uint8_t)(i * 7);
    assert_int_equal(vgpu_copy_to_device(session, address, to, sizeof(to)), 0);
    assert_int_equal(vgpu_copy_from_device(session, from, address, sizeof(from)), 0);
    assert_memory_equal(from, to, sizeof(to));
    assert_int_equal(vgpu_memory_free(session, 1), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(vgpu_synchronize(session, 0), 0);
    assert_int_equal(f->model->device.stats.requests, before);
    assert_int_equal(f->host.bound, 1);
    assert_int_equal(vgpu_session_close(session), 0);
    assert_true(f->model->channel[0].resets > 0);
}

/* Images go by STAGE_COPY: through the channel's own staging, or an extent when there is one. */
static void stage(struct fixture *f, uint32_t bytes, unsigned copies)
{
    struct vgpu_session *session = open_one(f);
    uint8_t *image = malloc(bytes);
    uint64_t module;
    for (uint32_t i = 0; i < bytes; i++)
        image[i] = (uint8_t)(i * 2654435761u >> 13);
    f->host.stage_copies = 0;
    for (int round = 0; round < 2; round++) { /* the second finds pieces that were used */
        assert_int_equal(vgpu_module_load(session, image, bytes, &module), 0);
        assert_int_equal(f->host.image_bytes, bytes);
        assert_memory_equal(f->host.image, image, bytes);
    }
    assert_int_equal(f->host.stage_copies, 2 * copies);
    free(image);
    assert_int_equal(vgpu_session_close(session), 0);
}

static void test_stages(void **state)
{
    struct fixture *f = *state;
    stage(f, 2000, 1);
    stage(f, 128 << 10, 4);
    stage(f, (1 << 20) + 5, 33); /* no extent is to be had */
    assert_int_equal(f->host.extents, 0);
    f->host.arena_next = ARENA;
    stage(f, 9 << 20, 5);
    assert_int_equal(f->host.extents, 1);
    f->host.arena_next = 4096; /* where none can be: it is not written to */
    stage(f, (1 << 20) + 5, 33);
}

/* A SYNCHRONIZE that took too long is waited for again, not asked again: its answer may be told
 * only once. */
static void test_time_out(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    f->host.hold_sync = true;
    unsigned before = model_request_count(f->model);
    assert_int_equal(vgpu_synchronize(session, 20), -ETIMEDOUT);
    assert_int_equal(vgpu_synchronize(session, 20), -ETIMEDOUT);
    assert_int_equal(model_request_count(f->model), before + 1);
    assert_int_equal(vgpu_nop(session), 0); /* others pass */
    host_let_go(f->model, CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_int_equal(vgpu_synchronize(session, 5000), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_int_equal(vgpu_synchronize(session, 20), -ETIMEDOUT);
    assert_int_equal(vgpu_session_close(session), 0); /* with one that nobody fetched */
    f->host.hold_sync = false;
}

/* ---- No channel ---- */

static void test_run_out(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *a = open_one(f), *b = open_one(f), *c = open_one(f), *d;
    expect_transport(a, "channel 0 of 2");
    expect_transport(b, "channel 1 of 2");
    expect_transport(c, "mailbox: all 2 channels are taken");
    assert_int_equal(vgpu_nop(c), 0);
    struct vgpu_options options = model_options(f->model);
    struct vgpu *strict;
    options.transport = "channel";
    assert_int_equal(vgpu_init(&options, &strict), 0);
    unsigned closed = f->host.closed_count;
    assert_int_equal(vgpu_session_open(strict, &d), -EBUSY);
    assert_non_null(strstr(vgpu_last_error_text(), "VGPU_TRANSPORT"));
    assert_int_equal(f->host.closed_count, closed + 1);
    assert_int_equal(vgpu_session_close(a), 0);
    assert_int_equal(vgpu_session_open(strict, &d), 0);
    expect_transport(d, "channel 0 of 2");
    vgpu_cleanup(strict);
    assert_int_equal(vgpu_session_close(b), 0);
    assert_int_equal(vgpu_session_close(c), 0);
}

static void expect_mailbox(struct vgpu_options *options, const char *why)
{
    struct vgpu *gpu;
    struct vgpu_session *session;
    assert_int_equal(vgpu_init(options, &gpu), 0);
    assert_int_equal(vgpu_session_open(gpu, &session), 0);
    expect_transport(session, "mailbox: ");
    expect_transport(session, why);
    assert_int_equal(vgpu_nop(session), 0);
    vgpu_cleanup(gpu);
}

static void test_why_not(void **state)
{
    struct fixture *f = *state;
    struct vgpu_options options = model_options(f->model);
    char path[160];
    options.transport = "mailbox";
    expect_mailbox(&options, "asked for");
    options.transport = NULL;
    options.resource2 = "/nonexistent/resource2";
    expect_mailbox(&options, "cannot be opened");
    snprintf(path, sizeof(path), "%s/short", f->model->directory);
    assert_int_equal(mknod(path, S_IFREG | 0600, 0), 0);
    options.resource2 = path;
    expect_mailbox(&options, "0 bytes");
    options.resource2 = f->model->resource2;
    options.run_dir = "/proc/nowhere";
    expect_mailbox(&options, "run directory");
    options.run_dir = f->model->run_dir;
    model_fake_register(f->model, VGPU_REG_CAPABILITIES, VGPU_CAP_MAILBOX);
    expect_mailbox(&options, "no window");
    model_fake_register(f->model, VGPU_REG_CHANNEL_COUNT, 65);
    expect_mailbox(&options, "does not know");
    model_fake_register(f->model, -1, 0);
    /* Each without a trace. */
    for (uint32_t n = 0; n < MODEL_CHANNELS; n++)
        assert_int_equal(model_read32(VGPU_REG_CHANNEL_OWNER(n)), 0);
    options.transport = "sometimes";
    struct vgpu *gpu;
    assert_int_equal(vgpu_init(&options, &gpu), -EINVAL);
}

/* A token by a program that takes no lock, and a host that lets go of nothing. */
static void test_strangers(void **state)
{
    struct fixture *f = *state;
    struct vgpu_options options = model_options(f->model);
    options.timeout_ms = 300;
    struct vgpu *gpu;
    assert_int_equal(vgpu_init(&options, &gpu), 0);
    struct vgpu_channel_port port = {0};
    /* Its register keeps saying another token than what was written. */
    model_fake_register(f->model, VGPU_REG_CHANNEL_OWNER(0), 0);
    model_write32(VGPU_REG_CHANNEL_OWNER(0), 99);
    assert_int_equal(gpu->transport->ops->claim(gpu->transport, &port), 0);
    assert_int_equal(port.number, 1);
    model_fake_register(f->model, -1, 0);
    gpu->transport->ops->release(&port, false);
    model_write32(VGPU_REG_CHANNEL_OWNER(0), 0);
    /* A host that enables nothing. */
    f->model->keeps_silent = true;
    struct vgpu_session *session;
    assert_int_equal(vgpu_session_open(gpu, &session), 0);
    expect_transport(session, "did not enable channel 0 in time");
    f->model->keeps_silent = false;
    vgpu_cleanup(gpu);
    model_reset(f->model);
}

/* ---- The end ---- */

static void test_fatal(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    f->host.hold_sync = true;
    model_break_channel(f->model, 0, VGPU_CHANNEL_BAD_RECORD);
    assert_int_equal(vgpu_synchronize(session, 0), -ESTALE);
    assert_non_null(strstr(vgpu_last_error_text(), "a record is malformed"));
    assert_int_equal(vgpu_nop(session), -ESTALE);
    assert_int_equal(vgpu_session_close(session), 0);
    session = open_one(f); /* and everything is well again */
    expect_transport(session, "channel 0 of 2");
    assert_int_equal(vgpu_nop(session), 0);
    assert_int_equal(vgpu_session_close(session), 0);
}

static uint64_t session_to_end;

/* P16: what a mediator says of a session whose worker died. */
static void handle_dead(struct model *model, const struct model_request *request)
{
    struct vgpu_request_header header;
    uint8_t bytes[VGPU_MAILBOX_BYTES];
    memcpy(&header, request->bytes, sizeof(header));
    if (session_to_end && header.opcode == VGPU_OP_SESSION_REQUEST)
        model_respond(model, request->seq, 0, bytes,
                      model_build_response(bytes, CUDA_ERROR_LAUNCH_FAILED, NULL, 0, NULL, 0));
    else
        host_handle(model, request);
}

static void test_worker_died(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    model_lock(f->model);
    f->model->handler = handle_dead;
    session_to_end = vgpu_session_number(session);
    model_unlock(f->model);
    model_break_channel(f->model, 0, VGPU_CHANNEL_SESSION_LOST);
    for (int i = 0; i < 3; i++)
        assert_int_equal(vgpu_synchronize(session, 0), CUDA_ERROR_LAUNCH_FAILED);
    assert_int_equal(vgpu_nop(session), CUDA_ERROR_LAUNCH_FAILED);
    session_to_end = 0;
    assert_int_equal(vgpu_session_close(session), 0);
}

static void test_generation(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        struct vgpu_session *session = open_one(f);
        f->host.hold_sync = true;
        if (i == 0) {
            model_lose_link(f->model);
            model_attach(f->model);
        } else {
            model_reset(f->model);
        }
        assert_int_equal(vgpu_synchronize(session, 0), -ESTALE);
        assert_int_equal(vgpu_synchronize(session, 0), -ESTALE);
        assert_int_equal(vgpu_session_close(session), 0);
        f->host.hold_sync = false;
        session = open_one(f);
        expect_transport(session, "channel 0 of 2");
        assert_int_equal(vgpu_nop(session), 0);
        assert_int_equal(vgpu_session_close(session), 0);
    }
}

/* ---- Owners that die ---- */

enum stage { CLAIMED, BOUND, ENABLED, IN_FLIGHT, STAGES };

/* Goes to a stage and stays there. */
static void child_main(const struct vgpu_options *options, enum stage stage, int ready)
{
    struct vgpu *gpu;
    struct vgpu_session *session;
    struct vgpu_channel_port port = {0};
    bool good = vgpu_init(options, &gpu) == 0;
    if (good && stage == CLAIMED) {
        good = gpu->transport->ops->claim(gpu->transport, &port) == 0;
    } else if (good) {
        gpu->way = stage == BOUND ? VGPU_WAY_MAILBOX : VGPU_WAY_CHANNEL;
        good = vgpu_session_open(gpu, &session) == 0;
    }
    if (good && stage == BOUND) {
        const uint32_t which[2] = {0, 0};
        struct vgpu_response response;
        struct vgpu_answer answer;
        struct vgpu_call call = {.what = "",
                                 .opcode = VGPU_OP_SESSION_CHANNEL,
                                 .prefix = which,
                                 .prefix_length = sizeof(which)};
        good = gpu->transport->ops->claim(gpu->transport, &port) == 0 &&
               vgpu_mailbox_call(gpu, session->number, &call, vgpu_deadline_ns(10000), &response,
                                 &answer) == 0;
    }
    if (write(ready, good ? "y" : "n", 1) == 1 && good && stage == IN_FLIGHT)
        vgpu_synchronize(session, 60000);
    for (;;)
        pause();
}

static pid_t start_child(struct fixture *f, enum stage stage)
{
    struct vgpu_options options = model_options(f->model);
    int ready[2];
    char said = 0;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0)
        child_main(&options, stage, ready[1]);
    close(ready[1]);
    ssize_t n = read(ready[0], &said, 1);
    close(ready[0]);
    if (n != 1 || said != 'y') {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        fail_msg("the child did not get to stage %d", (int)stage);
    }
    return child;
}

static void end_child(pid_t child)
{
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void test_owner_killed(void **state)
{
    struct fixture *f = *state;
    f->host.hold_sync = true;
    for (int stage = 0; stage < STAGES; stage++) {
        unsigned closed = f->host.closed_count;
        pid_t child = start_child(f, (enum stage)stage);
        uint32_t token = model_read32(VGPU_REG_CHANNEL_OWNER(0));
        assert_int_not_equal(token, 0);
        struct vgpu_session *other = open_one(f);
        expect_transport(other, "channel 1 of 2"); /* it lives: its channel is its own */
        assert_int_equal(vgpu_session_close(other), 0);
        if (stage == IN_FLIGHT)
            usleep(20000);
        end_child(child);
        assert_int_equal(model_read32(VGPU_REG_CHANNEL_OWNER(0)), token);
        other = open_one(f);
        expect_transport(other, "channel 0 of 2");
        assert_int_equal(model_read32(VGPU_REG_CHANNEL_CTRL(0)), VGPU_CHANNEL_ACTIVE);
        assert_int_not_equal(model_read32(VGPU_REG_CHANNEL_OWNER(0)), token);
        assert_int_equal(vgpu_nop(other), 0);
        assert_int_equal(vgpu_session_close(other), 0);
        /* Its session was ended, too. */
        assert_int_equal(f->host.closed_count, closed + 2 + (stage != CLAIMED));
    }
    f->host.hold_sync = false;
}

/* Both channels' owners die: one sweep frees both. */
static void test_sweep(void **state)
{
    struct fixture *f = *state;
    unsigned sessions, channels;
    pid_t a = start_child(f, ENABLED), b = start_child(f, ENABLED);
    assert_int_equal(vgpu_sweep(f->gpu, &sessions, &channels), 0);
    assert_int_equal(sessions, 0);
    assert_int_equal(channels, 0);
    end_child(a);
    end_child(b);
    assert_int_equal(vgpu_sweep(f->gpu, &sessions, &channels), 0);
    assert_int_equal(sessions, 2);
    assert_int_equal(channels, 2);
}

/* fork: the child's copy of a session touches nothing. */
static void test_fork(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    pid_t child = fork();
    if (child == 0) {
        bool good = vgpu_nop(session) == -ECHILD;
        vgpu_cleanup(f->gpu);
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(vgpu_nop(session), 0);
    assert_int_not_equal(model_read32(VGPU_REG_CHANNEL_OWNER(0)), 0);
    assert_int_equal(vgpu_session_close(session), 0);
}

/* A process that exits gives its channel back, too; threads that are still inside are told. */
static void test_farewell(void **state)
{
    struct fixture *f = *state;
    struct vgpu_session *session = open_one(f);
    vgpu_session_farewell(session, 5000);
    assert_int_equal(f->host.closed_count, 1);
    assert_int_equal(model_read32(VGPU_REG_CHANNEL_OWNER(0)), 0);
    assert_int_equal(vgpu_nop(session), CUDA_ERROR_INVALID_CONTEXT);
    struct vgpu_ticket ticket = {0};
    struct vgpu_channel_record nop = {.opcode = VGPU_RING_NOP};
    assert_int_equal(vgpu_channel_call(session->channel, &nop, &ticket), -ESTALE);
    assert_int_equal(vgpu_session_close(session), 0);
}

/* ---- vgpu-guestd ---- */

struct daemon {
    pid_t pid;
    int stop;
};

static struct daemon start_daemon(struct fixture *f, int *log)
{
    struct vgpu_guestd_options options = {.run_dir = f->model->run_dir,
                                          .resource0 = f->model->resource0,
                                          .resource2 = f->model->resource2,
                                          .timeout_ms = 5000};
    int stop[2], lines[2];
    assert_int_equal(pipe(stop), 0);
    assert_int_equal(pipe(lines), 0);
    struct daemon daemon = {.pid = fork(), .stop = stop[1]};
    if (daemon.pid == 0) {
        close(stop[1]);
        close(lines[0]);
        dup2(lines[1], STDERR_FILENO);
        _exit(vgpu_guestd_run(&options, stop[0]) == 0 ? 0 : 1);
    }
    close(stop[0]);
    close(lines[1]);
    *log = lines[0];
    return daemon;
}

/* Reads its log until a line with that text came; false: it ended before. */
static bool wait_log(int log, const char *text)
{
    char line[2048];
    size_t length = 0;
    while (length + 1 < sizeof(line)) {
        if (read(log, &line[length], 1) != 1)
            return false;
        line[length + 1] = 0;
        if (line[length++] != '\n')
            continue;
        if (strstr(line, text))
            return true;
        length = 0;
    }
    return false;
}

static int stop_daemon(struct daemon daemon, int log)
{
    int status;
    close(daemon.stop);
    assert_int_equal(waitpid(daemon.pid, &status, 0), daemon.pid);
    close(log);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* How often it was put to sleep so far, and how many ticks of processor time it has had: one who
 * looks by the clock has many of the first, one who spins of the second. */
static void read_activity(pid_t pid, long *sleeps, long *ticks)
{
    char path[64], line[512];
    unsigned long user = 0, system_time = 0;
    *sleeps = *ticks = -1;
    snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        (void)sscanf(line, "voluntary_ctxt_switches: %ld", sleeps);
    if (file)
        fclose(file);
    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    file = fopen(path, "re");
    if (file && fgets(line, sizeof(line), file) && strrchr(line, ')') &&
        sscanf(strrchr(line, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &system_time) == 2)
        *ticks = (long)(user + system_time);
    if (file)
        fclose(file);
}

static void wait_owner(uint32_t n, uint32_t want)
{
    uint64_t deadline_ns = vgpu_deadline_ns(20000);
    while (model_read32(VGPU_REG_CHANNEL_OWNER(n)) != want && vgpu_now_ns() < deadline_ns)
        usleep(1000);
    assert_int_equal(model_read32(VGPU_REG_CHANNEL_OWNER(n)), want);
}

static void test_daemon(void **state)
{
    struct fixture *f = *state;
    int log, second_log;
    f->host.hold_sync = true;
    pid_t early = start_child(f, ENABLED); /* it dies before the daemon comes */
    end_child(early);
    struct daemon daemon = start_daemon(f, &log);
    assert_true(wait_log(log, "event=swept device=\"test\" sessions=1 channels=1"));
    assert_true(wait_log(log, "event=ready"));
    /* Only one. */
    struct daemon second = start_daemon(f, &second_log);
    assert_true(wait_log(second_log, "another vgpu-guestd runs"));
    assert_int_equal(stop_daemon(second, second_log), 1);
    for (int stage = BOUND; stage < STAGES; stage++) {
        unsigned closed = f->host.closed_count;
        pid_t child = start_child(f, (enum stage)stage);
        struct vgpu_session *other = open_one(f);
        expect_transport(other, "channel 1 of 2");
        end_child(child);
        /* The channel may have been found first. */
        assert_true(wait_log(log, "event=swept device=\"test\" sessions=1"));
        wait_owner(0, 0);
        assert_int_equal(vgpu_nop(other), 0); /* who lives is left alone */
        assert_int_equal(f->host.closed_count, closed + 1);
        assert_int_equal(vgpu_session_close(other), 0);
    }
    /* When nothing happens it does nothing. A count may lag behind. */
    long sleeps, ticks, sleeps_later, ticks_later;
    usleep(1000000);
    uint64_t accesses = f->model->accesses;
    read_activity(daemon.pid, &sleeps, &ticks);
    usleep(500000);
    read_activity(daemon.pid, &sleeps_later, &ticks_later);
    assert_true(sleeps >= 0 && ticks >= 0);
    assert_in_range(sleeps_later, sleeps, sleeps + 2);
    assert_in_range(ticks_later, ticks, ticks + 2);
    assert_int_equal(f->model->accesses, accesses);
    assert_int_equal(stop_daemon(daemon, log), 0);
    f->host.hold_sync = false;
}

/* A host that does not answer is asked again, and nothing is forgotten. */
static void test_daemon_retries(void **state)
{
    struct fixture *f = *state;
    int log;
    pid_t child = start_child(f, ENABLED);
    struct daemon daemon = start_daemon(f, &log);
    assert_true(wait_log(log, "event=ready"));
    model_lose_link(f->model);
    end_child(child);
    /* The generation moved: nothing is left but the channel, whose reset needs no mediator. */
    wait_owner(0, 0);
    model_attach(f->model);
    child = start_child(f, ENABLED);
    model_fake_register(f->model, VGPU_REG_STATUS, VGPU_STATUS_BUSY); /* for ever busy */
    end_child(child);
    assert_true(wait_log(log, "event=not-swept"));
    model_fake_register(f->model, -1, 0);
    assert_true(wait_log(log, "event=swept"));
    wait_owner(0, 0);
    assert_int_equal(stop_daemon(daemon, log), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(test_requests, setup, teardown),
        VGPU_TEST_F(test_stages, setup, teardown),
        VGPU_TEST_F(test_time_out, setup, teardown),
        VGPU_TEST_F(test_run_out, setup, teardown),
        VGPU_TEST_F(test_why_not, setup, teardown),
        VGPU_TEST_F(test_strangers, setup, teardown),
        VGPU_TEST_F(test_fatal, setup, teardown),
        VGPU_TEST_F(test_worker_died, setup, teardown),
        VGPU_TEST_F(test_generation, setup, teardown),
        VGPU_TEST_F(test_owner_killed, setup, teardown),
        VGPU_TEST_F(test_sweep, setup, teardown),
        VGPU_TEST_F(test_fork, setup, teardown),
        VGPU_TEST_F(test_farewell, setup, teardown),
        VGPU_TEST_F(test_daemon, setup, teardown),
        VGPU_TEST_F(test_daemon_retries, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
