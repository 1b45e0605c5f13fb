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
#include "cli/bench_channel.h"
#include "cli/bench_cuda.h"
#include "cli/bench_share.h"
#include "cli/cli.h"
#include "cli/floors.h"
#include "config.h"
#include "guest/vgpu_mmio_client.h"
#include "vgpu/ring.h"

static const char usage[] =
    "usage: vgpu-bench channel [--transport pci|local] [options]\n"
    "       vgpu-bench cuda [--native LIBRARY] [options]\n"
    "       vgpu-bench mailbox [--transport pci|local|device] [options]\n"
    "       vgpu-bench relay [options]\n"
    "       vgpu-bench share [--hogs N] [--kernel-us N] [--gap-us N] [options]\n"
    "\n"
    "channel: posts, calls and copies through shared memory, the mailbox beside them, and what "
    "this\n"
    "         machine does with nothing of ours in the way; each with its goal.\n"
    "cuda:    launches and copies of a CUDA driver program; with --native in turns with NVIDIA's\n"
    "         own library, with the goals of a GPU.\n"
    "mailbox: round trip of a NOP, and bytes a second to and from device memory.\n"
    "  --transport pci     through the PCI device of this VM (default)\n"
    "  --transport local   through a mediator's own socket on this host\n"
    "  --transport device  through the device model in this process, no hypervisor\n"
    "relay:   the device model to a mediator, and a bare relay over the same number of sockets,\n"
    "         sample by sample in turns; prints the ratio of the medians.\n"
    "share:   launch + synchronize of a program alone, and beside hogs of equal and of lower\n"
    "         priority; all of them local clients of one mediator.\n"
    "  --hogs N            busy programs, 1 to 60; default 4\n"
    "  --kernel-us N       about how long each of their kernels takes; default 1000\n"
    "  --gap-us N          of the program between two launches; default 0\n"
    "options:\n"
    "  --device D          pci:ADDRESS or local:SOCKET\n"
    "  --mediator-dir DIR  relay, device: a directory that a running mediator watches\n"
    "                      (without it, or for local without --device, one is started)\n"
    "  --mediator-config F of the mediator that is started\n"
    "  --vm-id N           relay, device: of the device model; default: this process's id\n"
    "  --libcuda FILE      channel, cuda, share: the guest's library; default: the one built with "
    "this\n"
    "                      program, else the loader's\n"
    "  --native FILE       cuda: NVIDIA's libcuda.so.1\n"
    "  --copy MIB          channel, cuda: size of large copies, 1 to 1024; default 256\n"
    "  --seconds N         for each figure, 1 to 3600; default 3 (channel, cuda: 1)\n"
    "  --count N           requests or samples for each figure, instead of a time\n"
    "  --json              one JSON object\n"
    "  --svg FILE          channel, cuda: a picture of the run\n"
    "exit status: 0 measured, 1 no device or a request failed, 2 wrong arguments\n";

/* ---- Putting a path together ---- */

static int run_device(const struct bench_settings *settings, bool relay)
{
    struct bench_mediator mediator = {.pid = -1};
    const char *directory = settings->mediator_dir;
    if (!directory) {
        if (!bench_mediator_start(&mediator, settings->mediator_config))
            return 1;
        directory = mediator.directory;
    }
    struct bench_device *device = bench_device_open(directory, (uint32_t)settings->vm_id);
    bool good = false;
    if (device) {
        struct bench_path path = bench_device_path(device);
        good = relay ? bench_run_relay(settings, &path) : bench_run_mailbox(settings, &path);
    }
    bench_device_close(device);
    if (!settings->mediator_dir)
        bench_mediator_stop(&mediator);
    return good ? 0 : 1;
}

/* The address that --device means, or that of a mediator of our own: bench_mediator_stop then. */
static bool find_address(const struct bench_settings *settings, bool local,
                         struct bench_mediator *mediator, char *address, size_t capacity)
{
    *mediator = (struct bench_mediator){.pid = -1};
    if (settings->device) {
        snprintf(address, capacity, "%s", settings->device);
        return true;
    }
    address[0] = 0; /* the library's own choice */
    if (!local)
        return true;
    if (!bench_mediator_start(mediator, settings->mediator_config))
        return false;
    snprintf(address, capacity, "local:%s", mediator->socket_path);
    return true;
}

static struct vgpu *open_device(const char *address)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    struct vgpu *gpu;
    options.device = *address ? address : NULL;
    if (vgpu_init(&options, &gpu) == 0)
        return gpu;
    fprintf(stderr, "vgpu-bench: %s\n", vgpu_last_error_text());
    return NULL;
}

static int run_library(const struct bench_settings *settings, bool local)
{
    struct bench_mediator mediator;
    char address[128];
    if (!find_address(settings, local, &mediator, address, sizeof(address)))
        return 1;
    bool good = false;
    struct vgpu *gpu = open_device(address);
    if (gpu) {
        struct bench_path path = {
            .name = local ? "local" : "pci", .state = gpu, .exchange = bench_library_exchange};
        good = bench_run_mailbox(settings, &path);
        vgpu_cleanup(gpu);
    }
    bench_mediator_stop(&mediator);
    return good ? 0 : 1;
}

static bool print(const struct bench_settings *settings, struct bench_report *report,
                  const char *name)
{
    if (settings->json)
        bench_report_json(report, name);
    else
        bench_report_print(report);
    return !settings->svg || bench_report_svg(report, settings->svg);
}

/* The large copies of pinned memory, which is arena memory or none: half of the arena, if need be.
 */
static uint64_t find_pinned_bytes(struct vgpu *gpu, uint64_t wanted)
{
    uint64_t window = 0, bytes = wanted;
    uint32_t channels = 0, channel_bytes = 0;
    /* A local client's comes a moment after the connection. */
    for (int i = 0; i < 100 && window == 0; i++) {
        if (i)
            usleep(5000);
        if (vgpu_window(gpu, &window, &channels, &channel_bytes) != 0)
            break;
    }
    if (window == 0)
        return wanted;
    while (bytes > VGPU_ARENA_GRANULE && bytes > (window - (uint64_t)channels * channel_bytes) / 2)
        bytes /= 2;
    return bytes;
}

static int run_channel(struct bench_settings *settings, bool local)
{
    static struct bench_report report;
    struct bench_mediator mediator;
    struct vgpu_floors floors = {0};
    char address[128];
    /* First: it wants the processors for itself. Not where they are emulated, at a minute a figure,
     * and nothing is compared with them. */
    int err = local ? vgpu_floors_measure(&floors, settings->copy_bytes) : 0;
    if (err < 0) {
        fprintf(stderr, "vgpu-bench: the machine itself could not be measured: %s\n",
                strerror(-err));
        return 1;
    }
    if (!find_address(settings, local, &mediator, address, sizeof(address)))
        return 1;
    snprintf(report.title, sizeof(report.title), "channel, transport %s", local ? "local" : "pci");
    struct vgpu *gpu = open_device(address);
    bool good = gpu && bench_channel_measure(settings, gpu, local, &floors, &report);
    settings->pinned_bytes = gpu ? find_pinned_bytes(gpu, settings->copy_bytes) : 0;
    vgpu_cleanup(gpu);
    good = good && !bench_stopped() &&
           bench_cuda_rows(settings, *address ? address : NULL, local,
                           floors.staged_copy_bytes_per_s, &report);
    bench_mediator_stop(&mediator);
    good = good && print(settings, &report, "channel");
    bench_report_free(&report);
    return good ? 0 : 1;
}

static int run_cuda(struct bench_settings *settings, bool local)
{
    static struct bench_report report;
    struct bench_mediator mediator;
    char address[128];
    if (!find_address(settings, local, &mediator, address, sizeof(address)))
        return 1;
    snprintf(report.title, sizeof(report.title), "CUDA driver calls, transport %s%s",
             local ? "local" : "pci", settings->native ? ", against NVIDIA's library" : "");
    struct vgpu *gpu = open_device(address);
    settings->pinned_bytes = gpu ? find_pinned_bytes(gpu, settings->copy_bytes) : 0;
    vgpu_cleanup(gpu);
    bool good = gpu && bench_cuda_rows(settings, *address ? address : NULL, local, 0, &report);
    bench_mediator_stop(&mediator);
    good = good && print(settings, &report, "cuda");
    bench_report_free(&report);
    return good ? 0 : 1;
}

static int run_share(struct bench_settings *settings)
{
    static struct bench_report report;
    struct bench_mediator mediator;
    char address[128], library[512];
    if (!find_address(settings, true, &mediator, address, sizeof(address)))
        return 1;
    if (!settings->library) {
        bench_cuda_find(library, sizeof(library));
        settings->library = library;
    }
    snprintf(report.title, sizeof(report.title), "a GPU shared with hogs");
    bool good = bench_share_measure(settings, address, &report);
    bench_mediator_stop(&mediator);
    good = good && print(settings, &report, "share");
    bench_report_free(&report);
    return good ? 0 : 1;
}

/* ---- Arguments ---- */

enum mode { MODE_MAILBOX, MODE_RELAY, MODE_SHARE, MODE_CHANNEL, MODE_CUDA, MODE_UNKNOWN };

static enum mode find_mode(const char *word)
{
    static const char *const words[] = {"mailbox", "relay", "share", "channel", "cuda"};
    for (unsigned i = 0; i < MODE_UNKNOWN; i++)
        if (strcmp(word, words[i]) == 0)
            return (enum mode)i;
    return MODE_UNKNOWN;
}

/* Options that the chosen way would not use are mistakes, not decoration. */
static const char *find_contradiction(const struct bench_settings *settings, enum mode mode)
{
    const char *transport = settings->transport;
    bool fast = mode == MODE_CHANNEL || mode == MODE_CUDA;
    bool device = mode == MODE_RELAY || strcmp(transport, "device") == 0;
    if (!device && strcmp(transport, "local") != 0 && strcmp(transport, "pci") != 0)
        return "--transport is pci, local or device";
    if (fast && device)
        return "--transport is pci or local here: the device model in this process has no window";
    if (device && settings->device)
        return "--device is for --transport pci and local";
    if (!device && settings->mediator_dir)
        return "--mediator-dir is for relay and --transport device; a running mediator's own "
               "socket is named by --device local:SOCKET";
    if (!device && settings->has_vm_id)
        return "--vm-id is for relay and --transport device";
    if (mode != MODE_SHARE && (settings->hogs || settings->kernel_us || settings->gap_us))
        return "--hogs, --kernel-us and --gap-us are for share";
    if (mode == MODE_SHARE && (strcmp(transport, "local") != 0 ||
                               (settings->device && strncmp(settings->device, "local:", 6) != 0)))
        return "share wants --transport local and --device local:SOCKET: programs of one VM have "
               "one place in the schedule together";
    if (!fast && mode != MODE_SHARE && settings->library)
        return "--libcuda is for channel, cuda and share";
    if (!fast && (settings->svg || settings->has_copy))
        return "--copy and --svg are for channel and cuda";
    if (mode != MODE_CUDA && settings->native)
        return "--native is for cuda";
    if (settings->mediator_config &&
        (settings->device || settings->mediator_dir || (!device && strcmp(transport, "pci") == 0)))
        return "--mediator-config is for the mediator that is started here";
    if (settings->device && strcmp(transport, "local") == 0 &&
        strncmp(settings->device, "local:", 6) != 0)
        return "--transport local wants --device local:SOCKET";
    if (settings->device && strcmp(transport, "pci") == 0 &&
        strncmp(settings->device, "pci:", 4) != 0)
        return "--transport pci wants --device pci:ADDRESS";
    return NULL;
}

static bool parse(int argc, char **argv, struct bench_settings *settings)
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
        else if (cli_text_option(argc, argv, &i, "--mediator-config", &value))
            good = (settings->mediator_config = value) != NULL;
        else if (cli_text_option(argc, argv, &i, "--libcuda", &value))
            good = (settings->library = value) != NULL;
        else if (cli_text_option(argc, argv, &i, "--native", &value))
            good = (settings->native = value) != NULL;
        else if (cli_text_option(argc, argv, &i, "--svg", &value))
            good = (settings->svg = value) != NULL;
        else if (cli_option(argc, argv, &i, "--copy", &value)) {
            good = cli_number(value, 1, 1024, &settings->copy_bytes);
            settings->copy_bytes <<= 20;
            settings->has_copy = true;
        } else if (cli_option(argc, argv, &i, "--vm-id", &value))
            good = settings->has_vm_id = cli_number(value, 0, UINT32_MAX, &settings->vm_id);
        else if (cli_option(argc, argv, &i, "--seconds", &value))
            good = cli_number(value, 1, 3600, &settings->seconds);
        else if (cli_option(argc, argv, &i, "--hogs", &value))
            good = cli_number(value, 1, BENCH_SHARE_HOGS_MAX, &settings->hogs);
        else if (cli_option(argc, argv, &i, "--kernel-us", &value))
            good = cli_number(value, 1, 1000000, &settings->kernel_us);
        else if (cli_option(argc, argv, &i, "--gap-us", &value))
            good = cli_number(value, 1, 1000000, &settings->gap_us);
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
    struct bench_settings settings = {.copy_bytes = 256u << 20, .vm_id = (uint32_t)getpid()};
    for (int i = 1; i < argc; i++) {
        bool help = strcmp(argv[i], "--help") == 0;
        if (!help && strcmp(argv[i], "--version") != 0)
            continue;
        fputs(help ? usage : "vgpu-bench " VGPU_VERSION "\n", stdout);
        return cli_finish("vgpu-bench", 0);
    }
    enum mode mode = find_mode(argc > 1 ? argv[1] : "");
    if (mode == MODE_UNKNOWN || !parse(argc, argv, &settings)) {
        fputs(usage, stderr);
        return 2;
    }
    if (!settings.transport)
        settings.transport = mode == MODE_SHARE ? "local" : "pci";
    const char *contradiction = find_contradiction(&settings, mode);
    if (contradiction) {
        fprintf(stderr, "vgpu-bench: %s\n%s", contradiction, usage);
        return 2;
    }
    bool local = strcmp(settings.transport, "local") == 0, fast = mode >= MODE_CHANNEL;
    if (!settings.seconds)
        settings.seconds = fast ? 1 : 3;
    if (local) /* room for pinned copies; who has said otherwise is heard */
        setenv("VGPU_WINDOW", mode == MODE_SHARE ? "64M" : "1G", 0);
    settings.hogs = settings.hogs ? settings.hogs : 4;
    settings.kernel_us = settings.kernel_us ? settings.kernel_us : 1000;
    bench_catch_signals();
    int status = mode == MODE_SHARE     ? run_share(&settings)
                 : mode == MODE_CHANNEL ? run_channel(&settings, local)
                 : mode == MODE_CUDA    ? run_cuda(&settings, local)
                 : mode == MODE_RELAY || strcmp(settings.transport, "device") == 0
                     ? run_device(&settings, mode == MODE_RELAY)
                     : run_library(&settings, local);
    bench_reraise();
    return cli_finish("vgpu-bench", status);
}
