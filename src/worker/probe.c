/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probing; see probe.h. */
#include "worker/probe.h"

#include <errno.h>
#include <inttypes.h>

/* A driver's string inside JSON: quotes, backslashes and control characters are escaped. */
static void print_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p < 0x20 || *p >= 0x7F)
            fprintf(out, "\\u%04x", *p);
        else
            fputc(*p, out);
    }
    fputc('"', out);
}

/* One GPU. -ENOENT: there is none of this number; why says so. */
static int probe_gpu(const struct vgpu_backend_ops *ops, const struct vgpu_backend_config *config,
                     FILE *out, char *why, size_t why_size)
{
    struct vgpu_backend *b = NULL;
    struct vgpu_device_info info = {.name = ""};
    CUresult r = ops->open(config, &b, why, why_size);
    if (r == CUDA_ERROR_NO_DEVICE || r == CUDA_ERROR_INVALID_DEVICE)
        return -ENOENT;
    if (r == CUDA_SUCCESS) {
        /* Closed before a word is said: while it is open, standard output is the GPU's. */
        ops->device_info(b, &info);
        ops->close(b);
    }
    fprintf(out, "{\"backend\": ");
    print_string(out, ops->name);
    fprintf(out, ", \"gpu\": %u, ", config->gpu);
    if (r != CUDA_SUCCESS) {
        fprintf(out, "\"unusable\": ");
        print_string(out, why);
        fprintf(out, "}\n");
        return -ENODEV;
    }
    fprintf(out, "\"name\": ");
    print_string(out, info.name);
    fprintf(out, ", \"uuid\": \"");
    for (unsigned i = 0; i < sizeof(info.uuid); i++)
        fprintf(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", info.uuid[i]);
    fprintf(out,
            "\", \"total_memory_bytes\": %" PRIu64 ", \"compute\": \"%u.%u\", "
            "\"multiprocessors\": %u, \"clock_khz\": %u}\n",
            info.total_memory_bytes, info.compute_major, info.compute_minor, info.multiprocessors,
            info.clock_khz);
    fflush(out); /* the next GPU takes it again */
    return 0;
}

int vgpu_probe(const struct vgpu_backend_ops *ops, const struct vgpu_backend_config *config,
               FILE *out, char *why, size_t why_size)
{
    struct vgpu_backend_config one = *config;
    int usable = 0;
    for (one.gpu = 0; one.gpu < VGPU_PROBE_GPUS; one.gpu++) {
        int rc = probe_gpu(ops, &one, out, why, why_size);
        if (rc == -ENOENT)
            break;
        usable += rc == 0;
    }
    return one.gpu == 0 ? -ENODEV : usable;
}
