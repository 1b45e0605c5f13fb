/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mailbox: round trips, bytes a second, and the device model beside a bare relay. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "guest/deadline.h"
#include "guest/vgpu_mmio_client.h"
#include "vgpu/curesult.h"

#define WARM_UP         200u
#define BATCH           50u /* samples of one kind before the other kind's turn */
#define PIECE_TO_DEVICE 960u
#define REGION_BYTES    (1u << 20)

/* ---- Paths through libvgpu ---- */

bool bench_library_exchange(void *state, const void *request, uint32_t length, uint8_t *response,
                            uint32_t *response_length, uint32_t *error_code, uint64_t *ns)
{
    static struct vgpu_response answer;
    struct vgpu_answer parts;
    uint64_t start = vgpu_now_ns();
    const uint32_t id = vgpu_next_request_id(state);
    do { /* under the same number while the host says "not yet" (P11): a GPU's context takes a while
          */
        if (vgpu_execute_request(state, request, length, id, 0, &answer) < 0) {
            fprintf(stderr, "vgpu-bench: %s\n", vgpu_last_error_text());
            return false;
        }
    } while (!answer.error_code && vgpu_response_parse(answer.bytes, answer.length, &parts) == 0 &&
             parts.status == CUDA_ERROR_NOT_READY);
    *ns += vgpu_now_ns() - start;
    memcpy(response, answer.bytes, answer.length);
    *response_length = answer.length;
    *error_code = answer.error_code;
    return true;
}

/* ---- Figures ---- */

bool bench_goes_on(const struct bench_settings *settings, uint64_t done, uint64_t start_ns)
{
    if (bench_stopped())
        return false;
    if (settings->count)
        return done < settings->count;
    return vgpu_now_ns() - start_ns < settings->seconds * 1000000000u;
}

/* One exchange whose answer must be a success. */
static bool good_exchange(const struct bench_path *path, const uint8_t *request, uint32_t length,
                          struct vgpu_answer *answer, uint64_t *ns)
{
    static uint8_t response[VGPU_MAILBOX_BYTES];
    uint32_t response_length = 0, error_code = 0;
    if (!path->exchange(path->state, request, length, response, &response_length, &error_code, ns))
        return false;
    if (vgpu_response_parse(response, response_length, answer) < 0) {
        fprintf(stderr, "vgpu-bench: %s\n", vgpu_last_error_text());
        return false;
    }
    if (error_code || answer->status) {
        fprintf(stderr, "vgpu-bench: a request failed: error %" PRIu32 " (%s), %s\n", error_code,
                vgpu_error_code_text(error_code), vgpu_result_name(answer->status));
        return false;
    }
    return true;
}

bool bench_mailbox_nop(const struct bench_settings *settings, const struct bench_path *path,
                       struct bench_samples *samples)
{
    uint8_t request[VGPU_MAILBOX_BYTES];
    struct vgpu_answer answer;
    uint32_t length = bench_build_nop(request);
    uint64_t ignored = 0;
    for (unsigned i = 0; i < WARM_UP; i++)
        if (!good_exchange(path, request, length, &answer, &ignored))
            return false;
    uint64_t start = vgpu_now_ns();
    for (uint64_t i = 0; bench_goes_on(settings, i, start); i++) {
        uint64_t ns = 0;
        if (!good_exchange(path, request, length, &answer, &ns))
            return false;
        bench_add(samples, ns);
    }
    return true;
}

/* A request of session 0 with two u64 or fewer as parameters, and data. Returns its length. */
static uint32_t build(uint8_t request[VGPU_MAILBOX_BYTES], uint32_t opcode, const uint32_t *params,
                      uint32_t count, uint32_t data_length)
{
    uint32_t offset = ((uint32_t)sizeof(struct vgpu_request_header) + count * 4 + 7) & ~7u;
    struct vgpu_request_header header = {.version = VGPU_PROTOCOL_VERSION,
                                         .opcode = opcode,
                                         .param_count = count,
                                         .data_offset = data_length ? offset : 0,
                                         .data_length = data_length};
    memset(request, 0, offset);
    memcpy(request, &header, sizeof(header));
    memcpy(request + sizeof(header), params, (size_t)count * 4);
    memset(request + offset, 0x5A, data_length);
    return offset + data_length;
}

/* Copies one piece after another, round and round in one region. */
static bool measure_copy(const struct bench_settings *settings, const struct bench_path *path,
                         uint64_t address, bool to_device, double *bytes_per_s, uint64_t *requests)
{
    uint8_t request[VGPU_MAILBOX_BYTES];
    struct vgpu_answer answer;
    uint64_t ignored = 0, bytes = 0, at = 0, done = 0, start = vgpu_now_ns();
    const uint32_t piece = to_device ? PIECE_TO_DEVICE : VGPU_PIECE_FROM_DEVICE;
    for (; bench_goes_on(settings, done, start); done++) {
        uint64_t here = address + at;
        uint32_t low = (uint32_t)here, high = (uint32_t)(here >> 32);
        const uint32_t params[VGPU_COPY_PARAM_COUNT] = {to_device ? VGPU_COPY_HTOD : VGPU_COPY_DTOH,
                                                        to_device ? low : 0,
                                                        to_device ? high : 0,
                                                        to_device ? 0 : low,
                                                        to_device ? 0 : high,
                                                        piece,
                                                        0};
        uint32_t length = build(request, VGPU_OP_MEMORY_COPY, params, VGPU_COPY_PARAM_COUNT,
                                to_device ? piece : 0);
        if (!good_exchange(path, request, length, &answer, &ignored))
            return false;
        if (!to_device && answer.data_length != piece) {
            fprintf(stderr, "vgpu-bench: a copy brought %" PRIu32 " bytes, not %" PRIu32 "\n",
                    answer.data_length, piece);
            return false;
        }
        bytes += piece;
        at = at + 2 * piece <= REGION_BYTES ? at + piece : 0;
    }
    *bytes_per_s = (double)bytes * 1e9 / (double)(vgpu_now_ns() - start);
    *requests = done;
    return true;
}

static void print_summary(const char *name, const struct bench_summary *s)
{
    printf("%-10s n=%zu  min %.1f  median %.1f  p90 %.1f  p99 %.1f  max %.1f us\n", name, s->count,
           s->min_us, s->median_us, s->p90_us, s->p99_us, s->max_us);
}

static void json_summary(const char *name, const struct bench_summary *s)
{
    printf("\"%s\": {\"count\": %zu, \"min_us\": %.3f, \"median_us\": %.3f, \"p90_us\": %.3f, "
           "\"p99_us\": %.3f, \"max_us\": %.3f}",
           name, s->count, s->min_us, s->median_us, s->p90_us, s->p99_us, s->max_us);
}

bool bench_mailbox_copies(const struct bench_settings *settings, const struct bench_path *path,
                          struct bench_mailbox_rates *rates)
{
    struct vgpu_answer answer;
    uint8_t request[VGPU_MAILBOX_BYTES];
    uint64_t ignored = 0;
    const uint32_t size[2] = {REGION_BYTES, 0};
    if (!good_exchange(path, request, build(request, VGPU_OP_MEMORY_ALLOC, size, 2, 0), &answer,
                       &ignored))
        return false;
    uint64_t address = vgpu_answer_u64(&answer, VGPU_ALLOC_RESULT_ADDRESS_LO);
    const uint32_t params[2] = {(uint32_t)address, (uint32_t)(address >> 32)};
    bool good =
        measure_copy(settings, path, address, true, &rates->to_bytes_per_s, &rates->to_count) &&
        measure_copy(settings, path, address, false, &rates->from_bytes_per_s, &rates->from_count);
    return good_exchange(path, request, build(request, VGPU_OP_MEMORY_FREE, params, 2, 0), &answer,
                         &ignored) &&
           good;
}

bool bench_run_mailbox(const struct bench_settings *settings, const struct bench_path *path)
{
    struct bench_samples samples = {0};
    struct bench_mailbox_rates rates = {0};
    bool good =
        bench_mailbox_nop(settings, path, &samples) && bench_mailbox_copies(settings, path, &rates);
    good = good && !bench_stopped(); /* half a measurement is none */
    if (good) {
        struct bench_summary nop = bench_summarize(&samples);
        if (settings->json) {
            printf("{\"benchmark\": \"mailbox\", \"transport\": \"%s\", ", path->name);
            json_summary("nop", &nop);
            printf(", \"to_device\": {\"bytes_per_s\": %.0f, \"piece_bytes\": %u, \"count\": "
                   "%" PRIu64 "}, \"from_device\": {\"bytes_per_s\": %.0f, \"piece_bytes\": %u, "
                   "\"count\": %" PRIu64 "}}\n",
                   rates.to_bytes_per_s, PIECE_TO_DEVICE, rates.to_count, rates.from_bytes_per_s,
                   VGPU_PIECE_FROM_DEVICE, rates.from_count);
        } else {
            printf("transport  %s\n", path->name);
            print_summary("NOP", &nop);
            printf("to device  %.2f MB/s in pieces of %u bytes, n=%" PRIu64 "\n",
                   rates.to_bytes_per_s / 1e6, PIECE_TO_DEVICE, rates.to_count);
            printf("from       %.2f MB/s in pieces of %u bytes, n=%" PRIu64 "\n",
                   rates.from_bytes_per_s / 1e6, VGPU_PIECE_FROM_DEVICE, rates.from_count);
        }
    }
    bench_free(&samples);
    return good;
}

bool bench_run_relay(const struct bench_settings *settings, const struct bench_path *path)
{
    struct bench_samples device = {0}, bare = {0};
    uint8_t request[VGPU_MAILBOX_BYTES];
    struct vgpu_answer answer;
    uint64_t ignored = 0;
    uint32_t length = bench_build_nop(request);
    struct bench_relay *relay = bench_relay_open(length, sizeof(struct vgpu_response_header));
    bool good = relay != NULL;
    for (unsigned i = 0; good && i < WARM_UP; i++)
        good = good_exchange(path, request, length, &answer, &ignored) &&
               bench_relay_round(relay, &ignored);
    uint64_t start = vgpu_now_ns();
    /* In turns, so that whatever else the machine does falls on both alike. */
    for (uint64_t done = 0; good && bench_goes_on(settings, done, start); done += BATCH) {
        for (unsigned i = 0; good && i < BATCH; i++) {
            uint64_t ns = 0;
            good = good_exchange(path, request, length, &answer, &ns);
            bench_add(&device, ns);
        }
        for (unsigned i = 0; good && i < BATCH; i++) {
            uint64_t ns = 0;
            good = bench_relay_round(relay, &ns);
            if (!good)
                fprintf(stderr, "vgpu-bench: the relay broke\n");
            bench_add(&bare, ns);
        }
    }
    good = good && !bench_stopped();
    if (good) {
        struct bench_summary a = bench_summarize(&device), b = bench_summarize(&bare);
        double ratio = b.median_us > 0 ? a.median_us / b.median_us : 0;
        if (settings->json) {
            printf("{\"benchmark\": \"relay\", ");
            json_summary("device", &a);
            printf(", ");
            json_summary("relay", &b);
            printf(", \"ratio_of_medians\": %.3f, \"goal\": 1.5}\n", ratio);
        } else {
            print_summary("device", &a);
            print_summary("relay", &b);
            printf("ratio      %.2f of the medians (goal: at most 1.5)\n", ratio);
        }
    }
    bench_relay_close(relay);
    bench_free(&device);
    bench_free(&bare);
    return good;
}
