/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-cuda [--vector-add FILE.ptx] [--sgemm FILE.ptx] [--kernel NAME] [--count N] [--size N]
 *        [--seed S] [--device D]
 *
 * Executes CUDA kernels through the device and checks every element in plain C. At least one of
 * the two files must be given. --kernel is the SGEMM's name: sgemm_naive (default), sgemm_tiled_16
 * or _32.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/workload.h"
#include "guest_test.h"

static void report(bool good, const char *what, uint32_t n, const struct workload_time *time,
                   const char *why)
{
    guest_check(good, "P19", "%s n=%" PRIu32 " %s ms=%.1f%s%s", what, n, good ? "ok" : "wrong",
                (double)time->total_ns / 1e6, good ? "" : ": ", good ? "" : why);
}

int main(int argc, char **argv)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    const char *vector = NULL, *matrix = NULL, *kernel = "sgemm_naive", *value;
    uint64_t count = 1 << 16, size = 64, seed = 1;
    for (int i = 1; i < argc; i++) {
        bool good = true;
        if (cli_option(argc, argv, &i, "--vector-add", &value))
            good = (vector = value) != NULL;
        else if (cli_option(argc, argv, &i, "--sgemm", &value))
            good = (matrix = value) != NULL;
        else if (cli_option(argc, argv, &i, "--kernel", &value))
            good = (kernel = value) != NULL;
        else if (cli_option(argc, argv, &i, "--device", &value))
            good = (options.device = value) != NULL;
        else if (cli_option(argc, argv, &i, "--count", &value))
            good = cli_number(value, 1, 1 << 24, &count);
        else if (cli_option(argc, argv, &i, "--size", &value))
            good = cli_number(value, 1, 2048, &size);
        else if (cli_option(argc, argv, &i, "--seed", &value))
            good = cli_number(value, 0, UINT32_MAX, &seed);
        else
            good = false;
        if (!good) {
            fprintf(stderr, "t-cuda: wrong argument near '%s'; see the top of t-cuda.c\n",
                    argv[i < argc ? i : argc - 1]);
            return 2;
        }
    }
    if (!vector && !matrix) {
        fprintf(stderr, "t-cuda: give --vector-add FILE.ptx, --sgemm FILE.ptx, or both\n");
        return 2;
    }
    struct vgpu *gpu = guest_open("t-cuda", &options);
    struct vgpu_session *session;
    struct vgpu_device_info_wire info;
    struct workload_time time;
    struct vgpu_statistics statistics = {0};
    char why[512] = "", extra[256];
    if (vgpu_session_open(gpu, &session) != 0) {
        guest_check(false, "P24", "%s", vgpu_last_error_text());
        vgpu_cleanup(gpu);
        return guest_finish("t-cuda", NULL);
    }
    memset(&info, 0, sizeof(info));
    bool good = vgpu_device_info(session, &info) == 0;
    guest_check(good, "P18", "device info: %s, %s", info.name, info.backend);
    if (vector)
        report(workload_vector_add(session, vector, (uint32_t)count, (uint32_t)seed, guest_say,
                                   &time, why, sizeof(why)),
               "vector_add", (uint32_t)count, &time, why);
    if (matrix)
        report(workload_sgemm(session, matrix, kernel, (uint32_t)size, (uint32_t)seed, guest_say,
                              &time, why, sizeof(why)),
               kernel, (uint32_t)size, &time, why);
    guest_check(vgpu_session_close(session) == 0, "P24", "session closed");
    vgpu_read_statistics(gpu, &statistics);
    vgpu_cleanup(gpu);
    snprintf(extra, sizeof(extra),
             "requests=%" PRIu64 " not_yet=%" PRIu64 " bytes_to=%" PRIu64 " bytes_from=%" PRIu64
             " backend=\"%s\" device=\"%s\"",
             statistics.requests, statistics.not_yet, statistics.bytes_to_device,
             statistics.bytes_from_device, info.backend, info.name);
    return guest_finish("t-cuda", extra);
}
