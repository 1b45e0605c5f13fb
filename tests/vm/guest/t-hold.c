/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-hold STAGE [--ptx control.ptx] [--device D] [--recover MS] [--patience MS]
 *
 * For fault tests: goes to a stage of a request, prints "STAGE name", and waits for a line on stdin
 * (the end of stdin will do). Then goes on, and prints exactly what it sees, as "SAW key=value
 * ...":
 *
 *     status, error_code  of the request that the stage is about; STATUS in words
 *     cuda                status in its response, or what the library call returned
 *     errno               0, or the library's negative errno, as a positive number
 *     generation_before, generation, link_state
 *
 * The stages:
 *
 *     before  a session is open and has memory; the request is not sent before the line came
 *     busy    a kernel is running and SYNCHRONIZE is asked over and over, so that the mailbox
 *             is BUSY nearly always; needs --ptx with a kernel `endless`; needs no line: ends
 *             when an answer is anything but "not yet", or a line came
 *     done    the request has completed; its response is read after the line came
 *     kernel  a kernel that never ends was launched; nothing is asked before the line came,
 *             then SYNCHRONIZE once; needs --ptx
 *
 * With --recover, it then opens a new session again and again until that works or MS have passed,
 * and prints "RECOVERED ms=... generation=..." or "NOT_RECOVERED ...". --patience is the library's
 * time-out, 60000 unless given. Exit status 0 when it could say what it saw, whatever that was.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/workload.h"
#include "guest/deadline.h"
#include "guest_test.h"
#include "vgpu/curesult.h"

static struct vgpu *gpu;
static struct vgpu_session *session;
static uint32_t patience_ms = 60000;

/* Whether a line came, without waiting. The end of stdin is none: a test may give us no stdin. */
static bool line_came(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char c;
    return poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &c, 1) == 1;
}

static void report(uint32_t status, uint32_t error_code, uint32_t cuda, int err, uint32_t before)
{
    uint32_t generation = 0, link = 0;
    if (vgpu_generation(gpu, &generation) < 0 || vgpu_link_state(gpu, &link) < 0)
        guest_say("note        %s", vgpu_last_error_text());
    guest_say("SAW status=%s error_code=%" PRIu32 " cuda=%" PRIu32 " errno=%d"
              " generation_before=%" PRIu32 " generation=%" PRIu32 " link_state=%" PRIu32,
              vgpu_status_text(status), error_code, cuda, -err, before, generation, link);
}

/* A request in our session, put together here so that its stages can be gone through one by one. */
static void build(struct guest_request *request, uint32_t opcode)
{
    struct {
        uint64_t session;
        struct vgpu_request_header header;
    } wrapped = {vgpu_session_number(session),
                 {.version = VGPU_PROTOCOL_VERSION, .opcode = opcode}};
    guest_request_init(request, VGPU_OP_SESSION_REQUEST, 0);
    guest_request_data(request, &wrapped, sizeof(wrapped));
}

/* Reads the response of the completed request, and reports it. */
static void read_and_report(uint32_t before)
{
    struct vgpu_response response = {0};
    struct vgpu_answer answer = {0};
    int err = vgpu_read_response(gpu, &response);
    if (err == 0 && vgpu_response_parse(response.bytes, response.length, &answer) < 0)
        err = -EBADMSG;
    if (err < 0)
        guest_say("note        %s", vgpu_last_error_text());
    report(err == 0 ? response.status : UINT32_MAX, response.error_code, answer.status, err,
           before);
}

static void stage_before(uint32_t before)
{
    struct guest_request request;
    build(&request, VGPU_OP_NOP);
    guest_say("STAGE before");
    guest_wait_line();
    int err = vgpu_send_request(gpu, request.bytes, request.length, 0, patience_ms);
    if (err == 0)
        err = vgpu_poll_status(gpu, patience_ms, NULL);
    if (err == 0) {
        read_and_report(before);
    } else {
        guest_say("note        %s", vgpu_last_error_text());
        report(UINT32_MAX, 0, 0, err, before);
        vgpu_abandon_request(gpu);
    }
}

static void stage_done(uint32_t before)
{
    struct guest_request request;
    build(&request, VGPU_OP_NOP);
    int err = vgpu_send_request(gpu, request.bytes, request.length, 0, patience_ms);
    if (err == 0)
        err = vgpu_poll_status(gpu, patience_ms, NULL);
    guest_say("STAGE done");
    guest_wait_line();
    if (err == 0)
        read_and_report(before);
    else
        report(UINT32_MAX, 0, 0, err, before);
}

static void stage_busy(uint32_t before)
{
    struct guest_request request;
    struct vgpu_response response;
    struct vgpu_answer answer;
    bool announced = false;
    build(&request, VGPU_OP_SYNCHRONIZE);
    uint32_t request_id = vgpu_next_request_id(gpu);
    for (;;) {
        int err = vgpu_send_request(gpu, request.bytes, request.length, request_id, patience_ms);
        if (err == 0 && !announced)
            guest_say("STAGE busy");
        announced = true;
        if (err == 0)
            err = vgpu_poll_status(gpu, patience_ms, NULL);
        if (err == 0)
            err = vgpu_read_response(gpu, &response);
        if (err == 0)
            err = vgpu_response_parse(response.bytes, response.length, &answer);
        if (err < 0) {
            guest_say("note        %s", vgpu_last_error_text());
            report(UINT32_MAX, 0, 0, err, before);
            vgpu_abandon_request(gpu);
            return;
        }
        if (response.error_code || answer.status != CUDA_ERROR_NOT_READY || line_came()) {
            report(response.status, response.error_code, answer.status, 0, before);
            return;
        }
    }
}

static void stage_kernel(uint32_t before)
{
    guest_say("STAGE kernel");
    guest_wait_line();
    int err = vgpu_synchronize(session, patience_ms);
    if (err != 0)
        guest_say("note        %s", vgpu_last_error_text());
    report(UINT32_MAX, 0, err > 0 ? (uint32_t)err : 0, err < 0 ? err : 0, before);
}

/* Launches the kernel that waits for a word that nobody writes. */
static bool launch_endless(const char *path)
{
    char why[256];
    size_t length;
    uint64_t flag, module;
    struct vgpu_function function;
    char *image = path ? workload_read_file(path, &length, why, sizeof(why)) : NULL;
    if (!image) {
        fprintf(stderr, "t-hold: %s\n", path ? why : "this stage needs --ptx FILE");
        return false;
    }
    bool good = vgpu_memory_alloc(session, 4, &flag) == 0 &&
                vgpu_module_load(session, image, length, &module) == 0 &&
                vgpu_module_function(session, module, "endless", &function, NULL, 0) == 0;
    free(image);
    struct vgpu_launch launch = {.function = good ? function.handle : 0,
                                 .grid = {1, 1, 1},
                                 .block = {1, 1, 1},
                                 .arguments = &flag,
                                 .argument_bytes = sizeof(flag)};
    good = good && vgpu_launch(session, &launch) == 0;
    if (!good)
        fprintf(stderr, "t-hold: %s\n", vgpu_last_error_text());
    return good;
}

static void recover(uint64_t recover_ms)
{
    uint64_t start = vgpu_now_ns(), deadline_ns = start + recover_ms * 1000000u;
    uint32_t generation = 0;
    int err;
    do {
        struct vgpu_session *fresh;
        err = vgpu_session_open(gpu, &fresh);
        if (err == 0) {
            err = vgpu_nop(fresh);
            vgpu_session_close(fresh);
        }
        if (err != 0)
            nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    } while (err != 0 && vgpu_now_ns() < deadline_ns);
    vgpu_generation(gpu, &generation);
    guest_say("%s ms=%" PRIu64 " generation=%" PRIu32 "%s%s",
              err == 0 ? "RECOVERED" : "NOT_RECOVERED", (vgpu_now_ns() - start) / 1000000u,
              generation, err ? " why=" : "", err ? vgpu_last_error_text() : "");
}

int main(int argc, char **argv)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    const char *stage = argc > 1 ? argv[1] : "", *ptx = NULL, *value;
    uint64_t recover_ms = 0, patience = patience_ms, address;
    static const char *const stages[] = {"before", "busy", "done", "kernel"};
    bool known = false;
    for (int i = 0; i < 4; i++)
        known = known || strcmp(stage, stages[i]) == 0;
    for (int i = 2; known && i < argc; i++) {
        if (cli_option(argc, argv, &i, "--ptx", &value))
            known = (ptx = value) != NULL;
        else if (cli_option(argc, argv, &i, "--device", &value))
            known = (options.device = value) != NULL;
        else if (cli_option(argc, argv, &i, "--recover", &value))
            known = cli_number(value, 1, 600000, &recover_ms);
        else if (cli_option(argc, argv, &i, "--patience", &value))
            known = cli_number(value, 1, 600000, &patience);
        else
            known = false;
    }
    if (!known) {
        fprintf(stderr, "t-hold: wrong arguments; see the top of t-hold.c\n");
        return 2;
    }
    patience_ms = (uint32_t)patience;
    options.timeout_ms = patience_ms;
    gpu = guest_open("t-hold", &options);
    uint32_t before = 0;
    bool good = vgpu_session_open(gpu, &session) == 0;
    good = good && vgpu_memory_alloc(session, 1 << 20, &address) == 0 &&
           vgpu_generation(gpu, &before) == 0;
    if (!good)
        fprintf(stderr, "t-hold: %s\n", vgpu_last_error_text());
    if (good && (strcmp(stage, "busy") == 0 || strcmp(stage, "kernel") == 0))
        good = launch_endless(ptx);
    if (good) {
        if (strcmp(stage, "before") == 0)
            stage_before(before);
        else if (strcmp(stage, "busy") == 0)
            stage_busy(before);
        else if (strcmp(stage, "done") == 0)
            stage_done(before);
        else
            stage_kernel(before);
        if (recover_ms)
            recover(recover_ms);
    }
    vgpu_cleanup(gpu);
    return good ? 0 : 1;
}
