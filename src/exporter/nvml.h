/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Temperature, power and clocks of the host's cards, by NVIDIA's management library if there is
 * one: it is loaded at run time and nothing of it is needed to build. It is asked by a thread of
 * its own, since a driver in trouble may keep it waiting for long.
 */
#ifndef VGPU_EXPORTER_NVML_H
#define VGPU_EXPORTER_NVML_H

#include <stdbool.h>
#include <stdint.h>

#define VGPU_NVML_GPUS 64u

enum vgpu_nvml_value {
    VGPU_NVML_TEMPERATURE, /* degrees Celsius */
    VGPU_NVML_POWER,       /* watts */
    VGPU_NVML_CLOCK_SM,    /* hertz */
    VGPU_NVML_CLOCK_MEMORY,
    VGPU_NVML_UTILIZATION, /* 0 to 1 */
    VGPU_NVML_MEMORY,      /* bytes */
    VGPU_NVML_MEMORY_USED,
    VGPU_NVML_VALUES,
};

struct vgpu_nvml_gpu {
    char uuid[96], name[96];
    uint32_t has; /* a bit for each value that it gave */
    double value[VGPU_NVML_VALUES];
};

struct vgpu_nvml_sample {
    unsigned count; /* 0: NVML is there and has nothing to say */
    struct vgpu_nvml_gpu gpus[VGPU_NVML_GPUS];
};

struct vgpu_nvml;

/* NULL: there is no such library, or it does not start; why says which (256 bytes). */
struct vgpu_nvml *vgpu_nvml_open(const char *library, char *why);
/* Does not wait for a library that hangs: the thread is then left to the end of the process. */
void vgpu_nvml_close(struct vgpu_nvml *nvml);

/* Has the cards asked, waits a little for it, and hands out the newest there is; count 0 when that
 * is too old. */
void vgpu_nvml_look(struct vgpu_nvml *nvml, struct vgpu_nvml_sample *out);

#endif
