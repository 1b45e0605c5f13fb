/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a channel costs a program: records of the ring through libvgpu's own channel code, with the
 * mailbox beside it on the same session.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/bench_channel.h"
#include "guest/channel.h"
#include "guest/deadline.h"

/* Posts that fit the ring while the worker does nothing, and a sample's share of them: reading the
 * clock costs a quarter of a post. */
#define BURST       1024u
#define BATCH       16u
#define STREAM      100000u  /* posts of one end-to-end sample */
#define ASLEEP_NS   20000000 /* longer than any worker polls */
#define TRIES       20u      /* calls for each sample of a worker that polls, or sleeps */
#define POST_GOAL   100.0
#define RATE_GOAL   8e6
#define CALL_GOAL   1500.0
#define ASLEEP_GOAL 1.5

struct bench {
    const struct bench_settings *settings;
    struct vgpu *gpu;
    struct vgpu_channel *channel;
    uint64_t session;
};

static bool failed(const char *what)
{
    fprintf(stderr, "vgpu-bench: %s: %s\n", what, vgpu_last_error_text());
    return false;
}

/* ---- A session that we number ourselves, so that the mailbox can carry its requests too ---- */

static bool session_request(struct bench *bench, uint32_t opcode)
{
    struct {
        struct vgpu_request_header header;
        struct vgpu_session_prefix prefix;
    } request = {{.version = VGPU_PROTOCOL_VERSION,
                  .opcode = opcode,
                  .data_offset = sizeof(struct vgpu_request_header),
                  .data_length = sizeof(struct vgpu_session_prefix)},
                 {.session = bench->session}};
    struct vgpu_response response;
    struct vgpu_answer answer;
    if (vgpu_execute_request(bench->gpu, &request, sizeof(request), 0, 0, &response) < 0 ||
        vgpu_response_parse(response.bytes, response.length, &answer) < 0)
        return failed("the session");
    if (response.error_code || answer.status) {
        fprintf(stderr, "vgpu-bench: the session: error %" PRIu32 " (%s), %s\n",
                response.error_code, vgpu_error_code_text(response.error_code),
                vgpu_result_name(answer.status));
        return false;
    }
    return true;
}

/* ---- Figures ---- */

static const struct vgpu_channel_record nop = {.opcode = VGPU_RING_NOP};

static bool post(struct bench *bench)
{
    return vgpu_channel_post(bench->channel, &nop) == 0 || failed("a post");
}

static bool call(struct bench *bench)
{
    struct vgpu_ticket ticket = {0};
    if (vgpu_channel_call(bench->channel, &nop, &ticket) < 0)
        return failed("a call");
    if (ticket.status || ticket.error_code) {
        fprintf(stderr, "vgpu-bench: a NOP was answered %" PRIu32 ", error %" PRIu32 "\n",
                ticket.status, ticket.error_code);
        return false;
    }
    return true;
}

static bool measure_post(struct bench *bench, struct bench_samples *samples)
{
    uint64_t start = vgpu_now_ns();
    for (uint64_t done = 0; bench_goes_on(bench->settings, done, start); done += BURST) {
        if (!call(bench)) /* the ring is empty, the worker awake */
            return false;
        for (unsigned i = 0; i < BURST; i += BATCH) {
            uint64_t begin = vgpu_now_ns();
            for (unsigned k = 0; k < BATCH; k++)
                if (!post(bench))
                    return false;
            bench_add(samples, (vgpu_now_ns() - begin) / BATCH);
        }
    }
    return call(bench);
}

/* Until the last one has been executed: its successor is answered, and records run in order. */
static bool measure_stream(struct bench *bench, struct bench_samples *samples)
{
    uint64_t start = vgpu_now_ns();
    for (uint64_t done = 0; bench_goes_on(bench->settings, done, start); done += STREAM) {
        uint64_t begin = vgpu_now_ns();
        for (unsigned i = 0; i < STREAM; i++)
            if (!post(bench))
                return false;
        if (!call(bench))
            return false;
        bench_add(samples, vgpu_now_ns() - begin);
    }
    return true;
}

static uint64_t doorbells(struct bench *bench)
{
    struct vgpu_channel_statistics statistics = {0};
    vgpu_channel_read_statistics(bench->channel, &statistics);
    return statistics.doorbells;
}

/* Calls that found the worker polling: on a busy machine perhaps none. */
static bool measure_call(struct bench *bench, struct bench_samples *samples)
{
    const uint64_t most = bench->settings->count ? bench->settings->count * TRIES : UINT64_MAX;
    uint64_t start = vgpu_now_ns();
    for (uint64_t i = 0; i < most && bench_goes_on(bench->settings, samples->count, start); i++) {
        uint64_t before = doorbells(bench), begin = vgpu_now_ns();
        if (!call(bench))
            return false;
        uint64_t ns = vgpu_now_ns() - begin;
        if (doorbells(bench) == before)
            bench_add(samples, ns);
    }
    return true;
}

/* Calls after a pause, which needed the doorbell, and in turns with them the wake-up of a process
 * that has slept as long. */
static bool measure_asleep(struct bench *bench, struct bench_samples *samples,
                           struct bench_samples *bare)
{
    const struct timespec pause = {.tv_nsec = ASLEEP_NS};
    struct bench_wake *wake = bench_wake_open();
    bool good = wake != NULL;
    uint64_t start = vgpu_now_ns();
    while (good && bench_goes_on(bench->settings, bare->count, start)) {
        uint64_t bare_ns = 0;
        nanosleep(&pause, NULL);
        uint64_t before = doorbells(bench), begin = vgpu_now_ns();
        good = call(bench);
        uint64_t ns = vgpu_now_ns() - begin;
        if (doorbells(bench) != before)
            bench_add(samples, ns);
        nanosleep(&pause, NULL);
        if (good && bench_wake_round(wake, &bare_ns))
            bench_add(bare, bare_ns);
    }
    bench_wake_close(wake);
    return good;
}

static struct bench_row *add(struct bench_report *report, const char *key, const char *title,
                             enum bench_unit unit, struct bench_samples *samples, double amount)
{
    struct bench_row *row =
        bench_report_samples(report, key, title, unit, samples->ns, samples->count, amount);
    bench_free(samples);
    return row;
}

static bool measure_mailbox(const struct bench_settings *settings, struct vgpu *gpu,
                            struct bench_report *report)
{
    struct bench_path path = {.name = "mailbox", .state = gpu, .exchange = bench_library_exchange};
    struct bench_samples samples = {0};
    struct bench_mailbox_rates rates = {0};
    bool good = bench_mailbox_nop(settings, &path, &samples) &&
                bench_mailbox_copies(settings, &path, &rates);
    add(report, "mailbox_nop", "mailbox: NOP", BENCH_TIME, &samples, 0);
    if (good) {
        bench_report_value(report, "mailbox_to", "mailbox: copy to the device", BENCH_BYTES,
                           rates.to_bytes_per_s);
        bench_report_value(report, "mailbox_from", "mailbox: copy back", BENCH_BYTES,
                           rates.from_bytes_per_s);
    }
    return good;
}

static bool measure_channel(struct bench *bench, bool local, const struct vgpu_floors *floors,
                            struct bench_report *report)
{
    struct bench_samples samples = {0}, bare = {0};
    struct bench_row *row;
    bool good = measure_post(bench, &samples);
    row = add(report, "post", "post a call without result", BENCH_TIME, &samples, 0);
    bench_row_beside(row, floors->post_ns, "bare ring");
    if (local)
        bench_row_goal(row, BENCH_AT_MOST, POST_GOAL, "%s", "");
    good = good && measure_stream(bench, &samples);
    row = add(report, "posts", "posted calls, end to end", BENCH_RATE, &samples, STREAM + 1);
    bench_row_beside(row, floors->records_per_s, "bare ring");
    if (local)
        bench_row_goal(row, BENCH_AT_LEAST, RATE_GOAL, "%s", "");
    good = good && measure_call(bench, &samples);
    row = add(report, "nop", "call, worker polling", BENCH_TIME, &samples, 0);
    bench_row_beside(row, floors->pingpong_ns, "cache line there and back");
    if (local)
        bench_row_goal(row, BENCH_AT_MOST, CALL_GOAL, "%s", "");
    good = good && measure_asleep(bench, &samples, &bare);
    row = add(report, "nop_asleep", "call, worker asleep", BENCH_TIME, &samples, 0);
    bench_summarize(&bare);
    if (bare.count && local) {
        const size_t middle = bare.count / 2;
        double median_ns = (double)bare.ns[middle];
        bench_row_beside(row, median_ns, "eventfd there and back");
        bench_row_goal(row, BENCH_AT_MOST, ASLEEP_GOAL * median_ns,
                       "%.1f x an eventfd there and back", ASLEEP_GOAL);
    }
    add(report, "eventfd", "  eventfd after the same pause", BENCH_TIME, &bare, 0);
    if (local)
        bench_report_note(report, "eventfd there and back without a pause: %.1f us",
                          floors->eventfd_roundtrip_ns / 1000);
    return good;
}

bool bench_channel_measure(const struct bench_settings *settings, struct vgpu *gpu, bool local,
                           const struct vgpu_floors *floors, struct bench_report *report)
{
    struct bench bench = {.settings = settings, .gpu = gpu};
    struct vgpu_channel_statistics statistics = {0};
    uint32_t seed = vgpu_next_request_id(gpu);
    bench.session = (uint64_t)seed << 32 | (uint32_t)vgpu_now_ns() | 1;
    if (!measure_mailbox(settings, gpu, report) || !session_request(&bench, VGPU_OP_SESSION_OPEN))
        return false;
    bool good = vgpu_channel_open(gpu, bench.session, &bench.channel) == 0;
    if (good) {
        good = measure_channel(&bench, local, floors, report);
        vgpu_channel_read_statistics(bench.channel, &statistics);
        bench_report_note(report,
                          "channel: %" PRIu64 " posts, %" PRIu64 " calls, %" PRIu64
                          " doorbells, %" PRIu64 " waits for room, %" PRIu64 " sleeps",
                          statistics.posts, statistics.calls, statistics.doorbells,
                          statistics.full_waits, statistics.sleeps);
        vgpu_channel_close(bench.channel, false);
    } else {
        failed("no channel");
    }
    return session_request(&bench, VGPU_OP_SESSION_CLOSE) && good;
}
