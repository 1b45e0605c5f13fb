/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two computations whose results are checked here against plain C: vector addition and SGEMM. Used
 * by the demo and the tests inside VMs. Knows how to compute, not where: the session is the
 * caller's.
 */
#ifndef VGPU_CLI_WORKLOAD_H
#define VGPU_CLI_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/vgpu_mmio_client.h"

struct workload_time {
    uint64_t load_ns;   /* module to the device, functions looked up */
    uint64_t upload_ns; /* inputs to the device */
    uint64_t run_ns;    /* launch to synchronized */
    uint64_t fetch_ns;  /* results back */
    uint64_t total_ns;
};

/* Prints one line of progress; may be NULL. */
typedef void (*workload_say)(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * c[i] = a[i] + b[i] for `count` floats, with kernel `vector_add` of the PTX file. True: every
 * element is right. Else a text in `why`.
 */
bool workload_vector_add(struct vgpu_session *session, const char *ptx_path, uint32_t count,
                         uint32_t seed, workload_say say, struct workload_time *time, char *why,
                         size_t why_capacity);

/*
 * C = A * B, size x size floats, row by row, with kernel `kernel` of the PTX file: "sgemm_naive",
 * or "sgemm_tiled_16" or "sgemm_tiled_32", which want a multiple of 32 rows. Every element is
 * compared with a sum in double precision.
 */
bool workload_sgemm(struct vgpu_session *session, const char *ptx_path, const char *kernel,
                    uint32_t size, uint32_t seed, workload_say say, struct workload_time *time,
                    char *why, size_t why_capacity);

/* The file's bytes in memory to be freed, NULL with a text in `why`. At most 64 MiB. */
char *workload_read_file(const char *path, size_t *length, char *why, size_t why_capacity);

#endif
