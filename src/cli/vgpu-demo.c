/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-demo: what a user sees a VM do with its share of the GPU: a vector add of 1 M floats and a
 * 256 x 256 SGEMM through the device, each checked here. `make demo` runs it in two VMs at once.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/bench_cuda.h"
#include "cli/cli.h"
#include "cli/workload.h"
#include "config.h"
#include "guest/deadline.h"

#define VECTOR_COUNT     (1u << 20)
#define MATRIX_SIZE      256u
/* Enough to see the difference, and little enough not to wait for the slower one. */
#define CHANNEL_BYTES    (64u << 20)
#define CHANNEL_LAUNCHES 20000u
#define MAILBOX_BYTES    (512u << 10)
#define MAILBOX_LAUNCHES 1000u

static const char usage[] =
    "usage: vgpu-demo [--device pci:ADDRESS|local:SOCKET] [--count N] [--size N] DIRECTORY\n"
    "\n"
    "Adds two vectors and multiplies two matrices on the vgpu device, checks the results, and\n"
    "says how fast a CUDA program's launches and copies are, by a channel and by the mailbox.\n"
    "  DIRECTORY  holds vector_add.nvcc.ptx and sgemm.nvcc.ptx\n"
    "  --count N  floats in a vector, 1 to 16777216; default 1048576\n"
    "  --size N   rows of a matrix, a multiple of 32, 32 to 2048; default 256\n"
    "The last line is RESULT and key=value words; a value with spaces stands in double quotes.\n"
    "exit status: 0 right results, 1 something failed, 2 wrong arguments, 3 no mediator\n";

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout); /* progress is for somebody who watches */
}

/* ---- What one way of carrying calls does for a CUDA program ---- */

struct speed {
    double launches_per_s, to_bytes_per_s, from_bytes_per_s;
};

static double rate(const struct bench_cuda_series *series)
{
    return series->count && series->ns[0] ? (double)series->amount * 1e9 / (double)series->ns[0]
                                          : 0;
}

/* False with a text on stderr. No libcuda.so.1 here is no failure: nothing is measured then. */
static bool measure(const char *device, const char *transport, uint64_t bytes, uint32_t launches,
                    struct speed *speed)
{
    char library[512];
    struct bench_cuda_settings settings = {.library = library,
                                           .device = device,
                                           .transport = transport,
                                           .brief = true,
                                           .count = 1,
                                           .launches = launches,
                                           .pageable_bytes = bytes};
    struct bench_cuda_result *result = bench_cuda_result_new();
    bench_cuda_find(library, sizeof(library));
    bool good = result && bench_cuda_measure(&settings, result);
    if (good) {
        *speed = (struct speed){rate(&result->series[BENCH_LAUNCHES]),
                                rate(&result->series[BENCH_PAGEABLE_TO]),
                                rate(&result->series[BENCH_PAGEABLE_FROM])};
        say("CUDA by %s: %.0f launches/s, %.1f MB/s to the device, %.1f MB/s back", transport,
            speed->launches_per_s, speed->to_bytes_per_s / 1e6, speed->from_bytes_per_s / 1e6);
    }
    good = good || (result && !result->loaded);
    bench_cuda_result_free(result);
    return good;
}

/* ---- The program ---- */

static int run(struct vgpu *gpu, const struct vgpu_options *options, const char *directory,
               uint32_t count, uint32_t size)
{
    struct vgpu_session *session;
    struct vgpu_device_info_wire info;
    struct vgpu_statistics statistics;
    struct workload_time vector = {0}, matrix = {0};
    struct speed channel = {0}, mailbox = {0};
    uint32_t pool = 0, priority = 0, vm_id = 0;
    char path[512], why[512] = "", transport[320] = "";
    bool good = false;
    uint64_t start = vgpu_now_ns();
    if (vgpu_pool(gpu, &pool) < 0 || vgpu_priority(gpu, &priority) < 0 ||
        vgpu_vm_id(gpu, &vm_id) < 0 || vgpu_session_open(gpu, &session) != 0) {
        fprintf(stderr, "vgpu-demo: %s\n", vgpu_last_error_text());
        uint32_t link = 0;
        return vgpu_link_state(gpu, &link) == 0 && !(link & VGPU_LINK_ATTACHED)
                   ? VGPU_EXIT_NO_MEDIATOR
                   : VGPU_EXIT_NO_DEVICE;
    }
    if (vgpu_device_info(session, &info) != 0) {
        snprintf(why, sizeof(why), "%s", vgpu_last_error_text());
        memset(&info, 0, sizeof(info));
        goto out;
    }
    /* The host's words, for a terminal, and for the RESULT line where a quote would end them. */
    cli_harmless(info.name, sizeof(info.name), info.name, '"');
    cli_harmless(info.backend, sizeof(info.backend), info.backend, '"');
    say("%s: %s (%s), pool %c, %s priority, vm %" PRIu32, vgpu_address(gpu), info.name,
        info.backend, pool >= 'A' && pool <= 'Z' ? (char)pool : '?', cli_priority_name(priority),
        vm_id);
    snprintf(transport, sizeof(transport), "%s", vgpu_session_transport(session));
    say("requests and data by %s", transport);
    snprintf(path, sizeof(path), "%s/vector_add.nvcc.ptx", directory);
    if (!workload_vector_add(session, path, count, vm_id, say, &vector, why, sizeof(why)))
        goto out;
    snprintf(path, sizeof(path), "%s/sgemm.nvcc.ptx", directory);
    good = workload_sgemm(session, path, "sgemm_tiled_16", size, vm_id, say, &matrix, why,
                          sizeof(why));
out:
    if (!good)
        fprintf(stderr, "vgpu-demo: %s\n", why);
    if (vgpu_session_close(session) != 0 && good) {
        fprintf(stderr, "vgpu-demo: %s\n", vgpu_last_error_text());
        good = false;
    }
    memset(&statistics, 0, sizeof(statistics));
    vgpu_read_statistics(gpu, &statistics);
    transport[strcspn(transport, " :")] = 0; /* the first word */
    if (good && strcmp(transport, "channel") == 0)
        good = measure(options->device, "channel", CHANNEL_BYTES, CHANNEL_LAUNCHES, &channel);
    if (good)
        good = measure(options->device, "mailbox", MAILBOX_BYTES, MAILBOX_LAUNCHES, &mailbox);
    printf("RESULT vm=%" PRIu32 " priority=%s pool=%c", vm_id, cli_priority_name(priority),
           pool >= 'A' && pool <= 'Z' ? (char)pool : '?');
    printf(" device=\"%s\" backend=\"%s\"", info.name, info.backend);
    printf(" transport=%s launches_channel=%.0f to_channel=%.0f from_channel=%.0f"
           " launches_mailbox=%.0f to_mailbox=%.0f from_mailbox=%.0f",
           transport, channel.launches_per_s, channel.to_bytes_per_s, channel.from_bytes_per_s,
           mailbox.launches_per_s, mailbox.to_bytes_per_s, mailbox.from_bytes_per_s);
    printf(" requests=%" PRIu64 " bytes_to=%" PRIu64 " bytes_from=%" PRIu64
           " vector_add_ms=%.0f sgemm_ms=%.0f total_ms=%.0f verdict=%s\n",
           statistics.requests, statistics.bytes_to_device, statistics.bytes_from_device,
           (double)vector.total_ns / 1e6, (double)matrix.total_ns / 1e6,
           (double)(vgpu_now_ns() - start) / 1e6, good ? "ok" : "failed");
    return good ? VGPU_EXIT_OK : VGPU_EXIT_NO_DEVICE;
}

int main(int argc, char **argv)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    const char *directory = NULL, *value;
    uint64_t count = VECTOR_COUNT, size = MATRIX_SIZE;
    for (int i = 1; i < argc; i++) {
        bool good = true;
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return cli_finish("vgpu-demo", VGPU_EXIT_OK);
        }
        if (strcmp(argv[i], "--version") == 0) {
            puts("vgpu-demo " VGPU_VERSION);
            return cli_finish("vgpu-demo", VGPU_EXIT_OK);
        }
        if (cli_text_option(argc, argv, &i, "--device", &value))
            good = (options.device = value) != NULL;
        else if (cli_option(argc, argv, &i, "--count", &value))
            good = cli_number(value, 1, 16777216, &count);
        else if (cli_option(argc, argv, &i, "--size", &value))
            good = cli_number(value, 32, 2048, &size) && size % 32 == 0;
        else if (argv[i][0] != '-' && !directory)
            directory = argv[i];
        else
            good = false;
        if (!good) {
            fprintf(stderr, "vgpu-demo: wrong argument '%s'\n%s", argv[i < argc ? i : argc - 1],
                    usage);
            return VGPU_EXIT_USAGE;
        }
    }
    if (!directory) {
        fprintf(stderr, "vgpu-demo: DIRECTORY is missing\n%s", usage);
        return VGPU_EXIT_USAGE;
    }
    struct vgpu *gpu;
    int err = vgpu_init(&options, &gpu);
    if (err < 0) {
        fprintf(stderr, "vgpu-demo: %s\n", vgpu_last_error_text());
        return err == -EINVAL ? VGPU_EXIT_USAGE : VGPU_EXIT_NO_DEVICE;
    }
    int status = run(gpu, &options, directory, (uint32_t)count, (uint32_t)size);
    vgpu_cleanup(gpu);
    return cli_finish("vgpu-demo", status);
}
