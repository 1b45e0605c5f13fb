/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-sharing [--device D] [--processes N] [--threads N] [--rounds N]
 *
 * Many programs of one VM on one mailbox: each has its own session and sees only its own data. Some
 * are killed, in the midst of a request and in the midst of a session; the others notice nothing,
 * and the next opener ends what the dead left.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest_test.h"
#include "vgpu/curesult.h"

#define MEMORY_BYTES 5000u

static struct vgpu_options options = VGPU_OPTIONS_INIT;
static unsigned rounds = 5;

/* One thread's work in a session of its own: true when all it read was what it wrote. */
static bool work(struct vgpu *gpu, uint32_t seed)
{
    struct vgpu_session *session;
    uint64_t address;
    uint8_t out[MEMORY_BYTES], back[MEMORY_BYTES];
    if (vgpu_session_open(gpu, &session) != 0) {
        guest_say("note        %s", vgpu_last_error_text());
        return false;
    }
    bool good = vgpu_memory_alloc(session, MEMORY_BYTES, &address) == 0;
    for (unsigned round = 0; good && round < rounds; round++) {
        for (uint32_t i = 0; i < MEMORY_BYTES; i++)
            out[i] = (uint8_t)(seed * 31 + round * 7 + i);
        good = vgpu_copy_to_device(session, address, out, MEMORY_BYTES) == 0 &&
               vgpu_synchronize(session, 0) == 0 &&
               vgpu_copy_from_device(session, back, address, MEMORY_BYTES) == 0;
        if (!good)
            guest_say("note        %s", vgpu_last_error_text());
        else if (memcmp(out, back, MEMORY_BYTES) != 0) {
            guest_say("note        worker %" PRIu32 " read what it did not write", seed);
            good = false;
        }
    }
    return vgpu_session_close(session) == 0 && good;
}

struct job {
    struct vgpu *gpu;
    uint32_t seed;
    bool good;
};

static void *work_thread(void *opaque)
{
    struct job *job = opaque;
    job->good = work(job->gpu, job->seed);
    return NULL;
}

/* A whole program: opens the device, runs its threads. Returns its exit status. */
static int program(uint32_t seed, unsigned threads)
{
    struct vgpu *gpu;
    struct job jobs[16];
    pthread_t ids[16];
    bool good = true;
    if (vgpu_init(&options, &gpu) != 0)
        return 1;
    for (unsigned i = 0; i < threads; i++) {
        jobs[i] = (struct job){.gpu = gpu, .seed = seed * 16 + i};
        if (pthread_create(&ids[i], NULL, work_thread, &jobs[i]) != 0)
            return 1;
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        good = good && jobs[i].good;
    }
    vgpu_cleanup(gpu);
    return good ? 0 : 1;
}

/*
 * Opens a session, tells its number, then is in the way until it is killed: with the mailbox locked
 * and a request sent, or idle with memory allocated.
 */
static void victim(int report, bool in_request)
{
    struct vgpu *gpu;
    struct vgpu_session *session;
    struct vgpu_request_header nop = {.version = VGPU_PROTOCOL_VERSION, .opcode = VGPU_OP_NOP};
    uint64_t address, number = 0;
    if (vgpu_init(&options, &gpu) == 0 && vgpu_session_open(gpu, &session) == 0 &&
        vgpu_memory_alloc(session, 1 << 20, &address) == 0 &&
        (!in_request || vgpu_send_request(gpu, &nop, sizeof(nop), 0, 0) == 0))
        number = vgpu_session_number(session);
    if (write(report, &number, sizeof(number)) != sizeof(number))
        _exit(1);
    for (;;)
        pause();
}

/* Starts a victim and kills it where it said it is. Returns its session's number, 0 on failure. */
static uint64_t kill_one(bool in_request)
{
    int fds[2];
    uint64_t number = 0;
    if (pipe(fds) < 0)
        return 0;
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        victim(fds[1], in_request);
    }
    close(fds[1]);
    if (pid < 0 || read(fds[0], &number, sizeof(number)) != sizeof(number))
        number = 0;
    close(fds[0]);
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return number;
}

/* Status of a NOP in the session of that number. */
static uint32_t ask_session(struct vgpu *gpu, uint64_t number)
{
    struct {
        uint64_t session;
        struct vgpu_request_header nop;
    } wrapped = {number, {.version = VGPU_PROTOCOL_VERSION, .opcode = VGPU_OP_NOP}};
    struct guest_request request;
    struct vgpu_response response;
    struct vgpu_answer answer;
    guest_request_init(&request, VGPU_OP_SESSION_REQUEST, 0);
    guest_request_data(&request, &wrapped, sizeof(wrapped));
    if (!guest_exchange(gpu, &request, &response, &answer) || response.error_code)
        return UINT32_MAX;
    return answer.status;
}

static unsigned run_programs(unsigned processes, unsigned threads)
{
    unsigned good = 0;
    pid_t pids[16];
    for (unsigned i = 0; i < processes; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(program(i + 1, threads));
    }
    for (unsigned i = 0; i < processes; i++) {
        int status;
        if (pids[i] > 0 && waitpid(pids[i], &status, 0) == pids[i] && WIFEXITED(status) &&
            WEXITSTATUS(status) == 0)
            good++;
    }
    return good;
}

static void test_deaths(void)
{
    struct vgpu *gpu;
    struct vgpu_session *session;
    uint64_t in_request = kill_one(true), in_session = kill_one(false);
    guest_check(in_request && in_session, "P14",
                "two programs were killed, in a request and in a "
                "session");
    if (vgpu_init(&options, &gpu) != 0) {
        guest_check(false, "P14", "%s", vgpu_last_error_text());
        return;
    }
    guest_check(ask_session(gpu, in_session) == 0, "P14",
                "a dead program's session is still open on the host");
    bool opened = vgpu_session_open(gpu, &session) == 0;
    if (!guest_check(opened, "P14", "the next program opens a session%s%s", opened ? "" : ": ",
                     opened ? "" : vgpu_last_error_text()))
        goto out;
    const char *why;
    bool recorded = vgpu_session_recorded(session, &why);
    guest_check(recorded, "P14", "which is recorded%s%s", *why ? ": " : "", why);
    guest_check(ask_session(gpu, in_request) == CUDA_ERROR_INVALID_CONTEXT, "P14",
                "and ended the session of the one killed in a request");
    guest_check(ask_session(gpu, in_session) == CUDA_ERROR_INVALID_CONTEXT, "P14",
                "and of the one killed in a session");
    guest_check(vgpu_nop(session) == 0, "P14", "its own goes on");
    vgpu_session_close(session);
out:
    vgpu_cleanup(gpu);
}

int main(int argc, char **argv)
{
    const char *value;
    uint64_t processes = 4, threads = 2, count = rounds;
    for (int i = 1; i < argc; i++) {
        bool good = true;
        if (cli_option(argc, argv, &i, "--device", &value))
            good = (options.device = value) != NULL;
        else if (cli_option(argc, argv, &i, "--processes", &value))
            good = cli_number(value, 1, 16, &processes);
        else if (cli_option(argc, argv, &i, "--threads", &value))
            good = cli_number(value, 1, 16, &threads);
        else if (cli_option(argc, argv, &i, "--rounds", &value))
            good = cli_number(value, 1, 1000000, &count);
        else
            good = false;
        if (!good) {
            fprintf(stderr, "t-sharing: wrong arguments; see the top of t-sharing.c\n");
            return 2;
        }
    }
    rounds = (unsigned)count;
    /* Only to be skipped where there is no device. */
    vgpu_cleanup(guest_open("t-sharing", &options));
    unsigned good = run_programs((unsigned)processes, (unsigned)threads);
    guest_check(good == processes, "P14", "%u of %u programs of %u threads read what they wrote",
                good, (unsigned)processes, (unsigned)threads);
    test_deaths();
    good = run_programs((unsigned)processes, 1);
    guest_check(good == processes, "P14", "and %u of %u after that", good, (unsigned)processes);
    return guest_finish("t-sharing", NULL);
}
