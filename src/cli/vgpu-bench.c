/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-bench: how long a request takes, and how many bytes a second go each way. Measures and
 * reports; what is fast enough is for the reader to say.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/cli.h"
#include "config.h"
#include "guest/deadline.h"
#include "guest/vgpu_mmio_client.h"

#define WARM_UP         200u
#define BATCH           50u /* samples of one kind before the other kind's turn */
#define PIECE_TO_DEVICE 960u
#define REGION_BYTES    (1u << 20)

static const char usage[] =
    "usage: vgpu-bench mailbox [--transport pci|local|device] [options]\n"
    "       vgpu-bench relay [options]\n"
    "\n"
    "mailbox: round trip of a NOP, and bytes a second to and from device memory.\n"
    "  --transport pci     through the PCI device of this VM (default)\n"
    "  --transport local   through a mediator's own socket on this host\n"
    "  --transport device  through the device model in this process, no hypervisor\n"
    "relay:   the device model to a mediator, and a bare relay over the same number of sockets,\n"
    "         sample by sample in turns; prints the ratio of the medians.\n"
    "options:\n"
    "  --device D          pci:ADDRESS or local:SOCKET\n"
    "  --mediator-dir DIR  relay, device: a directory that a running mediator watches\n"
    "                      (without it, or for local without --device, one is started)\n"
    "  --vm-id N           relay, device: of the device model; default: this process's id\n"
    "  --seconds N         for each figure, 1 to 3600; default 3\n"
    "  --count N           requests for each figure, instead of a time\n"
    "  --json              one JSON object\n"
    "exit status: 0 measured, 1 no device or a request failed, 2 wrong arguments\n";

struct settings {
    const char *transport, *device, *mediator_dir;
    uint64_t seconds, count, vm_id;
    bool has_vm_id, json;
};

/* ---- Paths through libvgpu ---- */

static bool library_exchange(void *state, const void *request, uint32_t length, uint8_t *response,
                             uint32_t *response_length, uint32_t *error_code, uint64_t *ns)
{
    static struct vgpu_response answer;
    uint64_t start = vgpu_now_ns();
    if (vgpu_execute_request(state, request, length, 0, 0, &answer) < 0) {
        fprintf(stderr, "vgpu-bench: %s\n", vgpu_last_error_text());
        return false;
    }
    *ns += vgpu_now_ns() - start;
    memcpy(response, answer.bytes, answer.length);
    *response_length = answer.length;
    *error_code = answer.error_code;
    return true;
}

/* ---- Figures ---- */

/* Whether another request belongs to this figure. */
static bool goes_on(const struct settings *settings, uint64_t done, uint64_t start_ns)
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

static bool measure_nop(const struct settings *settings, const struct bench_path *path,
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
    for (uint64_t i = 0; goes_on(settings, i, start); i++) {
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
static bool measure_copy(const struct settings *settings, const struct bench_path *path,
                         uint64_t address, bool to_device, double *bytes_per_s, uint64_t *requests)
{
    uint8_t request[VGPU_MAILBOX_BYTES];
    struct vgpu_answer answer;
    uint64_t ignored = 0, bytes = 0, at = 0, done = 0, start = vgpu_now_ns();
    const uint32_t piece = to_device ? PIECE_TO_DEVICE : VGPU_PIECE_FROM_DEVICE;
    for (; goes_on(settings, done, start); done++) {
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

static bool run_mailbox(const struct settings *settings, const struct bench_path *path)
{
    struct bench_samples samples = {0};
    struct vgpu_answer answer;
    uint8_t request[VGPU_MAILBOX_BYTES];
    uint64_t ignored = 0, to_count = 0, from_count = 0;
    double to_rate = 0, from_rate = 0;
    const uint32_t size[2] = {REGION_BYTES, 0};
    bool good = measure_nop(settings, path, &samples);
    if (good)
        good = good_exchange(path, request, build(request, VGPU_OP_MEMORY_ALLOC, size, 2, 0),
                             &answer, &ignored);
    if (good) {
        uint64_t address = vgpu_answer_u64(&answer, VGPU_ALLOC_RESULT_ADDRESS_LO);
        const uint32_t params[2] = {(uint32_t)address, (uint32_t)(address >> 32)};
        good = measure_copy(settings, path, address, true, &to_rate, &to_count) &&
               measure_copy(settings, path, address, false, &from_rate, &from_count);
        good = good_exchange(path, request, build(request, VGPU_OP_MEMORY_FREE, params, 2, 0),
                             &answer, &ignored) &&
               good;
    }
    good = good && !bench_stopped(); /* half a measurement is none */
    if (good) {
        struct bench_summary nop = bench_summarize(&samples);
        if (settings->json) {
            printf("{\"benchmark\": \"mailbox\", \"transport\": \"%s\", ", path->name);
            json_summary("nop", &nop);
            printf(", \"to_device\": {\"bytes_per_s\": %.0f, \"piece_bytes\": %u, \"count\": "
                   "%" PRIu64 "}, \"from_device\": {\"bytes_per_s\": %.0f, \"piece_bytes\": %u, "
                   "\"count\": %" PRIu64 "}}\n",
                   to_rate, PIECE_TO_DEVICE, to_count, from_rate, VGPU_PIECE_FROM_DEVICE,
                   from_count);
        } else {
            printf("transport  %s\n", path->name);
            print_summary("NOP", &nop);
            printf("to device  %.2f MB/s in pieces of %u bytes, n=%" PRIu64 "\n", to_rate / 1e6,
                   PIECE_TO_DEVICE, to_count);
            printf("from       %.2f MB/s in pieces of %u bytes, n=%" PRIu64 "\n", from_rate / 1e6,
                   VGPU_PIECE_FROM_DEVICE, from_count);
        }
    }
    bench_free(&samples);
    return good;
}

static bool run_relay_comparison(const struct settings *settings, const struct bench_path *path)
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
    for (uint64_t done = 0; good && goes_on(settings, done, start); done += BATCH) {
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

/* ---- Putting a path together ---- */

static int run_device(const struct settings *settings, bool relay)
{
    struct bench_mediator mediator = {.pid = -1};
    const char *directory = settings->mediator_dir;
    if (!directory) {
        if (!bench_mediator_start(&mediator))
            return 1;
        directory = mediator.directory;
    }
    struct bench_device *device = bench_device_open(directory, (uint32_t)settings->vm_id);
    bool good = false;
    if (device) {
        struct bench_path path = bench_device_path(device);
        good = relay ? run_relay_comparison(settings, &path) : run_mailbox(settings, &path);
    }
    bench_device_close(device);
    if (!settings->mediator_dir)
        bench_mediator_stop(&mediator);
    return good ? 0 : 1;
}

static int run_library(const struct settings *settings, bool local)
{
    struct bench_mediator mediator = {.pid = -1};
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    char address[128];
    struct vgpu *gpu;
    bool own = local && !settings->device;
    options.device = settings->device;
    if (own) {
        if (!bench_mediator_start(&mediator))
            return 1;
        snprintf(address, sizeof(address), "local:%s", mediator.socket_path);
        options.device = address;
    }
    bool good = false;
    if (vgpu_init(&options, &gpu) == 0) {
        struct bench_path path = {
            .name = local ? "local" : "pci", .state = gpu, .exchange = library_exchange};
        good = run_mailbox(settings, &path);
        vgpu_cleanup(gpu);
    } else {
        fprintf(stderr, "vgpu-bench: %s\n", vgpu_last_error_text());
    }
    if (own)
        bench_mediator_stop(&mediator);
    return good ? 0 : 1;
}

/* Options that the chosen way would not use are mistakes, not decoration. */
static const char *find_contradiction(const struct settings *settings, bool relay)
{
    const char *transport = settings->transport;
    bool device = relay || strcmp(transport, "device") == 0;
    if (!device && strcmp(transport, "local") != 0 && strcmp(transport, "pci") != 0)
        return "--transport is pci, local or device";
    if (device && settings->device)
        return "--device is for --transport pci and local";
    if (!device && settings->mediator_dir)
        return "--mediator-dir is for relay and --transport device; a running mediator's own "
               "socket is named by --device local:SOCKET";
    if (!device && settings->has_vm_id)
        return "--vm-id is for relay and --transport device";
    if (settings->device && strcmp(transport, "local") == 0 &&
        strncmp(settings->device, "local:", 6) != 0)
        return "--transport local wants --device local:SOCKET";
    if (settings->device && strcmp(transport, "pci") == 0 &&
        strncmp(settings->device, "pci:", 4) != 0)
        return "--transport pci wants --device pci:ADDRESS";
    return NULL;
}

static bool parse(int argc, char **argv, struct settings *settings)
{
    for (int i = 2; i < argc; i++) {
        const char *value;
        bool good = false;
        if (strcmp(argv[i], "--json") == 0)
            good = settings->json = true;
        else if (cli_option(argc, argv, &i, "--transport", &value))
            good = (settings->transport = value) != NULL;
        else if (cli_text_option(argc, argv, &i, "--device", &value))
            good = (settings->device = value) != NULL;
        else if (cli_text_option(argc, argv, &i, "--mediator-dir", &value))
            good = (settings->mediator_dir = value) != NULL;
        else if (cli_option(argc, argv, &i, "--vm-id", &value))
            good = settings->has_vm_id = cli_number(value, 0, UINT32_MAX, &settings->vm_id);
        else if (cli_option(argc, argv, &i, "--seconds", &value))
            good = cli_number(value, 1, 3600, &settings->seconds);
        else if (cli_option(argc, argv, &i, "--count", &value))
            good = cli_number(value, 1, 100000000, &settings->count);
        if (!good) {
            fprintf(stderr, "vgpu-bench: wrong argument '%s'\n", argv[i < argc ? i : argc - 1]);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct settings settings = {.transport = "pci", .seconds = 3, .vm_id = (uint32_t)getpid()};
    const char *what = argc > 1 ? argv[1] : "";
    for (int i = 1; i < argc; i++) {
        bool help = strcmp(argv[i], "--help") == 0;
        if (!help && strcmp(argv[i], "--version") != 0)
            continue;
        fputs(help ? usage : "vgpu-bench " VGPU_VERSION "\n", stdout);
        return cli_finish("vgpu-bench", 0);
    }
    bool relay = strcmp(what, "relay") == 0;
    if ((!relay && strcmp(what, "mailbox") != 0) || !parse(argc, argv, &settings)) {
        fputs(usage, stderr);
        return 2;
    }
    const char *contradiction = find_contradiction(&settings, relay);
    if (contradiction) {
        fprintf(stderr, "vgpu-bench: %s\n%s", contradiction, usage);
        return 2;
    }
    bench_catch_signals();
    int status = relay || strcmp(settings.transport, "device") == 0
                     ? run_device(&settings, relay)
                     : run_library(&settings, strcmp(settings.transport, "local") == 0);
    bench_reraise();
    return cli_finish("vgpu-bench", status);
}
